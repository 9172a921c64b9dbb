"""Rewards and advantages against their equations, on cases small enough to work out by hand."""

import statistics
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vegflow.config.learning import UpdateConfig
from vegflow.learning.advantages import centred, global_z, group_z
from vegflow.learning.losses import clipped, constant, importance_sampling, seq_mean, token_sum
from vegflow.learning.objectives import PRESETS
from vegflow.learning.rewards import running_median, speedup

REWARDS = st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 100)), min_size=1, max_size=24)


def test_the_configuration_offers_every_preset():
    assert set(get_args(UpdateConfig.model_fields["objective"].annotation)) == set(PRESETS)


@given(REWARDS)
def test_group_z_is_the_z_score_within_each_group(pairs):
    groups, rewards = [g for g, _ in pairs], np.array([r for _, r in pairs])
    advantages = group_z(rewards, groups)
    for i, group in enumerate(groups):
        members = [r for g, r in pairs if g == group]
        if len(set(members)) == 1:
            assert advantages[i] == 0
        else:
            expected = (rewards[i] - statistics.fmean(members)) / (statistics.stdev(members) + 1e-4)
            assert advantages[i] == pytest.approx(expected, abs=1e-9)


@given(REWARDS)
def test_centred_is_rloo_up_to_a_factor(pairs):
    groups, rewards = [g for g, _ in pairs], np.array([r for _, r in pairs])
    advantages = centred(rewards, groups)
    for i, group in enumerate(groups):
        others = [r for j, (g, r) in enumerate(pairs) if g == group and j != i]
        k = len(others) + 1
        rloo = rewards[i] - statistics.fmean(others) if others else 0.0
        assert advantages[i] == pytest.approx(rloo * (k - 1) / k, abs=1e-9)


@given(REWARDS)
def test_global_z_is_the_z_score_over_all_rollouts(pairs):
    rewards = [r for _, r in pairs]
    advantages = global_z(np.array(rewards), [g for g, _ in pairs])
    if len(rewards) == 1:
        assert advantages.tolist() == [0]
    else:
        scale = max(statistics.stdev(rewards), 1e-6)
        expected = [(r - statistics.fmean(rewards)) / scale for r in rewards]
        np.testing.assert_allclose(advantages, expected, atol=1e-7)


def test_running_median_divides_by_what_came_before():
    rewards = running_median(np.array([2.0, 4.0, 0.0, 6.0, 3.0]), ["a", "a", "a", "a", "b"])
    assert rewards.tolist() == [2.0, 4.0 / 2.0, 0.0, 6.0 / 3.0, 3.0]


def test_running_median_forgets_what_left_the_window():
    rewards = running_median(np.array([8.0, 2.0, 2.0]), ["a"] * 3, window=1)
    assert rewards.tolist() == [8.0, 0.25, 1.0]


def test_running_median_depends_on_the_order_of_rows():
    values = np.array([1.0, 4.0])
    assert sorted(running_median(values, ["a", "a"])) != sorted(running_median(values[::-1], ["a", "a"]))


def test_speedup_is_a_copy():
    values = np.array([1.0, 2.0])
    speedup(values, ["a", "a"])[0] = 9
    assert values[0] == 1.0


@pytest.mark.parametrize(
    ("ratio", "advantage", "expected"),
    [(1.0, 2.0, -2.0), (1.5, 2.0, -2.4), (0.5, 2.0, -1.0), (1.5, -2.0, 3.0), (0.5, -2.0, 1.6)],
)
def test_the_clip_only_ever_makes_the_objective_smaller(ratio, advantage, expected):
    logp, old = torch.tensor([ratio]).log(), torch.zeros(1)
    assert clipped(logp, old, advantage).item() == pytest.approx(expected)
    assert importance_sampling(logp, old, advantage).item() == pytest.approx(-ratio * advantage)


def test_aggregations():
    loss = torch.tensor([1.0, 2.0, 3.0])
    assert seq_mean(loss, 4).item() == pytest.approx(0.5)
    assert constant(loss, 4).item() == pytest.approx(1.5)
    assert token_sum(loss, 4).item() == 6.0
