"""The judge's end of the zygote: start it once, have it fork workers and builds, and bury them.

Knows the environment a worker is born into, and that the judge's process owns one zygote a device; what workers do is in
`worker`.
"""

import atexit
import contextlib
import fcntl
import json
import os
import select
import socket
import subprocess
import sys
import sysconfig
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vegflow.evaluation import channel, heap
from vegflow.evaluation.process import ANSWER_S, Death, Process
from vegflow.evaluation.verdict import Fault

if TYPE_CHECKING:
    from vegflow.evaluation.worker import Worker

START_S = 120.0
MESSAGES = 1 << 16
"""Bytes of a compiler's messages that are kept; it cannot write more."""
LOOK_S = 0.25
"""How often a build's processes are counted."""
MOST_PROCESSES = 64
FUNCTIONS = "functions"
"""In place of a device: the zygote of Python functions."""


@dataclass(frozen=True)
class Build:
    """How a build ended."""

    death: Death
    excess: str
    """What it had too much of, and was killed for: `time`, `processes`, `memory`; empty if it ended by itself."""
    messages: str
    """What it wrote to its standard output and error."""
    layers: dict[str, str]
    """Layer of isolation -> what held, or "lacking: why"."""


class Zygote:
    """The pre-loaded parent of all workers of one device."""

    def __init__(self, device: str) -> None:
        """`device`: `cpu` or `cuda` for kernels; `functions` for Python functions, which need no torch."""
        self.device = device
        self._answers = True
        root = str(Path(__file__).resolve().parents[2])
        own_root = "" if root in sysconfig.get_paths().values() else root
        environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": "/", "PYTHONPATH": own_root}
        environment |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        if device != FUNCTIONS:
            environment |= heap.ENVIRONMENT
        environment["PYTHONHASHSEED"] = (
            "0" if device == FUNCTIONS else "random"
        )  # a function's sets: the same each time
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        if visible is not None:
            environment["CUDA_VISIBLE_DEVICES"] = visible
        self.sock, theirs = socket.socketpair()
        with theirs:
            arguments = [str(theirs.fileno()), str(os.getpid()), device, own_root]
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "vegflow.evaluation.zygote", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=environment,
                cwd="/",
                pass_fds=[theirs.fileno()],
            )
        self.layers: dict[str, str] = self._receive(START_S)["layers"]

    @property
    def alive(self) -> bool:
        """Whether it runs and has answered so far."""
        return self._answers and self.process.poll() is None

    def spawn(
        self, timeout_s: float, memory_bytes: int | None, *, confined: bool = True, readable: str | None = None
    ) -> "Worker":
        """A new worker, which may take `timeout_s` of waiting in all and so many bytes of address space.

        It may read the folder `readable`, besides what all workers may.

        Only a task's own program may run in one that is not confined: `torch.compile` starts compilers and writes files.
        """
        from vegflow.evaluation.worker import Worker  # loads torch, which functions do without

        pid, sock = self._fork(timeout_s, memory_bytes, confined, readable)
        return Worker(pid, sock, self.device, timeout_s, self.bury)

    def spawn_plain(self, timeout_s: float, memory_bytes: int) -> Process:
        """A new confined child of a zygote for `functions`, under the same limits."""
        pid, sock = self._fork(timeout_s, memory_bytes, True)
        return Process(pid, sock, timeout_s, self.bury)

    def _fork(
        self, timeout_s: float, memory_bytes: int | None, confined: bool, readable: str | None = None
    ) -> tuple[int, socket.socket]:
        ours, theirs = socket.socketpair()
        limits = {"address_space": memory_bytes, "cpu_s": int(timeout_s * (os.cpu_count() or 1)) + 2}
        try:
            with theirs:
                request = {"kind": "spawn", "limits": limits, "confined": confined, "readable": readable}
                self._send(request, (theirs.fileno(),))
                return self._receive(ANSWER_S)["pid"], ours
        except BaseException:
            ours.close()
            raise

    def build(self, order: dict[str, Any], timeout_s: float) -> Build:
        """Have a confined child build what `order` says (see `builder`), wait for its end, and bury it.

        All its processes together may have `memory` bytes resident. Raises Fault `evaluator_error` if it could not begin.
        """
        messages = os.memfd_create("messages", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        reading, writing = os.pipe()
        try:
            try:
                os.ftruncate(messages, MESSAGES)
                fcntl.fcntl(messages, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
                self._send({"kind": "build", **order}, (messages, writing))
                pid = self._receive(ANSWER_S)["pid"]
            finally:
                os.close(writing)
            try:
                excess = _watch(pid, timeout_s, order["memory"])
            finally:
                death = self.bury(pid, 0.0)
            said = os.pread(messages, MESSAGES, 0).rstrip(b"\0").decode("utf-8", "replace")
            os.set_blocking(reading, False)
            layers, _, problem = os.read(reading, 1 << 16).decode("utf-8", "replace").partition("\n")
        finally:
            os.close(reading)
            os.close(messages)
        if problem or not layers:
            raise Fault("evaluator_error", f"a build did not start: {problem or said}")
        return Build(death, excess, said, json.loads(layers))

    def bury(self, pid: int, grace_s: float) -> Death:
        """Kill and reap a worker that is given `grace_s` to die by itself."""
        self._send({"kind": "bury", "pid": pid, "grace_s": grace_s})
        return Death(**self._receive(grace_s + ANSWER_S))

    def close(self) -> None:
        """End it, and with it every worker."""
        self.sock.close()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def _send(self, request: dict[str, Any], fds: tuple[int, ...] = ()) -> None:
        try:
            channel.send(self.sock, request, fds)
        except (channel.ChannelClosedError, TimeoutError) as error:
            self._answers = False
            raise Fault("evaluator_error", "the parent of the workers died") from error

    def _receive(self, timeout_s: float) -> dict[str, Any]:
        try:
            return channel.receive(self.sock, deadline=time.monotonic() + timeout_s)[0]
        except (channel.ChannelClosedError, channel.ChannelGarbledError, TimeoutError) as error:
            self._answers = False
            raise Fault("evaluator_error", "the parent of the workers died or does not answer") from error


def _watch(pid: int, timeout_s: float, memory: int) -> str:
    """Wait for the end of a build's process, not buried yet; what there was too much of before, or nothing.

    Limits of the kernel hold for each process; `memory`, bytes resident, and the number are for all of them together.
    """
    handle = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(handle, select.POLLIN)
        deadline = time.monotonic() + timeout_s
        while (left := deadline - time.monotonic()) > 0:
            if poll.poll(min(left, LOOK_S) * 1e3):
                return ""
            pages = _resident_pages(pid)
            if len(pages) > MOST_PROCESSES:
                return "processes"
            if sum(pages) * os.sysconf("SC_PAGE_SIZE") > memory:
                return "memory"
        return "" if poll.poll(0) else "time"
    finally:
        os.close(handle)


def _resident_pages(session: int) -> list[int]:
    """Of each process of a session, its resident pages."""
    pages = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{entry}/stat").read_bytes().rpartition(b")")[2].split()
                if int(fields[3]) == session:
                    pages.append(int(fields[21]))
    return pages


_zygotes: dict[tuple[int, str], Zygote] = {}


def shared_zygote(device: str) -> Zygote:
    """The zygote of this process for `device`: starting one loads torch, so it is kept until the process ends."""
    key = (os.getpid(), device)
    if key not in _zygotes or not _zygotes[key].alive:
        discard_zygote(device)
        _zygotes[key] = Zygote(device)
    return _zygotes[key]


def discard_zygote(device: str) -> None:
    """End this process's zygote for `device`, if there is one; the next call of `shared_zygote` starts another."""
    zygote = _zygotes.pop((os.getpid(), device), None)
    if zygote is not None:
        zygote.close()


@atexit.register
def _close_zygotes() -> None:
    for pid, device in list(_zygotes):
        if pid == os.getpid():
            discard_zygote(device)
