"""The judge's end of one kernel's process: run, stop, resume, pin, read.

Knows slots and the clock that calls are measured by; asking and waiting is the `process`'s, and what an answer is worth
is for `reference` and `judge` to say.
"""

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from vegflow.evaluation import channel
from vegflow.evaluation.arena import Arena, Description
from vegflow.evaluation.comparison import check_form
from vegflow.evaluation.memory import Places, read_output
from vegflow.evaluation.process import Death, Process
from vegflow.evaluation.verdict import Fault

AWAKE_S = 500e-6
"""CPU seconds that the kernel may still book to a worker after it was found stopped; charged to its next run."""
STOP_S = 10.0
MOST_THREADS = 256
LOOK_S = 50e-6
"""Between looks at a worker that is to stop; ever longer while another process has its core, up to"""
MOST_LOOKS = 10
"""times as long."""

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


class Worker(Process):
    """One child: a candidate's or the reference's."""

    def __init__(
        self, pid: int, sock: socket.socket, device: str, timeout_s: float, bury: Callable[[int, float], Death]
    ) -> None:
        """`bury` reaps the process: given its pid and the seconds it has to die by itself."""
        self.device = device
        self._slots: dict[int, Forms] = {}
        self._frozen_at: float | None = None
        super().__init__(pid, sock, timeout_s, bury)

    def map(self, arena: Arena) -> None:
        """Give the worker an arena; its slots hold nothing until they are prepared."""
        self.ask("map", fds=(arena.fd,), shape=vars(arena.shape))

    def prepare(self, slots: Mapping[int, Forms]) -> None:
        """Tell a stopped worker what these slots will hold, where it has not been told before."""
        news = {slot: forms for slot, forms in slots.items() if self._slots.get(slot) != forms}
        if news:
            self.resume()
            self.ask("prepare", slots=[(slot, *forms) for slot, forms in news.items()])
            self.stop()
            self._slots.update(news)

    def settle(self, calls: int) -> None:
        """Have a stopped worker bring its memory into the state in which blocks of so many calls are timed."""
        self.resume()
        self.ask("settle", calls=calls)
        self.stop()

    def run(self, slots: Sequence[int]) -> Block:
        """Have a stopped worker call its model on `slots`; it is stopped again, with its outputs in its memory."""
        if self.device == "cuda":
            self.resume()
            self.ask("upload", slots=list(slots))
        start, wall = self._frozen_at if self._frozen_at is not None else self.clock(), time.perf_counter()
        self._send({"kind": "run", "slots": list(slots)})
        self.resume()
        done = self._answer()
        wall = time.perf_counter() - wall
        if self.device == "cuda":
            end = self.clock()
            done["outputs"] = self.ask("write", slots=list(slots)).get("outputs")
        self.stop()
        if self.device != "cuda":
            end = self._frozen_at
        own, outputs = done.get("done"), done.get("outputs")
        if not isinstance(own, int | float) or not 0 <= own < 1e15:
            raise Fault("rejected_hack", "the worker's clock does not give a time")
        if not isinstance(outputs, list) or len(outputs) != len(slots):
            raise Fault("rejected_hack", "the worker's answers are not those of its loop")
        return Block(end - start, wall, own / 1e9, dict(zip(slots, outputs, strict=True)))

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
        outputs = [
            read_output(self.pid, entry, getattr(torch, wanted["dtype"]), wanted["shape"], where)
            for entry, wanted, where in zip(found, form, places or [None] * len(form), strict=True)
        ]
        self.left_s -= time.monotonic() - start
        if self.left_s < 0:
            raise Fault("timeout", "its time was used up by reading its outputs")
        return outputs

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

    def _threads(self) -> list[str]:
        """Their ids. Raises Fault if they are too many."""
        threads = os.listdir(f"/proc/{self.pid}/task")
        if len(threads) > MOST_THREADS:
            raise Fault("rejected_hack", f"{len(threads)} threads")
        return threads

    def _frozen(self) -> bool:
        for thread in self._threads():
            try:
                with open(f"/proc/{self.pid}/task/{thread}/stat", "rb") as stat:
                    state = stat.read().rpartition(b")")[2].split()[0]
            except (FileNotFoundError, ProcessLookupError):
                continue
            if state not in b"TtZX":
                return False
        return True
