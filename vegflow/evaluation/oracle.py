"""A reference at work, as it is and in float64, and what that says about how far honest float32 may be off.

Runs trusted programs only, in the trusted reference's worker; what candidates give is compared elsewhere.
"""

import contextlib
import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch

from vegflow.evaluation.arena import flatten

TIE = 2.0**-22
"""Relative change of the inputs by which an integer output must not change; two units in the last place of float32."""


def oracle_model(model: torch.nn.Module) -> torch.nn.Module:
    """A copy of the reference whose parameters and buffers are float64."""
    return copy.deepcopy(model).double()


def run_single(model: Callable[..., Any], inputs: list[Any]) -> list[torch.Tensor]:
    """The reference as it is. TypeError if it gives anything but tensors."""
    with torch.no_grad():
        return _tensors(model(*inputs))


def run_double(double: Callable[..., Any], inputs: list[Any]) -> list[torch.Tensor]:
    """The reference in float64 (`double` is an `oracle_model`), floating inputs cast. TypeError as `run_single`."""
    with torch.no_grad(), _default_dtype(torch.float64):
        return _tensors(double(*[_cast(value) for value in inputs]))


def reduction_depths(double: torch.nn.Module, inputs: list[Any]) -> list[int]:
    """For each output: how many input elements one of its elements depends on, as far as gradients tell (at least 1).

    The longest sum that a program may have to take, hence how far honest float32 may be off. Looks at three elements of
    each output; costs some five calls of `double`. An output without gradients, such as an index, has depth 1.
    """
    values = [_cast(value) for value in inputs]
    leaves = [v.requires_grad_() for v in values if isinstance(v, torch.Tensor) and v.dtype == torch.float64]
    with torch.enable_grad(), _default_dtype(torch.float64):
        try:
            outputs = _tensors(double(*values))
        except RuntimeError:  # such as an operation in place on an input
            return [1 for _ in run_double(double, inputs)]
        return [_depth(output, leaves) for output in outputs]


def undecided_positions(
    double: Callable[..., Any], inputs: list[Any], outputs: list[torch.Tensor], generator: torch.Generator
) -> list[torch.Tensor]:
    """For each output the positions, int64 [k] in the flattened output, that a rounding of the inputs decides.

    Only integer outputs have some, such as the index of a maximum that two elements attain. The inputs are moved by
    two units in their last place, at random, and by the opposite: of two equal elements each is once the larger.
    Without integer outputs the model is not run. Raises what the model raises.
    """
    found = [torch.zeros(0, dtype=torch.int64) for _ in outputs]
    if all(output.dtype.is_floating_point for output in outputs):
        return found
    moves = [_move(value, generator) if isinstance(value, torch.Tensor) else None for value in inputs]
    for sign in (1, -1):
        moved = [v if move is None else v + sign * move for v, move in zip(inputs, moves, strict=True)]
        for index, output in enumerate(run_double(double, moved)):
            if not outputs[index].dtype.is_floating_point:
                changed = (output != outputs[index]).flatten().nonzero().flatten().cpu()
                found[index] = torch.cat([found[index], changed]).unique()
    return found


def relative_error(output: torch.Tensor, oracle: torch.Tensor, scale: float) -> float:
    """Largest |output - oracle| / (|oracle| + scale); equal infinities have no error, NaN has one of NaN."""
    if not output.numel():
        return 0.0
    error = (output - oracle).abs_().div_(oracle.abs().add_(scale))
    largest = error.max().item()
    if math.isfinite(largest):
        return largest
    return error.masked_fill_(output == oracle, 0.0).max().item()


def root_mean_square(value: torch.Tensor) -> float:
    """Of all finite elements; 0 for none."""
    norm = torch.linalg.vector_norm(value if value.dtype.is_floating_point else value.double()).item()
    if math.isfinite(norm):
        return norm / math.sqrt(max(1, value.numel()))
    finite = value[value.isfinite()].double()
    return torch.linalg.vector_norm(finite).item() / math.sqrt(max(1, finite.numel()))


def _depth(output: torch.Tensor, leaves: list[torch.Tensor]) -> int:
    if not output.requires_grad or not output.numel():
        return 1
    flat = output.flatten()
    largest = 1
    for position in sorted({flat.numel() - 1, flat.numel() // 2, int(flat.abs().argmax())}):
        gradients = torch.autograd.grad(flat[position], leaves, retain_graph=True, allow_unused=True)
        largest = max(largest, sum(int(torch.count_nonzero(g)) for g in gradients if g is not None))
    return largest


def _move(value: torch.Tensor, generator: torch.Generator) -> torch.Tensor | None:
    if not value.dtype.is_floating_point:
        return None
    noise = torch.rand(value.shape, generator=generator, dtype=torch.float64).mul_(2 * TIE).sub_(TIE).to(value.device)
    return noise * (value.abs() + 1e-3 * root_mean_square(value))


def _cast(value: Any) -> Any:
    if isinstance(value, torch.Tensor) and value.dtype.is_floating_point:
        return value.to(torch.float64, copy=True)
    return value


def _tensors(result: Any) -> list[torch.Tensor]:
    outputs = flatten(result)
    if not all(isinstance(output, torch.Tensor) for output in outputs):
        raise TypeError("forward must return a tensor or a tuple of tensors")
    return outputs


@contextlib.contextmanager
def _default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)
