"""What is made of measured blocks, without a clock: pairs that count, ratios, intervals."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vegflow.evaluation.timing import median_interval, summarise, ticking
from vegflow.evaluation.verdict import Fault
from vegflow.evaluation.worker import Block


def blocks(*seconds: float) -> list[Block]:
    return [Block(call_s=s, write_s=0.0, wall_s=s, own_s=s, outputs=[]) for s in seconds]


def test_a_pair_in_which_a_clock_stood_still_does_not_count():
    ours, theirs, pairs = ticking(blocks(1, 0, 3, 4, 5), blocks(1, 2, 3, 0, 5), [[]] * 5)
    assert [b.call_s for b in ours] == [1, 3, 5]
    assert [b.call_s for b in theirs] == [1, 3, 5]
    assert len(pairs) == 3


@pytest.mark.parametrize("ours", [(0, 0, 0, 0, 0), (1, 1, 0, 0, 0)])
def test_too_few_pairs_are_the_evaluators_error(ours):
    with pytest.raises(Fault, match="the clock stood still in") as caught:
        ticking(blocks(*ours), blocks(1, 1, 1, 1, 1), [[]] * 5)
    assert caught.value.status == "evaluator_error"


@given(st.lists(st.tuples(st.floats(1e-6, 1), st.floats(1e-6, 1)), min_size=3, max_size=25))
def test_the_speedup_lies_in_its_interval_and_swapping_sides_inverts_it(pairs):
    ours, theirs = zip(*pairs, strict=True)
    forward, backward = summarise(ours, theirs), summarise(theirs, ours)
    assert forward.low <= forward.speedup * (1 + 1e-9)
    assert forward.speedup <= forward.high * (1 + 1e-9)
    assert backward.speedup == pytest.approx(1 / forward.speedup)
    assert backward.low == pytest.approx(1 / forward.high)


@pytest.mark.parametrize(("n", "rank"), [(5, 0), (6, 0), (9, 1), (11, 1), (15, 3), (25, 7)])
def test_the_interval_is_the_narrowest_pair_of_order_statistics_that_covers(n, rank):
    assert median_interval([float(v) for v in range(n)]) == (rank, n - 1 - rank)
    miss = 2 * sum(math.comb(n, i) for i in range(rank + 1)) / 2**n
    assert miss <= 0.05 or n < 6
