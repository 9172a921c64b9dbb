"""Many completions of one prompt in one forward pass, and their log-probabilities.

A row holds [prompt | c1 | ... | ck]: positions restart after the prompt for each completion and a mask keeps the
completions apart, so that the prompt is read once (prefix-tree packing). Equal to k separate rows up to rounding; update,
rescoring and the building of a model all go through here. Models with sliding windows need more than one mask and are
refused.

Axes: N completions, L tokens of a row, R predicting positions, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Row:
    """A packed row: what the model reads, and where each completion's tokens are predicted."""

    input_ids_L: Tensor
    position_ids_L: Tensor
    mask_LL: Tensor
    """True where the token of a row may look at the token of a column."""
    predictors_R: Tensor
    """Positions whose output predicts a completion token, completion by completion."""
    targets_R: Tensor
    lengths: tuple[int, ...]


@dataclass(frozen=True)
class Scores:
    """Log-probabilities (nats) of each completion's tokens, and the entropy of the distribution each came from."""

    logprobs: list[Tensor]
    entropies: list[Tensor]


def pack(prompt: Sequence[int], completions: Sequence[Sequence[int]]) -> Row:
    """One row for a prompt and its completions (none empty). The first token of each is predicted by the prompt's last."""
    P = len(prompt)
    lengths = tuple(len(c) for c in completions)
    owner = torch.tensor([-1] * P + [i for i, n in enumerate(lengths) for _ in range(n)])
    position = torch.tensor([*range(P), *(P + t for n in lengths for t in range(n))])
    index = torch.arange(len(owner))
    visible = (owner[None, :] == -1) | (owner[None, :] == owner[:, None])
    predictors, start = [], P
    for n in lengths:
        predictors += [P - 1, *range(start, start + n - 1)]
        start += n
    tokens = [token for completion in completions for token in completion]
    return Row(
        input_ids_L=torch.tensor([*prompt, *tokens]),
        position_ids_L=position,
        mask_LL=visible & (index[None, :] <= index[:, None]),
        predictors_R=torch.tensor(predictors),
        targets_R=torch.tensor(tokens),
        lengths=lengths,
    )


def score(
    model: nn.Module,
    prompt: Sequence[int],
    completions: Sequence[Sequence[int]],
    *,
    temperature: float = 1.0,
    token_budget: int = 16384,
) -> Scores:
    """Log-probabilities of completions (N lists of token ids) of one prompt, with gradients if they are enabled.

    Logits are divided by `temperature` and normalised in float32. Equal completions are computed once. `token_budget`
    bounds the tokens of a row.
    """
    unique = list(dict.fromkeys(tuple(c) for c in completions))
    logprobs: dict[tuple[int, ...], Tensor] = {}
    entropies: dict[tuple[int, ...], Tensor] = {}
    for chunk in _chunks(unique, len(prompt), token_budget):
        row = pack(prompt, chunk)
        logits_RV = forward(model, [row])[0] / temperature
        logp_RV = logits_RV.log_softmax(-1)
        logp_R = logp_RV.gather(1, row.targets_R.to(logp_RV.device)[:, None])[:, 0]
        entropy_R = -(logp_RV.exp() * logp_RV).sum(-1)
        logprobs |= zip(chunk, logp_R.split(row.lengths), strict=True)
        entropies |= zip(chunk, entropy_R.split(row.lengths), strict=True)
    keys = [tuple(c) for c in completions]
    return Scores([logprobs[k] for k in keys], [entropies[k] for k in keys])


def forward(model: nn.Module, rows: Sequence[Row]) -> list[Tensor]:
    """Float32 logits (R, V) at the predicting positions of each row; rows are padded to a common length."""
    device = next(model.parameters()).device
    L = max(len(row.input_ids_L) for row in rows)
    ids = torch.stack([_pad(row.input_ids_L, L) for row in rows]).to(device)
    positions = torch.stack([_pad(row.position_ids_L, L) for row in rows]).to(device)
    mask = torch.eye(L, dtype=torch.bool).repeat(len(rows), 1, 1)
    for i, row in enumerate(rows):
        n = len(row.input_ids_L)
        mask[i, :n, :n] = row.mask_LL
    keep = torch.unique(torch.cat([row.predictors_R for row in rows]))
    output = model(
        input_ids=ids,
        position_ids=positions,
        attention_mask=mask[:, None].to(device),
        logits_to_keep=keep.to(device),
        use_cache=False,
    )
    return [
        output.logits[i, torch.searchsorted(keep, row.predictors_R).to(device)].float() for i, row in enumerate(rows)
    ]


def _pad(values: Tensor, length: int) -> Tensor:
    return torch.cat([values, values.new_zeros(length - len(values))])


def _chunks(completions: Sequence[tuple[int, ...]], prompt: int, budget: int) -> Iterator[list[tuple[int, ...]]]:
    """Completions in groups for one row each.

    Attention costs grow with the square of a row, reading the prompt again costs its length: about 1.5 prompts' worth
    of completions a row is near the best of both (measured for several shapes), and never more than the budget.
    """
    limit = min(budget, prompt + max(512, 3 * prompt // 2))
    chunk: list[tuple[int, ...]] = []
    used = prompt
    for completion in completions:
        if chunk and used + len(completion) > limit:
            yield chunk
            chunk, used = [], prompt
        chunk.append(completion)
        used += len(completion)
    if chunk:
        yield chunk
