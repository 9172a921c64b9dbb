"""Inputs of several kinds and shapes, made from those that a task itself gives.

Knows values only: floating tensors are drawn anew with what distinguishes them (symmetric, triangular, probabilities)
imposed again; integers, signs, masks and plain numbers stay as the task drew them. Whether a reference can be judged on
the result is found out by running it (`find_variants`). Which item gets which variant is left to the reference's worker.
"""

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import torch

from vegflow.evaluation.oracle import (
    reduction_depths,
    relative_error,
    root_mean_square,
    run_double,
    run_single,
    undecided_positions,
)

Kind = Literal["given", "normal", "wide", "negative", "sparse", "integer", "edge"]
Structure = Literal["", "kept", "probabilities", "symmetric", "upper", "lower"]
KINDS: tuple[Kind, ...] = get_args(Kind)

ACCURACY = 2e-5
"""Largest error of float32, relative to an element's size plus the output's root mean square, that one can judge by."""
MOST_UNDECIDED = 0.01
"""Share of integer outputs, such as the index of a maximum, that may hang on a rounding."""
WIDE_DECADES = (-3.0, 2.0)
"""`wide` multiplies each value by a power of ten between these: large enough for exp to overflow in float32."""
DENSITY = 1 / 256
"""Share of elements that `sparse` leaves: sums of few terms, of which none may be missing or rounded."""
LARGEST_INTEGER = 2  # sums of 4 million products of these are exact in float32, whatever their order
SHARES = (2 / 3, 2 / 5)
"""What is left of a narrowed extent in the second and in the third shape."""
CHANNELS = (1,)
"""The axis that weights fix most often."""


@dataclass(frozen=True)
class Variant:
    """How an item's inputs differ from those the task gives."""

    kind: Kind = "given"
    narrow: tuple[tuple[int, int], ...] = ()
    """Pairs (extent, smaller extent), for all axes of all tensors that have the extent."""
    fixed: tuple[int, ...] = ()
    """Axes that stay as they are all the same, such as channels that happen to be as many as rows."""

    def to_json(self) -> dict[str, Any]:
        """As values that JSON knows."""
        return {"kind": self.kind, "narrow": [list(pair) for pair in self.narrow], "fixed": list(self.fixed)}

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> "Variant":
        """The inverse of `to_json`."""
        narrow = tuple((extent, smaller) for extent, smaller in entry["narrow"])
        return cls(entry["kind"], narrow, tuple(entry["fixed"]))


def vary(given: list[Any], variant: Variant, generator: torch.Generator) -> list[Any]:
    """New inputs from those of `get_inputs()`, which stay as they are; they are drawn on the generator's device.

    No tensor is larger than the given one. What stays unchanged may share its memory.
    """
    return [_vary(value, variant, generator) if isinstance(value, torch.Tensor) else value for value in given]


def find_variants(
    model: Callable[..., Any], get_inputs: Callable[[], list[Any]], seed: int, shapes: int = 3
) -> list[Variant]:
    """The variants on which the reference can be judged; the first is always `Variant("given")`.

    All usable kinds at the task's own shape, then up to `shapes` - 1 further shapes. A kind is usable if the reference
    raises nothing, its outputs are finite, float32 agrees with float64, and integer outputs hang on no rounding. Costs
    some twenty to forty calls of the reference. `model` keeps its state; `seed` sets torch's global generator.
    """
    torch.manual_seed(seed)
    given = list(get_inputs())
    generator = torch.Generator().manual_seed(seed)
    trial = _Trial(model, generator)
    found = [Variant()]
    if any(isinstance(value, torch.Tensor) and structure_of(value) != "kept" for value in given):
        kinds = [Variant(kind) for kind in KINDS[1:]]
        found += [variant for variant in kinds if trial.usable(vary(given, variant, generator))]
    kind: Kind = "normal" if Variant("normal") in found else "given"
    seen: set[Variant] = set()
    for variant in _shapes(given, lambda variant: trial.runs(vary(given, variant, generator))):
        if len(seen) >= shapes - 1:
            break
        variant = replace(variant, kind=kind)
        if variant not in seen and trial.usable(vary(given, variant, generator)):
            seen.add(variant)
            found.append(variant)
    return found


