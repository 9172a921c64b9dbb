"""The judge's end of the zygote: start it once, have it fork workers and bury them.

Knows the environment a worker is born into, and that the judge's process owns one zygote a device; what workers do is in
`worker`.
"""

import atexit
import os
import socket
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import Any

from vegflow.evaluation import channel
from vegflow.evaluation.verdict import Fault
from vegflow.evaluation.worker import ANSWER_S, Death, Worker

START_S = 120.0


class Zygote:
    """The pre-loaded parent of all workers of one device."""

    def __init__(self, device: str) -> None:
        self.device = device
        self._answers = True
        root = str(Path(__file__).resolve().parents[2])
        own_root = "" if root in sysconfig.get_paths().values() else root
        environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": "/", "PYTHONPATH": own_root}
        environment |= {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        # freed memory stays with the process: a page fault in one call and not in another is noise
        environment |= {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(1 << 40)}
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

    def spawn(self, timeout_s: float, memory_bytes: int | None) -> Worker:
        """A new confined worker, which may take `timeout_s` of waiting in all and so many bytes of address space."""
        ours, theirs = socket.socketpair()
        limits = {"address_space": memory_bytes, "cpu_s": int(timeout_s * (os.cpu_count() or 1)) + 2}
        try:
            with theirs:
                self._send({"kind": "spawn", "limits": limits}, (theirs.fileno(),))
                pid = self._receive(ANSWER_S)["pid"]
        except BaseException:
            ours.close()
            raise
        return Worker(pid, ours, self.device, timeout_s, self.bury)

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
