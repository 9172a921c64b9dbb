"""The judge's end of one worker process: ask, run, stop, resume, pin, kill.

Knows pids, sockets and the judge's clock, by which every wait is bounded; what is asked, and what an answer is worth,
is for `reference` and `judge`.
"""

import contextlib
import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch

from vegflow.evaluation import channel
from vegflow.evaluation.arena import Arena, Description, Shape
from vegflow.evaluation.verdict import Fault

ANSWER_S = 30.0


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
    write_s: float
    """Writing the outputs, on the same clock."""
    wall_s: float
    """The calls on the judge's wall clock."""
    own_s: float
    """What the worker says the calls took; evidence, never the measure."""
    outputs: list[Any]
    """Forms of the outputs, one list a slot, as the worker describes them."""


class Worker:
    """One child: a candidate's or the reference's."""

    def __init__(
        self, pid: int, sock: socket.socket, device: str, timeout_s: float, bury: Callable[[int, float], Death]
    ) -> None:
        """`bury` reaps the process: given its pid and the seconds it has to die by itself."""
        self.pid = pid
        self.device = device
        self._arena: Arena | None = None
        self.left_s = timeout_s
        """Seconds the judge is still willing to wait for it, in all."""
        self._reap = bury
        self._sock = sock
        self._death: Death | None = None
        self._slots: list[list[Description]] = []
        try:
            self.layers: dict[str, str] = self._answer()["layers"]
        except Fault as fault:
            self.end()
            raise Fault("evaluator_error", f"a worker did not start: {fault.reason}") from fault

    def ask(self, kind: str, *, fds: tuple[int, ...] = (), **request: Any) -> dict[str, Any]:
        """Send a request and wait for its answer. Raises Fault with what became of the worker if there is none."""
        self._send({"kind": kind, **request}, fds)
        return self._answer()

    def map(self, shape: Shape) -> None:
        """Give the worker an arena of its own, which nobody has written to."""
        self._arena = Arena(shape)
        self.ask("map", fds=(self._arena.fd,), shape=vars(shape))

    def inputs(self, slot: int) -> torch.Tensor:
        """The bytes of a slot's inputs in shared memory, uint8."""
        assert self._arena is not None
        return self._arena.inputs(slot)

    def outputs(self, slot: int) -> torch.Tensor:
        """The bytes of a slot's outputs in shared memory, uint8."""
        assert self._arena is not None
        return self._arena.outputs(slot)

    def prepared(self, slots: list[list[Description]]) -> bool:
        """Whether `prepare` was last called with slots that begin so."""
        return self._slots[: len(slots)] == slots

    def prepare(self, slots: list[list[Description]]) -> None:
        """Tell a running worker what the slots will hold."""
        if not self.prepared(slots):
            self.ask("prepare", slots=slots)
            self._slots = slots

    def run(self, count: int) -> Block:
        """Have a stopped worker call its model on the first `count` slots; it is stopped again afterwards."""
        if self.device == "cuda":
            self.resume()
            self.ask("upload", count=count)
        wall, start = time.perf_counter(), self.clock()
        self._send({"kind": "run", "count": count})
        self.resume()
        done = self._answer()
        wall, middle = time.perf_counter() - wall, self.clock()
        self._send({"kind": "write"})
        answer = self._answer()
        self.stop()
        end = self.clock()
        own, outputs = done.get("done"), answer.get("outputs")
        if not isinstance(own, int | float) or not 0 <= own < 1e15:
            raise Fault("rejected_hack", "the worker's clock does not give a time")
        if not isinstance(outputs, list) or len(outputs) != count:
            raise Fault("rejected_hack", "the worker's answers are not those of its loop")
        return Block(middle - start, end - middle, wall, own / 1e9, outputs)

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
        """Freeze every thread of the worker: what it does not do while the clock runs, it does not do."""
        os.kill(self.pid, signal.SIGSTOP)
        deadline = time.monotonic() + 1.0
        while not self._frozen():
            if time.monotonic() > deadline:
                raise Fault("evaluator_error", "a worker could not be stopped")
            os.sched_yield()
        if channel.pending(self._sock):
            raise Fault("rejected_hack", "bytes on the channel that no request asked for")

    def resume(self) -> None:
        """Let a stopped worker go on."""
        os.kill(self.pid, signal.SIGCONT)

    def pin(self, cpus: set[int]) -> None:
        """Have every thread of the worker run on `cpus` only."""
        for thread in os.listdir(f"/proc/{self.pid}/task"):
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(int(thread), cpus)

    def end(self) -> Death:
        """Kill the worker and free what it held."""
        self._sock.close()
        if self._arena is not None:
            self._arena.close()
            self._arena = None
        return self._bury(0.0)

    def _bury(self, grace_s: float) -> Death:
        if self._death is None:
            self._death = self._reap(self.pid, grace_s)
        return self._death

    def _frozen(self) -> bool:
        for thread in os.listdir(f"/proc/{self.pid}/task"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                stat = Path(f"/proc/{self.pid}/task/{thread}/stat").read_bytes()
                if stat.rpartition(b")")[2].split()[0] not in b"TtZX":
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
            raise Fault("timeout", "the worker no longer reads its requests") from error

    def _answer(self) -> dict[str, Any]:
        start = time.monotonic()
        try:
            answer, _ = channel.receive(self._sock, deadline=start + self.left_s, largest=channel.LARGEST_REPLY)
        except TimeoutError:
            raise Fault("timeout", "no answer within the time a candidate may take in all") from None
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
            raise Fault("out_of_memory", "killed by the kernel")
        if death.signal:
            raise Fault("runtime_error", f"died of {signal.strsignal(death.signal) or death.signal}")
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
