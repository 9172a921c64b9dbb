"""Inside a build's process: confine it, then become the compiler, compile with a library, or have PyTorch build.

Runs in a child of the workers' parent, once, and never returns; what to build and what to make of it is for `build`.
Its working directory is a scratch directory with the source in it, and what it builds is left there.
"""

import contextlib
import ctypes
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

from vegflow.evaluation import inline, isolation, nvrtc, triton_cache

OUTPUT = "candidate.out"
"""The file in the scratch directory that holds what was built."""


def preload(order: dict[str, Any]) -> None:
    """In the parent, which stays: load the library that a build wants, so that no child pays for it."""
    if order["how"] == "nvrtc":
        with contextlib.suppress(OSError):  # the child says what is the matter
            nvrtc.load(order["library"])


def become(order: dict[str, Any], report: int) -> NoReturn:
    """Confine this process and build. `report`, a pipe, gets one JSON line: the layers that hold.

    A build that could not begin writes a second line with the reason. Exits with the compiler's status.
    """
    os.chdir(order["scratch"])
    ruleset: int | None = None
    try:
        device, moves = order.get("device", "cpu"), order["how"] == "triton"  # Triton renames what it has written
        ruleset = isolation.build_ruleset(order["readable"], order["scratch"], device, moves=moves)
    except OSError as error:
        lacking = str(error)
    executes = order["how"] == "run"
    step = STEPS[order["how"]]
    layers = isolation.confine_build(isolation.Limits(**order["limits"]), ruleset, executes=executes)
    if ruleset is None:
        layers["landlock"] = f"lacking: {lacking}"
    else:
        os.close(ruleset)
    os.write(report, json.dumps(layers).encode() + b"\n")
    os.set_inheritable(report, False)
    try:
        code = step(order)
    except OSError as error:
        os.write(report, f"{error}\n".encode())
        code = 70
    os._exit(code)


def _inline(order: dict[str, Any]) -> int:
    return _packed(order, lambda program, folder: inline.build_all(program, folder))


def _triton(order: dict[str, Any]) -> int:
    return _packed(order, lambda program, folder: triton_cache.build_all(program, folder, order["call"]))


def _packed(order: dict[str, Any], build: Callable[[str, Path], bytes]) -> int:
    """Have the program, which is Python, run with what it needs to build; its errors are messages."""
    os.environ |= order["environment"]
    try:
        pack = build(Path(order["source"]).read_text(), Path(order["scratch"]))
    except BaseException as error:
        os.write(2, f"\n{type(error).__name__}: {error}\n".encode("utf-8", "replace")[:60_000])
        return 1
    Path(OUTPUT).write_bytes(pack)
    return 0


def _run(order: dict[str, Any]) -> int:
    os.execve(order["argv"][0], order["argv"], order["environment"])


def _nvrtc(order: dict[str, Any]) -> int:
    source = Path(order["source"]).read_bytes()
    binary, log = nvrtc.compile_cubin(nvrtc.load(order["library"]), source, order["source"], order["options"])
    ctypes.CDLL(None).fflush(None)
    os.write(2, log[:60_000])
    if binary is None:
        return 1
    Path(OUTPUT).write_bytes(binary)
    return 0


STEPS: dict[str, Callable[[dict[str, Any]], int]] = {
    "run": _run,
    "nvrtc": _nvrtc,
    "inline": _inline,
    "triton": _triton,
}
