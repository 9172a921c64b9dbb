"""From logits to tokens: tempering, filters, and drawing by inversion, with the log-probabilities that are recorded.

Knows rows of logits and uniform numbers; which row is whose is left to the engines.

Axes: N rows, V vocabulary, C blocks of BLOCK tokens.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from vegflow.config.sampling import SamplingConfig

BLOCK = 1024
ROWS = 16
"""Rows whose logits are in float32 at a time: a vocabulary of 150,000 takes 10 MB a copy."""


@dataclass(frozen=True)
class Choice:
    """Tokens drawn (N), and the log-probability (N, nats) of each at temperature 1 and at the sampling temperature."""

    token_N: Tensor
    logprob_N: Tensor
    tempered_N: Tensor


def choose(logits_NV: Tensor, uniform_N: Tensor, config: SamplingConfig) -> Choice:
    """One token a row, at the quantile `uniform_N` (float64, in [0, 1)) of its distribution after filters.

    Log-probabilities are of the unfiltered distributions, in float32 whatever the logits' type.
    """
    parts = [
        _choose(logits.float(), uniform, config)
        for logits, uniform in zip(logits_NV.split(ROWS), uniform_N.split(ROWS), strict=True)
    ]
    return Choice(*(torch.cat(columns) for columns in zip(*parts, strict=True)))


def _choose(logits_NV: Tensor, uniform_N: Tensor, config: SamplingConfig) -> tuple[Tensor, Tensor, Tensor]:
    normaliser_N = logits_NV.logsumexp(-1)
    tempered_NV = logits_NV / config.temperature
    tempered_NV -= tempered_NV.logsumexp(-1, keepdim=True)
    weights_NV = tempered_NV.exp()
    if config.filters:
        weights_NV = keep_likely(weights_NV, config)
    token_N = invert(weights_NV, uniform_N)
    index = token_N[:, None]
    return token_N, logits_NV.gather(1, index)[:, 0] - normaliser_N, tempered_NV.gather(1, index)[:, 0]


def log_probabilities(logits_NV: Tensor, token_N: Tensor) -> Tensor:
    """Log-probability (N, nats) of given tokens at temperature 1, in float32 whatever the logits' type."""
    rows = max(ROWS, BLOCK * BLOCK // logits_NV.shape[1])
    parts = [
        logits.gather(1, token[:, None])[:, 0].float() - logits.float().logsumexp(-1)
        for logits, token in zip(logits_NV.split(rows), token_N.split(rows), strict=True)
    ]
    return torch.cat(parts)


def keep_likely(probability_NV: Tensor, config: SamplingConfig) -> Tensor:
    """The probabilities with zeros for tokens that top-k, top-p or min-p leave out; each looks at the whole distribution.

    The most likely token always stays. Ties at the edge of top-k all stay.
    """
    kept_NV = torch.ones_like(probability_NV, dtype=torch.bool)
    if config.top_k is not None and config.top_k < probability_NV.shape[1]:
        kept_NV &= probability_NV >= probability_NV.topk(config.top_k, dim=-1).values[:, -1:]
    if config.min_p > 0:
        kept_NV &= probability_NV >= config.min_p * probability_NV.amax(-1, keepdim=True)
    if config.top_p < 1:
        sorted_NV, order_NV = probability_NV.double().sort(-1, descending=True)
        before_NV = sorted_NV.cumsum(-1) - sorted_NV
        kept_NV &= torch.zeros_like(kept_NV).scatter(1, order_NV, before_NV < config.top_p)
    return probability_NV * kept_NV


def invert(weights_NV: Tensor, uniform_N: Tensor) -> Tensor:
    """The token of each row at the quantile `uniform_N` of the distribution proportional to `weights_NV`.

    Inversion in two steps, among sums of blocks and then within one, so that only one block is cumulated in float64.
    """
    N, V = weights_NV.shape
    if padding := -V % BLOCK:
        weights_NV = torch.nn.functional.pad(weights_NV, (0, padding))
    blocks_NCB = weights_NV.view(N, -1, BLOCK)
    upto_NC = blocks_NCB.sum(-1, dtype=torch.float64).cumsum(-1)
    target_N = uniform_N.to(upto_NC.device) * upto_NC[:, -1]
    block_N = _place(upto_NC, target_N)
    rows = torch.arange(N, device=weights_NV.device)
    before_N = torch.where(block_N > 0, upto_NC[rows, block_N - 1], 0.0)
    inside_NB = blocks_NCB[rows, block_N].double().cumsum(-1)
    return block_N * BLOCK + _place(inside_NB, target_N - before_N)


def _place(cumulative_NX: Tensor, target_N: Tensor) -> Tensor:
    """First place whose cumulative weight exceeds the target; rounding never takes it to a place without weight."""
    place_N = torch.searchsorted(cumulative_NX, target_N[:, None], right=True)[:, 0]
    last_N = torch.searchsorted(cumulative_NX, cumulative_NX[:, -1:].contiguous(), right=False)[:, 0]
    return torch.minimum(place_N, last_N)
