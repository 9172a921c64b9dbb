"""Many completions of one prompt in one forward pass, and their log-probabilities.

A row holds [prompt | c1 | ... | ck]: positions restart after the prompt for each completion and a mask keeps the
completions apart, so that the prompt is read once (prefix-tree packing). Equal to k separate rows up to rounding, for any
causal language model of Hugging Face's that takes positions and a mask, sliding windows and mixtures of experts included;
update, rescoring, SDPO's teacher and the building of a model all go through here.

Axes: N completions, L tokens of a row, B rows of a pass, R predicting positions, V vocabulary.
"""

import functools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from vegflow.models import flex
from vegflow.models.attention import Branches, attending, branches_of, branching
from vegflow.models.elementwise import in_few_passes
from vegflow.models.lora import fused
from vegflow.models.masks import attention_masks, block_masks, in_blocks, layer_windows, padded, wish
from vegflow.models.states import Pooling, pooled, states_kept
from vegflow.models.token_scores import token_scores

MOST_UNLIKE = 1.5
"""Times their mean that the longest of the completions may have where all go into one row."""
TOKENS_PER_PASS = 2048
"""Short rows share a pass up to this, which spares calls; more is not faster on a CPU."""
IDLE = [0], [[0]]
"""Prompt and completions of a pass that a process makes for the others' sake."""


@dataclass(frozen=True)
class Row:
    """A packed row: what the model reads, and where each completion's tokens are predicted."""

    input_ids_L: Tensor
    position_ids_L: Tensor
    owner_L: Tensor
    """Number of the completion that a token belongs to; -1 for the prompt."""
    predictors_R: Tensor
    """Positions whose output predicts a completion token, completion by completion."""
    targets_R: Tensor
    lengths: tuple[int, ...]

    def mask(self, window: int | None = None) -> Tensor:
        """True (L, L) where the token of a row may look at the token of a column.

        With a `window`, of a layer that looks back at so many positions; positions count, not places in the row.
        """
        index = torch.arange(len(self.owner_L))
        owner, position = self.owner_L, self.position_ids_L
        visible_LL = (owner[None, :] == -1) | (owner[None, :] == owner[:, None])
        visible_LL &= index[None, :] <= index[:, None]
        if window is not None:
            visible_LL &= position[:, None] - position[None, :] < window
        return visible_LL


@dataclass(frozen=True)
class Pass:
    """What one forward pass gave of some completions of a prompt."""

    members: tuple[int, ...]
    """Numbers of the completions."""
    lengths: tuple[int, ...]
    """Predicted tokens of each."""
    place_R: Tensor
    """For each token, member by member, its row in `logits_UV`: equal completions share theirs."""
    logits_UV: Tensor
    """In the model's type, neither tempered nor normalised."""
    targets_U: Tensor
    states_MD: Tensor | None = None
    """Each member's state (`vegflow.models.states`), if asked for."""


@dataclass(frozen=True)
class Scores:
    """Log-probabilities (nats) of each completion's tokens, and the entropy of the distribution each came from."""

    logprobs: list[Tensor]
    entropies: list[Tensor]
    states: list[Tensor]
    """Each completion's state (D), if asked for."""


def pack(prompt: Sequence[int], completions: Sequence[Sequence[int]], read: Sequence[int] | None = None) -> Row:
    """One row for a prompt and its completions (none empty). The first token of each is predicted by the prompt's last.

    The first `read[i]` tokens of completion i are only read, not predicted: a longer prompt of its own, or its beginning.
    """
    P = len(prompt)
    read = read or [0] * len(completions)
    sizes = [len(c) for c in completions]
    predictors, start = [], P
    for size, skip in zip(sizes, read, strict=True):
        predictors += [*([P - 1] if skip == 0 else []), *range(start + max(skip, 1) - 1, start + size - 1)]
        start += size
    return Row(
        input_ids_L=torch.tensor([*prompt, *(token for c in completions for token in c)]),
        position_ids_L=torch.tensor([*range(P), *(P + t for n in sizes for t in range(n))]),
        owner_L=torch.tensor([-1] * P + [i for i, n in enumerate(sizes) for _ in range(n)]),
        predictors_R=torch.tensor(predictors),
        targets_R=torch.tensor([token for c, skip in zip(completions, read, strict=True) for token in c[skip:]]),
        lengths=tuple(n - skip for n, skip in zip(sizes, read, strict=True)),
    )


