"""How fast a candidate is against the reference: pairs of blocks in random order, one timing at a time per device.

Knows the judge's clock and statistics of log-ratios; every time it accepts was measured outside the candidate's process,
which runs only while that clock runs.
"""

import contextlib
import fcntl
import math
import os
import random
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vegflow.evaluation.reference import Item, Reference, fill
from vegflow.evaluation.verdict import Fault
from vegflow.evaluation.worker import Block, Worker

CALIBRATIONS = 5
LEAST_SHARE = 0.05  # of a measured block that must remain after the messages' own time is taken off
SLOWER = 1.1  # times the reference's slowest writing
LIE = 2.0  # times what its clock says, and
LIE_S = 200e-6  # seconds more
FEWEST_PAIRS = 3


@dataclass(frozen=True)
class Timing:
    """The times of a candidate and the reference beside it."""

    reference_us: float
    runtime_us: float
    speedup: float
    low: float
    high: float


@contextlib.contextmanager
def timing_lock(device: str) -> Iterator[None]:
    """Hold the machine's lock on timings on `device`; every vegflow process of this user waits for it."""
    path = Path(tempfile.gettempdir()) / f"vegflow-{os.getuid()}-timing-{device}.lock"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


@contextlib.contextmanager
def own_core(workers: Sequence[Worker]) -> Iterator[None]:
    """Pin the workers to one core (equal, and no gain from threads) and keep the judge off it."""
    mine = os.sched_getaffinity(0)
    core = max(mine)
    for worker in workers:
        worker.pin({core})
    try:
        if len(mine) > 1:
            os.sched_setaffinity(0, mine - {core})
        yield
    finally:
        os.sched_setaffinity(0, mine)
        workers[0].pin(mine)


def measure(
    reference: Reference,
    candidate: Worker,
    pairs: Sequence[list[Item]],
    device: str,
    check: Callable[[Block, list[Item]], None],
) -> Timing:
    """Time both on each of `pairs` (inputs neither the candidate nor its caches have met), and `check` every block.

    The first pair warms up (memory for so many outputs is not there yet) and does not count. Both workers must be stopped. Raises whatever `check` raises, and the Faults of a candidate that dies or lies.
    """
    ours: list[Block] = []
    theirs: list[Block] = []
    with timing_lock(device), own_core([reference.worker, candidate]):
        empty = [reference.run([]) for _ in range(CALIBRATIONS)]
        for items in pairs:
            reference_first = random.random() < 0.5
            if reference_first:
                ours.append(reference.run(items))
            fill(candidate, items)
            theirs.append(candidate.run(len(items)))
            check(theirs[-1], items)
            if not reference_first:
                ours.append(reference.run(items))
    ours, theirs, pairs = ticking(ours[1:], theirs[1:], pairs[1:])
    overhead_s = statistics.median(block.call_s for block in empty)
    refuse_lies(theirs, overhead_s)
    late_s = charge(ours, theirs)
    counts = [len(items) for items in pairs]
    return summarise(_per_call(ours, counts, overhead_s), _per_call(theirs, counts, overhead_s - late_s))


def ticking(
    ours: Sequence[Block], theirs: Sequence[Block], pairs: Sequence[list[Item]]
) -> tuple[list[Block], list[Block], list[list[Item]]]:
    """The pairs during which the clock went on; Fault `evaluator_error` if they are too few for an interval.

    On a busy machine the kernel's account of a process can have not moved at all (seen once, in a test under
    load). No ratio can be made of such a pair, and it is nobody's merit.
    """
    whole = [
        triple for triple in zip(ours, theirs, pairs, strict=True) if triple[0].call_s > 0 and triple[1].call_s > 0
    ]
    if len(whole) < max(FEWEST_PAIRS, len(pairs) // 2):
        raise Fault("evaluator_error", f"the clock stood still in {len(pairs) - len(whole)} of {len(pairs)} pairs")
    return [t[0] for t in whole], [t[1] for t in whole], [t[2] for t in whole]


def _per_call(blocks: Sequence[Block], counts: Sequence[int], overhead_s: float) -> list[float]:
    return [max(b.call_s - overhead_s, LEAST_SHARE * b.call_s) / n for b, n in zip(blocks, counts, strict=True)]


def charge(ours: Sequence[Block], theirs: Sequence[Block]) -> float:
    """What a candidate's blocks (`theirs`) cost beyond their calls' own time, seconds a block."""
    return _put_off(ours, theirs) + _idle(ours, theirs)


def _put_off(ours: Sequence[Block], theirs: Sequence[Block]) -> float:
    """Work left for the writing of the outputs (a lazy tensor, a thread) is charged to the calls, seconds a block.

    Nothing is charged to a candidate that writes hardly slower than the reference does at its slowest: that is noise.
    """
    reference, candidate = ([block.write_s for block in blocks] for blocks in (ours, theirs))
    late = statistics.median(candidate)
    return late - statistics.median(reference) if late > SLOWER * max(reference) else 0.0


def _idle(ours: Sequence[Block], theirs: Sequence[Block]) -> float:
    """Wall time spent without computing is charged too, seconds a block.

    A busy machine makes some blocks of either wait; only a candidate that waits by itself does so in each of its own
    longer than the reference in any.
    """
    waits = [[block.wall_s - block.call_s for block in blocks] for blocks in (ours, theirs)]
    return max(0.0, min(waits[1]) - max(waits[0]))


def summarise(reference_s: Sequence[float], candidate_s: Sequence[float]) -> Timing:
    """Seconds per call, pair by pair -> medians, the median ratio and its interval."""
    ratios = [math.log(r / c) for r, c in zip(reference_s, candidate_s, strict=True)]
    low, high = median_interval(ratios)
    return Timing(
        reference_us=statistics.median(reference_s) * 1e6,
        runtime_us=statistics.median(candidate_s) * 1e6,
        speedup=math.exp(statistics.median(ratios)),
        low=math.exp(low),
        high=math.exp(high),
    )


def median_interval(values: Sequence[float], level: float = 0.95) -> tuple[float, float]:
    """Distribution-free interval of the median: two order statistics, of coverage >= `level` where there are enough.

    With fewer than six values no two reach 95 %: the interval is then their whole range (coverage 1 - 2^(1-n): 93.75 %
    for five).
    """
    ordered, n = sorted(values), len(values)
    rank, tail = 0, 0.5**n
    while tail + math.comb(n, rank + 1) * 0.5**n <= (1 - level) / 2 and rank + 1 < n // 2:
        rank += 1
        tail += math.comb(n, rank) * 0.5**n
    return ordered[rank], ordered[n - 1 - rank]


def refuse_lies(blocks: Sequence[Block], overhead_s: float) -> None:
    """A worker whose clock always shows far less than the judge's clock has tampered with it."""
    gaps = [(block.call_s - overhead_s, block.own_s) for block in blocks]
    if all(seen > LIE * own and seen - own > LIE_S for seen, own in gaps):
        seen, own = gaps[0]
        raise Fault("rejected_hack", f"its clock says {own * 1e6:.0f} µs, the judge's {seen * 1e6:.0f} µs")
