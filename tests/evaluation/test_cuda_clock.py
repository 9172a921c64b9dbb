"""The clock, the flush and the readings of a GPU: what can be said without one here; the rest where there is one."""

import importlib.util

import pytest
import torch

from vegflow.evaluation import cuda_clock
from vegflow.evaluation.cuda_clock import CuptiClock, Flush, flush_bytes, open_clock, reset_persisting_l2, union, why
from vegflow.evaluation.cuda_times import CUPTI, EVENTS
from vegflow.evaluation.gpu_state import NOTHING, GpuState, Reading, reasons, together

GPU = torch.cuda.is_available()
needs_gpu = pytest.mark.skipif(not GPU, reason="there is no GPU here")
needs_none = pytest.mark.skipif(GPU, reason="there is a GPU here")
needs_cupti = pytest.mark.skipif(importlib.util.find_spec("cupti") is None, reason="cupti-python is not installed")


def test_a_span_is_from_the_first_start_to_the_last_end_whatever_the_stream():
    main, side = [(100, 200), (250, 300)], [(150, 900)]
    assert union(main) == 200
    assert union([*side, *main]) == 800


def test_records_without_times_do_not_count():
    assert union([]) == 0.0
    assert union([(0, 50), (70, 60), (100, 130)]) == 30


def test_twice_the_cache_is_written():
    assert flush_bytes(50 << 20) == 100 << 20
    assert flush_bytes(0) == 0


@needs_none
def test_without_a_gpu_cupti_says_why_it_does_not_start():
    with pytest.raises(Exception, match=r".") as caught:  # the package is missing, or it finds no driver
        CuptiClock()
    assert "cupti" in why(caught.value).lower() or "driver" in why(caught.value).lower()


@needs_none
def test_without_a_driver_nothing_is_reset_and_that_is_said():
    assert "libcuda" in reset_persisting_l2()
    assert "cuCtxResetPersistingL2Cache" in reset_persisting_l2("libc.so.6")


def test_a_reason_is_one_short_line():
    assert why(OSError("a\nb  c")) == "OSError: a b c"
    assert len(why(OSError("x" * 1000))) == 200


@pytest.mark.parametrize(
    ("bits", "words"),
    [(0x0, ""), (0x1, ""), (0x4, "power cap"), (0x40 | 0x4 | 0x1, "power cap, temperature (hardware)")],
)
def test_throttling_is_said_in_words(bits, words):
    assert reasons(bits) == words


def test_a_reason_that_is_not_known_is_still_said():
    assert reasons(0x8000) == "unknown reason 0x8000"


def test_readings_of_all_groups_come_together():
    readings = [Reading(1980, 2619, ""), Reading(1755, 2619, "power cap"), Reading(1700, None, "power cap"), NOTHING]
    assert together(readings) == ([1980, 1755, 1700], [2619, 2619], "power cap")
    assert together([Reading(1980, 2619, "")]) == ([1980], [2619], "")
    assert together([NOTHING]) == (None, None, None)


@needs_none
def test_without_nvml_nothing_is_read_and_that_is_said():
    state = GpuState("GPU-0")
    assert state.problem
    assert state.read() == NOTHING


@needs_gpu
def test_nvml_knows_the_gpu_that_pytorch_uses():
    from vegflow.evaluation.device import device_uuid

    pytest.importorskip("pynvml")
    state = GpuState(device_uuid())
    assert state.problem == ""
    assert (state.read().sm_mhz or 0) > 0


def work(clock, call):
    torch.cuda.synchronize()
    clock.clear()
    clock.start()
    call()
    clock.stop()
    return clock.span()


@pytest.fixture(params=[CUPTI, EVENTS])
def clock(request):
    if not GPU:
        pytest.skip("there is no GPU here")
    if request.param == EVENTS:
        return cuda_clock.EventsClock("a test wants it")
    if importlib.util.find_spec("cupti") is None:
        pytest.skip("cupti-python is not installed")
    return CuptiClock()


def test_twice_the_work_takes_twice_as_long(clock):
    x = torch.randn(4096, 4096, device="cuda")
    once, twice = (min(work(clock, lambda n=n: [x @ x for _ in range(n)]).ns for _ in range(5)) for n in (10, 20))
    assert 1.8 < twice / once < 2.2


def test_work_on_a_side_stream_counts(clock):
    x, side = torch.randn(4096, 4096, device="cuda"), torch.cuda.Stream()

    def beside():
        with torch.cuda.stream(side):
            for _ in range(10):
                x @ x

    plain, hidden = (
        min(work(clock, call).ns for _ in range(5)) for call in (lambda: [x @ x for _ in range(10)], beside)
    )
    assert 0.8 < hidden / plain < 1.3


@needs_gpu
@needs_cupti
def test_cupti_shows_no_launches():
    """One small kernel: some microseconds on the device, several times that with the launch."""
    x = torch.zeros(1024, device="cuda")
    by_cupti = min(work(CuptiClock(), x.zero_).ns for _ in range(20))
    by_events = min(work(cuda_clock.EventsClock("a test wants it"), x.zero_).ns for _ in range(20))
    assert 0 < by_cupti < by_events


@needs_gpu
def test_the_clock_says_which_it_is():
    found = open_clock()
    assert (found.name, bool(found.problem)) in ((CUPTI, False), (EVENTS, True))


@needs_gpu
def test_a_flush_leaves_nothing_in_the_cache():
    """Reading a quarter of the cache again is slower after a flush than right after reading it."""
    size = torch.cuda.get_device_properties(0).L2_cache_size // 16
    x, flush, clock = torch.zeros(size, device="cuda"), Flush(), open_clock()

    def again(between):
        x.sum()
        between()
        return work(clock, x.sum).ns

    warm, cold = (sorted(again(between) for _ in range(21))[10] for between in (lambda: None, flush))
    assert cold > 1.1 * warm
    assert flush()["problem"] == ""
