"""How fast a candidate is against the reference: pairs of blocks in random order, one timing at a time per device.

Knows the judge's clock, when a verdict is decided, and what is charged beyond the calls; every time it accepts was
measured outside the candidate's process, which runs only while that clock runs. The statistics are in `intervals`.
"""

import contextlib
import math
import os
import random
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import NoReturn

import torch

from vegflow.config.evaluation import Protocol
from vegflow.evaluation import cuda_times
from vegflow.evaluation.arena import POISON, Description, same_bytes
from vegflow.evaluation.device import lock_name
from vegflow.evaluation.gpu_state import GpuState, Reading
from vegflow.evaluation.intervals import centre, interval
from vegflow.evaluation.memory import Places
from vegflow.evaluation.reference import Inputs, Reference
from vegflow.evaluation.timing_lock import timing_lock
from vegflow.evaluation.verdict import Fault
from vegflow.evaluation.worker import Block, Worker

LEVEL = 0.99  # of each look: all looks together then cover about 95 % (tests/evaluation/test_intervals.py)
MISSED_LEVEL = 0.95
"""Of the look that lets a gain go which the protocol may miss (its `resolution`): no candidate is called fast by it."""
LUCK = 0.045
"""Allowance: standard deviation of the log-ratio between two pairs of workers that run the same programs, which differ
by some percent for as long as they live. `python -m benchmarks evaluator_noise` gave 0.013 to 0.045 in runs of several
builds; the largest is taken, since it errs against calling a candidate fast."""
CLEARLY_FAST = 1.2
LOOKS = 1.4  # times the pairs of the look before
LEAST_SHARE = 0.05  # of a measured block that must remain after the messages' own time is taken off
CHECKED = 0.25  # of the timed calls, at least one a block
LIE = 2.0  # times what its clock says, and
LIE_S = 200e-6  # seconds more
APART = 0.25
"""Log-ratio of a first pair from which on each side wakes up before its block. Being cold after the other's costs both some
0.3 ms: of two that are alike as much, and of a much shorter one a larger part."""
FEWEST_PAIRS = 3
FLUSHES = 9
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

    @property
    def log_ratios(self) -> list[float]:
        """log(reference / candidate), pair by pair."""
        return [math.log(r / c) for r, c in zip(self.reference_us, self.runtime_us, strict=True)]


@dataclass(frozen=True)
class Timing:
    """What all groups say together."""

    groups: list[Group]
    speedup: float
    low: float
    high: float
    high_here: float
    """As `high`, at `MISSED_LEVEL` and if no worker had luck of its own."""

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


Check = Callable[[list[torch.Tensor], list[torch.Tensor]], None]
"""Takes the reference's and the candidate's outputs for the same inputs; raises Fault if they differ."""


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
    calls: int,
    block_s: float,
    protocol: Protocol,
    delta: float,
    device: str,
    check: Check,
    state: GpuState | None = None,
) -> Group:
    """Time both, a block of some `block_s` each, until the protocol is satisfied; a part of the outputs is checked.

    `calls` is a guess of how many fill a block; a first pair, which does not count, tells, and whether the two are so far
    `APART` that being on the core after the other costs one of them more. Every timed call gets inputs of its own, that
    neither process has met. Pairs come in twos, one with the reference first and one with the candidate. Of a GPU `state`
    gives the clocks before and after. Both workers must be stopped. Raises what `check` raises, and the Faults of a
    candidate that dies or lies.
    """
    ours: list[Block] = []
    theirs: list[Block] = []
    reference.settle(candidate, calls)
    with timing_lock(lock_name(device)), own_core([reference.worker, candidate]):
        before = state.read() if state else None
        # memory for so many outputs is not there yet
        first_pair = _pair(reference, candidate, calls, random.random() < 0.5, check, reference.hands is not None)
        calls = _filling(first_pair, calls, block_s, reference)
        awake = reference.hands is not None or _apart(*first_pair)
        look = protocol.least_pairs
        while True:
            while len(ours) < look:
                first = random.random() < 0.5
                for reference_first in (first, not first)[: look - len(ours)]:
                    our, their = _pair(reference, candidate, calls, reference_first, check, awake)
                    ours.append(our)
                    theirs.append(their)
            group = _group(ours, theirs, calls, reference.overhead_s, reference.idle.wall_s, candidate.host_code)
            low, _ = interval(group.log_ratios, LEVEL)
            _, high = interval(group.log_ratios, MISSED_LEVEL if protocol.resolution else LEVEL)
            decided = math.exp(low) > 1 + delta or math.exp(high) < 1 + delta + protocol.resolution
            if decided or look >= protocol.most_pairs:
                if reference.hands and any(cuda_times.busy(side, reference.idle.took_s) for side in (ours, theirs)):
                    _blame(reference, candidate)
                return replace(group, readings=(before, state.read())) if state and before else group
            look = min(protocol.most_pairs, max(look + 2, 2 * round(look * LOOKS / 2)))


