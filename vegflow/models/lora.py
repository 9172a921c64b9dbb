"""Low-rank adapters in fewer passes over memory: W x + s B (A x), added up in place by one product, backward as well.

Equal to PEFT's own layers up to rounding. Takes their place while `fused` is in force, for frozen layers without dropout
and variants, of one adapter that is switched on; all others stay PEFT's.

Axes: N tokens, I and O numbers in and out of a layer, r rank.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def fused(model: nn.Module) -> Iterator[None]:
    """Have a model's adapters computed here."""
    layers = [layer for layer in model.modules() if _is_plain(layer)]
    for layer in layers:
        layer.forward = partial(_forward, layer)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward  # the class's own


def _is_plain(layer: Any) -> bool:
    """Whether it is PEFT's layer over a linear one, with one adapter, in force, of no special kind."""
    from peft.tuners.lora.layer import Linear

    if type(layer) is not Linear or layer.disable_adapters or layer.merged or len(layer.active_adapters) != 1:
        return False
    (name,) = layer.active_adapters
    return (
        name in layer.lora_A
        and type(layer.base_layer) is nn.Linear
        and not any(p.requires_grad or p.is_meta for p in layer.base_layer.parameters())  # meta: accelerate fetches it
        and isinstance(layer.lora_dropout[name], nn.Identity)
        and name not in getattr(layer, "lora_variant", {})
        and not layer.lora_bias[name]
        and layer.lora_A[name].weight.dtype == layer.base_layer.weight.dtype
    )


def _forward(layer: Any, x: Tensor) -> Tensor:
    (name,) = layer.active_adapters
    base = layer.base_layer
    return _Adapted.apply(
        x, base.weight, base.bias, layer.lora_A[name].weight, layer.lora_B[name].weight, layer.scaling[name]
    )


class _Adapted(torch.autograd.Function):
    """y = W x + b + s B (A x), of which W and b are frozen.

    dx = W^T dy + s A^T (B^T dy), dA = s (B^T dy) x^T, dB = s dy (A x)^T; each product with the rank in front, which CPUs
    are several times faster at than at its transpose.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight_OI: Tensor, bias_O: Tensor | None, A_rI: Tensor, B_Or: Tensor, scale: float
    ) -> Tensor:
        x_NI = x.reshape(-1, x.shape[-1])
        low_Nr = x_NI @ A_rI.t()
        y_NO = nn.functional.linear(x_NI, weight_OI, bias_O).addmm_(low_Nr, B_Or.t(), alpha=scale)
        ctx.save_for_backward(x_NI, weight_OI, A_rI, B_Or, low_Nr)
        ctx.scale = scale
        return y_NO.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x_NI, weight_OI, A_rI, B_Or, low_Nr = ctx.saved_tensors
        dy_NO = dy.reshape(-1, dy.shape[-1])
        dlow_Nr = (dy_NO @ B_Or).mul_(ctx.scale)
        dx = None
        if ctx.needs_input_grad[0]:
            dx = (dy_NO @ weight_OI).addmm_(dlow_Nr, A_rI).view(*dy.shape[:-1], -1)
        dA_rI = dlow_Nr.t() @ x_NI if ctx.needs_input_grad[3] else None
        dB_rO = (low_Nr.t() @ dy_NO).mul_(ctx.scale) if ctx.needs_input_grad[4] else None
        return dx, None, None, dA_rI, None if dB_rO is None else dB_rO.t(), None
