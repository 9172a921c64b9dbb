"""Rewards, advantages, losses and aggregations against their equations, each written out slowly beside it."""

import itertools
import math
import statistics
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from vegflow.config.learning import (
    PRESETS,
    AdvantageName,
    AggregationName,
    LoraConfig,
    LossName,
    RewardName,
    UpdateConfig,
)
from vegflow.learning.advantages import ADVANTAGES, centred, entropic, global_z, group_z, leave_one_out, tilt
from vegflow.learning.distillation import divergence, on_support, support
from vegflow.learning.losses import AGGREGATIONS, LOSSES, Tokens, clip_stops, token_losses
from vegflow.learning.rewards import REWARDS, paper_running_median, rank, reward_of, speedup

PAIRS = st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 100)), min_size=1, max_size=24)


def group_of(pairs, group):
    return [r for g, r in pairs if g == group]


# ---- names ----------------------------------------------------------------------------------------------------------


def test_the_configuration_offers_every_preset_and_every_part():
    assert set(get_args(UpdateConfig.model_fields["objective"].annotation)) == set(PRESETS)
    for names, registry in (
        (RewardName, REWARDS),
        (AdvantageName, ADVANTAGES),
        (LossName, LOSSES),
        (AggregationName, AGGREGATIONS),
    ):
        assert set(get_args(names)) == set(registry)


@pytest.mark.parametrize("objective", PRESETS)
def test_every_preset_is_a_valid_configuration(objective):
    assert UpdateConfig(objective=objective).parts == PRESETS[objective]


def test_the_page_on_learning_has_every_preset(root):
    page = (root / "docs" / "learning.md").read_text()
    for name, parts in PRESETS.items():
        assert f"| `{name}` | `{parts.reward}` | `{parts.advantage}` | `{parts.loss}`" in page
        assert parts.note in page


def test_the_grid_of_the_open_questions_is_configuration():
    for advantage, reward in itertools.product(
        ("global_z", "group_z", "centred", "entropic"), ("speedup", "log", "clipped", "binary")
    ):
        parts = UpdateConfig(objective="grpo", advantage=advantage, reward=reward).parts
        assert (parts.advantage, parts.reward, parts.loss) == (advantage, reward, "clipped")


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"loss": "sdpo_paper"}, "loss 'sdpo_paper' needs teacher: one of feedback, prompt, solution"),
        ({"objective": "sdpo_official", "advantage": "group_z"}, "advantage must be 'none', not 'group_z'"),
        ({"teacher": "prompt"}, "loss 'clipped' has no teacher"),
        ({"advantage": "none"}, "loss 'clipped' needs an advantage"),
        ({"loss": "sft"}, "loss 'sft' learns from successes; advantage must be 'success', not 'group_z'"),
        ({"objective": "paper_ttt", "epsilon_high": 0.3}, "loss 'importance_sampling' has no clip"),
        ({"fast_threshold": 2.0}, "fast_threshold is for reward 'fast', not 'speedup'"),
        ({"token_constant": 9.0}, "token_constant is for aggregation 'constant', not 'seq_mean'"),
        ({"objective": "sft", "importance_cap": 2.0}, "importance_cap does not go with loss 'sft'"),
        ({"lora": {"targets": ["q_proj", "lm_head"]}}, "'lm_head' cannot have an adapter"),
        ({"objective": "sdpo"}, "Input should be 'grpo'"),
        ({"train_temperature": 0}, "greater than 0"),
    ],
)
def test_what_does_not_go_together_is_one_sentence(settings, sentence):
    with pytest.raises(ValidationError) as caught:
        UpdateConfig(**settings)
    assert sentence in str(caught.value)
    assert len(caught.value.errors()) == 1


def test_expert_weights_may_have_adapters():
    assert LoraConfig(expert_parameters=["mlp.experts.down_proj"]).expert_parameters == ("mlp.experts.down_proj",)


