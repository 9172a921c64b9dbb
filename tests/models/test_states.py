"""States from packed rows are those of padded batches, come with the log-probabilities, and carry gradients."""

import pytest
import torch

from tests.models.families import FAMILIES, tiny_model, with_lora
from tests.models.test_packing import COMPLETIONS, PROMPT, adapter_gradient, padded
from vegflow.models import packing
from vegflow.models.packing import completion_states, score
from vegflow.models.states import decoder

BUDGETS = (24, 16384)


def padded_states(model, pooling):
    """The obvious way: one padded batch, all hidden states, the last of them at the last token or its mean."""
    longest = max(map(len, COMPLETIONS))
    ids = torch.tensor([PROMPT + c + [1] * (longest - len(c)) for c in COMPLETIONS])
    mask = torch.tensor([[1] * (len(PROMPT) + len(c)) + [0] * (longest - len(c)) for c in COMPLETIONS])
    hidden = model(input_ids=ids, attention_mask=mask, output_hidden_states=True).hidden_states[-1]
    own = [row[len(PROMPT) : len(PROMPT) + len(c)] for row, c in zip(hidden, COMPLETIONS, strict=True)]
    return torch.stack([states[-1] if pooling == "last" else states.mean(0) for states in own])


@pytest.fixture(scope="module", params=FAMILIES)
def policy(request):
    return with_lora(tiny_model(request.param))


@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_equal_to_a_padded_batch(policy, pooling, monkeypatch):
    wanted = padded_states(policy, pooling)
    for k in (1, 2, 6):
        monkeypatch.setattr(packing, "completions_per_row", lambda *_, k=k: k)
        for budget in BUDGETS:
            found = completion_states(policy, PROMPT, COMPLETIONS, pooling, budget)
            torch.testing.assert_close(found, wanted, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("pooling", ["last", "mean"])
def test_gradients_are_those_of_a_padded_batch(policy, pooling):
    wanted = adapter_gradient(policy, padded_states(policy, pooling))
    found = adapter_gradient(policy, completion_states(policy, PROMPT, COMPLETIONS, pooling, 24))
    assert wanted.norm() > 0
    assert (found - wanted).norm() <= 2e-5 * wanted.norm()


def test_one_pass_gives_log_probabilities_and_states(policy, monkeypatch):
    passes = []
    run = packing._run
    monkeypatch.setattr(packing, "_run", lambda *a: passes.append(1) or run(*a))
    with torch.no_grad():
        scores = score(policy, PROMPT, COMPLETIONS, states="last")
        assert len(passes) == 1
        logprobs, _ = padded(policy, PROMPT, COMPLETIONS)
        wanted = padded_states(policy, "last")
    for ours, theirs in zip(scores.logprobs, logprobs, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(torch.stack(scores.states), wanted, atol=2e-5, rtol=1e-4)


def test_states_are_what_the_output_head_reads(policy):
    """The head on the state gives the logits of the token that would come next."""
    with torch.no_grad():
        state = completion_states(policy, PROMPT, COMPLETIONS[:1], "last", 24)
        ids = torch.tensor([PROMPT + COMPLETIONS[0]])
        logits = policy(input_ids=ids).logits[0, -1]
        torch.testing.assert_close(policy.get_output_embeddings()(state)[0], logits, atol=1e-4, rtol=1e-4)


def test_no_hook_is_left_and_states_are_kept_only_if_asked_for(policy):
    with torch.no_grad():
        assert score(policy, PROMPT, COMPLETIONS).states == []
        completion_states(policy, PROMPT, COMPLETIONS, "last", 16384)
    assert not decoder(policy)._forward_hooks
