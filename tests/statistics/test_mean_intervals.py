"""Intervals of means over tasks: bounds, few tasks, crossed runs; and that they cover what they say (short form)."""

import numpy as np
import pytest
from scipy import stats

from vegflow.statistics.bootstrap import Resampling
from vegflow.statistics.intervals import (
    DIFFERENCE,
    POSITIVE,
    SHARE,
    clustered,
    crossed_variance,
    interval,
    mean_interval,
)
from vegflow.statistics.paired import task_permutation
from vegflow.statistics.planted import Population, draw_study, truth

HOW = Resampling(replicates=200)


def test_without_bounds_it_is_students_interval_of_task_means():
    values, tasks = [0.0, 2.0, 5.0, 7.0, 1.0, 3.0], ["a", "a", "b", "b", "c", "c"]
    found = mean_interval(values, tasks, [1, 2] * 3, HOW)
    expected = stats.t.interval(0.95, 2, loc=3.0, scale=stats.sem([1.0, 6.0, 2.0]))
    assert (found.value, found.low, found.high) == pytest.approx((3.0, *expected))


def test_a_share_of_zeros_and_ones_has_wilsons_interval_with_students_quantile():
    found = mean_interval([1] * 15 + [0] * 5, [str(i) for i in range(20)], [1] * 20, HOW, bounds=SHARE)
    t, n, p = stats.t.ppf(0.975, 19), 20 * 20 / 21, 0.75  # 21 tasks' worth of variance for 20 tasks
    centre, half = (p + t**2 / 2 / n) / (1 + t**2 / n), t / (1 + t**2 / n) * np.sqrt(p * (1 - p) / n + t**2 / 4 / n**2)
    assert (found.low, found.high) == pytest.approx((centre - half, centre + half))


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


def test_a_mean_of_ratios_has_students_interval_on_its_logarithm():
    values = [0.9, 1.1, 4.0]
    found = mean_interval(values, list("abc"), [1] * 3, HOW, bounds=POSITIVE)
    half = stats.t.ppf(0.975, 2) * stats.sem(values) / 2
    assert (found.low, found.high) == pytest.approx((2 * np.exp(-half), 2 * np.exp(half)))
    assert mean_interval([0.0] * 3, list("abc"), [1] * 3, HOW, bounds=POSITIVE).low is None


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


def test_intervals_of_planted_studies_hold_the_truth():
    # The short form of `python -m benchmarks coverage`: 80 studies of 12 tasks, so 95 % is 92 to 98 at one deviation.
    known = truth(Population(), np.random.default_rng(9), n_tasks=4000)
    bounds = {"per-sample fast_1": SHARE, "pass@16": SHARE, "fast_1, surprisal - confidence": DIFFERENCE}
    hits = dict.fromkeys(bounds, 0)
    for number in range(80):
        study = draw_study(Population(), 12, np.random.default_rng([5, number]))
        for name, limit in bounds.items():
            found = mean_interval(study.values[name], study.tasks, study.seeds, HOW, bounds=limit)
            hits[name] += found.low <= known[name] <= found.high
    assert all(0.87 <= count / 80 <= 1.0 for count in hits.values()), hits


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