# ---- rewards --------------------------------------------------------------------------------------------------------


def test_running_median_divides_by_what_came_before():
    rewards = paper_running_median(np.array([2.0, 4.0, 0.0, 6.0, 3.0]), ["a", "a", "a", "a", "b"])
    assert rewards.tolist() == [2.0, 4.0 / 2.0, 0.0, 6.0 / 3.0, 3.0]


def test_running_median_forgets_what_left_the_window():
    rewards = paper_running_median(np.array([8.0, 2.0, 2.0]), ["a"] * 3, window=1)
    assert rewards.tolist() == [8.0, 0.25, 1.0]


def test_running_median_depends_on_the_order_of_rows():
    values = np.array([1.0, 4.0])
    forward, backward = (sorted(paper_running_median(v, ["a", "a"])) for v in (values, values[::-1]))
    assert forward != backward


def test_speedup_is_a_copy():
    values = np.array([1.0, 2.0])
    speedup(values, ["a", "a"])[0] = 9
    assert values[0] == 1.0


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("log", [0.0, math.log(1.5), math.log(2.0), math.log(861.0)]),
        ("clipped", [0.0, 0.5, 1.0, 3.0]),
        ("binary", [0.0, 1.0, 1.0, 1.0]),
        ("fast", [0.0, 0.0, 0.0, 1.0]),
        ("rank", [0.0, 1 / 3, 2 / 3, 1.0]),
    ],
)
def test_transforms(name, expected):
    found = REWARDS[name](np.array([0.0, 0.5, 1.0, 860.0]), ["a"] * 4)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_the_threshold_of_fast_is_configured():
    assert reward_of("fast", 2.0)(np.array([2.0, 2.1]), ["a", "a"]).tolist() == [0.0, 1.0]
    assert reward_of("fast", None)(np.array([1.0, 1.1]), ["a", "a"]).tolist() == [0.0, 1.0]


@given(PAIRS)
def test_rank_is_the_share_of_others_that_are_slower(pairs):
    tasks, values = [g for g, _ in pairs], np.array([r for _, r in pairs])
    for i, value in enumerate(rank(values, tasks)):
        others = [r for j, (g, r) in enumerate(pairs) if g == tasks[i] and j != i]
        expected = sum(1.0 if r < values[i] else 0.5 if r == values[i] else 0.0 for r in others) / max(1, len(others))
        assert value == pytest.approx(expected, abs=1e-12)


# ---- advantages -----------------------------------------------------------------------------------------------------


@given(PAIRS)
def test_group_z_is_the_z_score_within_each_group(pairs):
    groups, rewards = [g for g, _ in pairs], np.array([r for _, r in pairs])
    for i, advantage in enumerate(group_z(rewards, groups)):
        members = group_of(pairs, groups[i])
        if len(set(members)) == 1:
            assert advantage == 0
        else:
            expected = (rewards[i] - statistics.fmean(members)) / (statistics.stdev(members) + 1e-4)
            assert advantage == pytest.approx(expected, abs=1e-9)


@given(PAIRS)
def test_leave_one_out_is_centred_up_to_a_factor(pairs):
    """RLOO, which is what TRLOO comes to with one turn, is K / (K - 1) times Dr. GRPO's advantage."""
    groups, rewards = [g for g, _ in pairs], np.array([r for _, r in pairs])
    plain, others_out = centred(rewards, groups), leave_one_out(rewards, groups)
    for i, group in enumerate(groups):
        others = [r for j, (g, r) in enumerate(pairs) if g == group and j != i]
        k = len(others) + 1
        rloo = rewards[i] - statistics.fmean(others) if others else rewards[i]
        assert others_out[i] == pytest.approx(rloo, abs=1e-9)
        if others:
            assert others_out[i] == pytest.approx(plain[i] * k / (k - 1), abs=1e-9)


