"""Intervals of means over tasks: bounds, few tasks, crossed runs; and that they cover what they say (short form)."""

import numpy as np
import pytest
from scipy import stats

from vegflow.statistics.bootstrap import Resampling
from vegflow.statistics.bounded import LARGEST, MOST_DRAWN
from vegflow.statistics.intervals import (
    DIFFERENCE,
    POSITIVE,
    SHARE,
    clustered,
    crossed_variance,
    interval,
    interval_of_means,
    mean_interval,
)
from vegflow.statistics.paired import task_permutation
from vegflow.statistics.planted import POPULATIONS, Population, draw_study, truth

HOW = Resampling(replicates=200)


def test_without_bounds_it_is_students_interval_of_task_means():
    values, tasks = [0.0, 2.0, 5.0, 7.0, 1.0, 3.0], ["a", "a", "b", "b", "c", "c"]
    found = mean_interval(values, tasks, [1, 2] * 3, HOW)
    expected = stats.t.interval(0.95, 2, loc=3.0, scale=stats.sem([1.0, 6.0, 2.0]))
    assert (found.value, found.low, found.high) == pytest.approx((3.0, *expected))


@pytest.mark.parametrize(("wins", "tasks"), [(3, 5), (15, 20), (1, 12)])
def test_a_share_of_zeros_and_ones_has_jeffreys_interval(wins, tasks):
    found = mean_interval([1] * wins + [0] * (tasks - wins), range(tasks), [1] * tasks, HOW, bounds=SHARE)
    assert (found.low, found.high) == pytest.approx(
        stats.beta.ppf([0.025, 0.975], wins + 0.5, tasks - wins + 0.5), abs=0.01
    )


def test_from_moments_a_share_of_zeros_and_ones_has_the_same_interval():
    value, n = 0.25, 12
    found = interval(value, value * (1 - value) / (n - 1), n - 1, n, 0.95, SHARE)
    assert (found.low, found.high) == pytest.approx(stats.beta.ppf([0.025, 0.975], 3.5, 9.5))


def test_the_posterior_of_a_share_is_near_the_beta_of_its_moments_and_they_meet_at_many_tasks():
    rates = np.random.default_rng(2).beta(0.6, 1.5, MOST_DRAWN + 1)
    for n in (20, MOST_DRAWN, MOST_DRAWN + 1):
        own = rates[:n]
        drawn = interval_of_means(own, HOW, SHARE)
        moments = interval(own.mean(), own.var(ddof=1) / n, n - 1.0, n, 0.95, SHARE)
        assert (drawn.low, drawn.high) == pytest.approx((moments.low, moments.high), abs=0.02 if n == 20 else 0.003)


def test_fewer_degrees_of_freedom_widen_a_share():
    wide, narrow = (interval(0.4, 0.01, df, 10, 0.95, SHARE) for df in (2.0, 9.0))
    assert wide.low < narrow.low < 0.4 < narrow.high < wide.high


@pytest.mark.parametrize(("value", "bounds", "ends"), [(1.0, SHARE, (0.025**0.2, 1.0)), (0.0, SHARE, (0.0, 1 - 0.025**0.2)), (0.0, DIFFERENCE, (0.025**0.2 - 1, 1 - 0.025**0.2))])  # fmt: skip
def test_equal_tasks_still_leave_room(value, bounds, ends):
    found = mean_interval([value] * 5, list("abcde"), [1] * 5, HOW, bounds=bounds)
    assert (found.low, found.high) == pytest.approx(ends)


def test_equal_tasks_without_bounds_have_no_ends():
    assert mean_interval([2.0] * 5, list("abcde"), [1] * 5, HOW).low is None


def test_ends_stay_inside_the_bounds():
    found = mean_interval([1, 1, 1, 0.9, 0.2], list("abcde"), [1] * 5, HOW, bounds=SHARE)
    assert 0 <= found.low < found.value < found.high <= 1
    found = mean_interval([1, 1, -1], list("abc"), [1] * 3, HOW, bounds=DIFFERENCE)
    assert (found.low, found.high) == (-1, 1)


def test_ratios_that_hardly_vary_have_students_interval():
    values = [1.01, 1.02, 1.0, 0.99, 1.03, 1.02]
    found = mean_interval(values, list("abcdef"), [1] * 6, HOW, bounds=POSITIVE)
    assert (found.low, found.high) == pytest.approx(stats.t.interval(0.95, 5, np.mean(values), stats.sem(values)), abs=2e-3)  # fmt: skip


def test_the_tail_of_normal_logarithms_is_allowed_for():
    # By hand: Student's part t^2 s^2 / n, and that of s^2 / 2 by chi-squared (Zou, Huo & Taleban 2009), around the mean.
    logs = np.array([-1.0, 0.0, 0.5, 1.0, 2.0])
    found = interval_of_means(np.exp(logs), HOW, POSITIVE)
    s2 = max(logs.var(ddof=1), np.log1p(np.var(np.exp(logs), ddof=1) / np.exp(logs).mean() ** 2))
    student = stats.t.ppf(0.975, 4) ** 2 * s2 / 5
    up, down = (s2 / 2 * (4 / stats.chi2.ppf(p, 4) - 1) for p in (0.025, 0.975))
    mean = np.exp(logs).mean()
    assert found.high == pytest.approx(mean * np.exp(np.sqrt(student + up**2)))
    assert found.low == pytest.approx(mean * np.exp(-np.sqrt(student + down**2)))
    assert mean - found.low < found.high - mean


