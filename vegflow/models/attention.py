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
    B, H, _, D = query.shape
    own = [
        _taken(x, branches.place_BS, branches).reshape(B * H, -1, D).contiguous() for x in (query, keys[1], values[1])
    ]
    prompt = [x.reshape(B * H, -1, D) for x in (keys[0], values[0])]
    found = _BranchAttention.apply(*own, *prompt, branches.hidden_BkTT)
    return _taken(found.view(B, H, -1, D), branches.slot_BC, branches)


class _BranchAttention(torch.autograd.Function):
    """W = softmax([q K_P^T | q K^T]), y = W [V_P; V], where K, V are those of the query's own branch.

    With dS = softmax's gradient of dy [V_P; V]^T: dq = dS [K_P; K], dK = dS^T q and dV = W^T dy, of prompt and branches.
    Products are written into, and read from, the two sides of one array. Axes: N = B H.
    """

    @staticmethod
    def forward(
        ctx: Any, q_NSD: Tensor, k_NSD: Tensor, v_NSD: Tensor, k_NPD: Tensor, v_NPD: Tensor, hidden_BkTT: Tensor
    ) -> Tensor:
        N, P = k_NPD.shape[:2]
        B, k, T = hidden_BkTT.shape[:3]
        scores = _Sides(q_NSD.new_empty(N, k, T, P + T), P)
        scores.multiply(q_NSD, k_NPD, k_NSD)
        scores.own.view(B, N // B, k, T, T).masked_fill_(hidden_BkTT[:, None], float("-inf"))
        weights = _Sides(scores.whole.softmax(-1, dtype=torch.float32).to(q_NSD.dtype), P)
        ctx.save_for_backward(q_NSD, k_NSD, v_NSD, k_NPD, v_NPD, weights.whole)
        return weights.combine(v_NPD, v_NSD)

    @staticmethod
    def backward(ctx: Any, dy_NSD: Tensor) -> tuple[Tensor | None, ...]:
        q_NSD, k_NSD, v_NSD, k_NPD, v_NPD, whole = ctx.saved_tensors
        weights = _Sides(whole, k_NPD.shape[1])
        dy_NSD = dy_NSD.contiguous()
        slopes = _Sides(torch.empty_like(whole), k_NPD.shape[1])
        slopes.multiply(dy_NSD, v_NPD, v_NSD)
        product = slopes.whole.float()
        product = torch._softmax_backward_data(product, whole.float(), -1, torch.float32)
        slopes = _Sides(product.to(whole.dtype), k_NPD.shape[1])
        dk_NPD, dk_NSD = slopes.transposed(q_NSD)
        dv_NPD, dv_NSD = weights.transposed(dy_NSD)
        return slopes.combine(k_NPD, k_NSD), dk_NSD, dv_NSD, dk_NPD, dv_NPD, None


class _Sides:
    """Numbers (N, k, T, P + T) for each query of k branches of T: what it has with the prompt, and with its own branch."""

    def __init__(self, whole: Tensor, prompt: int) -> None:
        N, k, T, _ = whole.shape
        self.whole = whole
        self.prompt = whole.view(N, k * T, -1)[..., :prompt]
        self.own = whole.view(N * k, T, -1)[..., prompt:]

    def apart(self, x_NSD: Tensor) -> Tensor:
        """Tokens (N, k T, D) by branch (N k, T, D)."""
        return x_NSD.view(*self.own.shape[:2], -1)

    def multiply(self, x_NSD: Tensor, y_NPD: Tensor, y_NSD: Tensor) -> None:
        """Write products of each query's x with the prompt's y and with its branch's."""
        torch.bmm(x_NSD, y_NPD.transpose(1, 2), out=self.prompt)
        torch.bmm(self.apart(x_NSD), self.apart(y_NSD).transpose(1, 2), out=self.own)

    def combine(self, y_NPD: Tensor, y_NSD: Tensor) -> Tensor:
        """The sum (N, k T, D) of the prompt's y and of the branch's, weighted by the numbers."""
        found = torch.bmm(self.prompt, y_NPD)
        return self.apart(found).baddbmm_(self.own, self.apart(y_NSD)).view(y_NSD.shape)

    def transposed(self, x_NSD: Tensor) -> tuple[Tensor, Tensor]:
        """Sums over queries of their x, weighted by the numbers: for the prompt's tokens, and for the branches'."""
        own = torch.bmm(self.own.transpose(1, 2), self.apart(x_NSD)).view(x_NSD.shape)
        return torch.bmm(self.prompt.transpose(1, 2), x_NSD), own


def _taken(x: Tensor, place_BS: Tensor, branches: Branches) -> Tensor:
    """The tokens of (B, H, C, D) at some places, by row."""
    if branches.even:
        return x
    if len(place_BS) == 1:
        return x.index_select(2, place_BS[0])
    return x.gather(2, place_BS[:, None, :, None].expand(-1, x.shape[1], -1, x.shape[3]))
