"""Start a script in a process that has torch loaded already, so that a short job costs its own work and no imports.

`python -m vegflow.warm NAME ARGS...` runs workflow/scripts/NAME.py as `python workflow/scripts/NAME.py ARGS...` would. Where VEGFLOW_SESSION names
a running process (the Snakefile sets it on this machine), the first call starts a helper that imports the heavy
libraries once, and forks for each script; the helper ends with that process. Otherwise, or if anything about the
helper fails, the script runs here, the ordinary way. The helper imports nothing of vegflow's but this file, so it
never holds stale code.
"""

import array
import contextlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

PRELOAD = (
    "torch",
    "transformers.models.llama.modeling_llama",
    "transformers.models.auto.modeling_auto",
    "transformers.models.auto.tokenization_auto",
    "peft",
    "safetensors.torch",
    "pydantic.fields",
    "pydantic.types",
    "pyarrow.parquet",
    "pyarrow.dataset",  # which imports pandas, where that is installed
)
SCRIPTS = Path(__file__).resolve().parent.parent / "workflow" / "scripts"
HEAVY = {
    "build_model", "sample", "evaluate", "demonstrate", "update", "rescore", "train_orm", "score_orm", "verify_kernels",
}  # fmt: skip
"""Scripts that import torch; the others start faster by themselves than a helper does."""
START_SECONDS = 120.0
SESSION = "VEGFLOW_SESSION"


def prepare_environment(main_process: bool) -> None:
    """Let jobs run this checkout's code with this Python and, on this machine, share one helper that ends with us.

    Called by the Snakefile. A job's own Snakemake on a cluster node (`main_process` false) starts no helper.
    """
    _put_first("PATH", str(Path(sys.executable).parent))
    _put_first("PYTHONPATH", str(SCRIPTS.parent.parent))
    os.environ.pop(SESSION, None)
    if main_process and os.environ.get("VEGFLOW_WARM") != "0":
        os.environ[SESSION] = f"{os.getpid()}@{socket.gethostname()}"


def _put_first(variable: str, folder: str) -> None:
    others = [part for part in os.environ.get(variable, "").split(os.pathsep) if part and part != folder]
    os.environ[variable] = os.pathsep.join([folder, *others])


def main(argv: list[str]) -> int:
    """Run a script of the workflow (its name and its arguments), warm if possible; return its exit status."""
    name, *arguments = argv
    argv = [str(SCRIPTS / f"{name}.py"), *arguments]
    process, _, host = os.environ.get(SESSION, "").partition("@")
    if name in HEAVY and process.isdigit() and host == socket.gethostname() and hasattr(os, "pidfd_open"):
        connection = _connect(int(process))
        if connection is not None:
            return _delegate(connection, argv)
    return _run(argv)


def _run(argv: list[str]) -> int:
    """Run a script in this process, as the interpreter would."""
    sys.argv = list(argv)
    sys.path.insert(0, str(Path(argv[0]).resolve().parent))
    try:
        runpy.run_path(argv[0], run_name="__main__")
    except SystemExit as stop:
        if stop.code is None or isinstance(stop.code, int):
            return stop.code or 0
        print(stop.code, file=sys.stderr)
        return 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


# ---- the caller ------------------------------------------------------------------------------------------------------


def _folder(session: int) -> Path:
    """A folder of this user alone for the session's socket and lock."""
    folder = Path(tempfile.gettempdir()) / f"vegflow-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    if folder.stat().st_uid != os.getuid() or folder.stat().st_mode & 0o077:
        raise PermissionError(f"{folder} is not private")
    return folder


def _connect(session: int) -> socket.socket | None:
    """A connection to the session's helper, started if need be; None if it cannot be had."""
    import fcntl

    try:
        path = _folder(session) / f"warm-{session}.sock"
        with open(path.with_suffix(".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            connection = _try_connect(path)
            if connection is None:
                connection = _wait_connect(path, _start_helper(session, path))
        return connection
    except OSError:
        return None


def _try_connect(path: Path) -> socket.socket | None:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.connect(str(path))
    except OSError:
        connection.close()
        return None
    return connection


def _start_helper(session: int, path: Path) -> subprocess.Popen[bytes]:
    path.unlink(missing_ok=True)
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "MKL_"))}
    environment["JE_ARROW_MALLOC_CONF"] = "background_thread:false"  # a process that forks has one thread
    return subprocess.Popen(
        [sys.executable, "-m", "vegflow.warm", "--serve", str(session), str(path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env=environment,
    )


def _wait_connect(path: Path, helper: subprocess.Popen[bytes]) -> socket.socket | None:
    """Wait until the helper has imported what it imports and listens; None if it ends or takes too long."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and helper.poll() is None:
        if connection := _try_connect(path):
            return connection
        time.sleep(0.02)
    return None


def _delegate(connection: socket.socket, argv: list[str]) -> int:
    """Have the helper run the script on our standard streams; its exit status."""
    request = json.dumps({"argv": argv, "cwd": os.getcwd(), "environ": dict(os.environ)}).encode()
    streams = array.array("i", [0, 1, 2])
    connection.sendmsg([len(request).to_bytes(4, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
    connection.sendall(request)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda n, _: os._exit(128 + n))
    status = connection.recv(1)
    if not status:
        print(f"{argv[0]}: its process was killed (out of memory?)", file=sys.stderr)
        return 1
    return status[0]


# ---- the helper ------------------------------------------------------------------------------------------------------


def _serve(session: int, path: Path) -> None:
    """Import once, then fork for each request until the session's process ends."""
    import gc
    import importlib

    session_fd = os.pidfd_open(session)
    gc.disable()  # nothing of what is imported is garbage
    for module in PRELOAD:
        importlib.import_module(module)
    gc.freeze()  # a collection in a child would touch, and so copy, every page that holds an object
    gc.enable()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind(str(path))
    server.listen(64)
    try:
        while True:
            ready, _, _ = select.select([server, session_fd], [], [])
            if session_fd in ready:
                return
            connection, _ = server.accept()
            if os.fork() == 0:
                server.close()
                os.close(session_fd)
                _child(connection)
            connection.close()
    finally:
        path.unlink(missing_ok=True)
        path.with_suffix(".lock").unlink(missing_ok=True)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.killpg(0, signal.SIGTERM)


def _child(connection: socket.socket) -> None:
    """Take over the caller's streams, folder and environment, run the script, report its status; never returns."""
    status = 1
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        header, ancillary, _, _ = connection.recvmsg(4, socket.CMSG_SPACE(12))
        streams = array.array("i")
        streams.frombytes(ancillary[0][2])
        for target, stream in enumerate(streams):
            os.dup2(stream, target)
            os.close(stream)
        request = json.loads(_receive(connection, int.from_bytes(header, "big")))
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["environ"])
        threading.Thread(target=_die_with, args=(connection,), daemon=True).start()
        status = _run(request["argv"])
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        with contextlib.suppress(OSError):
            connection.sendall(bytes([status & 0xFF]))
        os._exit(status & 0xFF)


def _receive(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        if not part:
            raise ConnectionError("the caller is gone")
        data += part
    return data


def _die_with(connection: socket.socket) -> None:
    """The caller was killed when its end closes: stop at once; outputs have temporary names until they are whole."""
    with contextlib.suppress(OSError):
        if not connection.recv(1):
            os._exit(1)


if __name__ == "__main__":
    if sys.argv[1] == "--serve":
        _serve(int(sys.argv[2]), Path(sys.argv[3]))
    else:
        sys.exit(main(sys.argv[1:]))
