"""Whether an output is the expected one: dtype, shape, every element within tolerance, nothing NaN.

Knows tensors in the judge's own memory; where they come from, and how often one asks, is for the judge.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from vegflow.evaluation.arena import Description


@dataclass(frozen=True)
class Tolerance:
    """|candidate - reference| <= atol + rtol * |reference| passes."""

    atol: float
    rtol: float

    def times(self, factor: float) -> "Tolerance":
        """A tolerance `factor` times as wide."""
        return Tolerance(self.atol * factor, self.rtol * factor)


def check_form(expected: Sequence[Description], actual: object) -> str:
    """Why `actual` (descriptions that a worker sent) has another form than `expected`; empty if it has not."""
    if not isinstance(actual, list) or not all(isinstance(item, dict) for item in actual):
        return "the output has no form"
    if len(actual) != len(expected):
        return f"{len(actual)} outputs, expected {len(expected)}"
    for index, (want, got) in enumerate(zip(expected, actual, strict=True)):
        which = f"output {index}: " if len(expected) > 1 else ""
        if got.get("kind") != "tensor":
            return f"{which}type {got.get('type')}, expected a torch.Tensor"
        if got.get("shape") != want["shape"]:
            return f"{which}shape {got.get('shape')}, expected {want['shape']}"
        if got.get("dtype") != want["dtype"]:
            return f"{which}dtype {got.get('dtype')}, expected {want['dtype']}"
    return ""


def compare(expected: torch.Tensor, actual: torch.Tensor, tolerance: Tolerance) -> tuple[float, str]:
    """Largest absolute difference and, if some element is out of tolerance, why (else empty).

    Both have the same dtype and shape. Integers and booleans must be equal; infinities must agree; NaN never passes.
    """
    if torch.equal(expected, actual):
        return 0.0, ""
    if not expected.dtype.is_floating_point and not expected.dtype.is_complex:
        wrong = (expected != actual).sum().item()
        error = (expected.double() - actual.double()).abs().max().item()
        return error, f"{wrong} of {expected.numel()} elements differ"
    # a difference of two half-precision numbers is not a half-precision number
    halves = expected.dtype in (torch.float16, torch.bfloat16)
    want, got = (expected.float(), actual.float()) if halves else (expected, actual)
    difference = want - got
    largest = torch.linalg.vector_norm(difference, math.inf).item()
    if largest <= tolerance.atol:  # what nearly always holds costs two passes; NaN is not below anything
        return largest, ""
    if torch.isnan(actual).any().item():
        return math.inf, "the output holds NaN"
    error = difference.abs()
    error.masked_fill_(want == got, 0.0)  # equal infinities: their difference is NaN
    passes = error <= want.abs().mul_(tolerance.rtol).add_(tolerance.atol)
    passes &= ~torch.isinf(error)  # a finite number is not within tolerance of an infinite one
    largest = error.max().item()
    wrong = passes.numel() - int(passes.sum().item())
    if not wrong:
        return largest, ""
    return largest, f"{wrong} of {passes.numel()} elements out of tolerance, largest difference {largest:.3g}"
