"""A timed call's integer outputs: a tie may be broken otherwise, and no more than that may differ."""

import pytest
import torch

from vegflow.evaluation.checks import Checks
from vegflow.evaluation.comparison import Tolerance
from vegflow.evaluation.expectation import Target
from vegflow.evaluation.verdict import Fault

INDICES = torch.arange(2040) % 256


def timed(others: int) -> Checks:
    """Checks that have met a timed call in which so many of 2,040 indices are others."""
    checks, actual = Checks(Tolerance(1e-4, 1e-4)), INDICES.clone()
    actual[:others] += 1
    checks.timed([INDICES], [actual], [Target(INDICES, 1.0)])
    return checks


def test_another_index_of_equals_is_neither_wrong_nor_coarse():
    """The two largest of a column that are equal: an unstable sort takes either."""
    assert timed(1).largest == 0


def test_more_indices_than_ties_explain_are_wrong():
    with pytest.raises(Fault, match="right while checked, wrong while timed"):
        timed(20)
