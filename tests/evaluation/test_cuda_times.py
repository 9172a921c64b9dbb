"""What a block on a GPU counts for: pure arithmetic on what the judge saw and what the workers said."""

import math

import pytest

from vegflow.evaluation import cuda_times
from vegflow.evaluation.cuda_times import CUPTI, EVENTS, WALL, aside, busy, charge, claimed, worst
from vegflow.evaluation.timing import LEVEL, group_of, refuse_lies
from vegflow.evaluation.verdict import Fault, Verdict
from vegflow.evaluation.worker import Block, _seconds
from vegflow.standalone import text

MS = 1e-3


def blocks(spans_ms, walls_ms, *, clock=CUPTI, aside_ms=None, flush_ms=0.1, after_ms=0.0):
    asides = aside_ms or [0.0] * len(spans_ms)
    return [
        Block(w * MS, w * MS, w * MS, {}, s * MS, clock, a * MS, flush_ms * MS, after_ms * MS)
        for s, w, a in zip(spans_ms, walls_ms, asides, strict=True)
    ]


def honest(span_ms, n=10, beyond=(0.20, 0.21, 0.19, 0.22, 0.20, 0.18, 0.20, 0.21, 0.19, 0.20), clock=CUPTI):
    """Blocks whose walls are longer than their spans by what messages and launches cost."""
    return blocks([span_ms] * n, [span_ms + more for more in beyond[:n]], clock=clock)


def test_an_honest_block_counts_for_its_span():
    ours, theirs = charge(honest(2.0), honest(1.0), LEVEL)
    assert ours.seconds == pytest.approx([2 * MS] * 10, rel=0.02)
    assert theirs.seconds == pytest.approx([1 * MS] * 10, rel=0.02)
    assert (ours.clock, theirs.clock) == (CUPTI, CUPTI)


@pytest.mark.parametrize("claim", [0.0, 0.01, 0.5])
def test_a_span_that_is_too_short_gains_no_more_than_the_spread_of_the_overhead(claim):
    liar = blocks([claim] * 10, [2.2] * 10)
    _, theirs = charge(honest(2.0), liar, LEVEL)
    assert theirs.seconds == pytest.approx([2 * MS] * 10, rel=0.01)
    assert theirs.clock == WALL


def test_a_span_is_never_longer_than_the_judges_clock_says():
    _, theirs = charge(honest(2.0), blocks([50.0] * 10, [2.0] * 10), LEVEL)
    assert theirs.seconds == [2.0 * MS] * 10


def test_a_candidate_that_launches_nothing_counts_by_the_wall():
    _, theirs = charge(honest(2.0), blocks([0.0] * 10, [1.0] * 10), LEVEL)
    assert theirs.clock == WALL
    assert theirs.seconds == pytest.approx([0.79 * MS] * 10, abs=0.02 * MS)


def test_a_worker_that_answers_before_the_device_is_done_waits_in_front_of_the_flush():
    """It answers at once and shows no kernel; its two milliseconds are still to come, and our flush has to wait."""
    ours, theirs = charge(honest(2.0), blocks([0.0] * 10, [0.2] * 10, after_ms=2.1), LEVEL, 0.1 * MS)
    assert theirs.seconds == pytest.approx(ours.seconds, rel=0.02)
    assert theirs.clock == WALL


def test_work_of_the_host_before_the_first_kernel_counts():
    """One millisecond on the CPU, then one on the GPU: no span shows the first."""
    _, theirs = charge(honest(2.0), blocks([1.0] * 10, [2.2] * 10), LEVEL)
    assert theirs.seconds == pytest.approx([2 * MS] * 10, rel=0.02)
    assert theirs.clock == WALL


def test_a_hiccup_of_the_machine_in_a_block_of_the_reference_is_no_allowance():
    ours = blocks([2.0] * 10, [2.2] * 9 + [12.2])
    group = group_of(ours, blocks([0.5] * 10, [2.2] * 10), 1, 0.0)
    assert group.clock == WALL
    assert group.runtime_us == pytest.approx([2200.0] * 10)


@pytest.mark.parametrize("claim", [0.01, 1.0, 2.0])
def test_where_the_judges_clock_is_too_noisy_to_hold_a_span_to_it_the_wall_counts(claim):
    """For both sides, and whatever is claimed."""
    noise = [0.2, 1.4, 0.3, 0.9, 0.2, 1.1, 0.5, 0.8, 0.3, 0.6]
    ours = blocks([2.0] * 10, [2.0 + more for more in noise])
    theirs = blocks([claim] * 10, [2.0 + more for more in reversed(noise)])
    assert charge(ours, theirs, LEVEL) is None
    group = group_of(ours, theirs, 1, 0.0)
    assert group.clock == WALL
    assert group.runtime_us == pytest.approx([1e6 * b.wall_s for b in theirs])
    assert group.reference_us == pytest.approx([1e6 * b.wall_s for b in ours])


