"""The judge's end of one kernel's process: run, stop, resume, pin, read.

Knows slots and the clock that calls are measured by; asking and waiting is the `process`'s, and what an answer is worth
is for `reference` and `judge` to say.
"""

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from vegflow.evaluation import channel
from vegflow.evaluation.arena import Description, views
from vegflow.evaluation.comparison import check_form
from vegflow.evaluation.cuda_times import CPU, claimed
from vegflow.evaluation.memory import Pages, Places, read_output
from vegflow.evaluation.process import Death, Process
from vegflow.evaluation.stage import Stage
from vegflow.evaluation.verdict import Fault

AWAKE_S = 5e-3
"""CPU seconds that the kernel may still book to a worker after it was found stopped: where the machine is a virtual one that is
busy, what others took meanwhile. They are charged to the block before (`charged`) or to the next run; more is a hack's."""
STOP_S = 10.0
MOST_THREADS = 256
LOOKS_AT_ONCE = 3
"""Looks at a worker that is to stop, without a pause: a pause costs more than a look."""
LOOK_S = 50e-6
"""Between later ones; ever longer while another process has its core, up to"""
MOST_LOOKS = 10
"""times as long."""
_FROZEN = (b"T", b"t", b"Z", b"X")
"""States of a thread that does not run."""

Forms = tuple[list[Description], list[Description]]
"""Of a slot's inputs and of its outputs."""


@dataclass(frozen=True)
class Block:
    """What the judge saw of one block of calls."""

    call_s: float
    """The calls, on the judge's clock for the device: see `Worker.clock`."""
    wall_s: float
    """The calls on the judge's wall clock."""
    own_s: float
    """What the worker says the calls took; evidence, never the measure."""
    outputs: dict[int, Any]
    """Slot -> form of its outputs and where they lie, as the worker says."""
    span_s: float | None = None
    """On CUDA, how long the device was at work, as the worker says; what it counts for is for `cuda_times`."""
    clock: str = CPU
    """What `span_s` was measured with, as the worker says; `cpu` where there is none."""
    aside_s: float = 0.0
    """On CUDA, wall time in which it was awake with the block's inputs, before the calls and after them."""
    flush_s: float = 0.0
    """On CUDA, what flushing the device's cache took at most, before the calls and after them, the worker being stopped."""
    after_s: float = 0.0
    """The same after the calls, on the judge's wall clock: longer if the device is not done yet."""


@dataclass(frozen=True)
class Hands:
    """What a process of ours does on the device while a worker is frozen."""

    handle: str
    """Of the stage's mirror on the device, hexadecimal; empty if there is none."""
    must: bool
    """Whether a worker has to map it: one of ours could."""
    bring: Callable[[list[int]], None]
    """Put slots' inputs there."""
    fetch: Callable[[list[int]], None]
    """Take slots from there."""
    flush: Callable[[], "Flushed"]
    """Leave the device's cache empty."""


@dataclass(frozen=True)
class Flushed:
    """How long a flush took, seconds."""

    wall_s: float
    """On the judge's wall clock."""
    took_s: float
    """On the clock of our process that did it, which a busy machine disturbs less."""


NOT_FLUSHED = Flushed(0.0, 0.0)


