"""PyTorch's `load_inline`, taken apart: extensions are built where a compiler may run, and loaded where none may.

In a build's process the program's top level runs once and what `load_inline` builds is packed up; in the worker
`load_inline` hands out what was packed. A pack is the candidate's own doing and is opened in its worker only.
"""

import importlib.machinery
import importlib.util
import json
import os
import types
from pathlib import Path
from typing import Any

PROGRAM_FILE = "<program>"
HEADER = 8
"""Bytes in front of a pack's index that say its length."""


class MissingExtensionError(RuntimeError):
    """`load_inline` is called in a worker for something that was not built before."""


def build_all(program: str, folder: Path) -> bytes:
    """Run the program's top level with `load_inline` building below `folder`; the pack of what it built, in order.

    Raises what the program or the build raises.
    """
    from torch.utils import cpp_extension

    os.environ |= {"TORCH_EXTENSIONS_DIR": str(folder / "extensions"), "TMPDIR": str(folder), "MAX_JOBS": "1"}
    built: list[dict[str, Any]] = []
    genuine = cpp_extension.load_inline

    def load_inline(name: str, *arguments: Any, **options: Any) -> Any:
        options["build_directory"] = None
        before = set(folder.rglob("*.so"))
        result = genuine(name, *arguments, **options)
        new = sorted(set(folder.rglob("*.so")) - before)
        if new:  # the same name with other sources gets another file
            built.append({"name": name, "file": str(new[-1]), "python": options.get("is_python_module", True)})
        return result

    cpp_extension.load_inline = load_inline
    exec(compile(program, PROGRAM_FILE, "exec"), types.ModuleType("program").__dict__)
    return _pack(built)


def install(pack: bytes) -> None:
    """In a worker: have `load_inline` load what is in the pack, in the order of its names' calls.

    Raises ValueError if the bytes are no pack.
    """
    from torch.utils import cpp_extension

    waiting = _unpack(pack)

    def load_inline(name: str, *arguments: Any, **options: Any) -> Any:
        for index, (about, binary) in enumerate(waiting):
            if about["name"] == name:
                del waiting[index]
                return _load(about, binary)
        raise MissingExtensionError(f"no extension '{name}' was built; call load_inline at the module's top level")

    cpp_extension.load_inline = load_inline


def _load(about: dict[str, Any], binary: bytes) -> Any:
    import torch

    from vegflow.evaluation.native import sealed

    path = f"/proc/self/fd/{sealed(binary)}"  # stays open as long as the library is loaded
    if not about["python"]:
        torch.ops.load_library(path)
        return path
    name = about["module"]
    loader = importlib.machinery.ExtensionFileLoader(name, path)
    module = importlib.util.module_from_spec(importlib.util.spec_from_file_location(name, path, loader=loader))
    loader.exec_module(module)
    return module


def _pack(built: list[dict[str, Any]]) -> bytes:
    blobs = [Path(one["file"]).read_bytes() for one in built]
    index = [
        {"name": one["name"], "module": Path(one["file"]).stem, "python": one["python"], "bytes": len(blob)}
        for one, blob in zip(built, blobs, strict=True)
    ]
    text = json.dumps(index).encode()
    return len(text).to_bytes(HEADER, "big") + text + b"".join(blobs)


def _unpack(pack: bytes) -> list[tuple[dict[str, Any], bytes]]:
    size = int.from_bytes(pack[:HEADER], "big")
    try:
        index = json.loads(pack[HEADER : HEADER + size])
        start = HEADER + size
        found = []
        for about in index:
            found.append((about, pack[start : start + about["bytes"]]))
            start += about["bytes"]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"no pack of extensions: {error}") from None
    return found