def passes(
    model: nn.Module,
    prompt: Sequence[int],
    completions: Sequence[Sequence[int]],
    *,
    read: Sequence[int] | None = None,
    token_budget: int = 16384,
    states: Pooling | None = None,
    pace: Callable[[int], int] = int,
) -> Iterator[Pass]:
    """Forward passes over the completions (N lists of token ids) of one prompt, with gradients if they are enabled.

    Equal completions are computed once. `read` as `pack` takes it; `token_budget` bounds the tokens of a pass; `states`
    says which state of each completion to keep. `pace` says how many passes to make where these need so many (where
    processes must keep in step); what is more are passes without members.
    """
    members: dict[tuple[int, tuple[int, ...]], list[int]] = {}
    for number, completion in enumerate(completions):
        members.setdefault((read[number] if read else 0, tuple(completion)), []).append(number)
    unique = list(members)
    apart = _branches_apart(model, next(model.parameters()).device)
    plan = list(_plan([len(tokens) for _, tokens in unique], len(prompt), token_budget, apart))
    for chunks in plan + [[]] * (pace(len(plan)) - len(plan)):
        rows = [pack(prompt, [unique[i][1] for i in c], [unique[i][0] for i in c]) for c in chunks] or [pack(*IDLE)]
        with states_kept(model) if states else nullcontext([]) as kept:
            logits = _forward(model, rows)
        lengths = [n for row in rows for n in row.lengths]
        starts = [0]
        for n in lengths:
            starts.append(starts[-1] + n)
        owners = [
            (number, place) for place, i in enumerate(i for c in chunks for i in c) for number in members[unique[i]]
        ]
        owners.sort()
        yield Pass(
            members=tuple(number for number, _ in owners),
            lengths=tuple(lengths[place] for _, place in owners),
            place_R=torch.cat([torch.arange(0), *(torch.arange(starts[p], starts[p + 1]) for _, p in owners)]).to(
                logits[0].device
            ),
            logits_UV=logits[0] if len(logits) == 1 else torch.cat(logits),
            targets_U=torch.cat([row.targets_R for row in rows]).to(logits[0].device),
            states_MD=pooled(kept[0], rows, states)[[p for _, p in owners]] if states else None,
        )


def score(
    model: nn.Module,
    prompt: Sequence[int],
    completions: Sequence[Sequence[int]],
    *,
    temperature: float = 1.0,
    read: Sequence[int] | None = None,
    token_budget: int = 16384,
    states: Pooling | None = None,
    pace: Callable[[int], int] = int,
) -> Scores:
    """Log-probabilities of completions (N lists of token ids) of one prompt, with gradients if they are enabled.

    Logits are divided by `temperature` and normalised in float32. The other options as `passes` takes them.
    """
    logprobs: list[Any] = [None] * len(completions)
    entropies: list[Any] = [None] * len(completions)
    found: list[Any] = [None] * len(completions) if states else []
    options = {"read": read, "token_budget": token_budget, "states": states, "pace": pace}
    for part in passes(model, prompt, completions, **options):
        logp_U, entropy_U = token_scores(part.logits_UV, part.targets_U, temperature)
        pieces = (values_U.index_select(0, part.place_R).split(part.lengths) for values_U in (logp_U, entropy_U))
        for number, logp, entropy in zip(part.members, *pieces, strict=True):
            logprobs[number], entropies[number] = logp, entropy
        if part.states_MD is not None:
            for number, state_D in zip(part.members, part.states_MD, strict=True):
                found[number] = state_D
    return Scores(logprobs, entropies, found)


def completion_states(
    model: nn.Module, prompt: Sequence[int], completions: Sequence[Sequence[int]], pooling: Pooling, token_budget: int
) -> Tensor:
    """States (N, D; float32) of completions of one prompt, with gradients if they are enabled, and no logits.

    Equal completions are computed once.
    """
    numbers: dict[tuple[int, ...], int] = {}
    places = [numbers.setdefault(tuple(completion), len(numbers)) for completion in completions]
    unique, found = list(numbers), []
    for chunks in _plan([len(tokens) for tokens in unique], len(prompt), token_budget):
        rows = [pack(prompt, [unique[i] for i in chunk]) for chunk in chunks]
        with states_kept(model) as kept:
            _run(model, rows, torch.tensor([0]))
        found.append(pooled(kept[0], rows, pooling))
    return torch.cat(found)[places]


def forward(model: nn.Module, rows: Sequence[Row]) -> list[Tensor]:
    """Float32 logits (R, V) at the predicting positions of each row; rows are padded to a common length."""
    return [logits_RV.float() for logits_RV in _forward(model, rows)]