@given(PAIRS)
def test_global_z_is_the_z_score_over_all_rollouts(pairs):
    rewards = [r for _, r in pairs]
    advantages = global_z(np.array(rewards), [g for g, _ in pairs])
    if len(set(rewards)) == 1:
        assert not advantages.any()
    else:
        scale = max(statistics.stdev(rewards), 1e-6)
        expected = [(r - statistics.fmean(rewards)) / scale for r in rewards]
        np.testing.assert_allclose(advantages, expected, atol=1e-6)


def slow_entropic(rewards):
    """TTT-Discover's equation in plain Python: a scan for beta by halving, then each weight by the others' mean."""
    k, best = len(rewards), max(rewards)

    def weights(beta):
        return [math.exp(beta * (r - best)) for r in rewards]

    def nats(beta):
        total = sum(weights(beta))
        return sum(w / total * math.log(w / total * k) for w in weights(beta) if w > 0)

    top = 1.0
    while nats(top) < math.log(2) and top < 1e6:
        top *= 2
    bottom = 0.0
    for _ in range(200):
        if nats(top) < math.log(2):
            break
        middle = (bottom + top) / 2
        bottom, top = (middle, top) if nats(middle) < math.log(2) else (bottom, middle)
    w = weights(top)
    return [w[i] / ((sum(w) - w[i]) / (k - 1)) - 1 for i in range(k)]


ENTROPIC = [
    [0.0, 0.0, 1.0],
    [0.0, 0.5, 1.0, 0.25],
    [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.3],
    [1.1, 0.9, 1.0, 1.05, 0.97, 1.2, 0.0, 0.0],
    [859.8, 1.0, 0.9, 1.1, 0.0, 1.05, 0.95, 1.0],
    [2.0, 2.0, 0.0, 0.0, 1.0],
]


@pytest.mark.parametrize("rewards", ENTROPIC)
def test_entropic_is_its_equation(rewards):
    found = entropic(np.array(rewards), ["a"] * len(rewards))
    np.testing.assert_allclose(found, slow_entropic(rewards), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("rewards", "reference"),
    [
        ([0.0, 0.0, 1.0], [-0.89045405, -0.89045405, 16.25719]),
        ([0.0, 0.5, 1.0, 0.25], [-0.9325491, -0.543855, 10.434053]),
        ([1.1, 0.9, 1.0, 1.05, 0.97, 1.2, 0.0, 0.0], [0.73368704, -0.78683865, -0.41939354]),
        ([859.8, 1.0, 0.9, 1.1, 0.0, 1.05, 0.95, 1.0], [10.768045, -0.6058638, -0.6059833]),
        ([2.0, 2.0, 0.0, 0.0, 1.0], [2.5404196, 2.5404196, -0.97840655]),
        ([2.0, 2.0, 0.0, 0.0], [2.0, 2.0, -1.0]),
    ],
)
def test_entropic_is_what_ttt_discovers_code_gives(rewards, reference):
    """First three values of its `compute_advantages`, recorded from a run of it; float32, so to 1e-6."""
    np.testing.assert_allclose(entropic(np.array(rewards), ["a"] * len(rewards))[:3], reference, rtol=1e-6)


def test_entropic_reaches_ln_2_where_it_can():
    rewards = np.array([0.3, 0.1, 0.9, 0.7, 0.2])
    q = np.exp(tilt(rewards) * rewards)
    q /= q.sum()
    assert (q * np.log(q * 5)).sum() == pytest.approx(math.log(2), abs=1e-12)


