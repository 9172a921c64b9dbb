"""Comparison and statistics, without any worker."""

import math
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vegflow.evaluation import channel
from vegflow.evaluation.arena import Arena, Shape, describe, views
from vegflow.evaluation.comparison import (
    NEXT_TO_NOTHING,
    SEQUENTIAL,
    Tolerance,
    check_form,
    compare,
    kernelbench_allclose,
)
from vegflow.evaluation.device import device_identity, lock_name, resolve_device
from vegflow.evaluation.expectation import Target, plain_expectation
from vegflow.evaluation.timing import idle, refuse_lies
from vegflow.evaluation.timing_lock import timing_lock
from vegflow.evaluation.verdict import Fault, one_line
from vegflow.evaluation.worker import Block

TOLERANCE = Tolerance(atol=1e-4, rtol=1e-4, factor=8.0)
finite = st.floats(-1e6, 1e6, width=32)


def judge(expected, actual, **about):
    return compare([Target(expected, 1.0, **about)], [actual], TOLERANCE)


@given(st.lists(finite, min_size=1, max_size=20), st.floats(0, 3), st.sampled_from([-1, 1]))
def test_a_difference_passes_exactly_within_tolerance(values, share, sign):
    expected = torch.tensor(values, dtype=torch.float64)
    allowed = (1e-4 + SEQUENTIAL) * (1 + expected.abs())
    actual = expected + sign * share * allowed
    outcome = judge(expected, actual)
    if abs(share - 1) > 1e-3:
        assert outcome.status == ("wrong_output" if share > 1 else "")
        assert bool(outcome.reason) == (share > 1)
        assert outcome.error == pytest.approx(share, rel=1e-3, abs=1e-3) or share <= outcome.error <= NEXT_TO_NOTHING
    assert outcome.largest == pytest.approx((expected - actual).abs().max().item())


def test_a_large_elements_error_is_a_share_of_what_is_allowed_for_it():
    """The product of two spikes: its last bits are large beside the other elements, and next to nothing of itself."""
    expected = torch.ones(1000)
    expected[7] = 2e4
    actual = expected.clone()
    actual[7] *= 1 + 2e-7
    outcome = judge(expected, actual)
    assert outcome.largest > 1e-3
    assert outcome.error < 1e-2


def test_tolerance_goes_with_the_unit_of_the_output():
    for unit in (1e-12, 1.0, 1e12):
        expected = torch.randn(1000, generator=torch.Generator().manual_seed(0)) * unit
        expectation = plain_expectation([expected])
        assert compare(expectation, [expected + 5e-5 * unit], TOLERANCE).status == ""
        assert compare(expectation, [expected + 2e-3 * unit], TOLERANCE).status == "wrong_output"
        assert compare(expectation, [torch.zeros(1000)], TOLERANCE).status == "wrong_output"


def test_a_reference_that_errs_allows_more_but_not_anything():
    expected = torch.zeros(3)
    assert judge(expected, expected + 4e-4).status == "wrong_output"
    assert judge(expected, expected + 4e-4, reference_error=5e-5).status == ""
    assert judge(expected, expected + 4e-4, depth=1_000_000).status == ""  # as a loop over a million terms may
    assert judge(expected, expected + 3e-3, reference_error=1.0, depth=1 << 40).status == "wrong_output"


@pytest.mark.parametrize(
    ("expected", "actual", "passes"),
    [
        ([math.inf], [math.inf], True),
        ([math.inf], [-math.inf], False),
        ([math.inf], [1e30], False),
        ([1.0], [math.inf], False),
        ([1.0], [math.nan], False),
        ([math.nan], [math.nan], False),
        ([0.0], [-0.0], True),
        ([math.inf, 1.0], [math.inf, 2.0], False),
        ([1.0, 1.0], [3.0, math.nan], False),
        ([1j, 1.0], [1j, 1.00001], True),
        ([1j, 1.0], [-1j, 1.0], False),
        ([], [], True),
    ],
)
def test_infinities_must_agree_and_nan_never_passes(expected, actual, passes):
    assert (not judge(torch.tensor(expected), torch.tensor(actual)).status) == passes


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.uint8])
def test_integers_must_be_equal(dtype):
    expected = torch.tensor([0, 1, 1]).to(dtype)
    other = torch.tensor([1, 1, 1]).to(dtype)
    assert judge(expected, expected.clone()).status == ""
    assert judge(expected, other).reason == "1 of 3 elements differ"
    assert judge(expected, other, undecided=torch.tensor([0])).status == ""
    assert judge(expected, other, undecided=torch.tensor([2])).status == "wrong_output"


def test_the_worst_of_several_outputs_counts():
    right, wrong = torch.ones(2), torch.tensor([1.0, 3.0])
    outcome = compare(plain_expectation([right, right]), [right, wrong], TOLERANCE)
    assert (outcome.status, outcome.largest) == ("wrong_output", 2.0)
    assert outcome.reason == "1 of 2 elements out of tolerance, largest difference 2"


