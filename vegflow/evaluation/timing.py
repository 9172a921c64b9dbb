"""How fast a candidate is against the reference, from pairs of blocks: what they say, and when that is enough.

Knows the judge's clock, when a verdict is decided, and what is charged beyond the calls. How blocks are come by is in
`rounds`, the statistics are in `intervals`.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from statistics import NormalDist

from vegflow.config.evaluation import Protocol
from vegflow.evaluation import cuda_times
from vegflow.evaluation.gpu_state import Reading
from vegflow.evaluation.intervals import centre, in_balance, interval
from vegflow.evaluation.verdict import Fault
from vegflow.evaluation.worker import Block

LEVEL = 0.99  # of each look: all looks together then cover about 95 % (tests/evaluation/test_intervals.py)
MISSED_LEVEL = 0.95
"""Of the look that lets a gain go which the protocol may miss (its `resolution`): no candidate is called fast by it."""
LUCK = 0.045
"""Allowance: standard deviation of the log-ratio between two pairs of workers that run the same programs, which differ
by some percent for as long as they live. `python -m benchmarks evaluator_noise` gave 0.013 to 0.045 in runs of several
builds; the largest is taken, since it errs against calling a candidate fast."""
CLEARLY_FAST = 1.2
LEAST_SHARE = 0.05  # of a measured block that must remain after the messages' own time is taken off
LIE = 2.0  # times what its clock says, and
LIE_S = 200e-6  # seconds more
FEWEST_PAIRS = 3
CLOCK_STEP_S = 1e-7
"""No block on a GPU counts for less: its clock's step is some tens of nanoseconds."""
PAPER_PAIRS = 5


@dataclass(frozen=True)
class Group:
    """The times of one worker of the candidate's beside one of the reference's."""

    reference_us: list[float]
    """Of one call, microseconds, pair by pair."""
    runtime_us: list[float]
    calls: int = 1
    """In each of the blocks that were timed."""
    clock: str = cuda_times.CPU
    """By which the times count, one of `cuda_times.CLOCKS`."""
    readings: tuple[Reading, ...] = ()
    """Of a GPU's clocks, before and after."""
    reference_first: list[bool] = field(default_factory=list)
    """Of each pair, whether the reference came before the candidate; empty if that is not known."""

    @cached_property
    def log_ratios(self) -> list[float]:
        """log(reference / candidate), pair by pair, without what coming second costs or saves (`in_balance`)."""
        ratios = [math.log(r / c) for r, c in zip(self.reference_us, self.runtime_us, strict=True)]
        return in_balance(ratios, self.reference_first) if self.reference_first else ratios


@dataclass(frozen=True)
class Timing:
    """What all groups say together."""

    groups: list[Group]
    speedup: float
    low: float
    high: float
    low_here: float
    high_here: float
    """As `low` and `high`, at `MISSED_LEVEL` and if no worker had luck of its own, and each from its own side of the
    centre: pairs that are too low do not raise `high_here`."""

    @property
    def half_width(self) -> float:
        """Of the interval of the log-ratio."""
        return math.log(self.high / self.low) / 2

    @property
    def standard_error(self) -> float:
        """Of the log-ratio, from how the groups' centres scatter; infinite for a single one."""
        if len(self.groups) < 2:
            return math.inf
        return statistics.stdev(centre(group.log_ratios) for group in self.groups) / math.sqrt(len(self.groups))

    @property
    def reference_us(self) -> list[float]:
        """Of one call, microseconds, over all pairs."""
        return [us for group in self.groups for us in group.reference_us]

    @property
    def runtime_us(self) -> list[float]:
        """As `reference_us`, of the candidate."""
        return [us for group in self.groups for us in group.runtime_us]

    @property
    def reference_first(self) -> list[bool]:
        """Of each pair, whether the reference came before the candidate."""
        return [first for group in self.groups for first in group.reference_first]

    @property
    def clock(self) -> str:
        """By which its times count: the least direct one of its groups'."""
        return cuda_times.worst(group.clock for group in self.groups)

    @property
    def readings(self) -> list[Reading]:
        """Of a GPU's clocks, in order."""
        return [reading for group in self.groups for reading in group.readings]

    @property
    def paper_speedup(self) -> float:
        """What the paper would have said: the ratio of the medians of the first five times."""
        ours, theirs = self.reference_us[:PAPER_PAIRS], self.runtime_us[:PAPER_PAIRS]
        return statistics.median(ours) / statistics.median(theirs)


def decided(group: Group, earlier: Sequence[Group], protocol: Protocol, delta: float) -> bool:
    """Whether a group's pairs are enough for what the protocol asks, given the groups before it.

    What would take a group more to be let go, as `enough` says, takes more pairs of this one first: they cost less.
    """
    low, high = interval(group.log_ratios, LEVEL)
    if math.exp(low) > 1 + delta:
        return True
    if protocol.resolution:
        return _let_go(combine([*earlier, group]), protocol, delta)
    return math.exp(high) < 1 + delta