@pytest.mark.parametrize(
    ("rewards", "expected"),
    [
        ([1.0, 3.0], [-1.0, 1.0]),
        ([1.0, 1.0 + 1e-9], [-1.0, 1.0]),
        ([2.0, 2.0], [0.0, 0.0]),
        ([2.0], [0.0]),
        ([0.0, 0.0, 0.0], [0.0, 0.0, 0.0]),
        ([2.0, 2.0, 0.0, 0.0], [2.0, 2.0, -1.0, -1.0]),
        ([2.0, 2.0, 2.0, 0.0], [0.5, 0.5, 0.5, -1.0]),
    ],
)
def test_entropic_where_no_tilt_is_large_enough(rewards, expected):
    np.testing.assert_allclose(entropic(np.array(rewards), ["a"] * len(rewards)), expected, atol=1e-9)


@given(PAIRS)
def test_entropic_is_finite_and_works_group_by_group(pairs):
    groups, rewards = [g for g, _ in pairs], np.array([r for _, r in pairs])
    advantages = entropic(rewards, groups)
    assert np.isfinite(advantages).all()
    for group in set(groups):
        own = np.array(groups) == group
        np.testing.assert_array_equal(advantages[own], entropic(rewards[own], [group] * own.sum()))


# ---- losses ---------------------------------------------------------------------------------------------------------


def tokens(ratio, advantage, **more):
    logp = torch.tensor([ratio]).log().requires_grad_(True)
    return Tokens(logp, torch.zeros(1), torch.tensor([advantage]), **more)


@pytest.mark.parametrize(
    ("ratio", "advantage", "grpo", "dapo"),
    [
        (1.0, 2.0, -2.0, -2.0),
        (1.5, 2.0, -2.4, -2.56),
        (1.25, 2.0, -2.4, -2.5),
        (0.5, 2.0, -1.0, -1.0),
        (1.5, -2.0, 3.0, 3.0),
        (0.5, -2.0, 1.6, 1.6),
    ],
)
def test_the_clip_only_ever_makes_the_objective_smaller(ratio, advantage, grpo, dapo):
    given_tokens = tokens(ratio, advantage)
    for name, expected in (("grpo", grpo), ("dapo", dapo), ("paper_ttt", -ratio * advantage)):
        config = UpdateConfig(objective=name)
        loss = token_losses(given_tokens, config)
        assert loss.item() == pytest.approx(expected, rel=1e-6)
        given_tokens.logp_R.grad = None
        loss.backward()
        assert bool(clip_stops(given_tokens, config)) == (given_tokens.logp_R.grad.item() == 0)


def test_epsilons_are_configured():
    config = UpdateConfig(objective="grpo", epsilon_low=0.4, epsilon_high=0.6)
    assert token_losses(tokens(2.0, 1.0), config).item() == pytest.approx(-1.6)
    assert token_losses(tokens(0.1, -1.0), config).item() == pytest.approx(0.6)


def test_truncated_importance_sampling_weighs_by_the_capped_ratio_to_the_sampler():
    """-min(p / q, C) A grad log p, whatever the clip; the weight is a number."""
    for ratio, weight in ((0.5, 0.5), (1.5, 1.5), (7.0, 2.0)):
        given_tokens = tokens(ratio, 3.0)
        loss = token_losses(given_tokens, UpdateConfig(objective="grpo", importance_cap=2.0))
        loss.backward()
        assert loss.item() == pytest.approx(-weight * 3.0, rel=1e-6)
        assert given_tokens.logp_R.grad.item() == pytest.approx(-weight * 3.0, rel=1e-6)


def test_the_kl_to_the_start_is_k3():
    start = torch.tensor([-0.3])
    given_tokens = tokens(1.5, 0.0, start_R=start)
    loss = token_losses(given_tokens, UpdateConfig(objective="grpo", kl_weight=0.7))
    d = -0.3 - math.log(1.5)
    assert loss.item() == pytest.approx(0.7 * (math.exp(d) - d - 1), rel=1e-5)
    assert token_losses(tokens(1.5, 0.0), UpdateConfig(objective="grpo", kl_weight=0.7)).item() == pytest.approx(0.0)


