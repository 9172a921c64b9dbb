"""What a block on a GPU is charged: the worker's span of device time, held against the judge's wall clock.

Knows arithmetic on blocks only, no GPU. The span is a claim from the candidate's own process; the reference's worker
runs the same loop honestly, so what lies between its wall times and its spans is what an honest block costs beyond its
span. A candidate is charged its span, but never less than its wall time without that.
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
SPREAD = 0.9
"""Quantile of the reference's overhead that a candidate's block may have without being charged for it."""
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


def overhead(ours: Sequence["Block"], idle_s: float = 0.0) -> float:
    """What the reference's blocks last beyond their spans, at the quantile `SPREAD`, seconds."""
    gaps = sorted(max(0.0, until_done(block, idle_s) - (block.span_s or 0.0)) for block in ours)
    return gaps[int(SPREAD * (len(gaps) - 1))]  # one that was seen: the longest of few is no part of it


def charge(ours: Sequence["Block"], theirs: Sequence["Block"], idle_s: float = 0.0) -> tuple[Charged, Charged]:
    """The seconds that each block of the reference's and of the candidate's counts for, and by which clock.

    Walls are those of `until_done`. A block counts for max(span, wall - overhead), and never for more than its wall time. So a span that is too short,
    or none, gains nothing beyond the spread of the overhead, and work of the host before the first kernel or after the
    last counts where the reference has none. The clock is `wall` where that decided more than half of the blocks.
    """
    beyond = overhead(ours, idle_s)
    return _charge(ours, beyond, idle_s), _charge(theirs, beyond, idle_s)


def _charge(blocks: Sequence["Block"], beyond: float, idle_s: float) -> Charged:
    seconds, bounded = [], 0
    for block in blocks:
        wall = until_done(block, idle_s)
        span, floor = block.span_s or 0.0, wall - beyond
        tolerated = floor - span <= 0.05 * span + 1e-9
        bounded += not tolerated
        seconds.append(min(wall, max(span, floor)))
    named = worst(block.clock for block in blocks)
    return Charged(seconds, WALL if 2 * bounded > len(blocks) else named)


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
    return statistics.median(max(block.flush_s, block.after_s) for block in blocks) > BUSY * idle_s + BUSY_S