class Depths:
    """The `reduction_depths` of one reference, found once for each shape; sparse inputs have sums of their own."""

    def __init__(self, double: torch.nn.Module) -> None:
        self._double = double
        self._known: dict[Variant, list[int]] = {}

    def of(self, variant: Variant, inputs: list[Any]) -> list[int]:
        """For inputs of that variant. Raises what the reference raises."""
        alike = variant if variant.kind == "sparse" else replace(variant, kind="given")
        if alike not in self._known:
            self._known[alike] = reduction_depths(self._double, inputs)
        return self._known[alike]


class _Trial:
    """The reference, run to see what it makes of inputs."""

    def __init__(self, model: Callable[..., Any], generator: torch.Generator) -> None:
        self._single = copy.deepcopy(model)
        self._double = copy.deepcopy(model)
        if isinstance(self._double, torch.nn.Module):
            self._double.double()
        self._generator = generator

    def runs(self, inputs: list[Any]) -> bool:
        """Whether the reference takes them and gives something."""
        try:
            return all(output.numel() > 0 for output in run_single(self._single, inputs))
        except Exception:  # whatever a reference raises, the variant is not for it
            return False

    def usable(self, inputs: list[Any]) -> bool:
        """Whether what the reference gives can be judged by."""
        try:
            exact = run_double(self._double, inputs)
            outputs = run_single(self._single, inputs)
            if not outputs or len(outputs) != len(exact):
                return False
            if not all(_agree(output, oracle) for output, oracle in zip(outputs, exact, strict=True)):
                return False
            undecided = undecided_positions(self._double, inputs, outputs, self._generator)
        except Exception:
            return False
        return all(u.numel() <= MOST_UNDECIDED * o.numel() for u, o in zip(undecided, outputs, strict=True))


def _agree(output: torch.Tensor, oracle: torch.Tensor) -> bool:
    if output.shape != oracle.shape or not output.numel():
        return False
    if not output.dtype.is_floating_point:
        return not oracle.dtype.is_floating_point
    scale = root_mean_square(oracle)
    largest = relative_error(output, oracle, scale)
    return math.isfinite(scale) and largest <= ACCURACY  # NaN is not below anything


def _shapes(given: list[Any], runs: Callable[[Variant], bool]) -> Iterator[Variant]:
    """Shapes to try: all extents that may be another, then the largest alone, then smaller ones."""
    fixed: tuple[int, ...] = ()
    extents = _extents(given, fixed)
    free = [extent for extent in extents if runs(_narrowed([extent], SHARES[0], fixed))]
    if len(free) < len(extents):
        others = _extents(given, CHANNELS)
        freer = [extent for extent in others if runs(_narrowed([extent], SHARES[0], CHANNELS))]
        fixed, free = (CHANNELS, freer) if len(freer) > len(free) else (fixed, free)
    if not free:
        return
    yield _narrowed(free, SHARES[0], fixed)
    yield _narrowed(free[:1], SHARES[1], fixed)
    for share in SHARES:
        for some in (free, *([extent] for extent in free)):
            yield _narrowed(some, share, fixed)


def _extents(given: list[Any], fixed: tuple[int, ...]) -> list[int]:
    """The extents of all axes that are not fixed, the largest first."""
    shapes = [value.shape for value in given if isinstance(value, torch.Tensor)]
    extents = {extent for shape in shapes for axis, extent in enumerate(shape) if axis not in fixed and extent > 1}
    return sorted(extents, reverse=True)


def _narrowed(extents: list[int], share: float, fixed: tuple[int, ...]) -> Variant:
    return Variant("given", tuple((extent, _smaller(extent, share)) for extent in extents), fixed)


def _smaller(extent: int, share: float) -> int:
    """The largest odd number up to that share of an extent, at least 1."""
    return max(1, (int(extent * share) - 1) | 1)


def _vary(given: torch.Tensor, variant: Variant, generator: torch.Generator) -> torch.Tensor:
    kind, narrow = variant.kind, dict(variant.narrow)
    if kind == "given" and not narrow:
        return given
    value = given
    for axis, extent in enumerate(given.shape):
        if axis not in variant.fixed:
            value = value.narrow(axis, 0, narrow.get(extent, extent))
    value = value.contiguous()
    if given.dtype in (torch.int64, torch.int32):
        return _fold(value, narrow)
    structure = structure_of(given)
    if structure == "kept":
        return value
    if kind == "given":
        return _impose(value, structure, given)
    if structure == "probabilities":
        if kind not in ("normal", "wide"):
            return _impose(value, structure, given)
        logits = torch.randn(value.shape, generator=generator, device=generator.device) * (
            4.0 if kind == "wide" else 1.0
        )
        return _impose(torch.softmax(logits, -1).to(given), structure, given)
    scale = root_mean_square(given) or 1.0
    return _impose(_draw(kind, value.shape, scale, generator).to(given), structure, given)


