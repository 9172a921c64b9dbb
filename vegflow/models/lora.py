"""Low-rank adapters in fewer passes over memory: W x + B (s A x), added up in place by one product.

Equal to PEFT's own layers up to rounding. Takes their place while `fused` is in force, for layers without dropout and
variants, of one adapter that is switched on; all others stay PEFT's.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

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
        and isinstance(layer.lora_dropout[name], nn.Identity)
        and name not in getattr(layer, "lora_variant", {})
        and not layer.lora_bias[name]
        and layer.lora_A[name].weight.dtype == layer.base_layer.weight.dtype
    )


def _forward(layer: Any, x: Tensor) -> Tensor:
    (name,) = layer.active_adapters
    found = layer.base_layer(x)
    low = nn.functional.linear(x, layer.lora_A[name].weight).mul_(layer.scaling[name])
    rows = found.view(-1, found.shape[-1])
    return rows.addmm_(low.flatten(0, -2), layer.lora_B[name].weight.t()).view(found.shape)