def test_sft_is_the_likelihood_of_successes():
    config = UpdateConfig(objective="sft")
    assert token_losses(tokens(0.5, 1.0), config).item() == pytest.approx(math.log(2))
    assert token_losses(tokens(0.5, 0.0), config).item() == 0.0


def test_the_papers_distillation_is_importance_sampling_of_a_token_advantage():
    given_tokens = tokens(1.3, 0.0, teacher_R=torch.tensor([-0.4]))
    config = UpdateConfig(objective="sdpo_paper_prompt", distillation={"weight": 2.0})
    assert token_losses(given_tokens, config).item() == pytest.approx(-1.3 * 2.0 * -0.4, rel=1e-6)


def test_on_policy_the_sampled_token_forms_have_one_gradient():
    gradients = []
    for settings in ({"objective": "sdpo_paper_prompt"}, {"objective": "sdpo_official", "loss": "sdpo_sampled_token"}):
        given_tokens = tokens(1.0, 0.0, teacher_R=torch.tensor([-0.4]))
        token_losses(given_tokens, UpdateConfig(**settings)).backward()
        gradients.append(given_tokens.logp_R.grad.item())
    assert gradients[0] == pytest.approx(gradients[1])


@pytest.mark.parametrize("alpha", [0.0, 0.2, 0.5, 1.0])
def test_divergence_is_the_generalised_jensen_shannon_one(alpha):
    draws = torch.Generator().manual_seed(0)
    s, t = (torch.randn(5, 9, generator=draws, dtype=torch.float64).softmax(-1) for _ in range(2))
    for i, found in enumerate(divergence(s.log(), t.log(), alpha)):
        m = [(1 - alpha) * a + alpha * b for a, b in zip(s[i].tolist(), t[i].tolist(), strict=True)]
        to_m = [sum(a * math.log(a / b) for a, b in zip(p.tolist(), m, strict=True)) for p in (s[i], t[i])]
        kl = {0.0: sum(b * math.log(b / a) for a, b in zip(s[i].tolist(), t[i].tolist(), strict=True))}
        kl[1.0] = sum(a * math.log(a / b) for a, b in zip(s[i].tolist(), t[i].tolist(), strict=True))
        assert found.item() == pytest.approx(kl.get(alpha, (1 - alpha) * to_m[0] + alpha * to_m[1]), abs=1e-12)


def test_the_support_is_the_students_likeliest_tokens_and_a_bucket():
    draws = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(4, 9, generator=draws, dtype=torch.float64) for _ in range(2))
    index, own = support(student, 3)
    place = torch.tensor([2, 2, 0, 1])
    for logits, table, rows in ((student, own, range(4)), (teacher, on_support(teacher, index, place), place.tolist())):
        for i, row in enumerate(rows):
            p = logits[row].softmax(-1)
            best = student[i].topk(3).indices
            torch.testing.assert_close(table[i, :3].exp(), p[best])
            assert table[i, 3].exp().item() == pytest.approx(1 - p[best].sum().item())


# ---- aggregations ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("token_sum", 1 + 2 + 3 + 4 + 5),
        ("token_mean", (1 + 2 + 3 + 4 + 5) / 5),
        ("seq_mean", ((1 + 2 + 3) / 3 + (4 + 5) / 2) / 2),
        ("constant", ((1 + 2 + 3) / 4 + (4 + 5) / 4) / 2),
    ],
)
def test_aggregations_of_the_tokens_of_active_rollouts(name, expected):
    losses = [[1.0, 2.0, 3.0], [100.0], [4.0, 5.0]]
    lengths, active = np.array([3, 1, 2]), np.array([True, False, True])
    config = UpdateConfig(objective="dr_grpo", token_constant=4.0)
    weights = AGGREGATIONS[name](lengths, active, config)
    assert sum(w * sum(row) for w, row in zip(weights, losses, strict=True)) == pytest.approx(expected)
    assert not AGGREGATIONS[name](lengths, np.zeros(3, dtype=bool), config).any()
