"""Attention over packed rows on a CPU: a completion's token looks at the prompt and at its own completion, and no product
with anybody else's is computed.

Equal to attention with the packed row's mask up to rounding; it takes the place of SDPA while `branching` is in force,
for the layers it can do, and leaves the others to SDPA and the mask.

Axes: B rows, H heads, L tokens of a row, P of its prompt, k branches of T tokens (padded), D numbers a head.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

NAME = "vegflow_branches"
MOST_PADDING = 2.0
"""Rows whose branches are so unlike in length that padding them multiplies their tokens by more are left to the mask."""


@dataclass(frozen=True)
class Branches:
    """Where the completions of some rows with one prompt stand."""

    prompt: int
    place_BS: Tensor
    """Place after the prompt of each slot, S = k T slots a row; padding points at the first."""
    slot_BC: Tensor
    """Slot of each token after the prompt."""
    hidden_BkTT: Tensor
    """True where a token may not look at another of its branch: what comes later, and padding."""
    even: bool
    """Whether all branches are alike in length, so that slots and tokens are the same."""


_CURRENT: ContextVar[tuple[Branches, Callable[[], Tensor]] | None] = ContextVar("branches", default=None)


def branches_of(prompt: int, sizes: Sequence[Sequence[int]], length: int) -> Branches | None:
    """The branches of rows padded to `length` (sizes in tokens, by row); None if padding them would cost too much."""
    B, k, T = len(sizes), max(map(len, sizes)), max(n for row in sizes for n in row)
    if k * T > MOST_PADDING * (length - prompt):
        return None
    place = torch.zeros(B, k, T, dtype=torch.long)
    slot = torch.zeros(B, length - prompt, dtype=torch.long)
    hidden = torch.ones(B, k, T, T, dtype=torch.bool).triu(1)
    for b, row in enumerate(sizes):
        start = 0
        for i, n in enumerate(row):
            place[b, i, :n] = torch.arange(start, start + n)
            slot[b, start : start + n] = torch.arange(i * T, i * T + n)
            start += n
    even = k * T == length - prompt and min(n for row in sizes for n in row) == T
    return Branches(prompt, place.view(B, k * T), slot, hidden, even)


@contextmanager
def branching(model: nn.Module, branches: Branches | None, mask: Callable[[], Tensor]) -> Iterator[None]:
    """Let a model whose attention is SDPA attend branch by branch; `mask` makes the mask for layers that cannot."""
    if branches is None:
        yield
        return
    _register()
    token = _CURRENT.set((branches, mask))
    try:
        with attending(model, NAME):
            yield
    finally:
        _CURRENT.reset(token)


@contextmanager
def attending(model: nn.Module, name: str) -> Iterator[None]:
    """Have a model's layers take the attention that Transformers knows by a name."""
    before = model.config._attn_implementation
    model.config._attn_implementation = name
    try:
        yield
    finally:
        model.config._attn_implementation = before


def _register() -> None:
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, _attend)


def _attend(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """Attention in Transformers' form: (B, H, L, D) in, (B, L, H, D) out."""
    from transformers.integrations.sdpa_attention import repeat_kv, sdpa_attention_forward

    current = _CURRENT.get()
    special = any(options.get(name) for name in ("dropout", "sliding_window", "softcap"))
    if current is None:
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    branches, mask = current
    if special or options.get("position_bias") is not None:
        return sdpa_attention_forward(module, query, key, value, mask(), **options)
    repeats = query.shape[1] // key.shape[1]
    key, value = repeat_kv(key, repeats), repeat_kv(value, repeats)
    scale = options.get("scaling")
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    sizes = [branches.prompt, query.shape[2] - branches.prompt]
    (query_P, query_C), (key_P, key_C), (value_P, value_C) = (x.split(sizes, dim=2) for x in (query, key, value))
    head = nn.functional.scaled_dot_product_attention(query_P, key_P, value_P, is_causal=True, scale=scale)
    tail = _branch_attention(query_C * scale, (key_P, key_C), (value_P, value_C), branches)
    return torch.cat([head, tail], dim=2).transpose(1, 2).contiguous(), None


def _branch_attention(
    query: Tensor, keys: tuple[Tensor, Tensor], values: tuple[Tensor, Tensor], branches: Branches
) -> Tensor:
    """Attention of the tokens after the prompt (B, H, C, D) to the prompt and to what came before in their branch.

    Keys and values are those of the prompt (B, H, P, D) and of what is after it (B, H, C, D).
    """
    B, H = query.shape[:2]
    k, T = branches.hidden_BkTT.shape[1:3]
    own_q, own_k, own_v = (_taken(x, branches.place_BS, branches) for x in (query, keys[1], values[1]))
    apart = (B, H, k, T, -1)
    to_prompt = (own_q @ keys[0].transpose(2, 3)).view(apart)
    to_own = own_q.reshape(apart) @ own_k.reshape(apart).transpose(3, 4)
    to_own = to_own.masked_fill(branches.hidden_BkTT[:, None], float("-inf"))
    weights = torch.cat([to_prompt, to_own], dim=-1).softmax(-1, dtype=torch.float32).to(query.dtype)
    on_prompt, on_own = weights.split([branches.prompt, T], dim=-1)
    found = on_prompt.flatten(2, 3) @ values[0] + (on_own @ own_v.reshape(apart)).flatten(2, 3)
    return _taken(found, branches.slot_BC, branches)


def _taken(x: Tensor, place_BS: Tensor, branches: Branches) -> Tensor:
    """The tokens of (B, H, C, D) at some places, by row."""
    if branches.even:
        return x
    if len(place_BS) == 1:
        return x.index_select(2, place_BS[0])
    return x.gather(2, place_BS[:, None, :, None].expand(-1, x.shape[1], -1, x.shape[3]))
