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

from vegflow.errors import VegflowError
from vegflow.models.attention import Branches, branches_of, branching
from vegflow.models.lora import fused
from vegflow.models.states import Pooling, pooled, states_kept

BLOCK, CPU_BLOCK = 1 << 24, 1 << 18
"""Numbers of a block of logits that is turned into float32 at a time: 64 MB, and on a CPU what its caches hold (1 MB)."""
MOST_UNLIKE = 1.5
"""Times their mean that the longest of the completions may have where all go into one row."""
TOKENS_PER_PASS = 2048
"""Short rows share a pass up to this, which spares calls; more is not faster on a CPU."""
IDLE = [0], [[0]]
"""Prompt and completions of a pass that a process makes for the others' sake."""
FULL, SLIDING = "full_attention", "sliding_attention"


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


def token_scores(logits_RV: Tensor, targets_R: Tensor, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """Log-probability of each target and entropy of each distribution (R each, nats), of logits / temperature.

    In float32 whatever the logits' type, a block of rows at a time, forward and backward, so that a large vocabulary costs
    no second copy of the logits.
    """
    return _TokenScores.apply(logits_RV, targets_R, temperature)


class _TokenScores(torch.autograd.Function):
    """z = logits / T; log p = z_target - log sum e^z; H = log sum e^z - sum p z.

    d log p / dz_j = 1[j = target] - p_j and d H / dz_j = -p_j (log p_j + H).
    """

    @staticmethod
    def forward(ctx: Any, logits_RV: Tensor, targets_R: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        logp_R = torch.empty(len(targets_R), device=logits_RV.device)
        normaliser_R, entropy_R = torch.empty_like(logp_R), torch.empty_like(logp_R)
        for block in _blocks(logits_RV):
            logp_RV = logits_RV[block].float() / temperature
            normaliser_R[block] = logp_RV.logsumexp(-1)
            logp_RV -= normaliser_R[block, None]
            logp_R[block] = logp_RV.gather(1, targets_R[block, None])[:, 0]
            entropy_R[block] = -torch.linalg.vecdot(logp_RV.exp(), logp_RV)
        ctx.save_for_backward(logits_RV, targets_R, normaliser_R, entropy_R)
        ctx.temperature = temperature
        ctx.set_materialize_grads(False)
        return logp_R, entropy_R

    @staticmethod
    def backward(ctx: Any, dlogp_R: Tensor | None, dentropy_R: Tensor | None) -> tuple[Tensor, None, None]:
        logits_RV, targets_R, normaliser_R, entropy_R = ctx.saved_tensors
        gradient_RV = torch.empty_like(logits_RV)
        for block in _blocks(logits_RV):
            slope_RV = logits_RV[block].float() / ctx.temperature - normaliser_R[block, None]
            factor_RX = torch.zeros(1, 1, device=slope_RV.device)
            if dentropy_R is not None:
                factor_RX = (slope_RV + entropy_R[block, None]) * dentropy_R[block, None]
            if dlogp_R is not None:
                factor_RX = factor_RX + dlogp_R[block, None]
            slope_RV.exp_().mul_(-factor_RX)
            if dlogp_R is not None:
                slope_RV.scatter_add_(1, targets_R[block, None], dlogp_R[block, None])
            gradient_RV[block] = slope_RV.div_(ctx.temperature)
        return gradient_RV, None, None


def _blocks(logits_RV: Tensor) -> Iterator[slice]:
    size = max(1, (CPU_BLOCK if logits_RV.device.type == "cpu" else BLOCK) // logits_RV.shape[1])
    for start in range(0, len(logits_RV), size):
        yield slice(start, min(start + size, len(logits_RV)))


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
    branches = _branches(model, rows, L, device)
    masks = functools.partial(_attention_masks, model, rows, L, device)
    with branching(model, branches, masks), fused(model):
        return model(
            input_ids=torch.stack([_pad(row.input_ids_L, L) for row in rows]).to(device),
            position_ids=torch.stack([_pad(row.position_ids_L, L) for row in rows]).to(device),
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
    """Whether a model's layers can attend branch by branch: SDPA on a CPU, without windows."""
    plain = getattr(model.config, "_attn_implementation", None) == "sdpa" and device.type == "cpu"
    return plain and set(layer_windows(model.config).values()) == {None}


def _attention_masks(model: nn.Module, rows: Sequence[Row], L: int, device: torch.device) -> Tensor | dict[str, Tensor]:
    """The mask (B, 1, L, L) that a model's layers take, or one of each kind of layer if there are two."""
    windows = layer_windows(model.config)
    masks = {kind: _stacked(rows, L, window).to(device) for kind, window in windows.items()}
    if getattr(model.config, "_attn_implementation", "sdpa") == "eager":
        dtype = next(model.parameters()).dtype
        masks = {
            kind: torch.zeros(mask.shape, dtype=dtype, device=device).masked_fill_(~mask, torch.finfo(dtype).min)
            for kind, mask in masks.items()
        }
    return masks if len(masks) > 1 else next(iter(masks.values()))


def layer_windows(config: Any) -> dict[str, int | None]:
    """Kinds of attention layers of a model, each with how many positions it looks back at (None: all).

    Raises VegflowError for a kind that packed rows cannot express as a mask.
    """
    window = getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None
    kinds = dict.fromkeys(getattr(config, "layer_types", None) or [FULL if window is None else SLIDING])
    if odd := [kind for kind in kinds if kind not in (FULL, SLIDING)]:
        raise VegflowError(f"layers of kind '{odd[0]}' cannot keep packed completions apart; take another model")
    return {kind: None if kind == FULL else window for kind in kinds}


def _stacked(rows: Sequence[Row], L: int, window: int | None) -> Tensor:
    mask = torch.eye(L, dtype=torch.bool).repeat(len(rows), 1, 1)
    for i, row in enumerate(rows):
        n = len(row.input_ids_L)
        mask[i, :n, :n] = row.mask(window)
    return mask[:, None]


def _pad(values: Tensor, length: int) -> Tensor:
    return torch.cat([values, values.new_zeros(length - len(values))])


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
