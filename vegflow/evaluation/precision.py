"""The marks that reduced precision leaves on an error, and how they are found.

A result that was computed from inputs rounded to fewer bits carries the error that this rounding makes, whatever else
is in it. That error is known: it is the *signature* s = f(round(x)) - f(x), with f the reference in float64. The
candidate's own error e = actual - f(x) is regressed on it: the coefficient <e, s> / <s, s> is about 1 for who rounds
his inputs, and about 0 for float32 arithmetic in any order, whose errors do not know s. Unlike a tolerance this does
not mind how small the error is.

Signatures are made in the trusted reference's worker; evidence is gathered by the judge.
"""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any

import torch

from vegflow.evaluation.oracle import root_mean_square, run_double

SAMPLE = 4096
"""At most so many elements of each output carry signatures."""
QUIET = 0.1
"""A signature is used where the reference's own float32 error is below this times its size."""
LEAST_COEFFICIENT = 0.15
LARGEST_COEFFICIENT = 2.0
LEAST_SIGNIFICANCE = 8.0
MANY = 32
"""With fewer elements than this (scalars of a few items) the error must be the signature itself."""
FEW = 6
CLOSE = 0.3


def round_tf32(value: torch.Tensor) -> torch.Tensor:
    """Nearest number with ten bits behind the point, ties away from zero, as `cvt.rna.tf32.f32`; float32."""
    return _clear_bits(value, 13, 1 << 12)


def truncate_tf32(value: torch.Tensor) -> torch.Tensor:
    """What tensor cores make of float32 registers given to them as they are: the lower 13 bits are not read."""
    return _clear_bits(value, 13, 0)


def truncate_bfloat16(value: torch.Tensor) -> torch.Tensor:
    """The upper half of each float32."""
    return _clear_bits(value, 16, 0)


def _clear_bits(value: torch.Tensor, bits: int, add: int) -> torch.Tensor:
    single = value.float()
    return torch.where(single.isfinite(), ((single.view(torch.int32) + add) & -(1 << bits)).view(torch.float32), single)


ROUNDINGS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "TF32": round_tf32,
    "TF32 (truncated)": truncate_tf32,
    "bfloat16": lambda value: value.bfloat16(),
    "bfloat16 (truncated)": truncate_bfloat16,
    "float16": lambda value: value.half(),
}
"""Name of a precision: how float32 numbers become numbers of it."""


@dataclass(frozen=True)
class Sample:
    """Some elements of one output, with the errors that reduced precision would make of them."""

    positions: torch.Tensor
    """int64 [m], into the flattened output."""
    oracle: torch.Tensor
    """float64 [m]."""
    weights: torch.Tensor
    """float32 [m]: about one over each element's size, so that a few large ones do not speak for all."""
    signatures: dict[str, torch.Tensor]
    """Name -> float32 [m], weighted, without its component along the oracle."""

    @cached_property
    def moments(self) -> "Moments":
        """What a regression on the signatures needs of them: the same for every candidate."""
        return Moments.of(self.signatures)


@dataclass(frozen=True)
class Moments:
    """Powers of n signatures s, each scaled to a mean square of one; the zero ones are left out."""

    names: list[str]
    scales: torch.Tensor
    """float64 [n]: what the signatures were multiplied by."""
    powers: torch.Tensor
    """float64 [3, n, m]: s, s^2, s^3."""
    counts: torch.Tensor
    """int64 [n]: elements that are not zero."""
    squares: torch.Tensor
    """float64 [n]: the sum of s^2, and"""
    fourths: torch.Tensor
    """of s^4."""

    @classmethod
    def of(cls, signatures: dict[str, torch.Tensor]) -> "Moments":
        """Of signatures of one sample, each [m]; there is one at least."""
        marks = torch.stack(list(signatures.values())).double()
        sizes = torch.linalg.vector_norm(marks, dim=1)
        there = sizes > 0
        scales = math.sqrt(marks.shape[1]) / sizes[there]
        marks = marks[there] * scales[:, None]
        second = marks * marks
        powers = torch.stack([marks, second, second * marks])
        names = [name for name, is_there in zip(signatures, there.tolist(), strict=True) if is_there]
        return cls(names, scales, powers, marks.count_nonzero(dim=1), second.sum(1), (second * second).sum(1))

    def regress(self, error: torch.Tensor) -> torch.Tensor:
        """What `Regression` sums up, of an item's weighted errors, float64 [m], on each signature: float64 [n, 7]."""
        square = error * error
        products = self.powers[0].mv(error) * self.scales
        score_ee = self.powers[1].mv(square) * self.scales**2
        score_es = self.powers[2].mv(error) * self.scales
        errors = square.sum() * self.scales**2
        return torch.stack([self.counts, self.squares, products, errors, score_ee, score_es, self.fourths], dim=1)


def signatures(double: torch.nn.Module, inputs: list[Any], exact: list[torch.Tensor]) -> dict[str, list[torch.Tensor]]:
    """Name of a precision -> for each output, float64: what rounding inputs and weights to it changes.

    `exact` are the outputs of `double`, an `oracle_model`, for the same inputs, which must be float32 where floating.
    """
    marks = {}
    for name, rounding in ROUNDINGS.items():
        rounded = copy.deepcopy(double)
        with torch.no_grad():
            for parameter in rounded.parameters():
                if parameter.dtype.is_floating_point:
                    parameter.copy_(rounding(parameter.float()))
        values = [rounding(v) if isinstance(v, torch.Tensor) and v.dtype.is_floating_point else v for v in inputs]
        outputs = run_double(rounded, values)
        marks[name] = [o - e if e.dtype.is_floating_point else o for o, e in zip(outputs, exact, strict=True)]
    return marks


