"""The roofline gate: a time shorter than the device could need for the task's least work is no time of that work.

Knows how work and ceilings make a least time (Williams, Waterman and Patterson, 2009): the larger of the time to move
the bytes and the time to do the operations, since both may overlap. The work is `work`'s, the ceilings are `ceilings`'.
"""

from dataclasses import dataclass
from pathlib import Path

from vegflow.evaluation.ceilings import Ceilings, ceilings
from vegflow.evaluation.work import Work

ALLOWANCE = 0.9
"""Times the least possible time: what clocks, and clock rates above the datasheet's, may be wrong by."""


@dataclass(frozen=True)
class Floor:
    """The least time of one call on a device, and what it comes from."""

    work: Work
    device: Ceilings
    calls: int = 1
    """Calls that are timed together, each on bytes of its own: the nearer memory holds only so much of them all."""

    @property
    def bytes_s(self) -> float:
        """Seconds a call to move the bytes, at the ceilings."""
        return self.device.seconds_for_bytes(self.calls * self.work.bytes) / self.calls

    @property
    def seconds(self) -> float:
        """What a perfect program in float32's accuracy takes; 0 if nothing is known."""
        return max(self.bytes_s, self.device.seconds_for_flops(self.work.flops))

    @property
    def possible_s(self) -> float:
        """What no program can take less than, whatever type it computes in, the ceilings' allowance granted.

        Whether a candidate may compute in a lower precision is the precision check's verdict, and no matter of speed.
        """
        computing = self.device.seconds_for_flops_of_any_type(self.work.flops)
        return max(self.bytes_s, computing) / self.device.allowance

    def __str__(self) -> str:
        computing = self.device.seconds_for_flops_of_any_type(self.work.flops)
        bytes_s = self.bytes_s
        count, unit = (self.work.bytes, "B") if bytes_s >= computing else (self.work.flops, "FLOP")
        rate = count / self.possible_s if self.possible_s else 0.0
        granted = f", times {self.device.allowance:g}" if self.device.allowance > 1 else ""
        return f"{_scaled(count, unit)} at {_scaled(rate, unit)}/s, {self.device.source}{granted}"


def least_seconds(work: Work, device: Ceilings, calls: int = 1) -> float:
    """Seconds a call that a perfect program takes for `work`; 0 if nothing is known about the device."""
    return Floor(work, device, calls).seconds


def headroom(reference_s: float, least_s: float) -> float | None:
    """The largest speedup that the device allows, reference time / least time; None if the least time is unknown.

    Below 1 the reference is faster than the ceilings were found to be.
    """
    return reference_s / least_s if least_s > 0 else None


def implausible(runtime_s: float, least: Floor, *, allowance: float = ALLOWANCE, resolution_s: float = 0.0) -> str:
    """Why no program on this device takes as little as `runtime_s` for the work, with the evidence; "" if one may.

    `resolution_s` is what a call's time can be wrong by, whatever its length: a clock's tick, a share of a message.
    """
    possible = least.possible_s
    if runtime_s + resolution_s >= allowance * possible:
        return ""
    times = f"{possible / runtime_s:.3g} times " if runtime_s > 0 else ""
    return (
        f"{_scaled(runtime_s, 's')} a call is {times}less than the {_scaled(possible, 's')} "
        f"that this device needs at least ({least})"
    )


class Gate:
    """The gate of one device. Measures it on first use, and once more before it says that a claim is impossible."""

    def __init__(self, device: str, cache: Path | None) -> None:
        """`cache` is a directory for the measured ceilings, None to measure once a process."""
        self._device = device
        self._cache = cache

    @property
    def source(self) -> str:
        """Where the ceilings are from, in words."""
        return ceilings(self._device, self._cache).source

    def headroom(self, work: Work, reference_s: float, calls: int = 1) -> float | None:
        """As `headroom`, on this device, for calls timed `calls` together."""
        return headroom(reference_s, least_seconds(work, ceilings(self._device, self._cache), calls))

    def objection(self, work: Work, runtime_s: float, calls: int = 1, resolution_s: float = 0.0) -> str:
        """As `implausible`, on this device. Waits for the device's timing lock; do not call it while holding that."""
        for again in (False, True):
            least = Floor(work, ceilings(self._device, self._cache, again=again), calls)
            reason = implausible(runtime_s, least, resolution_s=resolution_s)
            if not reason:
                return ""
        return reason


def _scaled(value: float, unit: str) -> str:
    """`0.00257, "s"` as `2.57 ms`."""
    for factor, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "µ")):
        if value >= factor:
            return f"{value / factor:.3g} {prefix}{unit}"
    return f"{value / 1e-9:.3g} n{unit}"
