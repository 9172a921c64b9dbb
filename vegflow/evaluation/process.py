"""The judge's end of one child of the zygote: ask, wait, kill, and say what became of it.

Knows pids, sockets and the judge's clock, by which every wait is bounded; what is asked, and what an answer is worth,
is for others. Imports no torch.
"""

import select
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from vegflow.evaluation import channel
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


class Process:
    """One child."""

    def __init__(self, pid: int, sock: socket.socket, timeout_s: float, bury: Callable[[int, float], Death]) -> None:
        """`bury` reaps the process: given its pid and the seconds it has to die by itself."""
        self.pid = pid
        self.left_s = timeout_s
        """Seconds the judge is still willing to wait for it, in all."""
        self._reap = bury
        self._sock = sock
        self._death: Death | None = None
        try:
            self.layers: dict[str, str] = self._answer()["layers"]
        except Fault as fault:
            self.end()
            raise Fault("evaluator_error", f"a worker did not start: {fault.reason}") from fault

    def ask(self, kind: str, *, fds: tuple[int, ...] = (), **request: Any) -> dict[str, Any]:
        """Send a request and wait for its answer. Raises Fault with what became of the worker if there is none."""
        self._send({"kind": kind, **request}, fds)
        return self._answer()

    def tell(self, cpu_s: float, **message: Any) -> dict[str, Any]:
        """Answer a question of its own and wait, as `ask_within` does, for what it says next."""
        self._send(message)
        return self._within(cpu_s)

    def ask_within(self, cpu_s: float, kind: str, **request: Any) -> dict[str, Any]:
        """As `ask`, but it may take so many CPU seconds; Fault `timeout` if it takes more, or ten times that by the wall."""
        self._send({"kind": kind, **request})
        return self._within(cpu_s)

    def _within(self, cpu_s: float) -> dict[str, Any]:
        if not self.await_answer(cpu_s, 10 * cpu_s + 1.0):
            raise Fault("timeout", f"more than {cpu_s:g} s of CPU time")
        return self._answer()

    def clock(self) -> float:
        """CPU seconds of all its threads, by the kernel's account, read outside the process."""
        try:
            return time.clock_gettime((~self.pid << 3) | 2)  # clock_getcpuclockid(3)
        except OSError:
            self._raise_for_death()

    def await_answer(self, cpu_s: float, wall_s: float) -> bool:
        """Wait until something can be read, for as long as it takes `cpu_s` of CPU time and at most `wall_s`.

        A busy machine takes none of its CPU seconds away. Returns whether something can be read.
        """
        start, began = time.monotonic(), self.clock()
        wait = cpu_s
        while not select.select([self._sock], [], [], wait)[0]:
            left = cpu_s - (self.clock() - began)
            wait = min(left, start + wall_s - time.monotonic())
            if wait <= 0:
                return False
            wait = max(wait, 1e-3)
        return True

    def end(self) -> Death:
        """Kill the worker."""
        self._sock.close()
        return self._bury(0.0)

    def _bury(self, grace_s: float) -> Death:
        if self._death is None:
            self._death = self._reap(self.pid, grace_s)
        return self._death

    def _send(self, request: dict[str, Any], fds: tuple[int, ...] = (), *, frozen: bool = False) -> None:
        """`frozen`: it has been silent since it was last looked at."""
        if not frozen and channel.pending(self._sock):
            raise Fault("rejected_hack", "bytes on the channel that no request asked for")
        try:
            channel.send(self._sock, request, fds, timeout_s=ANSWER_S)
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
