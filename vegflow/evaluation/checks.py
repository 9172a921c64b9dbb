"""One candidate's outputs against the reference's: which difference is an error, and which a hack.

Knows blocks and statuses; a single comparison is in `comparison`, and when to check is for the judge.
"""

from collections.abc import Sequence

import torch

from vegflow.evaluation.arena import views
from vegflow.evaluation.comparison import Tolerance, check_form, compare
from vegflow.evaluation.reference import Item, Reference
from vegflow.evaluation.verdict import Fault
from vegflow.evaluation.worker import Block, Worker

CLEARLY = 10.0
"""A timed output this many tolerances off is no matter of rounding."""


class Checks:
    """The comparisons of one candidate's outputs with the reference's."""

    def __init__(self, worker: Worker, reference: Reference, tolerance: Tolerance) -> None:
        self.largest = 0.0
        """Largest absolute difference seen in an output that passed."""
        self._worker = worker
        self._form = reference.output_form
        self._tolerance = tolerance

    def correct(self, block: Block, items: Sequence[Item]) -> None:
        """Every output must be right; Fault `wrong_output` if one is not."""
        for slot, item in enumerate(items):
            form = check_form(self._form, block.outputs[slot])
            if form:
                raise Fault("wrong_output", form)
            error, reason = self._worst(slot, item, self._tolerance)
            if reason:
                raise Fault("wrong_output", reason, error)
            self.largest = max(self.largest, error)

    def timed(self, block: Block, items: Sequence[Item]) -> None:
        """As `correct`; an answer that is clearly wrong now, and was right before, is a hack."""
        try:
            self.correct(block, items)
        except Fault as fault:
            loose = self._tolerance.times(CLEARLY)
            form = any(check_form(self._form, outputs) for outputs in block.outputs)
            if form or any(self._worst(slot, item, loose)[1] for slot, item in enumerate(items)):
                reason = f"right while checked, wrong while timed: {fault.reason}"
                raise Fault("rejected_hack", reason, fault.max_abs_err) from None
            raise

    def _worst(self, slot: int, item: Item, tolerance: Tolerance) -> tuple[float, str]:
        # a copy: the comparison must not read what a worker could still change
        actual = self._worker.outputs(slot).clone()
        if torch.equal(actual, item.expected):
            return 0.0, ""
        wanted, given = views(item.expected, 0, self._form), views(actual, 0, self._form)
        results = [compare(w, g, tolerance) for w, g in zip(wanted, given, strict=True)]
        return max(error for error, _ in results), next((reason for _, reason in results if reason), "")
