"""Rounds: the reference and a crew of candidates take turns on the same new inputs, one timing at a time per device.

Knows who runs when, on which inputs, and what is looked at afterwards; what the blocks say is for `timing`. Every time it
takes was measured outside the candidate's process, which runs only while that clock runs.
"""

import contextlib
import math
import os
import random
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NoReturn

import torch

from vegflow.config.evaluation import Protocol
from vegflow.evaluation import cuda_times
from vegflow.evaluation.arena import POISON, Description, same_bytes
from vegflow.evaluation.device import lock_name
from vegflow.evaluation.gpu_state import GpuState
from vegflow.evaluation.memory import Places
from vegflow.evaluation.reference import Inputs, Reference
from vegflow.evaluation.timing import LEAST_SHARE, Group, decided, group_of
from vegflow.evaluation.timing_lock import timing_lock
from vegflow.evaluation.verdict import Fault
from vegflow.evaluation.worker import Block, Worker

CHECKED = 0.25  # of the timed calls, at least one a block
APART = 0.25
"""Log-ratio of a first round from which on each side wakes up before its block. Being cold after the other's costs both some
0.3 ms: of two that are alike as much, and of a much shorter one a larger part."""
LOOKS = 1.4  # times the rounds of the look before
FLUSHES = 9

Check = Callable[[list[torch.Tensor], list[torch.Tensor]], None]
"""Takes the reference's and the candidate's outputs for the same inputs; raises Fault if they differ."""


@dataclass(eq=False)
class Entrant:
    """A candidate's stopped worker while it is timed."""

    worker: Worker
    check: Check
    seat: int | None = None
    """Of the outputs on the stage, if it writes them there."""
    earlier: Sequence[Group] = ()
    """Times of workers it had before."""
    group: Group | None = None
    """Its times, once it is decided what the protocol asks."""
    fault: Fault | None = None
    """What went wrong instead."""
    ours: list[Block] = field(default_factory=list)
    """The reference's blocks of its rounds, and"""
    theirs: list[Block] = field(default_factory=list)
    """its own."""
    reference_first: list[bool] = field(default_factory=list)
    """Whether the reference's came before it."""

    @property
    def open(self) -> bool:
        """Whether it is still to be timed."""
        return self.group is None and self.fault is None


@dataclass(frozen=True)
class _Rules:
    """What a timing goes by."""

    block_s: float
    protocol: Protocol
    delta: float


def measure(
    reference: Reference,
    crew: Sequence[Entrant],
    calls: int,
    block_s: float,
    protocol: Protocol,
    delta: float,
    device: str,
    state: GpuState | None = None,
) -> None:
    """Time a crew beside the reference, blocks of some `block_s`, until the protocol is satisfied for each.

    In a round everybody has one block, in random order, on inputs that no process has met; the next round is in the
    opposite order. A part of the outputs is checked. `calls` is a guess of how many fill a block, two at least: a first
    round, which does not count, tells, and shows whose calls write over the outputs of the one before. Who is so far `APART`
    from the reference that being on the core after others costs one of the two more is timed without the others. Who is
    decided leaves the crew. Of a GPU `state` gives the clocks before and after. All workers must be stopped. Each entrant has
    a group or a fault afterwards; raises only the reference's Faults.
    """
    rules = _Rules(block_s, protocol, delta)
    _settle(reference, crew)
    with timing_lock(lock_name(device)), own_core([reference.worker, *(e.worker for e in crew if e.open)]):
        before = state.read() if state else None
        cuda = reference.hands is not None
        first = _round(reference, crew, calls, _order(crew), awake=cuda, earliest=True)
        apart = [] if cuda else [entrant for entrant, blocks in first.items() if _apart(*blocks)]
        alike = [entrant for entrant in first if entrant not in apart]
        blocks = [block for entrant in alike for block in first[entrant]]
        _time(reference, alike, _filling(blocks, calls, reference, block_s), rules, awake=cuda)
        for entrant in apart:
            if len(crew) > 1:
                _settle(reference, [entrant])
            _time(
                reference, [entrant], _filling(first[entrant], calls, reference, block_s, apart=True), rules, awake=True
            )
        if state and before:
            readings = (before, state.read())
            for entrant in crew:
                entrant.group = entrant.group and replace(entrant.group, readings=readings)