@pytest.mark.parametrize("hidden", [0.02, 0.05, 0.1, 0.2, 0.4])
def test_a_lie_within_the_noise_gains_no_more_than_is_trusted(hidden):
    """Two milliseconds of which a share is left out of the span, under noise that is just small enough."""
    noise = [0.2, 0.25, 0.21, 0.28, 0.2, 0.26, 0.22, 0.24, 0.21, 0.23, 0.2, 0.27]
    ours = blocks([2.0] * 12, [2.0 + more for more in noise])
    theirs = blocks([2.0 * (1 - hidden)] * 12, [2.0 + more for more in reversed(noise)])
    group = group_of(ours, theirs, 1, 0.0)
    assert all(us > 2e3 * (1 - 2 * cuda_times.TRUST) for us in group.runtime_us)


@pytest.mark.parametrize(
    ("first", "second", "both"), [(CUPTI, EVENTS, EVENTS), (EVENTS, WALL, WALL), (CUPTI, CUPTI, CUPTI)]
)
def test_of_two_clocks_the_less_direct_one_is_named(first, second, both):
    assert worst([first, second]) == worst([second, first]) == both


@pytest.mark.parametrize("name", ["cpu", "atomic", None, 3, ["cupti"], ""])
def test_a_clock_that_a_worker_on_a_gpu_cannot_have_is_none(name):
    assert claimed(name) == WALL


@pytest.mark.parametrize("claim", [-1, math.nan, math.inf, 1e16, None, "1", [1]])
def test_a_span_that_is_no_time_is_refused(claim):
    with pytest.raises(Fault, match="does not give a time"):
        _seconds(claim)


def test_time_spent_beside_the_calls_is_charged_where_it_is_more_than_the_references():
    ours = blocks([1.0] * 12, [1.2] * 12, aside_ms=[3.0 + 0.1 * (i % 3) for i in range(12)])
    theirs = blocks([1.0] * 12, [1.2] * 12, aside_ms=[4.0 + 0.1 * (i % 4) for i in range(12)])
    assert aside(ours, theirs, LEVEL) == pytest.approx(1.05 * MS, rel=0.1)


def test_noise_of_copies_is_not_charged():
    ours = blocks([1.0] * 12, [1.2] * 12, aside_ms=[3.0 + 0.3 * (i % 3) for i in range(12)])
    theirs = blocks([1.0] * 12, [1.2] * 12, aside_ms=[3.0 + 0.3 * ((i + 1) % 3) for i in range(12)])
    assert aside(ours, theirs, LEVEL) == 0.0
    assert aside(ours, list(reversed(ours)), LEVEL) == 0.0


def test_a_group_on_a_gpu_says_its_clock_and_charges_what_happens_beside_the_calls():
    theirs = honest(1.0)
    beside = blocks([1.0] * 10, [b.wall_s / MS for b in theirs], aside_ms=[1.0] * 10)
    plain, charged = group_of(honest(2.0), theirs, 10, 0.0), group_of(honest(2.0), beside, 10, 0.0)
    assert plain.clock == CUPTI
    assert plain.runtime_us == pytest.approx([100.0] * 10, rel=0.03)
    assert charged.runtime_us == pytest.approx([200.0] * 10, rel=0.03)
    exempt = group_of(honest(2.0), beside, 10, 0.0, host_code=False)
    assert exempt.runtime_us == plain.runtime_us


def test_a_candidate_without_cupti_is_named_for_it_whatever_the_reference_has():
    assert group_of(honest(2.0), honest(1.0, clock=EVENTS), 10, 0.0).clock == EVENTS


def test_a_block_of_no_time_at_all_has_a_ratio_still():
    group = group_of(honest(2.0), blocks([0.0] * 10, [0.1] * 10), 10, 0.0)
    assert all(map(math.isfinite, group.log_ratios))


def test_a_worker_whose_own_clock_is_stopped_is_refused_on_a_gpu_too():
    stopped = [Block(b.call_s, b.wall_s, 0.0, {}, b.span_s, b.clock) for b in honest(2.0)]
    with pytest.raises(Fault, match="its clock says"):
        refuse_lies(stopped, 0.2 * MS)


def test_a_device_that_is_at_work_while_both_are_stopped_is_noticed():
    assert not busy(blocks([1.0] * 4, [1.2] * 4, flush_ms=0.3), 0.1 * MS)
    assert busy(blocks([1.0] * 4, [1.2] * 4, flush_ms=2.5), 0.1 * MS)
    once = blocks([1.0] * 9, [1.2] * 9) + blocks([1.0], [1.2], flush_ms=30.0)
    assert not busy(once, 0.1 * MS)


def test_every_clock_has_words_for_people():
    assert set(text.CLOCKS) == set(cuda_times.CLOCKS) - {"cpu"}


def test_a_verdict_says_its_clock_and_the_gpus_clocks():
    plain = text.Style(False)
    good = Verdict("correct", clock=CUPTI, sm_clocks_mhz=[1980, 1755], memory_clocks_mhz=[2619, 2619], throttling="")
    assert text._clock(good, plain) == "CUPTI, spans of work on the GPU; SM at 1755 to 1980 MHz; memory at 2619 MHz"
    assert "not known" in text._clock(Verdict("correct", clock=EVENTS), plain)


@pytest.mark.parametrize("worse", [{"clock": EVENTS}, {"clock": WALL}, {"clock": CUPTI, "throttling": "power cap"}])
def test_what_is_less_than_spans_at_full_clocks_stands_out(worse):
    assert "\033[33m" in text._clock(Verdict("correct", **worse), text.Style(True))
