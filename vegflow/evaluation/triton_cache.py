"""Triton, taken apart: kernels are compiled where compilers may run, and found by the worker, in which none may.

A kernel of Triton's is compiled when it is first called, for the types, the divisors and the constants of that call. So a
build calls the candidate once for every form of inputs that its task has, and packs up Triton's cache; the judge puts
that into a folder, which the candidate's worker may read. A pack is the candidate's own doing: no judge looks into it.
"""

import base64
import ctypes
import importlib.util
import json
import os
import pickle
import re
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PROGRAM_FILE = "<program>"
HEADER = 8
"""Bytes in front of a pack's index that say its length."""
FOLDER = "cache"
DRIVER = "libcuda.so.1"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,254}")
_GROUP = "__grp__"
"""Files of Triton's that name others, by their whole paths, begin with it."""


class MissingKernelError(RuntimeError):
    """A kernel is called in a worker in a way in which it was not called when the program was built."""


def build_all(program: str, folder: Path, call: dict[str, Any]) -> bytes:
    """Run the program on inputs of every form, Triton's compilers working below `folder`; the pack of what they made.

    `call` holds `class_name`, `init` (pickled), `init_seed`, `device` and `forms`, a list of lists of descriptions.
    Raises what the program or the compilers raise.
    """
    import torch  # not above: the zygote of Python functions imports this module, and isolates itself before torch is loaded

    os.environ |= {"TRITON_CACHE_DIR": str(folder / FOLDER), "TMPDIR": str(folder)}
    _name_driver(call["device"])
    module = types.ModuleType("program")
    sys.modules["program"] = module
    import linecache

    linecache.cache[PROGRAM_FILE] = (len(program), None, program.splitlines(keepends=True), PROGRAM_FILE)
    exec(compile(program, PROGRAM_FILE, "exec"), module.__dict__)
    torch.manual_seed(call["init_seed"])
    model = getattr(module, call["class_name"])(*pickle.loads(base64.b64decode(call["init"]))).to(call["device"])
    with torch.no_grad():
        for form in call["forms"]:
            model(*[_value(description, call["device"]) for description in form])
            if call["device"] == "cuda":
                torch.cuda.synchronize()
    return _pack(folder / FOLDER)


def _value(description: dict[str, Any], device: str) -> Any:
    """Some value of a form: normal numbers; zeros where they are integers, since an index must fit."""
    if description["kind"] != "tensor":
        return pickle.loads(base64.b64decode(description["pickle"]))
    import torch

    dtype, shape = getattr(torch, description["dtype"]), description["shape"]
    if dtype.is_floating_point:
        return torch.randn(shape, device=device).to(dtype)
    return torch.zeros(shape, dtype=dtype, device=device)


def install(folder: str, ptxas: dict[str, str], device: str) -> None:
    """In a worker: have Triton find in `folder` what was compiled, and ask no program what version it is.

    `ptxas` is what its assembler says of itself by architecture, which is part of a kernel's name in the cache. Raises
    ImportError without Triton.
    """
    from triton import knobs
    from triton.backends.nvidia import compiler
    from triton.runtime.cache import FileCacheManager

    class Built(FileCacheManager):
        """What is there; nothing is added."""

        def __init__(self, key: str, override: bool = False, dump: bool = False) -> None:
            self.key, self.lock_path, self.cache_dir = key, None, os.path.join(folder, key)
            if override or dump or not os.path.isdir(self.cache_dir):
                raise MissingKernelError(
                    "a kernel is called with types, sizes or constants that no build has met; what Triton compiles may "
                    "depend on shapes and types of inputs, not on their values or on how often it was called"
                )

    os.environ["TRITON_CACHE_DIR"] = folder
    _name_driver(device)
    knobs.cache.manager_class = Built
    asked = compiler.get_ptxas_version
    compiler.get_ptxas_version = lambda arch=80: ptxas.get(str(arch)) or asked(arch)


def _name_driver(device: str) -> None:
    """Say where the driver's library lies, which Triton else asks a program of the system for."""
    if device == "cuda":
        ctypes.CDLL(DRIVER)
        for line in Path("/proc/self/maps").read_text().splitlines():
            if os.path.basename(line.partition("/")[2]).startswith("libcuda.so"):
                os.environ["TRITON_LIBCUDA_PATH"] = os.path.dirname("/" + line.partition("/")[2])
                return


def _pack(folder: Path) -> bytes:
    """All files of a cache, and what its assembler says of itself."""
    from triton.backends.nvidia import compiler

    files = [path for path in sorted(folder.glob("*/*")) if path.is_file()]
    targets = {json.loads(path.read_text())["target"]["arch"] for path in files if _is_metadata(path)}
    blobs = [path.read_bytes() for path in files]
    names = [[path.parent.name, path.name, len(blob)] for path, blob in zip(files, blobs, strict=True)]
    versions = {str(arch): compiler.get_ptxas_version(arch) for arch in targets}
    text = json.dumps({"files": names, "ptxas": versions}).encode()
    return len(text).to_bytes(HEADER, "big") + text + b"".join(blobs)


def _is_metadata(path: Path) -> bool:
    return path.suffix == ".json" and not path.name.startswith(_GROUP)


def unpack(pack: bytes, folder: Path) -> dict[str, str]:
    """In the judge: put a pack's files below `folder`; what the assembler said of itself by architecture.

    Raises ValueError if the bytes are no pack, or a name in it is none of a file of Triton's cache.
    """
    size = int.from_bytes(pack[:HEADER], "big")
    start = HEADER + size
    try:
        index = json.loads(pack[HEADER:start])
        files = [(str(key), str(name), int(length)) for key, name, length in index["files"]]
        versions = {str(arch): str(text) for arch, text in index["ptxas"].items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ValueError(f"no pack of kernels: {error}") from None
    _check(files, len(pack) - start)
    for key, name, length in files:
        data, start = pack[start : start + length], start + length
        (folder / key).mkdir(exist_ok=True)
        (folder / key / name).write_bytes(_moved(data, folder / key) if name.startswith(_GROUP) else data)
    return versions


def _check(files: Sequence[tuple[str, str, int]], size: int) -> None:
    for key, name, length in files:
        if not (_NAME.fullmatch(key) and _NAME.fullmatch(name)) or length < 0:
            raise ValueError(f"no pack of kernels: a file {key!r}, {name!r} of {length} bytes")
    if sum(length for _, _, length in files) != size or len({file[:2] for file in files}) != len(files):
        raise ValueError("no pack of kernels: its files are not as long as it says, or one is there twice")


def _moved(group: bytes, folder: Path) -> bytes:
    """A group's file with the paths that hold in `folder`; as it is, if it is none."""
    try:
        children = json.loads(group)["child_paths"]
        moved = {str(name): str(folder / os.path.basename(str(path))) for name, path in children.items()}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return group
    return json.dumps({"child_paths": moved}).encode()


def available() -> bool:
    """Whether Triton is installed."""
    return importlib.util.find_spec("triton") is not None
