"""Whether an output is the expected one: dtype, shape, every element within the error budget, nothing NaN.

Knows tensors in the judge's own memory; where they come from, and how often one asks, is for the judge. What is
expected is in `expectation`, and what reduced precision looks like in `precision`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from vegflow.evaluation.arena import Description
from vegflow.evaluation.expectation import Expectation, Target
from vegflow.evaluation.precision import Evidence

SEQUENTIAL = 12 * 2.0**-24
"""Times the square root of the number of terms: relative error of a float32 sum in one accumulator (measured)."""
MOST_SEQUENTIAL = 1e-3
"""Longer sums, of millions of terms, need better arithmetic than that."""
MOST_OWN = 1e-3
"""The same for what the reference's own error adds."""
NEXT_TO_NOTHING = 0.02
"""Share of what is allowed for a zero, below which nobody asks what is allowed for each element."""


@dataclass(frozen=True)
class Tolerance:
    """|candidate - oracle| <= (rtol + share) * |oracle| + (atol + share) * scale passes.

    `scale` is the root mean square of the output: what is right does not change with the unit. `share` is `factor` times
    the reference's own relative error, and what a sum of float32 in one accumulator may lose (`SEQUENTIAL`).
    """

    atol: float
    rtol: float
    factor: float = 8.0

    def times(self, factor: float) -> "Tolerance":
        """A tolerance `factor` times as wide."""
        return Tolerance(self.atol * factor, self.rtol * factor, self.factor * factor)

    def share(self, target: Target) -> float:
        """What a target's own conditioning adds to `atol` and `rtol`."""
        own = min(self.factor * target.reference_error, MOST_OWN)  # a reference that errs at random allows no more
        return own + min(SEQUENTIAL * math.sqrt(target.depth), MOST_SEQUENTIAL)


@dataclass(frozen=True)
class Outcome:
    """What became of one comparison."""

    status: str
    """Empty, `wrong_output` or `low_precision`."""
    reason: str
    """One sentence, empty if the outputs passed."""
    largest: float
    """Largest absolute difference; infinite if some element is NaN."""
    error: float
    """Largest difference as a share of what is allowed for its element, or an upper bound of it below `NEXT_TO_NOTHING`."""


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


def compare(
    expectation: Expectation, actual: Sequence[torch.Tensor], tolerance: Tolerance, evidence: Evidence | None = None
) -> Outcome:
    """Judge outputs whose form has been checked.

    With `evidence`, which the caller keeps over all items of a candidate, the errors are also searched for the marks of
    reduced precision (where the targets have samples): an output of reduced precision is named so, whether it is within
    tolerance or not.
    """
    results = [_compare(target, output, tolerance) for target, output in zip(expectation, actual, strict=True)]
    largest = max((result[0] for result in results), default=0.0)
    share = max((result[1] for result in results), default=0.0)
    reason = next((result[2] for result in results if result[2]), "")
    found = reduced_precision(expectation, actual, evidence) if evidence is not None else ""
    if found:
        return Outcome("low_precision", f"{found}; {reason}" if reason else found, largest, share)
    return Outcome("wrong_output" if reason else "", reason, largest, share)


def reduced_precision(expectation: Expectation, actual: Sequence[torch.Tensor], evidence: Evidence) -> str:
    """What these outputs and those before them say about their precision, in words; empty if it is not reduced."""
    for target, output in zip(expectation, actual, strict=True):
        if target.sample is not None:
            evidence.add(target.sample, output.flatten())
    name, coefficient = evidence.precision()
    return f"computed in {name}, {coefficient:.2f} of whose rounding error is in the output" if name else ""


