"""Cluster bootstrap: what is resampled, and what an interval means."""

import numpy as np
import pytest

from vegflow.statistics.bootstrap import Resampling, base_weights, resample, sd_over_seeds
from vegflow.statistics.intervals import mean_interval

HOW = Resampling(replicates=500)
TASKS = ["a", "a", "b", "b", "c", "c"]
SEEDS = [1, 2, 1, 2, 1, 2]


@pytest.mark.parametrize("crossed", [False, True])
def test_each_replicate_weighs_as_many_tasks_as_there_are(crossed):
    weights = resample(TASKS, SEEDS, HOW, crossed=crossed)
    assert weights.shape == (500, 6)
    assert weights.sum(axis=1) == pytest.approx(np.full(500, 3.0))


def test_crossed_seeds_are_drawn_once_for_all_tasks():
    weights = resample(TASKS, SEEDS, HOW, crossed=True).reshape(500, 3, 2)
    drawn = weights.sum(axis=2) > 0
    share = np.where(drawn, weights[:, :, 0] / np.where(drawn, weights.sum(axis=2), 1), np.nan)
    assert np.nanmax(np.nanmax(share, axis=1) - np.nanmin(share, axis=1)) < 1e-12


def test_both_kinds_draw_the_same_tasks():
    nested, crossed = (resample(TASKS, SEEDS, HOW, crossed=c).reshape(500, 3, 2).sum(axis=2) for c in (False, True))
    assert nested == pytest.approx(crossed)


def test_a_task_counts_once_however_many_seeds_it_has():
    assert base_weights(["a", "b", "b"]).tolist() == [1.0, 0.5, 0.5]
    assert mean_interval([1.0, 0.0, 0.0], ["a", "b", "b"], [1, 1, 2], HOW).value == 0.5


def test_one_task_has_a_value_and_no_interval():
    found = mean_interval([0.2, 0.4], ["a", "a"], [1, 2], HOW)
    assert (found.value, found.low, found.high) == (pytest.approx(0.3), None, None)


def test_undefined_values_are_left_out():
    assert mean_interval([1.0, np.nan, 3.0], ["a", "b", "c"], [1, 1, 1], HOW).value == 2.0
    assert mean_interval([np.nan], ["a"], [1], HOW).value is None


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    # 200 studies of 20 tasks; a percentile interval of 20 clusters is known to be slightly short of 95 %.
    rng = np.random.default_rng(0)
    tasks, seeds = np.repeat(np.arange(20).astype(str), 2), np.tile([1, 2], 20)
    hits = 0
    for _ in range(200):
        values = np.repeat(rng.normal(0, 1, 20), 2) + rng.normal(0, 0.3, 40)
        found = mean_interval(values, tasks, seeds, Resampling(replicates=200))
        hits += found.low <= 0 <= found.high
    assert 0.86 <= hits / 200 <= 0.99


def test_treating_tasks_as_clusters_is_wider_than_pooling_samples():
    values = [0.0, 0.0, 1.0, 1.0, 0.0, 0.0]
    clustered = mean_interval(values, TASKS, SEEDS, HOW)
    pooled = mean_interval(values, list("abcdef"), [1] * 6, HOW)
    assert clustered.high - clustered.low >= pooled.high - pooled.low


def test_sd_over_seeds_is_of_task_means():
    # The paper's confidence-guided 60 % and 40 % give its 14.1 (audit section 4.2).
    assert sd_over_seeds([0.6, 0.4], [42, 43]) == pytest.approx(0.1414, abs=1e-4)
    assert sd_over_seeds([0.6], [42]) is None


def test_the_same_seed_gives_the_same_interval():
    assert mean_interval([0, 1, 2], list("abc"), [1] * 3, HOW) == mean_interval([0, 1, 2], list("abc"), [1] * 3, HOW)