@dataclass
class Regression:
    """The weighted regression of errors on a signature, as sums that grow item by item."""

    count: float = 0.0
    squares: float = 0.0
    products: float = 0.0
    errors: float = 0.0
    # of the squared scores (w s e)^2, for a standard error that holds whatever the variances (White 1980)
    score_ee: float = 0.0
    score_es: float = 0.0
    score_ss: float = 0.0

    def add(self, *sums: float) -> None:
        """Take in an item's sums, as `Moments.regress` gives them: in the order of the fields."""
        for name, more in zip(_SUMS, sums, strict=True):
            setattr(self, name, getattr(self, name) + more)

    @property
    def coefficient(self) -> float:
        """<e, s> / <s, s>: 1 for an error that holds the whole signature, 0 for one that does not know it."""
        return self.products / self.squares if self.squares else 0.0

    @property
    def significance(self) -> float:
        """The coefficient over its standard error."""
        rho = self.coefficient
        variance = max(0.0, self.score_ee - 2 * rho * self.score_es + rho**2 * self.score_ss)
        return abs(self.products) / math.sqrt(variance) if variance > 0 else math.inf if rho else 0.0

    @property
    def explained(self) -> float:
        """Share of the error's square that the signature explains."""
        return min(1.0, self.products**2 / (self.squares * self.errors)) if self.squares and self.errors else 0.0

    @property
    def distance(self) -> float:
        """|e - s| / |s|."""
        return math.sqrt(max(0.0, 1 + (self.errors - 2 * self.products) / self.squares)) if self.squares else math.inf


_SUMS = tuple(field.name for field in fields(Regression))


@dataclass
class Evidence:
    """What the errors of one candidate's outputs say about the precision they were computed in, over all its items."""

    regressions: dict[str, Regression] = field(default_factory=dict)

    def add(self, sample: Sample, actual: torch.Tensor) -> None:
        """Take in one output, flattened."""
        if not sample.signatures:
            return
        error = actual[sample.positions].double() - sample.oracle
        if not bool(error.isfinite().all()):
            return
        error = across(error * sample.weights, sample.oracle * sample.weights)
        moments = sample.moments
        for name, sums in zip(moments.names, moments.regress(error).tolist(), strict=True):
            self.regressions.setdefault(name, Regression()).add(*sums)

    def precision(self) -> tuple[str, float]:
        """The reduced precision that was found, and its coefficient; ("", 0) for none."""
        guilty = {name: r for name, r in self.regressions.items() if _is_guilty(name, r)}
        if not guilty:
            return "", 0.0
        name = max(guilty, key=lambda name: (guilty[name].explained, guilty[name].coefficient))
        return name, guilty[name].coefficient


def _is_guilty(name: str, regression: Regression) -> bool:
    if regression.count < MANY:
        # truncation moves a sum as a whole, and so does honest float32
        return "truncated" not in name and regression.count >= FEW and regression.distance <= CLOSE
    rho = regression.coefficient
    return LEAST_COEFFICIENT <= rho <= LARGEST_COEFFICIENT and regression.significance >= LEAST_SIGNIFICANCE


def sample_output(
    output: torch.Tensor, oracle: torch.Tensor, marks: dict[str, torch.Tensor], generator: torch.Generator
) -> Sample | None:
    """A sample of one float32 output, given its float64 oracle and the signatures of it (each the output's shape).

    Signatures that the reference's own float32 error could be taken for are left out; None if none is left.
    """
    flat = oracle.flatten()
    if not flat.dtype.is_floating_point or not flat.numel():
        return None
    positions = _sampled(flat.numel(), generator).to(flat.device)
    picked = flat[positions]
    found = {name: mark.flatten()[positions] for name, mark in marks.items()}
    for name, rounding in ROUNDINGS.items():
        found[f"{name} output"] = rounding(picked.float()).double() - picked
    weights = _weights(picked)
    own = across((output.flatten()[positions].double() - picked) * weights, picked * weights)
    kept = {name: across(mark * weights, picked * weights).float() for name, mark in found.items()}
    kept = {name: mark for name, mark in kept.items() if _is_usable(mark, own)}
    return Sample(positions, picked, weights.float(), kept) if kept else None


def _weights(oracle: torch.Tensor) -> torch.Tensor:
    size = oracle.abs()
    typical = size.median()
    return 1 / (size + (typical if typical > 0 else root_mean_square(oracle) or 1.0))


def across(value: torch.Tensor, oracle: torch.Tensor) -> torch.Tensor:
    """`value` without its component along the oracle, both float64 [m]; as it is where m is less than `MANY`.

    A long float32 sum of positive numbers is too small as a whole, honestly, as truncation makes it.
    """
    square = (oracle @ oracle).item()
    if len(value) < MANY or not square:
        return value
    return value - (value @ oracle / square) * oracle


def _is_usable(signature: torch.Tensor, own: torch.Tensor) -> bool:
    size = torch.linalg.vector_norm(signature).item()
    return math.isfinite(size) and size > 0 and torch.linalg.vector_norm(own).item() <= QUIET * size


def _sampled(count: int, generator: torch.Generator) -> torch.Tensor:
    if count <= SAMPLE:
        return torch.arange(count)
    return torch.randint(0, count, (SAMPLE,), generator=generator)