def combine(groups: Sequence[Group]) -> Timing:
    """The mean of the groups' centres, and an interval that allows for the luck of each group's workers.

    A group's own interval says how well its two processes are known, not how they differ from two others: the variance
    of that, `LUCK` squared, comes on top of the variance within.
    """
    centres, variances = [], []
    deviations = NormalDist().inv_cdf((1 + LEVEL) / 2)
    for group in groups:
        ratios = group.log_ratios
        low, high = interval(ratios, LEVEL)
        centres.append(centre(ratios))
        variances.append(((high - low) / 2 / deviations) ** 2)
    middle = statistics.fmean(centres)
    half = deviations * math.sqrt(statistics.fmean(variances) + LUCK**2) / math.sqrt(len(groups))
    missed = NormalDist().inv_cdf((1 + MISSED_LEVEL) / 2)
    here = middle + missed * math.sqrt(statistics.fmean(variances) / len(groups))
    return Timing(
        list(groups),
        speedup=math.exp(middle),
        low=math.exp(middle - half),
        high=math.exp(middle + half),
        high_here=math.exp(here),
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
    return timing.high_here < 1 + delta + protocol.resolution  # what it may gain is not worth more groups


def _filling(pair: tuple[Block, Block], calls: int, block_s: float, reference: Reference) -> int:
    """How many calls of the faster side last about `block_s`, given a pair of blocks of `calls`."""
    took_s = min(max(block.call_s - reference.overhead_s, LEAST_SHARE * block.call_s) for block in pair) / calls
    most = reference.stage.shape.slots
    return max(1, min(most, round(block_s / took_s))) if took_s > 0 else calls


def _apart(our: Block, their: Block) -> bool:
    """Whether one of two blocks is much shorter than the other."""
    return min(our.call_s, their.call_s) <= 0 or abs(math.log(our.call_s / their.call_s)) > APART


def _pair(
    reference: Reference, candidate: Worker, calls: int, reference_first: bool, check: Check, awake: bool = False
) -> tuple[Block, Block]:
    """One block of each on the same new inputs in the same slots; (the reference's, the candidate's).

    They are written once for both. Where each is woken up before its block (`awake`), which its clock does not count,
    they are there only afterwards, and are written for each.

    Of large outputs pieces are looked at. Where a candidate writes into memory of ours, pieces of that are NaN before it
    does, and half of them are looked at, so that nothing may be left as an earlier call has left it; so are as many
    others, so that NaN does not tell what will be looked at.
    """
    form, slots = reference.output_form, random.sample(range(reference.stage.shape.slots), calls)
    parts = {slot: reference.fresh_inputs() for slot in slots}
    checked = [slot for slot in slots if random.random() < CHECKED] or slots[:1]  # the slots are in random order
    marks = {slot: [_places(output) for output in form] for slot in slots}
    places = {slot: [mark and mark.half_others() for mark in marks[slot]] for slot in checked}
    forms = {slot: (inputs.form, form) for slot, inputs in parts.items()}
    for side in (reference, candidate):  # none is awake, with its clock at rest, from when the inputs are there
        side.prepare(forms)
    if not awake:
        _write(reference, parts)
    # now, whoever is first: it takes time
    looks = [] if awake else [_Look(reference.stage.inputs(slot)) for slot in slots]
    blocks: dict[bool, Block] = {}
    outputs: dict[bool, list[list[torch.Tensor]]] = {}
    for ours in (True, False) if reference_first else (False, True):
        worker: Reference | Worker = reference if ours else candidate
        if awake:
            if blocks and not ours:
                for slot in slots:
                    reference.stage.inputs(slot).fill_(POISON)
            worker.run([], cold=False)
            _write(reference, parts)
            looks = [_Look(reference.stage.inputs(slot)) for slot in slots]
        if ours:
            blocks[ours] = _rival(reference, parts, second=bool(blocks) and not awake)
        else:
            if reference.writes_outputs:
                for slot in slots:
                    # on a GPU the stage has held the reference's own answers to these very inputs
                    reference.poison(slot, None if reference.hands else marks[slot])
            blocks[ours] = worker.run(slots, cold=True)
        if awake:
            _refuse_changes(looks)
        outputs[ours] = [_read(worker, blocks[ours], slot, form, places[slot]) for slot in checked]
    _refuse_changes(looks)
    for expected, actual in zip(outputs[True], outputs[False], strict=True):
        check(expected, actual)
    return blocks[True], blocks[False]


def _write(reference: Reference, parts: Mapping[int, Inputs]) -> None:
    for slot, inputs in parts.items():
        inputs.write(reference.stage.inputs(slot))


def _refuse_changes(looks: Sequence["_Look"]) -> None:
    if not all(look.same() for look in looks):
        raise Fault("rejected_hack", "it changes its inputs while it is timed")


def _rival(reference: Reference, parts: Mapping[int, Inputs], second: bool) -> Block:
    """The reference's block. As the `second` it has the inputs that the candidate left, who may have changed a few."""
    try:
        return reference.run(list(parts), cold=True)
    except Fault:
        if not second:
            raise
        _write(reference, parts)
        reference.run(list(parts))  # if this fails too, it is no fault of the candidate's
        raise Fault("rejected_hack", "the reference fails on the inputs that it leaves") from None


class _Look:
    """Random pieces of a slot's inputs as they are before a block, to see whether they are so after it."""

    def __init__(self, memory: torch.Tensor) -> None:
        self._memory = memory
        self._places = Places.of(memory.numel(), 1)
        self._before = self._take()

    def _take(self) -> torch.Tensor:
        return self._places.take(self._memory) if self._places else self._memory.clone()

    def same(self) -> bool:
        """Whether they still are."""
        return same_bytes(self._before, self._take() if self._places else self._memory)


def _places(form: Description) -> Places | None:
    """Random pieces of an output; None, all, of a small one."""
    return Places.of(math.prod(form["shape"]), getattr(torch, form["dtype"]).itemsize)


def _read(
    worker: Reference | Worker, block: Block, slot: int, form: list[Description], places: list[Places | None]
) -> list[torch.Tensor]:
    try:
        return worker.read(block, slot, form, places)
    except Fault as fault:
        if fault.status != "wrong_output":
            raise
        raise Fault("rejected_hack", f"right while checked, wrong while timed: {fault.reason}") from None


def _blame(reference: Reference, candidate: Worker) -> NoReturn:
    """The GPU was at work while the workers were stopped: whose doing it is shows when the candidate is gone.

    On a busy machine a flush takes longer for everybody: so the two are compared here and now.
    """
    assert reference.hands is not None
    flush = reference.hands.flush
    with_it = statistics.median(flush().took_s for _ in range(FLUSHES))
    candidate.end()
    without = statistics.median(flush().took_s for _ in range(FLUSHES))
    if cuda_times.is_busy(with_it, without):
        raise Fault("rejected_hack", "it leaves work on the GPU that goes on while it is stopped")
    raise Fault("evaluator_error", "the GPU is at work for others; it must be this evaluation's alone while it times")


def _group(
    ours: Sequence[Block],
    theirs: Sequence[Block],
    calls: int,
    overhead_s: float,
    idle_flush_s: float = 0.0,
    host_code: bool = True,
) -> Group:
    """Blocks, pair by pair -> times of a call; Faults as `ticking`, `refuse_lies`. On a GPU as `cuda_times` says.

    What an empty block costs at least is taken off both. A candidate that made its own messages cheaper could gain what
    is left of them, a few percent of a block, which the allowance for `LUCK` covers.
    """
    ours, theirs = ticking(ours, theirs)
    # on a busy machine messages take longer than they did at best: as long as the reference's, whose clock is honest
    refuse_lies(theirs, max(overhead_s, statistics.median(block.call_s - block.own_s for block in ours)))
    if ours[0].span_s is not None:
        waited_s = cuda_times.aside(ours, theirs, LEVEL) if host_code else 0.0
        charged = cuda_times.charge(ours, theirs, LEVEL, idle_flush_s)
        if charged is not None:
            clock = cuda_times.worst(side.clock for side in charged)
            in_us = [[1e6 * max(s, CLOCK_STEP_S) / calls for s in side.seconds] for side in charged]
            return Group(in_us[0], [us + 1e6 * waited_s / calls for us in in_us[1]], calls, clock)
        clock = cuda_times.WALL
        ours, theirs = ([replace(b, call_s=cuda_times.until_done(b, idle_flush_s)) for b in s] for s in (ours, theirs))
    else:
        clock, waited_s = cuda_times.CPU, idle(ours, theirs)

    def microseconds(block: Block) -> float:
        return 1e6 * max(block.call_s - overhead_s, LEAST_SHARE * block.call_s) / calls

    times = list(map(microseconds, ours)), [microseconds(b) + 1e6 * waited_s / calls for b in theirs]
    return Group(*times, calls, clock)


def ticking(ours: Sequence[Block], theirs: Sequence[Block]) -> tuple[list[Block], list[Block]]:
    """The pairs during which the clock went on; Fault `evaluator_error` if they are too few for an interval.

    On a busy machine the kernel's account of a process can have not moved at all (seen once, in a test under
    load). No ratio can be made of such a pair, and it is nobody's merit.
    """
    whole = [pair for pair in zip(ours, theirs, strict=True) if pair[0].call_s > 0 and pair[1].call_s > 0]
    if len(whole) < max(FEWEST_PAIRS, len(ours) // 2):
        raise Fault("evaluator_error", f"the clock stood still in {len(ours) - len(whole)} of {len(ours)} pairs")
    return [pair[0] for pair in whole], [pair[1] for pair in whole]


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