@contextlib.contextmanager
def own_core(workers: Sequence[Worker]) -> Iterator[None]:
    """Pin the workers to one core (equal, and no gain from threads) and keep the judge off it; the first is set free after."""
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
        with contextlib.suppress(FileNotFoundError):  # it died
            workers[0].pin(mine)


@contextlib.contextmanager
def _charged_to(entrant: Entrant | None) -> Iterator[None]:
    """A Fault is the entrant's, and ends its timing; the reference's (None) is raised."""
    try:
        yield
    except Fault as fault:
        if entrant is None:
            raise
        entrant.fault = fault.to_keep()


def _settle(reference: Reference, crew: Sequence[Entrant]) -> None:
    reference.settle()
    for entrant in crew:
        with _charged_to(entrant):
            reference.settle(entrant.worker)


def _order(crew: Sequence[Entrant]) -> list[Entrant | None]:
    """A random one; None is the reference."""
    order = [None, *(entrant for entrant in crew if entrant.open)]
    return random.sample(order, len(order))


def _time(reference: Reference, crew: Sequence[Entrant], calls: int, rules: _Rules, awake: bool) -> None:
    """Rounds of a crew until each has its group, or a fault."""
    rounds, look, most = 0, rules.protocol.least_pairs, rules.protocol.most_pairs
    while any(entrant.open for entrant in crew):
        while rounds < look:
            order = _order(crew)
            for one in (order, order[::-1])[: look - rounds]:
                for entrant, (our, their) in _round(reference, crew, calls, one, awake).items():
                    entrant.ours.append(our)
                    entrant.theirs.append(their)
                    entrant.reference_first.append(one.index(None) < one.index(entrant))
                rounds += 1
        for entrant in crew:
            if entrant.open:
                with _charged_to(entrant):
                    entrant.group = _group(reference, entrant, calls, rules, last=rounds >= most)
        look = min(most, max(look + 2, 2 * round(look * LOOKS / 2)))


def _group(reference: Reference, entrant: Entrant, calls: int, rules: _Rules, *, last: bool) -> Group | None:
    """An entrant's group if it is decided, or the `last`. Raises Fault as `group_of`, and if it keeps the GPU at work."""
    ours, theirs, worker = entrant.ours, entrant.theirs, entrant.worker
    group = group_of(
        ours, theirs, calls, reference.overhead_s, reference.idle.wall_s, worker.host_code, entrant.reference_first
    )
    if not last and not decided(group, entrant.earlier, rules.protocol, rules.delta):
        return None
    if reference.hands and any(cuda_times.busy(side, reference.idle.took_s) for side in (ours, theirs)):
        _blame(reference, worker)
    return group


def _filling(blocks: Sequence[Block], calls: int, reference: Reference, block_s: float, *, apart: bool = False) -> int:
    """How many calls of the fastest last about `block_s`, given blocks of `calls`; `calls` if there are none.

    Of two that are `apart`, which half the time tells as well, both blocks last half of that in the geometric mean, but
    the shorter one a quarter at least: else nearly all of the time would go to the slower one.
    """
    took = [max(block.call_s - reference.overhead_s, LEAST_SHARE * block.call_s) / calls for block in blocks]
    if not took or min(took) <= 0:
        return calls
    wanted = block_s / min(took)
    if apart:
        wanted = max(wanted / 4, block_s / 2 / statistics.geometric_mean(took))
    return max(1, min(reference.stage.changing, round(wanted)))


def _apart(our: Block, their: Block) -> bool:
    """Whether one of two blocks is much shorter than the other."""
    return min(our.call_s, their.call_s) <= 0 or abs(math.log(our.call_s / their.call_s)) > APART


