"""One candidate's outputs against what is right: which difference is an error, which a lower precision, which a hack.

Knows items and statuses; a single comparison is in `comparison`, and when to check is for the judge.
"""

from collections.abc import Sequence

import torch

from vegflow.evaluation.comparison import Outcome, Tolerance, compare, kernelbench_allclose, reduced_precision
from vegflow.evaluation.expectation import Expectation, plain_expectation
from vegflow.evaluation.precision import Evidence
from vegflow.evaluation.reference import SIGNED_KINDS, Item
from vegflow.evaluation.verdict import Fault

CLEARLY = 10.0
"""A timed output this many tolerances off is no matter of rounding."""
COARSER = 10.0
COARSE = 0.25
"""Times the error that it had while it was checked, and share of what is allowed, beyond which a timed output is no
longer the same computation."""
INDICES_OFF = 1e-3
"""Share of a timed call's integer outputs, such as the index of a maximum, that a rounding may decide."""


class Checks:
    """The comparisons of one candidate's outputs."""

    def __init__(self, tolerance: Tolerance) -> None:
        self.largest = 0.0
        """Largest absolute difference seen in an output that passed."""
        self.kernelbench: bool | None = None
        """Whether all outputs for inputs of the task's own kind and shape pass KernelBench's check; None before any."""
        self.fault: Fault | None = None
        """What the outputs so far amount to, if they are not right."""
        self._usual = 0.0  # the largest share of what is allowed that an output which passed has used
        self._tolerance = tolerance
        self._evidence = Evidence()

    def wants(self, item: Item) -> bool:
        """Whether an item can still change the verdict: after a wrong output, only what names its cause."""
        return self.fault is None or (item.variant.kind in SIGNED_KINDS and not item.variant.narrow)

    def correct(self, actual: list[torch.Tensor], item: Item) -> None:
        """Take in the outputs for one item, which have its form; see `fault`."""
        if _own(item) and self.kernelbench is not False:
            self.kernelbench = kernelbench_allclose([target.expected for target in item.expectation], actual)
        if self.fault is not None:  # that it is wrong is known
            found = reduced_precision(item.expectation, actual, self._evidence)
            if found and self.fault.status != "low_precision":
                self.fault = Fault("low_precision", f"{found}; {self.fault.reason}", self.fault.max_abs_err)
            return
        outcome = compare(item.expectation, actual, self._tolerance, self._evidence)
        if outcome.status == "low_precision":
            self.fault = Fault("low_precision", outcome.reason, outcome.largest)
        elif outcome.status:
            self.fault = Fault("wrong_output", outcome.reason + _about(item), outcome.largest)
        else:
            self.largest = max(self.largest, outcome.largest)
            self._usual = max(self._usual, outcome.error)

    def wrong(self, fault: Fault, item: Item) -> None:
        """Take in that there are no outputs of the item's form; Faults that are no wrong output are raised."""
        if fault.status != "wrong_output":
            raise fault
        self.kernelbench = False if _own(item) else self.kernelbench
        self.fault = self.fault or Fault("wrong_output", fault.reason + _about(item))

    def timed(self, expected: list[torch.Tensor], actual: list[torch.Tensor], like: Expectation) -> None:
        """Raise Fault if a timed call's outputs are not right; what was right, and is clearly wrong now, is a hack.

        `expected` are the reference's own; how far off it may be is known from `like`, an item's expectation.
        """
        if all(torch.equal(right, output) for right, output in zip(expected, actual, strict=True)):
            return
        wanted = plain_expectation(expected, like)
        outcome = _compare(wanted, actual, self._tolerance)
        if outcome.status:
            if _compare(wanted, actual, self._tolerance.times(CLEARLY)).status:
                reason = f"right while checked, wrong while timed: {outcome.reason}"
                raise Fault("rejected_hack", reason, outcome.largest)
            raise Fault("wrong_output", f"{outcome.reason}, while timed", outcome.largest)
        if outcome.error > max(COARSE, COARSER * self._usual):
            reason = f"exact while checked, coarse while timed: {outcome.error:.2g} of what is allowed"
            raise Fault("rejected_hack", f"{reason}, and {self._usual:.2g} before", outcome.largest)
        self.largest = max(self.largest, outcome.largest)


def _compare(expectation: Expectation, actual: Sequence[torch.Tensor], tolerance: Tolerance) -> Outcome:
    """As `compare`, but for indices, which new inputs may have put on the edge of a rounding."""
    outcome = compare(expectation, actual, tolerance)
    if not outcome.status or any(target.expected.dtype.is_floating_point for target in expectation):
        return outcome
    pairs = [(target.expected.flatten(), output.flatten()) for target, output in zip(expectation, actual, strict=True)]
    # the share is one of the elements that tell something: where nearly all are 0, zeros are no answer
    within = all((e != a).sum() <= INDICES_OFF * (e != e.long().mode().values).sum() for e, a in pairs)
    return Outcome("", "", 0.0, 0.0) if within else outcome  # another index of equals is no coarser arithmetic


def _own(item: Item) -> bool:
    """Whether it is of the task's own kind and shape."""
    return item.variant.kind == "given" and not item.variant.narrow


def _about(item: Item) -> str:
    """On which inputs, if they are not the task's own."""
    what = [] if item.variant.kind == "given" else [f"{item.variant.kind} inputs"]
    if item.variant.narrow:
        what.append(
            "the shape " + ", ".join("x".join(map(str, f["shape"])) for f in item.form if f["kind"] == "tensor")
        )
    return f" (for {' of '.join(what)})" if what else ""
