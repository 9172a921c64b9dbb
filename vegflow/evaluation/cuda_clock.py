"""The clock inside a worker on a GPU: how long the device was at work for a block of calls, on all its streams.

Knows CUPTI's activity records and, where CUPTI does not start, CUDA events; what it says is a worker's claim, and what
that is worth is for `cuda_times` to say. Never silent about which of the two it is.
"""

import ctypes
import importlib
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from vegflow.evaluation.cuda_times import CUPTI, EVENTS

BUFFER_BYTES = 8 << 20
"""Of activity records that CUPTI fills before it hands them over."""
KINDS = ("CONCURRENT_KERNEL", "MEMCPY", "MEMCPY2", "MEMSET")
"""Of work on the device: kernels (which CUPTI does not make wait for each other), copies, also between devices, fills."""
FORCED = 1
"""Flag of a flush: hand over buffers that are not full, too."""


@dataclass(frozen=True)
class Span:
    """What the device did for one block, as the worker says."""

    clock: str
    """`cupti` or `events`."""
    ns: float
    """From the start of the first piece of work to the end of the last, on all streams; 0 if there was none."""
    records: int | None
    """Pieces of work; None if the clock does not count them."""


class Clock(Protocol):
    """`clear`; then, on the judge's clock, `start`, the calls and `stop`; then, off it, `span`."""

    name: str
    problem: str

    def clear(self) -> None:
        """Forget what was before; the device is idle."""

    def start(self) -> None:
        """Begin a block."""

    def stop(self) -> None:
        """End a block, wait for the device."""

    def span(self) -> Span:
        """Of the block that `stop` ended."""


class CuptiClock:
    """Times of the device's own counter, without launches, whatever the stream."""

    name = CUPTI
    problem = ""

    def __init__(self) -> None:
        """Raises whatever CUPTI raises where it is missing, or does not fit the driver, or may not trace."""
        self._cupti: Any = importlib.import_module("cupti.cupti")
        self._spans: list[tuple[int, int]] = []
        self._cupti.activity_register_callbacks(lambda: (BUFFER_BYTES, 0), self._take)
        for kind in KINDS:
            self._cupti.activity_enable(getattr(self._cupti.ActivityKind, kind))
        self._prove()

    def _prove(self) -> None:
        """A driver that accepts all calls and hands over no record would give spans of zero: try one kernel."""
        torch.cuda.synchronize()
        self.clear()
        torch.zeros(1, device="cuda")
        self.stop()
        if not self.span().records:
            raise RuntimeError("CUPTI started, and recorded nothing")

    def clear(self) -> None:
        """Forget what was recorded so far."""
        self._cupti.activity_flush_all(FORCED)
        self._spans.clear()

    def start(self) -> None:
        """Nothing: whatever is recorded from now on belongs to the block."""

    def stop(self) -> None:
        """Wait for the device; the records are collected later, by `span`, off the judge's clock."""
        torch.cuda.synchronize()

    def span(self) -> Span:
        """Collect the records."""
        self._cupti.activity_flush_all(FORCED)
        return Span(self.name, union(self._spans), len(self._spans))

    def _take(self, activities: Iterable[Any]) -> None:
        self._spans += [(int(activity.start), int(activity.end)) for activity in activities]


class EventsClock:
    """Two events around the block; longer than the device's own work by the launches of the first and the last piece.

    The second is recorded when all streams have run empty: work on a side stream is in between.
    """

    name = EVENTS

    def __init__(self, problem: str) -> None:
        """`problem` is why it is not CUPTI."""
        self.problem = problem
        self._events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]

    def clear(self) -> None:
        """Nothing: there is nothing recorded."""

    def start(self) -> None:
        """The first event."""
        self._events[0].record()

    def stop(self) -> None:
        """Wait for all streams, then the second event."""
        torch.cuda.synchronize()
        self._events[1].record()
        self._events[1].synchronize()

    def span(self) -> Span:
        """Between them."""
        return Span(self.name, self._events[0].elapsed_time(self._events[1]) * 1e6, None)


def open_clock() -> Clock:
    """CUPTI's where it works, else that of events with the reason. The device must be initialised."""
    try:
        return CuptiClock()
    except Exception as error:  # a missing package, NotSupportedError of a driver before 13.0, no privilege to trace
        return EventsClock(why(error))


def why(error: BaseException) -> str:
    """An error in a few words."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}"[:200]


def union(spans: Iterable[tuple[int, int]]) -> float:
    """From the earliest start to the latest end, ns; records without times (0, or an end before the start) do not count.

    Gaps are part of it: a candidate that has the device wait for its host waits in fact.
    """
    whole = [(start, end) for start, end in spans if 0 < start <= end]
    return float(max(end for _, end in whole) - min(start for start, _ in whole)) if whole else 0.0


def flush_bytes(l2_bytes: int) -> int:
    """Bytes that are written to leave nothing of before in a second-level cache of `l2_bytes`."""
    return 2 * max(0, l2_bytes)


class Flush:
    """Leaves the device's second-level cache with nothing that a timed call could find.

    It belongs in a process that no candidate shares: the cache is the device's, so that what is written there by any
    process takes the place of what was there.
    """

    def __init__(self) -> None:
        self._bytes = flush_bytes(torch.cuda.get_device_properties(0).L2_cache_size)
        self._memory = torch.empty(self._bytes, dtype=torch.uint8, device="cuda")
        self._value = 0

    def __call__(self) -> dict[str, Any]:
        """Write, wait; how long it took on this process's own clock (seconds), and what could not be reset."""
        start = time.perf_counter()
        problem = reset_persisting_l2()
        self._value = (self._value + 1) % 256  # no compression of memory that is the same as before
        self._memory.fill_(self._value)
        torch.cuda.synchronize()
        return {"took_s": time.perf_counter() - start, "bytes": self._bytes, "problem": problem}


def reset_persisting_l2(driver: str = "libcuda.so.1") -> str:
    """Make lines that are set aside to persist in the cache ordinary ones; returns what went wrong, or nothing."""
    try:
        result = ctypes.CDLL(driver).cuCtxResetPersistingL2Cache()
    except (OSError, AttributeError) as error:
        return why(error)
    return f"cuCtxResetPersistingL2Cache: error {result}" if result else ""
