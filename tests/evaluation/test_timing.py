"""What is made of measured blocks, without a clock: pairs that count, groups, ratios, and when it is enough."""

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vegflow.config.evaluation import PROTOCOLS, EvaluationConfig
from vegflow.evaluation.timing import LEAST_SHARE, LUCK, Group, combine, decided, enough, group_of, ticking
from vegflow.evaluation.verdict import Fault
from vegflow.evaluation.worker import Block

FAST, FULL = PROTOCOLS["fast"], PROTOCOLS["full"]
DELTA = 0.02


def blocks(*seconds: float) -> list[Block]:
    return [Block(call_s=s, wall_s=s, own_s=s, outputs={}) for s in seconds]


def group(*ratios: float) -> Group:
    return Group([100.0 * ratio for ratio in ratios], [100.0] * len(ratios))


def steady(ratio: float, pairs: int = 8, noise: float = 1e-4) -> Group:
    """A group whose own interval is next to nothing."""
    return group(*(ratio * math.exp(noise * (i - (pairs - 1) / 2)) for i in range(pairs)))


def test_a_pair_in_which_a_clock_stood_still_does_not_count():
    ours, theirs = ticking(blocks(1, 0, 3, 4, 5), blocks(1, 2, 3, 0, 5))
    assert [b.call_s for b in ours] == [1, 3, 5]
    assert [b.call_s for b in theirs] == [1, 3, 5]


@pytest.mark.parametrize("ours", [(0, 0, 0, 0, 0), (1, 1, 0, 0, 0)])
def test_too_few_pairs_are_the_evaluators_error(ours):
    with pytest.raises(Fault, match="the clock stood still in") as caught:
        ticking(blocks(*ours), blocks(1, 1, 1, 1, 1))
    assert caught.value.status == "evaluator_error"


def test_the_time_of_a_call_is_a_share_of_its_block_without_the_messages():
    found = group_of(blocks(11e-3, 21e-3, 11e-3), blocks(6e-3, 6e-3, 6e-3), 10, 1e-3)
    assert found.reference_us == pytest.approx([1000, 2000, 1000])
    assert found.runtime_us == pytest.approx([500, 500, 500])


def test_something_of_a_block_is_left_however_cheap_its_messages_are():
    found = group_of(blocks(1e-3, 1e-3, 1e-3), blocks(0.1e-3, 0.1e-3, 0.1e-3), 1, 0.2e-3)
    assert found.runtime_us == pytest.approx([LEAST_SHARE * 100] * 3)


def test_waiting_is_part_of_every_call():
    waiting = [Block(call_s=1e-3, wall_s=5e-3, own_s=1e-3, outputs={})] * 3
    found = group_of(blocks(1e-3, 1e-3, 1e-3), waiting, 2, 0.0)
    assert found.runtime_us == pytest.approx([2500] * 3)


times = st.floats(1e-6, 1)


@given(st.lists(st.tuples(times, times), min_size=3, max_size=25))
def test_the_speedup_lies_in_its_interval_and_swapping_sides_inverts_it(pairs):
    ours, theirs = (list(side) for side in zip(*pairs, strict=True))
    forward, backward = combine([Group(ours, theirs)]), combine([Group(theirs, ours)])
    assert forward.low < forward.speedup < forward.high
    assert backward.speedup == pytest.approx(1 / forward.speedup)
    assert backward.low == pytest.approx(1 / forward.high)
    assert backward.high == pytest.approx(1 / forward.low)


def test_a_drift_common_to_both_cancels():
    drift = [1.0, 2.0, 5.0, 0.5, 1.5]
    timing = combine([Group([2 * d for d in drift], drift)])
    assert timing.speedup == pytest.approx(2)
    assert timing.high_here == pytest.approx(2)


def test_luck_widens_even_a_group_without_noise():
    one = combine([steady(1.03)])
    assert one.speedup == pytest.approx(1.03)
    assert one.high_here == pytest.approx(1.03, abs=1e-3)
    assert one.low < 1 + DELTA < one.high_here < one.high
    assert one.half_width == pytest.approx(2.576 * LUCK, rel=0.01)


def test_groups_narrow_as_their_square_root():
    widths = {n: combine([steady(1.5)] * n).half_width for n in (1, 4, 8, 16)}
    for n, width in widths.items():
        assert width == pytest.approx(widths[1] / math.sqrt(n))


def test_the_speedup_is_the_mean_of_groups_and_not_of_pairs():
    both = combine([steady(1.0, pairs=40), steady(1.21, pairs=8)])
    assert both.speedup == pytest.approx(1.1)


def test_all_pairs_of_all_groups_are_kept_in_order():
    both = combine([group(1, 2, 3), group(4, 5, 6)])
    assert both.reference_us == pytest.approx([100, 200, 300, 400, 500, 600])
    assert both.runtime_us == [100.0] * 6


