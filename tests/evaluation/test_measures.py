"""Comparison and statistics, without any worker."""

import itertools
import math
import socket

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vegflow.evaluation import channel
from vegflow.evaluation.arena import Arena, Shape, describe, views
from vegflow.evaluation.comparison import Tolerance, check_form, compare
from vegflow.evaluation.device import device_identity, resolve_device
from vegflow.evaluation.timing import charge, median_interval, refuse_lies, summarise, timing_lock
from vegflow.evaluation.verdict import Fault, one_line
from vegflow.evaluation.worker import Block

TOLERANCE = Tolerance(atol=1e-4, rtol=1e-4)
finite = st.floats(-1e6, 1e6, width=32)


@given(st.lists(finite, min_size=1, max_size=20), st.floats(0, 3), st.sampled_from([-1, 1]))
def test_a_difference_passes_exactly_within_tolerance(values, share, sign):
    expected = torch.tensor(values, dtype=torch.float64)
    actual = expected + sign * share * (1e-4 + 1e-4 * expected.abs())
    error, reason = compare(expected, actual, TOLERANCE)
    if abs(share - 1) > 1e-3:
        assert bool(reason) == (share > 1)
    assert error == pytest.approx((expected - actual).abs().max().item())


@pytest.mark.parametrize(
    ("expected", "actual", "passes"),
    [
        ([math.inf], [math.inf], True),
        ([math.inf], [-math.inf], False),
        ([math.inf], [1e30], False),
        ([1.0], [math.inf], False),
        ([1.0], [math.nan], False),
        ([0.0], [-0.0], True),
    ],
)
def test_infinities_must_agree_and_nan_never_passes(expected, actual, passes):
    _, reason = compare(torch.tensor(expected), torch.tensor(actual), TOLERANCE)
    assert (not reason) == passes


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.uint8])
def test_integers_must_be_equal(dtype):
    expected = torch.tensor([0, 1, 1]).to(dtype)
    assert compare(expected, expected.clone(), TOLERANCE) == (0.0, "")
    assert compare(expected, torch.tensor([1, 1, 1]).to(dtype), TOLERANCE)[1] == "1 of 3 elements differ"


@given(st.recursive(st.none() | st.integers() | st.text(), lambda s: st.lists(s) | st.dictionaries(st.text(), s)))
def test_any_claimed_form_is_judged_without_an_exception(claimed):
    assert check_form([describe(torch.zeros(2))], claimed)


def test_values_come_back_from_an_arena_as_they_went_in():
    values = [torch.randn(3, 5), torch.tensor(True), torch.empty(0, 4), torch.arange(7), (1, "two"), None]
    arena = Arena(Shape(2, 1024, 64))
    forms = [describe(value) for value in values]
    for target, value in zip(views(arena.bytes, arena.shape.inputs_at(1), forms), values, strict=True):
        if isinstance(value, torch.Tensor):
            target.copy_(value)
    back = views(arena.inputs(1), 0, forms)
    assert all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in zip(back, values, strict=True))
    arena.close()


@pytest.mark.parametrize("n", range(3, 14))
def test_the_interval_covers_the_median_as_often_as_it_says(n):
    low, high = median_interval(list(range(n)))
    # brute force over which of n observations lie below the true median
    covered = sum(low < sum(signs) <= high for signs in itertools.product((0, 1), repeat=n)) / 2**n
    assert covered >= 0.95 or (low, high) == (0, n - 1)
    if low > 0:
        narrower = sum(low + 1 < sum(signs) <= high - 1 for signs in itertools.product((0, 1), repeat=n)) / 2**n
        assert narrower < 0.95


def test_a_drift_common_to_both_cancels():
    drift = [1.0, 2.0, 5.0, 0.5, 1.5]
    timing = summarise([2 * d for d in drift], list(drift))
    assert (timing.speedup, timing.low, timing.high) == pytest.approx((2, 2, 2))


def blocks(call_s, write_s=(1e-3,) * 3, wait_s=(0.0,) * 3, own=1.0):
    rows = zip(call_s, write_s, wait_s, strict=True)
    return [Block(call, write, call + wait, call * own, []) for call, write, wait in rows]


def test_work_put_off_until_the_outputs_are_written_is_charged():
    calls = (2e-3,) * 3
    reference = blocks(calls, (1.0e-3, 1.1e-3, 1.2e-3))
    assert charge(reference, blocks(calls, (3.1e-3, 1e-3, 3.2e-3))) == pytest.approx(2e-3)
    assert charge(reference, blocks(calls, (1.3e-3, 1.3e-3, 0.5e-3))) == 0


def test_waiting_is_charged_only_where_every_block_waits_longer_than_the_reference():
    calls = (2e-3,) * 3
    busy = blocks(calls, wait_s=(0.0, 0.004, 0.001))
    assert charge(busy, blocks(calls, wait_s=(0.006, 0.005, 0.007))) == pytest.approx(0.001)
    assert charge(busy, blocks(calls, wait_s=(0.006, 0.003, 0.007))) == 0


def test_a_clock_that_always_stands_still_is_a_lie_and_one_slow_block_is_none():
    refuse_lies(blocks((2e-3, 2e-3, 9e-3)), 1e-4)
    with pytest.raises(Fault, match="clock"):
        refuse_lies(blocks((2e-3,) * 3, own=0.0), 1e-4)


def test_a_message_that_is_none_is_told_apart():
    for sent in (b"\0\0\0\2[]", b"\0\0\0\2{]", b"\xff\xff\xff\xff", b"\0\0\0\4\xff\xff\xff\xff"):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.sendall(sent)
            with pytest.raises(channel.ChannelGarbledError):
                channel.receive(ours, largest=1000)
    ours, theirs = socket.socketpair()
    theirs.close()
    with ours, pytest.raises(channel.ChannelClosedError):
        channel.receive(ours)


@given(st.text())
def test_a_reason_is_one_short_line(text):
    line = one_line(text)
    assert len(line) <= 300
    assert line.isprintable()


def test_the_timing_lock_is_free_again_after_use():
    for _ in range(2):
        with timing_lock("test"):
            pass


def test_a_device_has_a_name():
    assert resolve_device("auto") in ("cpu", "cuda")
    assert torch.__version__ in device_identity("cpu")
    with pytest.raises(ValueError, match="tpu"):
        resolve_device("tpu")
