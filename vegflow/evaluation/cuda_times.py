"""What a block on a GPU is charged: the worker's span of device time, held against the judge's wall clock.

Knows arithmetic on blocks only, no GPU. The span is a claim from the candidate's own process; the reference's worker
runs the same loop honestly, so what lies between its wall times and its spans is what an honest block costs beyond its
span. What a candidate's blocks cost beyond theirs is charged, and where that is not known well the wall time counts.
"""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from vegflow.evaluation.intervals import centre, interval

if TYPE_CHECKING:
    from vegflow.evaluation.worker import Block

CPU, CUPTI, EVENTS, WALL = "cpu", "cupti", "events", "wall"
CLOCKS = (CPU, CUPTI, EVENTS, WALL)
"""In this order: of several in one verdict the last one is named."""
TRUST = 0.05
"""Share of a candidate's time that may be hidden in the noise of the judge's clock; where more may, the wall counts."""
BUSY = 4.0
"""Times what flushing the cache took on an idle device, and"""
BUSY_S = 1e-3
"""seconds more: the device is at work for somebody. A time slice of another process is about 2 ms."""


@dataclass(frozen=True)
class Charged:
    """One side's blocks as they count."""

    seconds: list[float]
    clock: str


def until_done(block: "Block", idle_s: float) -> float:
    """A block's wall time until the device was done, seconds.

    A worker can say that the device is done before it is; a flush, by a process of ours, then has to wait. `idle_s` is
    what a flush takes on an idle device.
    """
    return block.wall_s + max(0.0, block.after_s - idle_s)


def charge(
    ours: Sequence["Block"], theirs: Sequence["Block"], level: float, idle_s: float = 0.0
) -> tuple[Charged, Charged] | None:
    """The seconds that each block of the reference's and of the candidate's counts for, and by which clock.

    Each counts for its span. What the candidate's last beyond theirs (by `until_done`), more than the reference's do,
    pair by pair, is added to each of them if it is there at this level of confidence: the span was too short, or the host
    worked before the first kernel or after the last. Then the clock is `wall`. None if more than `TRUST` of the time
    could be missing without showing: then spans are not to be used at all.
    """
    more = [_beyond(their, idle_s) - _beyond(our, idle_s) for our, their in zip(ours, theirs, strict=True)]
    low, high = interval(more, level)
    added = max(0.0, centre(more)) if low > 0 else 0.0
    seconds = [min(until_done(block, idle_s), (block.span_s or 0.0) + added) for block in theirs]
    if high - added > TRUST * statistics.median(seconds):
        return None
    names = [worst(block.clock for block in side) for side in (ours, theirs)]
    theirs_charged = Charged(seconds, WALL if added > TRUST * statistics.median(seconds) else names[1])
    return Charged([block.span_s or 0.0 for block in ours], names[0]), theirs_charged


def _beyond(block: "Block", idle_s: float) -> float:
    return until_done(block, idle_s) - (block.span_s or 0.0)


def claimed(name: object) -> str:
    """The clock that a worker on a GPU says it used; `wall` if that is none."""
    return name if isinstance(name, str) and name in (CUPTI, EVENTS) else WALL


def worst(clocks: Iterable[str]) -> str:
    """Of several clocks the last in `CLOCKS`. Raises ValueError if there is none."""
    return max(clocks, key=CLOCKS.index)


def aside(ours: Sequence["Block"], theirs: Sequence["Block"], level: float) -> float:
    """Wall time a candidate takes with its inputs before and after its calls, beyond what the reference takes, seconds.

    Copies up and down are the loop's and the same for both. Code of a candidate's that runs in the worker could do its
    work there: what is longer, pair by pair, at this level of confidence, is charged to each of its blocks.
    """
    differences = [their.aside_s - our.aside_s for our, their in zip(ours, theirs, strict=True)]
    low, _ = interval(differences, level)
    return max(0.0, centre(differences)) if low > 0 else 0.0


def busy(blocks: Iterable["Block"], idle_s: float) -> bool:
    """Whether the device was at work for somebody while both workers were stopped: flushing its cache took longer.

    `idle_s` is what that takes when nobody is.
    """
    return is_busy(statistics.median(block.flush_s for block in blocks), idle_s)


def is_busy(flush_s: float, idle_s: float) -> bool:
    """Whether a flush took so much longer than another that the device must have been at work for somebody."""
    return flush_s > BUSY * idle_s + BUSY_S
