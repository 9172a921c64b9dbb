"""Packed rows give what separate rows give: log-probabilities, entropies and gradients, for any grouping."""

import copy

import pytest
import torch

from vegflow.models.packing import pack, score

PROMPT = [5, 9, 33, 2, 71]
COMPLETIONS = [[8, 3, 0], [44], [8, 3, 9, 12, 0], [60, 61, 62, 63, 64, 65, 0], [8, 3, 0]]


def separate(model, prompt, completion, temperature=1.0):
    """The obvious way: one row, no mask, log-softmax of every position."""
    logits = model(input_ids=torch.tensor([prompt + completion])).logits[0].float() / temperature
    logp = logits.log_softmax(-1)
    positions = range(len(prompt) - 1, len(prompt) + len(completion) - 1)
    chosen = torch.stack([logp[p, t] for p, t in zip(positions, completion, strict=True)])
    entropy = torch.stack([-(logp[p].exp() * logp[p]).sum() for p in positions])
    return chosen, entropy


def tiny_qwen():
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(1)
    config = Qwen2Config(
        vocab_size=97,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
    )
    return Qwen2ForCausalLM(config).eval()


@pytest.fixture(params=["llama", "qwen"])
def model(request, tiny_llama):
    return tiny_llama if request.param == "llama" else tiny_qwen()


@pytest.mark.parametrize("temperature", [1.0, 0.25])
@pytest.mark.parametrize("budget", [6, 12, 20, 16384])
def test_equal_to_separate_rows(model, temperature, budget):
    scores = score(model, PROMPT, COMPLETIONS, temperature=temperature, token_budget=budget)
    for completion, logprobs, entropy in zip(COMPLETIONS, scores.logprobs, scores.entropies, strict=True):
        expected, expected_entropy = separate(model, PROMPT, completion, temperature)
        torch.testing.assert_close(logprobs, expected, atol=1e-5, rtol=0)
        torch.testing.assert_close(entropy, expected_entropy, atol=1e-5, rtol=1e-5)


def test_gradients_equal_those_of_separate_rows(tiny_llama):
    gradients = []
    for packed in (True, False):
        model = copy.deepcopy(tiny_llama).requires_grad_(True)
        if packed:
            rows = score(model, PROMPT, COMPLETIONS).logprobs
        else:
            rows = [separate(model, PROMPT, completion)[0] for completion in COMPLETIONS]
        sum(weight * row.sum() for weight, row in zip((1.0, -2.0, 0.5, 1.5, 3.0), rows, strict=True)).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters()]))
    assert (gradients[0] - gradients[1]).norm() <= 1e-5 * gradients[1].norm()


def test_a_completion_does_not_see_its_neighbours(tiny_llama):
    alone = score(tiny_llama, PROMPT, [COMPLETIONS[2]]).logprobs[0]
    beside = score(tiny_llama, PROMPT, [[1] * 30, COMPLETIONS[2], [2] * 7]).logprobs[1]
    torch.testing.assert_close(alone, beside, atol=1e-5, rtol=0)


def test_a_row_restarts_positions_and_predicts_the_first_token_from_the_prompt():
    row = pack([7, 7], [[1, 2], [3]])
    assert row.input_ids_L.tolist() == [7, 7, 1, 2, 3]
    assert row.position_ids_L.tolist() == [0, 1, 2, 3, 2]
    assert row.predictors_R.tolist() == [1, 2, 1]
    assert row.targets_R.tolist() == [1, 2, 3]
    assert row.mask_LL.int().tolist() == [
        [1, 0, 0, 0, 0],
        [1, 1, 0, 0, 0],
        [1, 1, 1, 0, 0],
        [1, 1, 1, 1, 0],
        [1, 1, 0, 0, 1],
    ]
