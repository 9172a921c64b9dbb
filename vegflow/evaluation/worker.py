"""The judge's end of one worker process: ask, run, stop, resume, pin, kill.

Knows pids, sockets and the judge's clock, by which every wait is bounded; what is asked, and what an answer is worth,
is for `reference` and `judge`.
"""

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import torch

from vegflow.evaluation import channel
from vegflow.evaluation.arena import Arena, Description
from vegflow.evaluation.comparison import check_form
from vegflow.evaluation.memory import Places, read_output
from vegflow.evaluation.verdict import Fault

ANSWER_S = 30.0
AWAKE_S = 500e-6
"""CPU seconds that the kernel may still book to a worker after it was found stopped; charged to its next run."""
STOP_S = 10.0
MOST_THREADS = 256
IMPATIENT_LOOKS = 4
LOOK_S = 50e-6
"""Between looks at a worker that takes longer to stop, since another process has its core; then ever longer, up to"""
MOST_LOOKS = 10
"""times as long."""

Forms = tuple[list[Description], list[Description]]
"""Of a slot's inputs and of its outputs."""


@dataclass(frozen=True)
class Death:
    """How a worker ended."""

    killed: bool
    """By us: it was alive when it was to be buried."""
    signal: int
    code: int
    cpu_s: float


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


class Worker:
    """One child: a candidate's or the reference's."""

    def __init__(
        self, pid: int, sock: socket.socket, device: str, timeout_s: float, bury: Callable[[int, float], Death]
    ) -> None:
        """`bury` reaps the process: given its pid and the seconds it has to die by itself."""
        self.pid = pid
        self.device = device
        self.left_s = timeout_s
        """Seconds the judge is still willing to wait for it, in all."""
        self._reap = bury
        self._sock = sock
        self._death: Death | None = None
        self._slots: dict[int, Forms] = {}
        self._frozen_at: float | None = None
        try:
            self.layers: dict[str, str] = self._answer()["layers"]
        except Fault as fault:
            self.end()
            raise Fault("evaluator_error", f"a worker did not start: {fault.reason}") from fault

    def ask(self, kind: str, *, fds: tuple[int, ...] = (), **request: Any) -> dict[str, Any]:
        """Send a request and wait for its answer. Raises Fault with what became of the worker if there is none."""
        self._send({"kind": kind, **request}, fds)
        return self._answer()

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

    def settle(self) -> None:
        """Have a stopped worker bring its memory into the state in which it is timed."""
        self.resume()
        self.ask("settle")
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
        if self.device == "cuda":
            return time.perf_counter()
        try:
            return time.clock_gettime((~self.pid << 3) | 2)  # clock_getcpuclockid(3)
        except OSError:
            self._raise_for_death()

    def stop(self) -> None:
        """Freeze every thread of the worker. What it computes until then counts as part of the run before."""
        os.kill(self.pid, signal.SIGSTOP)
        deadline = time.monotonic() + STOP_S
        looks = 0
        while not self._frozen():
            if time.monotonic() > deadline:
                raise Fault("rejected_hack", "a worker that cannot be stopped")
            looks += 1
            time.sleep(0.0 if looks < IMPATIENT_LOOKS else LOOK_S * min(looks - IMPATIENT_LOOKS + 1, MOST_LOOKS))
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

    def end(self) -> Death:
        """Kill the worker."""
        self._sock.close()
        return self._bury(0.0)

    def _bury(self, grace_s: float) -> Death:
        if self._death is None:
            self._death = self._reap(self.pid, grace_s)
        return self._death

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

    def _send(self, request: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
        if channel.pending(self._sock):
            raise Fault("rejected_hack", "bytes on the channel that no request asked for")
        self._sock.settimeout(ANSWER_S)
        try:
            channel.send(self._sock, request, fds)
        except channel.ChannelClosedError:
            self._raise_for_death()
        except TimeoutError as error:
            raise Fault("timeout", "the worker no longer reads its requests", died=True) from error

    def _answer(self) -> dict[str, Any]:
        start = time.monotonic()
        try:
            answer, _ = channel.receive(self._sock, deadline=start + self.left_s, largest=channel.LARGEST_REPLY)
        except TimeoutError:
            raise Fault("timeout", "no answer within the time a candidate may take in all", died=True) from None
        except channel.ChannelGarbledError as error:
            raise Fault("rejected_hack", f"on the channel: {error}") from None
        except channel.ChannelClosedError:
            self._raise_for_death()
        finally:
            self.left_s -= time.monotonic() - start
        if "error" in answer:
            raise _fault(answer["error"])
        return answer

    def _raise_for_death(self) -> NoReturn:
        """The channel is closed: find out why."""
        death = self._bury(0.5)
        if death.killed:
            raise Fault("rejected_hack", "the worker closed its channel and went on")
        if death.signal == signal.SIGXCPU:
            raise Fault("timeout", "the CPU time a candidate may take is used up")
        if death.signal == signal.SIGKILL:
            raise Fault("out_of_memory", "killed by the kernel", died=True)
        if death.signal:
            raise Fault("runtime_error", f"died of {signal.strsignal(death.signal) or death.signal}", died=True)
        raise Fault("runtime_error", f"exited with status {death.code} instead of answering")


def _fault(error: Any) -> Fault:
    """The fault that a worker reports of itself; it can only harm itself by lying."""
    if not isinstance(error, dict):
        return Fault("rejected_hack", "an error report without form")
    text = f"{error.get('type')}: {error.get('message')}"
    if error.get("memory") is True and error.get("stage") != "parse":  # the parser's own stack is not memory
        return Fault("out_of_memory", text)
    statuses = {"parse": "parse_error", "load": "compile_error"}
    return Fault(statuses.get(str(error.get("stage")), "runtime_error"), text)