@pytest.mark.parametrize(
    ("actual", "passes"),
    [
        (torch.full((3,), 1 + 1.9e-4), True),
        (torch.full((3,), 1 + 2.1e-4), False),
        (torch.ones(3, 1), False),
        (torch.ones(3, dtype=torch.float64), False),  # torch.allclose raises
        (torch.full((3,), math.nan), False),
    ],
)
def test_kernelbench_allclose(actual, passes):
    assert kernelbench_allclose([torch.ones(3)], [actual]) == passes


@given(st.lists(st.tuples(finite | st.just(math.inf), st.floats(-3, 3), finite | st.just(math.nan)), max_size=9))
def test_kernelbench_allclose_is_torch_s(elements):
    """Equal, about as far apart as may be, or anything."""
    expected, shares, other = (
        (torch.tensor(column) for column in zip(*elements, strict=True)) if elements else [torch.empty(0)] * 3
    )
    near = expected + 1e-4 * shares * (1 + expected.abs())
    for actual in (expected, near, torch.where(shares > 2, other, near)):
        passes = torch.allclose(expected, actual, rtol=1e-4, atol=1e-4)
        assert kernelbench_allclose([expected], [actual]) == passes


def test_kernelbench_allclose_is_wider_for_halves():
    assert kernelbench_allclose([torch.ones(3).half()], [torch.full((3,), 1.01).half()])
    assert not kernelbench_allclose([torch.ones(3)], [])


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


def blocks(call_s, wait_s=(0.0,) * 3, own=1.0):
    return [Block(call, call + wait, call * own, {}) for call, wait in zip(call_s, wait_s, strict=True)]


def test_waiting_is_charged_only_where_every_block_waits_longer_than_the_reference():
    calls = (2e-3,) * 3
    busy = blocks(calls, wait_s=(0.0, 0.004, 0.001))
    assert idle(busy, blocks(calls, wait_s=(0.006, 0.005, 0.007))) == pytest.approx(0.001)
    assert idle(busy, blocks(calls, wait_s=(0.006, 0.003, 0.007))) == 0


def test_a_clock_that_always_stands_still_is_a_lie_and_one_slow_block_is_none():
    refuse_lies(blocks((2e-3, 2e-3, 9e-3)), 1e-4)
    with pytest.raises(Fault, match="clock"):
        refuse_lies(blocks((2e-3,) * 3, own=0.0), 1e-4)


def test_a_message_that_is_none_is_told_apart():
    two = b"\0\0\0\2{}" * 2
    for sent in (b"\0\0\0\2[]", b"\0\0\0\2{]", b"\xff\xff\xff\xff", b"\0\0\0\4\xff\xff\xff\xff", two):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            theirs.sendall(sent)
            with pytest.raises(channel.ChannelGarbledError):
                channel.receive(ours, largest=1000)
    ours, theirs = socket.socketpair()
    theirs.close()
    with ours, pytest.raises(channel.ChannelClosedError):
        channel.receive(ours)


@pytest.mark.parametrize("size", [0, channel.AT_ONCE - 12, channel.AT_ONCE, 3 * channel.AT_ONCE])
def test_a_message_of_any_size_arrives(size):
    """Larger ones than what is taken at once, or fits into the socket, too; an end that does not read is given up."""
    ours, theirs = socket.socketpair()
    with ours, theirs, ThreadPoolExecutor(1) as pool:
        sent = pool.submit(channel.send, theirs, {"a": "x" * size}, timeout_s=10)
        assert channel.receive(ours, deadline=time.monotonic() + 10) == ({"a": "x" * size}, [])
        sent.result()
        assert not channel.pending(ours)
        with pytest.raises(TimeoutError):
            channel.receive(ours, deadline=time.monotonic() + 0.01)
        with pytest.raises(TimeoutError):
            channel.send(theirs, {"a": "x" * (1 << 22)}, timeout_s=0.01)
        assert channel.pending(ours)


def test_a_message_arrives_byte_by_byte():
    ours, theirs = socket.socketpair()
    with ours, theirs, ThreadPoolExecutor(1) as pool:
        found = pool.submit(channel.receive, ours)
        for byte in b"\0\0\0\2{}":
            theirs.sendall(bytes([byte]))
            time.sleep(2e-3)
        assert found.result() == ({}, [])


@given(st.text())
def test_a_reason_is_one_short_line(text):
    line = one_line(text)
    assert len(line) <= 300
    assert line.isprintable()


def test_each_gpu_has_a_timing_lock_of_its_own():
    assert lock_name("cpu") == "cpu"
    if torch.cuda.is_available():
        assert lock_name("cuda") == f"cuda-{torch.cuda.get_device_properties(0).uuid}"
    else:
        assert lock_name("cuda") == "cuda"


def test_the_timing_lock_is_free_again_after_use():
    for _ in range(2):
        with timing_lock("test"):
            pass


def test_a_device_has_a_name():
    assert resolve_device("auto") in ("cpu", "cuda")
    assert torch.__version__ in device_identity("cpu")
    with pytest.raises(ValueError, match="tpu"):
        resolve_device("tpu")