def _fold(value: torch.Tensor, narrow: dict[int, int]) -> torch.Tensor:
    """Indices into an extent that is narrowed stay within it."""
    if not value.numel() or value.min() < 0:
        return value
    largest = int(value.max())
    extent = min((extent for extent in narrow if largest < extent), default=0)
    # indices below an extent reach its upper half, numbers that mean something else seldom do
    return value % narrow[extent] if extent and narrow[extent] <= largest else value


def _draw(kind: Kind, shape: torch.Size, scale: float, generator: torch.Generator) -> torch.Tensor:
    """Float32 values of a kind, of about the given root mean square where the kind has none of its own."""
    if kind == "integer":
        device = generator.device
        return torch.randint(-LARGEST_INTEGER, LARGEST_INTEGER + 1, shape, generator=generator, device=device).float()
    value = torch.randn(shape, generator=generator, device=generator.device).mul_(scale)
    if kind == "negative":
        return value.abs_().neg_()
    if kind == "wide":
        low, high = (decade * math.log(10) for decade in WIDE_DECADES)
        return value.mul_(torch.rand(shape, generator=generator, device=value.device).mul_(high - low).add_(low).exp_())
    if kind == "sparse":
        kept = torch.rand(shape, generator=generator, device=value.device) < DENSITY
        heavy = torch.randn(int(kept.sum()), generator=generator, device=value.device).exp_()
        return torch.zeros_like(value).masked_scatter_(kept, value[kept] * heavy)
    if kind == "edge":
        rows = value.view(-1, shape[-1]) if shape and shape[-1] > 1 else value.view(1, -1)
        _edge(rows, generator)
    return value


def _edge(rows: torch.Tensor, generator: torch.Generator) -> None:
    """Make a part of the rows all zeros, all ones, constant, tiny or large; float32 [rows, width], in place."""
    count = rows.shape[0]
    which = torch.randint(0, 10, (count,), generator=generator, device=rows.device)
    if count < 10:  # a few rows: halves of each
        which.fill_(5)
        rows[:, : rows.shape[1] // 8] = 0.0
        rows[:, rows.shape[1] // 8 : rows.shape[1] // 4] = 1.0
    rows[which == 0] = 0.0
    rows[which == 1] = 1.0
    rows[which == 2] = rows[which == 2][:, :1].clone()
    rows[which == 3] *= 1e-12
    rows[which == 4] *= 1e1


def structure_of(value: torch.Tensor) -> Structure:
    """What must be kept of a tensor when it is drawn anew; most tensors are refuted by a few of their elements."""
    if not value.dtype.is_floating_point or value.numel() <= 1:
        return "kept"
    few = value.flatten()[:64]
    if bool((few.abs() - few.abs().square()).eq(0).all()) and bool(((value.abs() == 1) | (value == 0)).all()):
        return "kept"  # signs and masks: nothing but -1, 0 and 1
    if _is_probabilities(value):
        return "probabilities"
    if value.ndim >= 2 and value.shape[-1] == value.shape[-2] > 1:
        row, column = value[..., 0, 1:], value[..., 1:, 0]
        if torch.equal(row, column) and torch.equal(value, value.mT):
            return "symmetric"
        if not column.any() and torch.equal(value, value.triu()):
            return "upper"
        if not row.any() and torch.equal(value, value.tril()):
            return "lower"
    return ""


def _is_probabilities(value: torch.Tensor) -> bool:
    """Whether no element is negative and all rows have the same sum (which may be another than one)."""
    if value.ndim < 2 or value.shape[-1] < 2 or value.numel() == value.shape[-1]:
        return False
    rows = value.reshape(-1, value.shape[-1])
    for part in (rows[:4], rows):
        sums = part.double().sum(-1)
        if bool((part < 0).any()) or not bool((sums - sums[0]).abs().max() <= 1e-4 * sums[0].abs()):
            return False
    return bool(sums[0] > 0)


def _impose(value: torch.Tensor, structure: Structure, given: torch.Tensor) -> torch.Tensor:
    """`value` with the structure that was found in `given`."""
    if structure == "probabilities":
        total = given.sum(-1).mean().item()
        return value * (total / value.sum(-1, keepdim=True))
    if structure == "symmetric":
        return value.triu() + value.triu(1).mT
    if structure == "upper":
        return value.triu()
    if structure == "lower":
        return value.tril()
    return value
