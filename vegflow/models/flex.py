"""FlexAttention over packed rows on a GPU: blocks of the mask that hold nothing are not computed, and the mask is never stored.

Knows how completions in a row are kept apart, and measures whether FlexAttention or the model's own attention with a mask is
faster; the attention itself is Transformers' (`flex_attention`, sinks included). It has no gradients on a CPU.

Axes: B rows, L tokens of a row, H heads, G heads of keys and values, D numbers a head.
"""

import math
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from vegflow.models.states import decoder

NAME = "flex_attention"
MULTIPLE = 128
"""Rows are padded to a multiple of this, the side of a block: fewer shapes, fewer compilations."""
NOBODY = -2
"""Owner of the tokens that pad a row."""
REPEATS = 3

_FASTER: dict[tuple[Any, ...], str] = {}
"""What was measured to be faster, by shape."""


def padded_length(length: int) -> int:
    """The length (tokens) that a row is padded to."""
    return MULTIPLE * math.ceil(length / MULTIPLE)


def block_mask(owner_BL: Tensor, position_BL: Tensor, window: int | None) -> Any:
    """The mask of rows as blocks: a token sees the prompt (owner -1) and its own completion, before it and itself.

    With a `window`, of a layer that looks back at so many positions. Tokens that pad a row are owned by `NOBODY`.
    """
    from torch.nn.attention.flex_attention import create_block_mask

    def visible(b: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        owner = owner_BL[b, key]
        seen = ((owner == -1) | (owner == owner_BL[b, query])) & (key <= query)
        if window is not None:
            seen &= position_BL[b, query] - position_BL[b, key] < window
        return seen

    B, L = owner_BL.shape
    return create_block_mask(visible, B, None, L, L, device=owner_BL.device)


def available(model: nn.Module) -> bool:
    """Whether a model's layers can go through FlexAttention."""
    inner = model.get_base_model() if hasattr(model, "get_base_model") else model
    return bool(getattr(inner, "_supports_flex_attn", False))


def faster(model: nn.Module, masks: Mapping[str, Callable[[], Any]], shape: Sequence[int], dtype: torch.dtype) -> str:
    """Which of Transformers' attentions in `masks` is fastest for rows of a `shape` (B, L), forward and, where gradients are
    enabled, backward. `masks` makes the mask that each takes, of one kind of layer. Measured once for each shape, on random
    queries, keys and values; one that cannot be compiled or has no memory is not taken.
    """
    config = model.config
    heads, groups = config.num_attention_heads, getattr(config, "num_key_value_heads", config.num_attention_heads)
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    what = (type(model).__name__, *masks, *shape, heads, groups, size, dtype, torch.is_grad_enabled())
    if what not in _FASTER:
        seconds = {}
        for name, mask in masks.items():
            try:
                seconds[name] = _seconds(_attention(model, name), mask(), (*shape, heads, groups, size), dtype)
            except (RuntimeError, ValueError):  # out of memory, and what torch.compile cannot do, are RuntimeErrors
                seconds[name] = math.inf
        _FASTER[what] = min(seconds, key=seconds.get)
    return _FASTER[what]


def _attention(model: nn.Module, name: str) -> Callable[..., Any]:
    """Transformers' attention function of a name; `eager` is the model's own."""
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    own = getattr(sys.modules[type(decoder(model)).__module__], "eager_attention_forward", None)
    return ALL_ATTENTION_FUNCTIONS.get_interface(name, own)


def _seconds(attend: Callable[..., Any], mask: Any, shape: Sequence[int], dtype: torch.dtype) -> float:
    """Time of one attention, the least of some after the first, which compiles."""
    B, L, H, G, D = shape
    device = mask.device if isinstance(mask, Tensor) else mask.kv_num_blocks.device
    trains = torch.is_grad_enabled()
    parts = [torch.randn(B, n, L, D, device=device, dtype=dtype, requires_grad=trains) for n in (H, G, G)]
    sinks = torch.zeros(H, device=device, dtype=dtype)
    layer = SimpleNamespace(num_key_value_groups=H // G, training=False, is_causal=True, sinks=sinks)
    best = math.inf
    for turn in range(REPEATS + 1):
        _wait(device)
        began = time.perf_counter()
        found, _ = attend(layer, *parts, mask, scaling=D**-0.5, dropout=0.0)
        if trains:
            torch.autograd.grad(found.sum(), parts)
        _wait(device)
        best = min(best, time.perf_counter() - began) if turn else best
    return best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
