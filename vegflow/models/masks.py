"""Which attention a packed row goes through, and the masks that keep its completions apart there.

Axes: B rows of a pass, L tokens of a row.
"""

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from vegflow.errors import VegflowError
from vegflow.models import flex

if TYPE_CHECKING:
    from vegflow.models.packing import Row

FULL, SLIDING = "full_attention", "sliding_attention"


def wish(model: nn.Module) -> str:
    """The attention that the model's file asks for."""
    return getattr(model, "packed_attention", "auto")


def in_blocks(model: nn.Module, rows: Sequence["Row"], device: torch.device) -> bool:
    """Whether to take FlexAttention: where it is asked for, and by itself on a GPU where it is faster."""
    if wish(model) != "auto" or device.type != "cuda" or not flex.available(model):
        return wish(model) == "flex"
    L = flex.padded_length(max(len(row.input_ids_L) for row in rows))
    own = getattr(model.config, "_attn_implementation", "sdpa")
    makers = {own: attention_masks, flex.NAME: block_masks}

    def mask_of(maker: Callable[..., Any]) -> Any:
        masks = maker(model, rows, L, device)
        return next(iter(masks.values())) if isinstance(masks, dict) else masks

    first = {name: functools.partial(mask_of, maker) for name, maker in makers.items()}
    return flex.faster(model, first, (len(rows), L), next(model.parameters()).dtype) == flex.NAME


def attention_masks(
    model: nn.Module, rows: Sequence["Row"], L: int, device: torch.device
) -> Tensor | dict[str, Tensor]:
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


def block_masks(model: nn.Module, rows: Sequence["Row"], L: int, device: torch.device) -> Any:
    """As `attention_masks`, for FlexAttention."""
    owner_BL = torch.stack([padded(row.owner_L, L, flex.NOBODY) for row in rows]).to(device)
    position_BL = torch.stack([padded(row.position_ids_L, L) for row in rows]).to(device)
    windows = layer_windows(model.config)
    masks = {kind: flex.block_mask(owner_BL, position_BL, window) for kind, window in windows.items()}
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


def _stacked(rows: Sequence["Row"], L: int, window: int | None) -> Tensor:
    mask = torch.eye(L, dtype=torch.bool).repeat(len(rows), 1, 1)
    for i, row in enumerate(rows):
        n = len(row.input_ids_L)
        mask[i, :n, :n] = row.mask(window)
    return mask[:, None]


def padded(values: Tensor, length: int, value: int = 0) -> Tensor:
    """Values (L) with some more behind them."""
    return torch.cat([values, values.new_full((length - len(values),), value)])