class Worker(Process):
    """One child: a candidate's or the reference's."""

    def __init__(
        self, pid: int, sock: socket.socket, device: str, timeout_s: float, bury: Callable[[int, float], Death]
    ) -> None:
        """`bury` reaps the process: given its pid and the seconds it has to die by itself."""
        self.device = device
        self._slots: dict[int, Forms] = {}
        self._frozen_at: float | None = None
        self._hands: Hands | None = None
        self._stage: Stage | None = None
        self._pages: Pages | None = None
        self._stat: int | None = None
        self.mirrors = False
        """On CUDA, whether it maps the device's memory of ours."""
        self.mirror_problem = ""
        self.clock_problem = ""
        """On CUDA, why its clock is not a better one, as it says."""
        self.host_code = True
        """Whether the candidate's own code runs in its process, and not on the device only."""
        super().__init__(pid, sock, timeout_s, bury)

    def map(self, stage: Stage, seat: int | None = None, hands: Hands | None = None) -> None:
        """Put the worker on a stage, with a seat if it writes its outputs there; its slots hold nothing until prepared.

        On CUDA with the `hands` of ours. Raises Fault if it does not map the stage's mirror on the device although it must.
        """
        self._hands, self._stage = hands, stage
        if hands is not None and hands.handle:
            answer = self.ask("map_mirror", handle=hands.handle, **stage.about)
            self.mirror_problem = str(answer.get("problem"))[:200]
            self.mirrors = not self.mirror_problem
            if hands.must and not self.mirrors:
                raise Fault("rejected_hack", f"it does not take its inputs where they are: {self.mirror_problem}")
        if not self.mirrors:
            self.ask("map", fds=stage.descriptors(seat), **stage.about)
        if hands is None:
            self._watch(stage)

    def _watch(self, stage: Stage) -> None:
        """Look from now on whether it writes to the stage's inputs."""
        self._pages = Pages(self.pid, stage.inode())

    def changed_inputs(self, slots: Iterable[int]) -> bool:
        """Whether it has ever written to the inputs of these slots, were it what is there already. Not on CUDA."""
        shape = self._stage.shape
        return any(self._pages.written(shape.inputs_at(slot), shape.input_bytes) for slot in slots)

    def prepare(self, slots: Mapping[int, Forms]) -> None:
        """Tell a stopped worker what these slots will hold, where it has not been told before."""
        news = {slot: forms for slot, forms in slots.items() if self._slots.get(slot) != forms}
        if news:
            self.resume()
            self.ask("prepare", slots=[(slot, *forms) for slot, forms in news.items()])
            self.stop()
            self._slots.update(news)

    def settle(self) -> None:
        """Have a stopped worker bring its memory into the state in which calls are timed."""
        self.resume()
        self.ask("settle")
        self.stop()

    def run(self, slots: Sequence[int], *, cold: bool = False) -> Block:
        """Have a stopped worker call its model on `slots`; it is stopped again, with its outputs in its memory.

        On CUDA, if it is to be `cold`, the device's cache is left empty once the inputs are there, and the same after the
        calls shows whether the device is done with them.
        """
        if self._hands is not None:
            return self._run_on_device(list(slots), self._hands, cold)
        start, wall = self._frozen_at if self._frozen_at is not None else self.clock(), time.perf_counter()
        self._send({"kind": "run", "slots": list(slots)}, frozen=self._frozen_at is not None)
        self.resume()
        done = self._answer()
        wall = time.perf_counter() - wall
        self.stop()
        end = self._frozen_at
        return Block(end - start, wall, _seconds(done.get("done")), _by_slot(slots, done))

    def charged(self, block: Block) -> Block:
        """A block with what the kernel has booked to the stopped worker since: so much can have gone into its outputs."""
        if self.device == "cuda" or self._frozen_at is None:
            return block
        before, self._frozen_at = self._frozen_at, self.clock()
        return replace(block, call_s=block.call_s + self._frozen_at - before)

    def _run_on_device(self, slots: list[int], hands: Hands, cold: bool) -> Block:
        """As `run`: inputs go up before the calls, and outputs down after them.

        By our hands, while it is frozen; by the worker itself only where it cannot map the device's memory of ours.
        """
        begun = time.perf_counter()
        self.resume()
        self.ask("upload", slots=slots)
        self.stop()
        aside_s = time.perf_counter() - begun
        if self.mirrors:
            aside_s = 0.0  # the inputs were not there yet
            hands.bring(slots)
        before = hands.flush() if cold else NOT_FLUSHED
        start = self.clock()
        self._send({"kind": "run", "slots": slots}, frozen=self._frozen_at is not None)
        self.resume()
        done = self._answer()
        wall_s = self.clock() - start
        self.stop()
        after = hands.flush() if cold else NOT_FLUSHED
        begun = time.perf_counter()
        self.resume()
        written = self.ask("write", slots=slots)
        self.stop()
        aside_s += time.perf_counter() - begun
        if self.mirrors:
            hands.fetch(slots)
        self.clock_problem = str(written.get("problem"))[:200]
        own_s, outputs = _seconds(done.get("done")), _by_slot(slots, written)
        return Block(
            call_s=wall_s,
            wall_s=wall_s,
            own_s=own_s,
            outputs=outputs,
            span_s=_seconds(written.get("span")),
            clock=claimed(written.get("clock")),
            aside_s=aside_s,
            flush_s=max(before.took_s, after.took_s),
            after_s=after.wall_s,
        )

    def read(
        self, block: Block, slot: int, form: Sequence[Description], places: Sequence[Places | None] | None = None
    ) -> list[torch.Tensor]:
        """The outputs of one of a stopped worker's last calls; with `places`, one for each, only those pieces.

        Raises Fault: `wrong_output` if they have another form, `timeout` if what is strewn over much memory takes more
        time than the candidate has left, and what `read_output` raises.
        """
        start = time.monotonic()
        found = block.outputs[slot]
        wrong = check_form(form, found)
        if wrong:
            raise Fault("wrong_output", wrong)
        chosen = places or [None] * len(form)
        if self.mirrors:  # our hands have put them on the stage
            there = views(self._stage.outputs(slot, 0), 0, form)
            return [some.take(t.view(-1)) if some else t.clone() for t, some in zip(there, chosen, strict=True)]
        outputs = [
            read_output(self.pid, entry, getattr(torch, wanted["dtype"]), wanted["shape"], where)
            for entry, wanted, where in zip(found, form, chosen, strict=True)
        ]
        self.left_s -= time.monotonic() - start
        if self.left_s < 0:
            raise Fault("timeout", "its time was used up by reading its outputs")
        return outputs

    def end(self) -> Death:
        """Kill the worker."""
        if self._pages is not None:
            self._pages.close()
            self._pages = None
        if self._stat is not None:
            os.close(self._stat)
            self._stat = None
        return super().end()

    def clock(self) -> float:
        """Seconds on the clock by which calls are measured, read outside the worker's process.

        On the CPU it is the kernel's account of the processor time of all the worker's threads: nothing else may work
        for it, and a busy machine does not disturb it. On CUDA, where the work is done elsewhere, it is wall time.
        """
        return time.perf_counter() if self.device == "cuda" else super().clock()

    def stop(self) -> None:
        """Freeze every thread of the worker. What it computes until then counts as part of the run before."""
        os.kill(self.pid, signal.SIGSTOP)
        deadline = time.monotonic() + STOP_S
        looks = 0
        while not self._frozen():
            if time.monotonic() > deadline:
                raise Fault("rejected_hack", "a worker that cannot be stopped")
            looks += 1
            if looks > LOOKS_AT_ONCE:
                time.sleep(LOOK_S * min(looks, MOST_LOOKS))
        if channel.pending(self._sock):
            raise Fault("rejected_hack", "bytes on the channel that no request asked for")
        self._frozen_at = self.clock()

    def resume(self) -> None:
        """Let a stopped worker go on. Raises Fault if it has been at work since it was stopped."""
        if self._frozen_at is not None and self.device != "cuda" and self.clock() - self._frozen_at > AWAKE_S:
            raise Fault("rejected_hack", "it went on while it was stopped")
        self._frozen_at = None
        os.kill(self.pid, signal.SIGCONT)

    def pin(self, cpus: set[int]) -> None:
        """Have every thread of the worker run on `cpus` only."""
        for thread in self._threads():
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(int(thread), cpus)

    def resident_bytes(self) -> int:
        """Memory that it has of its own, more or less: what it shares with others by name is left out."""
        with open(f"/proc/{self.pid}/statm", "rb") as statm:
            fields = statm.read().split()
        return (int(fields[1]) - int(fields[2])) * os.sysconf("SC_PAGE_SIZE")

    def _threads(self) -> list[str]:
        """Their ids. Raises Fault if they are too many."""
        threads = os.listdir(f"/proc/{self.pid}/task")
        if len(threads) > MOST_THREADS:
            raise Fault("rejected_hack", f"{len(threads)} threads")
        return threads

    def _frozen(self) -> bool:
        try:
            state, threads = self._state()
        except ProcessLookupError:
            return True
        if threads == 1 or state not in _FROZEN:
            return state in _FROZEN
        for thread in self._threads():
            try:
                with open(f"/proc/{self.pid}/task/{thread}/stat", "rb") as stat:
                    state = _fields(stat.read())[0]
            except (FileNotFoundError, ProcessLookupError):
                continue
            if state not in _FROZEN:
                return False
        return True

    def _state(self) -> tuple[bytes, int]:
        """Of its first thread, and how many there are. Raises ProcessLookupError."""
        if self._stat is None:
            try:
                self._stat = os.open(f"/proc/{self.pid}/task/{self.pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError as error:
                raise ProcessLookupError from error
        fields = _fields(os.pread(self._stat, 1 << 12, 0))
        return fields[0], int(fields[17])


def _fields(stat: bytes) -> list[bytes]:
    """Those of a `stat` in /proc from the state on, the third."""
    return stat.rpartition(b")")[2].split()


def _seconds(claim: Any) -> float:
    """What a worker's clock says, in nanoseconds -> seconds. Raises Fault if that is no time."""
    if not isinstance(claim, int | float) or not 0 <= claim < 1e15:
        raise Fault("rejected_hack", "the worker's clock does not give a time")
    return claim / 1e9


def _by_slot(slots: Sequence[int], answer: dict[str, Any]) -> dict[int, Any]:
    outputs = answer.get("outputs")
    if not isinstance(outputs, list) or len(outputs) != len(slots):
        raise Fault("rejected_hack", "the worker's answers are not those of its loop")
    return dict(zip(slots, outputs, strict=True))