def test_the_papers_speedup_is_that_of_the_first_five_times():
    timing = combine([Group([3.0, 5.0, 4.0, 1.0, 9.0, 100.0], [2.0, 2.0, 1.0, 2.0, 8.0, 100.0])])
    assert timing.paper_speedup == 4.0 / 2.0


def test_what_is_not_fast_with_these_workers_ends_at_once():
    assert enough(combine([steady(0.7)]), FAST, DELTA)
    assert enough(combine([steady(1.0)]), FAST, DELTA)


def test_what_may_still_be_fast_gets_more_groups():
    """A group that is noisy, and one that is fast unless it was lucky, decide nothing."""
    wide = combine([steady(1.03, noise=0.03)])
    assert wide.high_here > 1 + DELTA + FAST.resolution
    assert not enough(wide, FAST, DELTA)
    assert enough(combine([steady(1.03)]), FAST, DELTA)


def test_pairs_that_are_too_low_give_nothing_to_hope_for():
    """A reference that was lucky in some pairs, or a candidate that was interrupted."""
    usual = [1.0, 1.01, 0.99, 1.02, 0.98, 1.0, 1.01, 0.99]
    low, high = (combine([group(*usual[:-2], wild, wild)]) for wild in (0.5, 2.0))
    assert low.high_here < 1 + DELTA + FAST.resolution < high.high_here
    assert low.low_here < 1 / (1 + DELTA + FAST.resolution) < high.low_here
    assert not enough(low, FAST, DELTA), "which ends no earlier than its mirror image"
    assert not enough(high, FAST, DELTA)
    assert enough(combine([steady(0.9, noise=0.03)]), FAST, DELTA), "slower for sure"


def test_more_pairs_come_before_more_workers():
    """A group ends only when it decides, with those before it, what another would be asked."""
    wide, narrow = steady(1.03, noise=0.03), steady(1.03, noise=0.01)
    assert not decided(wide, [], FAST, DELTA)
    assert decided(narrow, [], FAST, DELTA)
    assert decided(wide, [narrow] * 4, FAST, DELTA)
    assert decided(steady(1.5), [], FAST, DELTA)
    assert not decided(narrow, [], FULL, DELTA), "which has no gain to let go"


def test_fast_needs_the_allowance_for_luck():
    near = combine([steady(1.12)])
    assert not near.low > 1 + DELTA
    assert not enough(near, FAST, DELTA)
    assert enough(combine([steady(1.12)] * FAST.most_groups), FAST, DELTA)
    clear = combine([steady(1.5)])
    assert clear.low > 1 + DELTA
    assert enough(clear, FAST, DELTA)


def test_luck_on_one_side_does_not_make_fast():
    """Workers that happen to be 5 % faster in one group and as much slower in the next."""
    for groups in range(1, FAST.most_groups + 1):
        lucky = combine([steady(1.05 if i % 2 == 0 else 1 / 1.05) for i in range(groups)])
        assert not lucky.low > 1 + DELTA


def test_a_small_gain_is_fast_after_several_groups():
    needed = next(n for n in range(1, 20) if combine([steady(1.08)] * n).low > 1 + DELTA)
    assert 2 <= needed <= FAST.most_groups


def test_the_full_protocol_goes_on_until_the_speedup_is_known():
    """Its least number of groups in any case, and more while they scatter."""
    assert not enough(combine([steady(3.0)] * (FULL.least_groups - 1)), FULL, DELTA)
    assert not enough(combine([steady(0.3)] * (FULL.least_groups - 1)), FULL, DELTA)
    assert enough(combine([steady(3.0)] * FULL.least_groups), FULL, DELTA)
    half = FULL.least_groups // 2
    scattered = [steady(1.05)] * half + [steady(0.95)] * half
    assert combine(scattered).standard_error > FULL.precision
    assert not enough(combine(scattered), FULL, DELTA)
    assert enough(combine(scattered * (FULL.most_groups // len(scattered))), FULL, DELTA)


def test_the_standard_error_is_that_of_the_mean_of_the_groups():
    timing = combine([steady(1.0), steady(1.1), steady(1.3)])
    centres = [0.0, math.log(1.1), math.log(1.3)]
    assert timing.standard_error == pytest.approx(statistics.stdev(centres) / math.sqrt(3), rel=1e-3)
    assert combine([steady(1.0)]).standard_error == math.inf


def test_the_papers_protocol_is_one_group():
    protocol = EvaluationConfig(protocol="paper").resolved
    assert (protocol.least_pairs, protocol.most_pairs, protocol.correctness_trials) == (5, 5, 5)
    assert enough(combine([steady(1.05, pairs=5)]), protocol, DELTA)