def test_a_ratio_that_is_zero_somewhere_has_an_interval_and_zeros_alone_have_none():
    found = mean_interval([0.0, 1.0, 2.0], list("abc"), [1] * 3, HOW, bounds=POSITIVE)
    assert 0 < found.low < 1 < found.high
    assert mean_interval([0.0] * 3, list("abc"), [1] * 3, HOW, bounds=POSITIVE).low is None


def test_two_tasks_far_apart_say_that_nothing_is_known_in_finite_numbers():
    found = interval_of_means(np.array([0.5, 900.0]), HOW, POSITIVE)
    assert found.high == pytest.approx(found.value * LARGEST)
    assert found.low < 1


def test_shared_runs_add_their_own_variance():
    rng = np.random.default_rng(1)
    runs = np.array([-2.0, 0.0, 2.0])
    values = (rng.normal(0, 1, 8)[:, None] + runs[None] + rng.normal(0, 0.2, (8, 3))).ravel()
    tasks, seeds = np.repeat(list("abcdefgh"), 3), np.tile([1, 2, 3], 8)
    variance, df = crossed_variance(values, tasks, seeds)
    assert variance > 0.5 * np.var(runs, ddof=1) / 3
    assert 1 <= df < 7  # fewer than the eight tasks alone would give
    nested, crossed = (mean_interval(values, tasks, seeds, HOW, crossed=c) for c in (False, True))
    assert crossed.high - crossed.low > 2 * (nested.high - nested.low)


def test_missing_cells_or_one_run_are_not_crossed():
    assert crossed_variance(np.ones(3), np.array(list("abc")), np.array([1, 1, 1])) is None
    assert crossed_variance(np.ones(3), np.array(list("aab")), np.array([1, 2, 1])) is None


def test_clustered_variance_of_a_mean_is_that_of_cluster_means():
    rng = np.random.default_rng(0)
    values, tasks = rng.normal(size=60), np.repeat(np.arange(12), 5)
    variance, n = clustered(values - values.mean(), tasks)
    assert (variance, n) == (pytest.approx(np.var(values.reshape(12, 5).mean(axis=1), ddof=1) / 12), 12)


def test_one_task_has_no_ends():
    assert interval(0.5, 0.1, 0, 1, 0.95, SHARE).low is None


@pytest.mark.parametrize("label", POPULATIONS)
def test_intervals_of_planted_studies_hold_the_truth(label):
    # The short form of `python -m benchmarks coverage`: 100 studies of 8 tasks, cut from one draw, so 95 % is 91 to 99
    # at two deviations; shares of few tasks of 0 and 1 err on the wide side.
    population = POPULATIONS[label]
    known = truth(population, np.random.default_rng(9), n_tasks=6000)
    many = draw_study(population, 800, np.random.default_rng([5, len(label)]))
    bounds = {
        "per-sample fast_1": SHARE, "pass@16": SHARE, "surprisal-guided fast_1": SHARE,
        "fast_1, surprisal - confidence": DIFFERENCE, "mean speedup, surprisal-guided": POSITIVE,
    }  # fmt: skip
    hits = dict.fromkeys(bounds, 0)
    for number in range(100):
        own = (many.tasks >= 8 * number) & (many.tasks < 8 * number + 8)
        for name, limit in bounds.items():
            found = mean_interval(many.values[name][own], many.tasks[own], many.seeds[own], HOW, bounds=limit)
            hits[name] += found.low <= known[name] <= found.high
    assert all(90 <= count <= 100 for count in hits.values()), hits


def test_the_task_permutation_holds_its_level_and_finds_what_is_planted():
    rejected = {}
    for planted, population in ((False, Population(tail=0.0, drift=0.0)), (True, Population())):
        p = []
        for number in range(60):
            study = draw_study(population, 10, np.random.default_rng([6, number, planted]))
            logs = study.values["log speedup of surprisal / confidence"]
            known = ~np.isnan(logs)
            p.append(task_permutation(logs[known], study.tasks[known], 0) or 1.0)
        rejected[planted] = np.mean(np.array(p) <= 0.05)
    assert rejected[False] <= 0.15
    assert rejected[True] >= 0.6


def test_a_task_with_most_of_the_samples_leaves_fewer_tasks_that_count():
    rng = np.random.default_rng(1)
    values, even = rng.normal(size=60), np.repeat(np.arange(6), 10)
    uneven = np.repeat(np.arange(6), [40, 4, 4, 4, 4, 4])
    assert clustered(values - values.mean(), even)[1] == pytest.approx(6)
    assert clustered(values - values.mean(), uneven)[1] == pytest.approx(60**2 / (40**2 + 5 * 4**2))
    assert clustered(values - values.mean(), uneven, np.array([1.0, 1, 1, 0, 0, 0]))[1] == pytest.approx(3)
    assert clustered(values - values.mean(), np.zeros(60)) == (0.0, 1.0)
