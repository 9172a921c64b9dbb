"""From logits to tokens: inversion, filters, and what is recorded."""

import collections

import numpy as np
import pytest
import torch

from vegflow.config.sampling import SamplingConfig
from vegflow.sampling.choice import BLOCK, choose, invert, keep_likely

PROBABILITIES = torch.tensor([[0.5, 0.3, 0.15, 0.05]])


def support(**settings):
    return keep_likely(PROBABILITIES, SamplingConfig(**settings))[0].nonzero()[:, 0].tolist()


def test_filters_keep_what_their_definitions_say():
    assert support(top_k=2) == [0, 1]
    assert support(top_k=9) == [0, 1, 2, 3]
    assert support(top_p=0.5) == [0]
    assert support(top_p=0.79) == [0, 1]
    assert support(top_p=0.81) == [0, 1, 2]
    assert support(min_p=0.4) == [0, 1]
    assert support(min_p=0.4, top_p=0.5) == [0]
    assert support(top_p=1e-6) == [0]


def test_inversion_in_blocks_is_inversion():
    torch.manual_seed(0)
    weights = torch.rand(50, 3 * BLOCK + 7) ** 8
    uniform = torch.rand(50, dtype=torch.float64)
    cumulative = weights.double().cumsum(-1)
    expected = torch.searchsorted(cumulative, (uniform * cumulative[:, -1])[:, None], right=True)[:, 0]
    assert torch.equal(invert(weights, uniform), expected)


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-53])
def test_the_ends_of_the_unit_interval_never_give_a_token_without_weight(uniform):
    weights = torch.zeros(1, 2 * BLOCK)
    weights[0, 5] = weights[0, BLOCK + 3] = 0.1
    token = invert(weights, torch.tensor([uniform], dtype=torch.float64)).item()
    assert token == (5 if uniform == 0 else BLOCK + 3)


def test_filtered_tokens_are_drawn_in_proportion_and_recorded_with_the_whole_distribution():
    torch.manual_seed(0)
    logits, n = torch.randn(1, 40), 20000
    config = SamplingConfig(temperature=0.7, top_k=5)
    uniform = torch.arange(n, dtype=torch.float64) / n
    choice = choose(logits.expand(n, -1), uniform, config)
    whole = (logits[0].double() / 0.7).log_softmax(-1)
    likely = whole.topk(5).indices
    counts = collections.Counter(choice.token_N.tolist())
    assert set(counts) == set(likely.tolist())
    shares = np.array([counts[token] / n for token in likely.tolist()])
    expected = whole[likely].exp() / whole[likely].exp().sum()
    np.testing.assert_allclose(shares, expected.numpy(), atol=2 / n * 5)
    torch.testing.assert_close(choice.tempered_N, whole[choice.token_N].float(), atol=1e-5, rtol=0)
    raw = logits[0].double().log_softmax(-1)[choice.token_N].float()
    torch.testing.assert_close(choice.logprob_N, raw, atol=1e-5, rtol=0)