def _forward(model: nn.Module, rows: Sequence[Row]) -> list[Tensor]:
    """Logits (R, V) in the model's type at the predicting positions of each row."""
    keep = rows[0].predictors_R
    if all(torch.equal(row.predictors_R, keep) for row in rows):  # none is left out, so no copy is made
        return list(_run(model, rows, keep))
    keep = torch.unique(torch.cat([row.predictors_R for row in rows]))
    logits_BKV = _run(model, rows, keep)
    return [
        logits_BKV[i, torch.searchsorted(keep, row.predictors_R).to(logits_BKV.device)] for i, row in enumerate(rows)
    ]


def _run(model: nn.Module, rows: Sequence[Row], keep: Tensor) -> Tensor:
    """Logits (B, K, V) of the rows at the positions in `keep`; rows are padded to a common length."""
    device = next(model.parameters()).device
    L = max(len(row.input_ids_L) for row in rows)
    if blocked := in_blocks(model, rows, device):
        L = flex.padded_length(L)
    branches = None if blocked else _branches(model, rows, L, device)
    masks = functools.partial(block_masks if blocked else attention_masks, model, rows, L, device)
    with (
        attending(model, flex.NAME) if blocked else branching(model, branches, masks),
        fused(model),
        in_few_passes(model),
    ):
        return model(
            input_ids=torch.stack([padded(row.input_ids_L, L) for row in rows]).to(device),
            position_ids=torch.stack([padded(row.position_ids_L, L) for row in rows]).to(device),
            attention_mask=masks() if branches is None else torch.ones(1, 1, 1, 1, dtype=torch.bool),
            logits_to_keep=keep.to(device),
            use_cache=False,
        ).logits


def _branches(model: nn.Module, rows: Sequence[Row], L: int, device: torch.device) -> Branches | None:
    """The completions as branches of one prompt, if attention is better computed so: by SDPA, on a CPU, for all layers."""
    prompts = {int((row.owner_L < 0).sum()) for row in rows}
    if not _branches_apart(model, device) or len(prompts) > 1:
        return None
    (prompt,) = prompts
    sizes = [torch.bincount(row.owner_L[prompt:]).tolist() for row in rows]
    return branches_of(prompt, sizes, L)


def _branches_apart(model: nn.Module, device: torch.device) -> bool:
    """Whether a model's layers attend branch by branch: SDPA on a CPU, without windows, and nothing else is asked for."""
    plain = getattr(model.config, "_attn_implementation", None) == "sdpa" and device.type == "cpu"
    return plain and wish(model) in ("auto", "branches") and set(layer_windows(model.config).values()) == {None}


def completions_per_row(prompt: int, mean_length: float, completions: int, apart: bool = False) -> int:
    """ceil(1.5 P / T), at least 4, at most all: how many completions share one reading of their prompt.

    A row of k completions costs (P + kT) of what grows with tokens and (P + kT)^2 of what grows with pairs of them, per k
    completions; this is within 15 % of the best k for prompts of 64 to 500 and completions of 15 to 100 tokens. Where pairs
    of completions cost nothing (`apart`) a row takes as many as fill a pass.
    """
    fill = math.ceil((TOKENS_PER_PASS - prompt) / max(1.0, mean_length)) if apart else 0
    return min(max(4, math.ceil(1.5 * prompt / max(1.0, mean_length)), fill), completions)


def _plan(sizes: Sequence[int], prompt: int, budget: int, apart: bool = False) -> Iterator[list[list[int]]]:
    """Completions (by number) in rows, and rows in passes; a pass holds at most `budget` tokens, or one completion.

    Where attention is computed branch by branch (`apart`), pairs of completions cost nothing: all that are alike in length
    share a row.
    """
    mean = sum(sizes) / max(1, len(sizes))
    per_row = completions_per_row(prompt, mean, len(sizes), apart and max(sizes, default=0) <= MOST_UNLIKE * mean)
    most = min(budget, TOKENS_PER_PASS)
    rows: list[list[int]] = []
    longest = used = 0
    for i, size in enumerate(sizes):
        if rows and len(rows[-1]) < per_row and used + size <= budget:
            rows[-1].append(i)
            used += size
            continue
        longest = max(longest, used)
        if rows and (len(rows) + 1) * max(longest, prompt + per_row * size) > most:
            yield rows
            rows, longest = [], 0
        rows.append([i])
        used = prompt + size
    if rows:
        yield rows
