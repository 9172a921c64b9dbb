"""The parent of all workers and builds: a fresh process with torch (or, for Python functions, the standard library)
loaded; forks a confined child on request, buries it.

Knows processes only: it runs no program, sees no inputs and holds no secrets; judge and worker talk past it.
"""

import contextlib
import gc
import importlib
import os
import signal
import socket
import sys
import time
from typing import Any

from vegflow.evaluation import builder, channel, heap, isolation


def main(control: int, device: str, own_root: str) -> None:
    """Serve requests from the control socket until it closes, then kill what is left.

    `own_root` is where this package lies, if it is a checkout: workers may not read it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the judge ends it, when it ends
    layers = {"namespaces": isolation.attempt(lambda: isolation.namespaces(device))}
    _load(device)  # only now: torch starts a thread, after which there is no new user namespace
    sys.path[:] = [path for path in sys.path if path != own_root]
    sock = socket.socket(fileno=control)
    ruleset: int | None = None
    readable: list[str] = []
    try:
        readable = isolation.library_paths() if device == "functions" else isolation.readable_paths()
        ruleset = isolation.landlock_ruleset(device, readable)
    except OSError as error:
        layers["landlock"] = f"lacking: {error}"
    null = os.open("/dev/null", os.O_RDWR)
    zygote = os.getpid()
    isolation.prctl(isolation.PR_SET_CHILD_SUBREAPER, 1)
    gc.collect()
    if device != "functions":
        heap.close()
    heap.gather()
    gc.freeze()  # a collection in a child would touch, and so copy, every page that holds an object
    channel.send(sock, {"layers": layers})
    children: set[int] = set()
    while True:
        try:
            request, fds = channel.receive(sock, descriptors=True)
        except channel.ChannelClosedError:
            break
        if request["kind"] == "spawn":
            limits = isolation.Limits(**request["limits"])
            pid = os.fork()
            if not pid:
                sock.close()
                more = [*readable, request["readable"]] if request["readable"] else None
                _become_worker(zygote, fds[0], null, limits, ruleset, device, request["confined"], more)
            os.close(fds[0])
            children.add(pid)
            channel.send(sock, {"pid": pid})
        elif request["kind"] == "build":
            builder.preload(request)
            pid = os.fork()
            if not pid:
                sock.close()
                _become_builder(zygote, fds, null, request)
            for fd in fds:
                os.close(fd)
            children.add(pid)
            channel.send(sock, {"pid": pid})
        else:
            children.discard(request["pid"])
            channel.send(sock, _bury(request["pid"], request["grace_s"]))
    for pid in children:
        _bury(pid, 0.0)


def _load(device: str) -> None:
    """Load torch and have it do once what it does on first use, so that no worker pays for it; or what functions use."""
    if device == "functions":
        from vegflow.evaluation.function_child import preload

        preload()
        return
    import torch

    import vegflow.evaluation.child
    import vegflow.evaluation.native  # noqa: F401

    if device == "cuda":  # its libraries only: nothing of the device may be touched before a fork
        for library in ("cupti.cupti", "triton"):
            with contextlib.suppress(ImportError):
                importlib.import_module(library)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with torch.no_grad():
        x = torch.rand(8, 8)
        torch.nn.functional.conv2d(torch.rand(1, 1, 8, 8), torch.rand(1, 1, 3, 3))
        torch.cumsum(torch.bmm(x[None], x[None]), 1).sort().values.triu().softmax(-1).exp()
        torch.nn.Linear(8, 8)(x).relu()


def _become_worker(
    zygote: int,
    fd: int,
    null: int,
    limits: isolation.Limits,
    ruleset: int | None,
    device: str,
    confined: bool,
    readable: list[str] | None,
) -> None:
    """The forked child: confined before it reads its first message; `readable` if it is not what all may read.

    Never returns.
    """
    try:
        if ruleset is not None and readable is not None:
            ruleset = isolation.landlock_ruleset(device, readable)
        if device == "functions":
            from vegflow.evaluation.function_child import serve
        else:
            from vegflow.evaluation.child import serve
        _detach(zygote, null, null, {fd, ruleset})
        layers = isolation.confine(limits, ruleset) if confined else {}
        if ruleset is not None:
            os.close(ruleset)
        sock = socket.socket(fileno=fd)
        channel.send(sock, {"layers": layers})
        serve(sock, device)
    finally:
        os._exit(70)


def _become_builder(zygote: int, fds: list[int], null: int, order: dict[str, Any]) -> None:
    """The forked child of a build: `fds` are the file its messages go to, and a pipe for its report. Never returns."""
    try:
        messages, report = fds
        _detach(zygote, null, messages, {report})
        builder.become(order, report)
    finally:
        os._exit(70)


def _detach(zygote: int, null: int, output: int, keep: set[int | None]) -> None:
    """A forked child: a session of its own, which dies with its parent and holds no file but `output` and `keep`."""
    isolation.die_with_parent(zygote)
    os.setsid()
    for source, target in ((null, 0), (output, 1), (output, 2)):
        os.dup2(source, target)
    for other in map(int, os.listdir("/proc/self/fd")):
        if other > 2 and other not in keep:
            with contextlib.suppress(OSError):  # the listing's own
                os.close(other)


def _bury(pid: int, grace_s: float) -> dict[str, Any]:
    """Wait `grace_s` for the child's own death, then kill it with whatever it left behind."""
    deadline = time.monotonic() + grace_s
    done, status, usage = os.wait4(pid, os.WNOHANG)
    while not done and time.monotonic() < deadline:
        time.sleep(0.002)
        done, status, usage = os.wait4(pid, os.WNOHANG)
    killed = not done
    if killed:
        os.kill(pid, signal.SIGKILL)
        _, status, usage = os.wait4(pid, 0)
    _kill_orphans(pid)
    return {
        "killed": killed,
        "signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0,
        "code": os.WEXITSTATUS(status) if os.WIFEXITED(status) else 0,
        "cpu_s": usage.ru_utime + usage.ru_stime,
    }


def _kill_orphans(group: int) -> None:
    """Where seccomp is lacking, a candidate may have forked: what is still in its session dies, and is reaped here."""
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return
    while True:
        try:
            os.waitpid(-group, 0)
        except ChildProcessError:
            return


if __name__ == "__main__":
    isolation.die_with_parent(int(sys.argv[2]))
    main(int(sys.argv[1]), sys.argv[3], sys.argv[4])