def kernelbench_allclose(
    expected: Sequence[torch.Tensor], actual: Sequence[torch.Tensor], tolerance: float = 1e-4
) -> bool:
    """KernelBench's own check: shapes equal, torch.allclose with rtol = atol (1e-2 for 16-bit floating outputs).

    The dtype is not compared, as there; torch.allclose raises where it differs, and there that is a failure.
    """
    if len(expected) != len(actual):
        return False
    for want, got in zip(expected, actual, strict=True):
        if want.shape != got.shape:
            return False
        bound = 1e-2 if want.dtype in (torch.float16, torch.bfloat16) else tolerance
        difference = want - got if want.dtype == got.dtype == torch.float32 else None
        largest = _largest(difference) if difference is not None else math.nan
        if largest <= bound:
            continue
        if math.isfinite(largest):  # what follows is torch's arithmetic, in a third of the time
            if (difference.abs_() > got.abs().mul_(bound).add_(bound)).any().item():
                return False
            continue
        try:
            if not torch.allclose(want, got, rtol=bound, atol=bound):
                return False
        except RuntimeError:
            return False
    return True


def _largest(difference: torch.Tensor) -> float:
    """The largest absolute value; NaN if a NaN is among them, 0 if there are none."""
    if not difference.numel() or difference.dtype.is_complex:
        return torch.linalg.vector_norm(difference, math.inf).item() if difference.numel() else 0.0
    least, most = torch.aminmax(difference)
    return torch.maximum(most, -least).item()


def _compare(target: Target, actual: torch.Tensor, tolerance: Tolerance) -> tuple[float, float, str]:
    """Largest absolute difference, the same as a share of what is allowed, and why it does not pass (else empty)."""
    expected = target.expected
    if not expected.numel():
        return 0.0, 0.0, ""
    if not expected.dtype.is_floating_point and not expected.dtype.is_complex:
        return _compare_exactly(target, actual)
    # a difference of two half-precision numbers is not a half-precision number
    halves = expected.dtype in (torch.float16, torch.bfloat16)
    want, got = (expected.float(), actual.float()) if halves else (expected, actual)
    share = tolerance.share(target)
    absolute = (tolerance.atol + share) * target.scale
    difference = want - got
    largest = _largest(difference)
    if largest <= absolute:  # what nearly always holds costs two passes; NaN is not below anything
        if largest <= NEXT_TO_NOTHING * absolute:
            return largest, largest / absolute if absolute else 0.0, ""
        allowed = want.abs().mul_(tolerance.rtol + share).add_(absolute)
        return largest, difference.abs().div_(allowed).max().item(), ""
    error = difference.abs()
    allowed = want.abs().mul_(tolerance.rtol + share).add_(absolute)
    if math.isfinite(largest):
        wrong = int((error > allowed).sum().item())
        worst = error.div_(allowed).nan_to_num_(nan=0.0, posinf=math.inf).max().item()  # NaN: nothing allowed, no error
    elif torch.isnan(actual).any().item():
        return math.inf, math.inf, "the output holds NaN"
    else:
        error.masked_fill_(want == got, 0.0)  # equal infinities: their difference is NaN
        passes = error <= allowed
        passes &= ~torch.isinf(error)  # a finite number is not within tolerance of an infinite one
        largest = error.max().item()
        wrong = passes.numel() - int(passes.sum().item())
        worst = (error / allowed).masked_fill_(error == 0, 0.0).nan_to_num_(nan=math.inf, posinf=math.inf).max().item()
    if not wrong:
        return largest, worst, ""
    return largest, worst, f"{wrong} of {error.numel()} elements out of tolerance, largest difference {largest:.3g}"


def _compare_exactly(target: Target, actual: torch.Tensor) -> tuple[float, float, str]:
    differs = (target.expected != actual).flatten()
    if target.undecided is not None:
        differs[target.undecided] = False
    wrong = int(differs.sum().item())
    if not wrong:
        return 0.0, 0.0, ""
    largest = (target.expected.double() - actual.double()).abs().flatten()[differs].max().item()
    return largest, math.inf, f"{wrong} of {differs.numel()} elements differ"