def combine(groups: Sequence[Group]) -> Timing:
    """The mean of the groups' centres, and an interval that allows for the luck of each group's workers.

    A group's own interval says how well its two processes are known, not how they differ from two others: the variance
    of that, `LUCK` squared, comes on top of the variance within.
    """
    centres, sides = [], []
    for group in groups:
        ratios = group.log_ratios
        centres.append(centre(ratios))
        low, high = interval(ratios, LEVEL)
        sides.append((centres[-1] - low, (high - low) / 2, high - centres[-1]))
    deviations = NormalDist().inv_cdf((1 + LEVEL) / 2)
    below, both, above = (
        statistics.fmean((side / deviations) ** 2 for side in some) for some in zip(*sides, strict=True)
    )
    middle = statistics.fmean(centres)
    half = deviations * math.sqrt((both + LUCK**2) / len(groups))
    missed = NormalDist().inv_cdf((1 + MISSED_LEVEL) / 2)
    return Timing(
        list(groups),
        speedup=math.exp(middle),
        low=math.exp(middle - half),
        high=math.exp(middle + half),
        low_here=math.exp(middle - missed * math.sqrt(below / len(groups))),
        high_here=math.exp(middle + missed * math.sqrt(above / len(groups))),
    )


def enough(timing: Timing, protocol: Protocol, delta: float) -> bool:
    """Whether another group of workers would not change what the protocol asks."""
    if len(timing.groups) < protocol.least_groups:
        return False
    if len(timing.groups) >= protocol.most_groups:
        return True
    if protocol.precision is not None:
        return timing.standard_error <= protocol.precision
    if timing.low > 1 + delta:  # luck has a long tail: what is called fast on one pair of workers must be very fast
        return len(timing.groups) > 1 or timing.low > CLEARLY_FAST
    return _let_go(timing, protocol, delta)


def _let_go(timing: Timing, protocol: Protocol, delta: float) -> bool:
    """Whether what it may gain is not worth more timing.

    Nor may it lose more than that, unless it is slower for sure: of two that are alike the unlucky ones would end first,
    and all together come out too slow, by some percent.
    """
    most = 1 + delta + protocol.resolution
    return timing.high_here < most and (timing.low_here > 1 / most or timing.high_here < 1)


def group_of(
    ours: Sequence[Block],
    theirs: Sequence[Block],
    calls: int,
    overhead_s: float,
    idle_flush_s: float = 0.0,
    host_code: bool = True,
    reference_first: Sequence[bool] = (),
) -> Group:
    """Blocks, pair by pair -> times of a call; Faults as `ticking`, `refuse_lies`. On a GPU as `cuda_times` says.

    What an empty block costs at least is taken off both. A candidate that made its own messages cheaper could gain what
    is left of them, a few percent of a block, which the allowance for `LUCK` covers.
    """
    first = [f for f, *pair in zip(reference_first, ours, theirs, strict=bool(reference_first)) if _ticks(*pair)]
    ours, theirs = ticking(ours, theirs)
    # on a busy machine messages take longer than they did at best: as long as the reference's, whose clock is honest
    refuse_lies(theirs, max(overhead_s, statistics.median(block.call_s - block.own_s for block in ours)))
    if ours[0].span_s is not None:
        waited_s = cuda_times.aside(ours, theirs, LEVEL) if host_code else 0.0
        charged = cuda_times.charge(ours, theirs, LEVEL, idle_flush_s)
        if charged is not None:
            clock = cuda_times.worst(side.clock for side in charged)
            in_us = [[1e6 * max(s, CLOCK_STEP_S) / calls for s in side.seconds] for side in charged]
            return Group(
                in_us[0], [us + 1e6 * waited_s / calls for us in in_us[1]], calls, clock, reference_first=first
            )
        clock = cuda_times.WALL
        ours, theirs = ([replace(b, call_s=cuda_times.until_done(b, idle_flush_s)) for b in s] for s in (ours, theirs))
    else:
        clock, waited_s = cuda_times.CPU, idle(ours, theirs)

    def microseconds(block: Block) -> float:
        return 1e6 * max(block.call_s - overhead_s, LEAST_SHARE * block.call_s) / calls

    times = list(map(microseconds, ours)), [microseconds(b) + 1e6 * waited_s / calls for b in theirs]
    return Group(*times, calls, clock, reference_first=first)


def ticking(ours: Sequence[Block], theirs: Sequence[Block]) -> tuple[list[Block], list[Block]]:
    """The pairs during which the clock went on; Fault `evaluator_error` if they are too few for an interval.

    On a busy machine the kernel's account of a process can have not moved at all (seen once, in a test under
    load). No ratio can be made of such a pair, and it is nobody's merit.
    """
    whole = [pair for pair in zip(ours, theirs, strict=True) if _ticks(*pair)]
    if len(whole) < max(FEWEST_PAIRS, len(ours) // 2):
        raise Fault("evaluator_error", f"the clock stood still in {len(ours) - len(whole)} of {len(ours)} pairs")
    return [pair[0] for pair in whole], [pair[1] for pair in whole]


def _ticks(our: Block, their: Block) -> bool:
    return our.call_s > 0 and their.call_s > 0


def idle(ours: Sequence[Block], theirs: Sequence[Block]) -> float:
    """Wall time that a candidate spends without computing is charged too, seconds a block.

    A busy machine makes some blocks of either wait; only a candidate that waits by itself does so in each of its own
    longer than the reference in any.
    """
    waits = [[block.wall_s - block.call_s for block in blocks] for blocks in (ours, theirs)]
    return max(0.0, min(waits[1]) - max(waits[0]))


def refuse_lies(blocks: Sequence[Block], overhead_s: float) -> None:
    """A worker whose clock always shows far less than the judge's clock has tampered with it."""
    gaps = [(block.call_s - overhead_s, block.own_s) for block in blocks]
    if all(seen > LIE * own and seen - own > LIE_S for seen, own in gaps):
        seen, own = gaps[0]
        raise Fault("rejected_hack", f"its clock says {own * 1e6:.0f} µs, the judge's {seen * 1e6:.0f} µs")