def _round(
    reference: Reference,
    crew: Sequence[Entrant],
    calls: int,
    order: Sequence[Entrant | None],
    awake: bool,
    earliest: bool = False,
) -> dict[Entrant, tuple[Block, Block]]:
    """One block of each in the given order, on the same new inputs in the same slots: entrant -> the reference's, its own.

    The inputs are written once for all. Where each is woken up before its block (`awake`), which its clock does not count,
    they are there only afterwards, and are written for each candidate. On the CPU the same is done for the reference, and
    for whoever comes first: what the judge has just written lies in a cache, which made 15 % of a call of L1/51. Who has a
    fault is left out.

    Of large outputs pieces are looked at. Where a candidate writes into memory of ours, pieces of that are NaN before it
    does, and half of them are looked at, so that nothing may be left as an earlier call has left it; so are as many
    others, so that NaN does not tell what will be looked at. With `earliest` the first call's are looked at in any case.
    """
    form, slots = reference.output_form, random.sample(range(reference.stage.changing), calls)
    parts = {slot: reference.fresh_inputs() for slot in slots}
    checked = [slot for slot in slots if random.random() < CHECKED] or slots[:1]  # the slots are in random order
    if earliest and slots[0] not in checked:
        checked.append(slots[0])
    marks = {slot: [_places(output) for output in form] for slot in slots}
    places = {slot: [mark and mark.half_others() for mark in marks[slot]] for slot in checked}
    forms = {slot: (inputs.form, form) for slot, inputs in parts.items()}
    for party in order:  # none is awake, with its clock at rest, from when the inputs are there
        with _charged_to(party):
            (party.worker if party else reference).prepare(forms)
    same = reference.hands is None  # is done before each block
    written = not awake
    if written:
        _write(reference, parts)
    blocks: dict[Entrant | None, Block] = {}
    outputs: dict[Entrant | None, list[list[torch.Tensor]]] = {}
    for party in order:
        if party and not party.open:
            continue
        with _charged_to(party):
            worker = party.worker if party else reference
            if awake:
                if same or (party and written):
                    _hide(reference, slots)
                worker.run([], cold=False)
                if same or party or not written:  # the reference may see them before
                    _write(reference, parts)
                written = True
            blocks[party] = _block(reference, party, slots, marks)
            outputs[party] = [_read(worker, blocks[party], slot, form, places[slot]) for slot in checked]
            blocks[party] = (party.worker if party else reference.worker).charged(blocks[party])
    for entrant in order:
        if entrant and entrant.open:
            with _charged_to(entrant):
                for expected, actual in zip(outputs[None], outputs[entrant], strict=True):
                    entrant.check(expected, actual)
    return {entrant: (blocks[None], blocks[entrant]) for entrant in order if entrant and entrant.open}


def _block(
    reference: Reference, entrant: Entrant | None, slots: Sequence[int], marks: Mapping[int, list[Places | None]]
) -> Block:
    """A block of an entrant's, or of the reference's (None). Raises Fault if an entrant changes its inputs."""
    if entrant is None:
        return reference.run(slots, cold=True)
    stage, cuda = reference.stage, reference.hands is not None
    if entrant.seat is not None:
        for slot in slots:
            if cuda:  # where the stage has held the reference's own answers to these very inputs
                stage.poison(entrant.seat, slot)
            else:
                stage.poison_pieces(entrant.seat, slot, reference.output_form, marks[slot])
    looks = [_Look(stage.inputs(slot)) for slot in slots] if cuda else []
    block = entrant.worker.run(slots, cold=True)
    if not all(look.same() for look in looks) or (not cuda and entrant.worker.changed_inputs(slots)):
        raise Fault("rejected_hack", "it changes its inputs while it is timed")
    return block


def _hide(reference: Reference, slots: Sequence[int]) -> None:
    """Leave nothing of these slots' inputs."""
    for slot in slots:
        reference.stage.inputs(slot).fill_(POISON)


def _write(reference: Reference, parts: Mapping[int, Inputs]) -> None:
    for slot, inputs in parts.items():
        inputs.write(reference.stage.inputs(slot))


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
