"""Packed rows give what padded batches give: log-probabilities, entropies and adapter gradients, for any grouping."""

import pytest
import torch

from tests.models.families import FAMILIES, tiny_model, with_lora
from vegflow.errors import VegflowError
from vegflow.models import packing
from vegflow.models.attention import branches_of
from vegflow.models.masks import layer_windows
from vegflow.models.packing import completions_per_row, pack, passes, score

PROMPT = [5, 9, 33, 2, 71, 14, 6]
COMPLETIONS = [[8, 3, 0], [44], [8, 3, 9, 12, 0], [60, 61, 62, 63, 64, 65, 0], [8, 3, 0], [9, 9]]
WEIGHTS = (1.0, -2.0, 0.5, 1.5, 3.0, -0.7)


def padded(model, prompt, completions, temperature=1.0):
    """The obvious way: one padded batch, the model's own mask, log-softmax of every position."""
    longest = max(map(len, completions))
    ids = torch.tensor([prompt + c + [1] * (longest - len(c)) for c in completions])
    mask = torch.tensor([[1] * (len(prompt) + len(c)) + [0] * (longest - len(c)) for c in completions])
    logp = (model(input_ids=ids, attention_mask=mask).logits.float() / temperature).log_softmax(-1)
    chosen, entropies = [], []
    for row, completion in zip(logp, completions, strict=True):
        own = row[len(prompt) - 1 : len(prompt) + len(completion) - 1]
        chosen.append(own.gather(1, torch.tensor(completion)[:, None])[:, 0])
        entropies.append(-(own.exp() * own).sum(-1))
    return chosen, entropies


def adapter_gradient(policy, rows):
    policy.zero_grad()
    sum(weight * row.sum() for weight, row in zip(WEIGHTS, rows, strict=True)).backward()
    return torch.cat([p.grad.flatten() for p in policy.parameters() if p.requires_grad])


@pytest.fixture(scope="module", params=FAMILIES)
def policy(request):
    return with_lora(tiny_model(request.param))


@pytest.fixture
def per_row(monkeypatch):
    return lambda k: monkeypatch.setattr(packing, "completions_per_row", lambda *_: k)


@pytest.mark.parametrize("k", range(1, len(COMPLETIONS) + 1))
def test_equal_to_a_padded_batch_for_every_k(policy, per_row, k):
    per_row(k)
    expected, expected_entropy = padded(policy, PROMPT, COMPLETIONS)
    scores = score(policy, PROMPT, COMPLETIONS)
    for ours, theirs in zip(scores.logprobs + scores.entropies, expected + expected_entropy, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    wanted = adapter_gradient(policy, expected)
    found = adapter_gradient(policy, scores.logprobs)
    assert wanted.norm() > 0
    assert (found - wanted).norm() <= 1e-5 * wanted.norm()


@pytest.mark.parametrize("budget", [6, 12, 24, 16384])
def test_the_budget_does_not_change_the_result(policy, budget):
    """At a low temperature too, where errors are larger in proportion."""
    with torch.no_grad():
        expected, _ = padded(policy, PROMPT, COMPLETIONS, temperature=0.25)
        found = score(policy, PROMPT, COMPLETIONS, temperature=0.25, token_budget=budget).logprobs
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=0)


def test_a_pass_keeps_to_its_budget(tiny_llama):
    for budget in (16, 24, 40):
        for part in passes(tiny_llama, PROMPT, COMPLETIONS, token_budget=budget):
            tokens = {tuple(COMPLETIONS[i]) for i in part.members}
            assert len(PROMPT) + sum(map(len, tokens)) <= budget


@pytest.mark.parametrize("k", [1, 2, 4, 6])
def test_branch_by_branch_is_what_the_mask_gives(tiny_llama, per_row, monkeypatch, k):
    """Rows of unlike lengths side by side; then the same with SDPA and the mask."""
    per_row(k)
    policy = with_lora(tiny_model("llama"))
    used, rows = [], []
    made = packing.branches_of
    monkeypatch.setattr(packing, "branches_of", lambda *a: used.append(made(*a)) or used[-1])
    rows.append(score(policy, PROMPT, COMPLETIONS).logprobs)
    assert any(branches is not None for branches in used)
    monkeypatch.setattr(packing, "branches_of", lambda *a: None)
    rows.append(score(policy, PROMPT, COMPLETIONS).logprobs)
    for ours, theirs in zip(*rows, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)
    first, second = (adapter_gradient(policy, found) for found in rows)
    assert (first - second).norm() <= 1e-5 * second.norm()
    assert policy.config._attn_implementation == "sdpa"


def test_branches_too_unlike_in_length_are_left_to_the_mask():
    assert branches_of(4, [[1, 1, 1, 30]], 37) is None
    assert branches_of(4, [[20, 30], [25]], 54) is not None


def test_what_is_read_is_not_scored_but_seen(policy):
    """A branch that begins with a further prompt is the completion of the whole prompt."""
    longer = [[70, 71], [72], [], [73, 74, 75], [70, 71], [76]]
    branches = [extra + completion for extra, completion in zip(longer, COMPLETIONS, strict=True)]
    with torch.no_grad():
        found = score(policy, PROMPT, branches, read=[len(extra) for extra in longer]).logprobs
        for extra, completion, ours in zip(longer, COMPLETIONS, found, strict=True):
            theirs = padded(policy, PROMPT + extra, [completion])[0][0]
            torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_a_completion_does_not_see_its_neighbours(policy):
    with torch.no_grad():
        alone = score(policy, PROMPT, [COMPLETIONS[2]]).logprobs[0]
        beside = score(policy, PROMPT, [[1] * 30, COMPLETIONS[2], [2] * 7]).logprobs[1]
    torch.testing.assert_close(alone, beside, atol=1e-5, rtol=0)


def test_a_row_restarts_positions_and_predicts_the_first_token_from_the_prompt():
    row = pack([7, 7], [[1, 2], [3]])
    assert row.input_ids_L.tolist() == [7, 7, 1, 2, 3]
    assert row.position_ids_L.tolist() == [0, 1, 2, 3, 2]
    assert row.predictors_R.tolist() == [1, 2, 1]
    assert row.targets_R.tolist() == [1, 2, 3]
    assert row.mask().int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 0, 0, 1],
    ]


def test_a_window_counts_positions_and_not_places_in_the_row():
    row = pack([7, 7], [[1, 2], [3]])
    assert row.mask(2).int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [0, 1, 1, 0, 0],
        [0, 0, 1, 1, 0],
        [0, 1, 0, 0, 1],
    ]


def test_a_kind_of_layer_that_no_mask_can_keep_apart_is_refused(tiny_llama):
    config = type("Config", (), {"layer_types": ["full_attention", "linear_attention"], "sliding_window": None})
    with pytest.raises(VegflowError, match="layers of kind 'linear_attention' cannot keep packed completions apart"):
        layer_windows(config)


@pytest.mark.parametrize(
    ("prompt", "length", "k"), [(500, 15, 32), (64, 36, 4), (200, 100, 4), (10, 1000, 4), (9, 3, 5)]
)
def test_completions_per_row_follow_the_ratio_of_prompt_to_completion(prompt, length, k):
    assert completions_per_row(prompt, length, 32) == k
