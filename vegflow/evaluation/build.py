"""From a candidate's source to its binary: hostile text through a compiler that is confined like a candidate.

Knows compilers, their flags and the cache of what was built; how a build is confined is in `isolation` and `builder`,
and what a binary does when loaded is `native`'s and `cuda_driver`'s. A binary is never loaded here, and never trusted.
"""

import contextlib
import fcntl
import hashlib
import os
import platform
import re
import shutil
import signal
import stat
import subprocess
import sysconfig
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from vegflow.artifacts.io import atomic, digest
from vegflow.evaluation import isolation, launches, nvrtc, triton_cache
from vegflow.evaluation.builder import OUTPUT
from vegflow.evaluation.languages import LARGEST
from vegflow.evaluation.nursery import MOST_PROCESSES, Zygote
from vegflow.evaluation.verdict import Fault

LARGEST_BINARY = 64 << 20
MEMORY = 1 << 30
"""Address space of each of a compiler's processes, bytes."""
INLINE_MEMORY = 6 << 30
"""The same where PyTorch's headers are compiled."""
ARCHITECTURE = "sm_90"
PREFIX = "vegflow-build-"
UNLOCKED_S = 60.0
"""Age at which a scratch directory is locked by whoever uses it."""

HEADER = """\
#ifndef VEGFLOW_H
#define VEGFLOW_H
#include <stdint.h>
typedef struct { void *data; int32_t dtype; int32_t ndim; const int64_t *shape; } vegflow_tensor;
enum {
    VEGFLOW_FLOAT32, VEGFLOW_FLOAT64, VEGFLOW_FLOAT16, VEGFLOW_BFLOAT16, VEGFLOW_INT64, VEGFLOW_INT32,
    VEGFLOW_INT16, VEGFLOW_INT8, VEGFLOW_UINT8, VEGFLOW_BOOL
};
#ifdef __cplusplus
extern "C"
#endif
int forward(const vegflow_tensor *inputs, int n_inputs, vegflow_tensor *outputs, int n_outputs);
#endif
"""
"""What every C and C++ candidate that does not declare the structure itself is given, before its first line."""

_WARNINGS = ("-w", "-fmax-errors=3", "-fdiagnostics-color=never", "-fno-diagnostics-show-caret")
_CODE = ("-O3", "-march=native", "-fno-math-errno", "-fno-plt", "-fopenmp", "-fPIC", "-shared", "-pipe")
_LINK = ("-Wl,--as-needed", "-Wl,-z,defs", "-Wl,--require-defined=forward", "-Wl,-z,noexecstack", "-lm")
_COMPILERS = {"c": ("gcc", "candidate.c", "-std=gnu17"), "cpp": ("g++", "candidate.cpp", "-std=gnu++20")}
_PACKED = ("inline", "triton")
"""Languages whose build runs a Python program and gives a pack of what it had built."""
_DECLARES = re.compile(r"\}\s*vegflow_tensor\s*;|struct\s+vegflow_tensor\b|\busing\s+vegflow_tensor\b")
_PLACES = ("bin", "lib", "lib64", "libexec", "include", "x86_64-linux-gnu", "aarch64-linux-gnu")

_MEMORY = re.compile(
    r"^(?:\S*(?:cc1|cc1plus|as|ld|lto1|collect2)\S*: )?(?:virtual memory exhausted|out of memory|memory exhausted)"
    r"|^\S*(?:cc1|cc1plus|as|ld|gcc|g\+\+|collect2)\S*: .*(?:[Mm]emory exhausted|[Cc]annot allocate memory|Killed signal)"
    r"|(?:catastrophic error|LLVM ERROR): out of memory|^NVRTC: NVRTC_ERROR_OUT_OF_MEMORY",
    re.MULTILINE,
)
_TIME = re.compile(r"^\S*(?:gcc|g\+\+|cc1|cc1plus|collect2)\S*: .*CPU time limit exceeded", re.MULTILINE)
_ERROR = re.compile(r"\b[Ee]rror:|undefined reference|undefined symbol|required symbol|multiple definition")


@dataclass(frozen=True)
class Built:
    """What a build gave."""

    binary: bytes
    """A shared library, a cubin, or a pack of `inline` or `triton_cache`."""
    wall_s: float
    """Of the build; 0 if the binary was in the cache."""
    cpu_s: float
    """Of all the compiler's processes, CPU seconds; 0 if the binary was in the cache."""
    cached: bool


@dataclass(frozen=True)
class Compiler:
    """One language's compiler on this machine."""

    order: dict[str, Any]
    """What a build's process is told; see `builder.become`."""
    source: str
    """Name of the source file in the scratch directory."""
    identity: str
    """Version, flags and machine: other ones give other binaries."""


def build(
    zygote: Zygote,
    program: str,
    language: str,
    cache: Path | None = None,
    timeout_s: float = 20.0,
    *,
    architecture: str | None = None,
    call: dict[str, Any] | None = None,
) -> Built:
    """Build one program, or take what was built before from `cache` (a directory; None keeps nothing).

    `timeout_s` is wall time; `architecture` is for CUDA, by default that of `default_architecture`; `call`, for Triton,
    is how the program will be called (see `triton_cache.build_all`). Raises Fault: `parse_error` (text no compiler is given), `compile_error` with the first
    useful line of the compiler's messages, `timeout`, `out_of_memory`, or `evaluator_error` if there is no compiler.
    """
    if len(program) > LARGEST:
        raise Fault("parse_error", f"a program of {len(program)} characters")
    try:
        source = program.encode()
    except UnicodeEncodeError as error:
        raise Fault("parse_error", f"UnicodeEncodeError: {error}") from None
    if b"\0" in source:
        raise Fault("parse_error", "the program contains null bytes")
    kernels = _kernels(program) if language == "cuda" else ()
    compiler = _compiler(language, architecture or default_architecture())
    entry = None
    if cache is not None:
        key = digest(hashlib.sha256(source).hexdigest(), language, compiler.identity, *([call] if call else []))
        entry = Path(cache) / key[:2] / f"{key}.bin"
        binary = _kept(entry)
        if binary is not None:
            return Built(binary, 0.0, 0.0, True)
    start = time.monotonic()
    more = {"call": call, "device": call["device"]} if call else {}
    binary, cpu_s = _build(zygote, source, language, compiler, timeout_s, more)
    for kernel in kernels:
        if f".text.{kernel}\0".encode() not in binary:
            raise Fault("compile_error", f'there is no kernel {kernel}; it must be extern "C" __global__')
    if entry is not None:
        _keep(entry, binary)
    return Built(binary, time.monotonic() - start, cpu_s, False)


def compiler_identity(language: str, architecture: str | None = None) -> str:
    """What a language's binaries depend on besides the source. Raises Fault `evaluator_error` without a compiler."""
    return _compiler(language, architecture or default_architecture()).identity


@cache
def default_architecture() -> str:
    """The present GPU's, such as `sm_90`, which is also the answer where there is none."""
    if not torch.cuda.is_available():
        return ARCHITECTURE
    major, minor = torch.cuda.get_device_capability()
    return f"sm_{major}{minor}"


def _kernels(program: str) -> tuple[str, ...]:
    try:
        return launches.parse(program).kernels
    except launches.PlanError as error:
        raise Fault("compile_error", str(error)) from None


def _build(
    zygote: Zygote, source: bytes, language: str, compiler: Compiler, timeout_s: float, more: dict[str, Any]
) -> tuple[bytes, float]:
    """The binary and the CPU seconds it cost; `more` is what the build's process is told besides."""
    _sweep(tempfile.gettempdir())
    with scratch() as folder:
        (Path(folder) / compiler.source).write_bytes(source)
        order = compiler.order | {"scratch": os.path.realpath(folder)} | more
        if language in _COMPILERS and not _DECLARES.search(source.decode()):
            (Path(folder) / "vegflow.h").write_text(HEADER)
            order["argv"] = [*order["argv"], "-include", "vegflow.h"]
        if order["how"] == "run":
            order["environment"] = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TMPDIR": folder, "HOME": "/"}
        memory = INLINE_MEMORY if language in _PACKED else MEMORY
        space = None if more.get("device") == "cuda" else memory  # the CUDA driver reserves all there is
        limits = {"address_space": space, "cpu_s": max(1, int(timeout_s)) + 1, "file_bytes": LARGEST_BINARY}
        done = zygote.build(order | {"limits": limits, "memory": memory}, timeout_s)
        if done.excess == "memory":
            raise Fault("out_of_memory", "building takes more memory than it may")
        if done.excess == "processes":
            raise Fault("compile_error", f"building takes more than {MOST_PROCESSES} processes")
        if done.excess or _TIME.search(done.messages) or done.death.signal == signal.SIGXCPU:
            raise Fault("timeout", f"building takes longer than {timeout_s:g} s")
        if done.death.code or done.death.signal:
            raise _fault(done.messages.replace(f"{folder}/", ""), done.death.signal, compiler.source)
        binary = _read(Path(folder) / OUTPUT)
    if binary is None or (language not in _PACKED and not binary.startswith(b"\x7fELF")):
        raise Fault("compile_error", "the compiler gave no binary")
    return binary, done.death.cpu_s


@contextlib.contextmanager
def scratch() -> Iterator[str]:
    """A directory for one build, or for what one built, locked as long as it is in use."""
    with tempfile.TemporaryDirectory(prefix=PREFIX, ignore_cleanup_errors=True) as folder:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield folder
        finally:
            os.close(handle)


@cache
def _sweep(folder: str) -> None:
    """Remove what judges that were killed during a build left; once in a process."""
    for path in Path(folder).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # locked: in use; or another user's
            handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                if time.time() - os.fstat(handle).st_mtime > UNLOCKED_S:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(handle)


def _fault(messages: str, died_of: int, source: str) -> Fault:
    memory = _MEMORY.search(messages)
    if memory:
        return Fault("out_of_memory", f"building: {memory[0]}")
    lines = [line for line in messages.splitlines() if line.strip()]
    useful = [line for line in lines if _ERROR.search(line)] or lines[:1] * (source != "candidate.py") or lines[-1:]
    if not useful:
        return Fault("compile_error", f"the compiler died of signal {died_of}" if died_of else "the compiler failed")
    return Fault("compile_error", useful[0].removeprefix(source).lstrip(":"))


def _read(path: Path) -> bytes | None:
    """A regular file of bounded size; None for anything else that a build may have left."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode) or about.st_size > LARGEST_BINARY:
            return None
        with open(handle, "rb", closefd=False) as file:
            return file.read(LARGEST_BINARY)
    finally:
        os.close(handle)


def _kept(entry: Path) -> bytes | None:
    """A cache entry's binary; None if there is none, or if it is not what was written."""
    try:
        data = entry.read_bytes()
    except OSError:
        return None
    return data[32:] if hashlib.sha256(data[32:]).digest() == data[:32] else None


def _keep(entry: Path, binary: bytes) -> None:
    with contextlib.suppress(OSError), atomic(entry) as temporary:  # a full disk costs a build, no verdict
        temporary.write_bytes(hashlib.sha256(binary).digest() + binary)


@cache
def _compiler(language: str, architecture: str) -> Compiler:
    if language == "cuda":
        return _cuda_compiler(architecture)
    if language == "inline":
        return _inline_compiler()
    if language == "triton":
        return _triton_compiler(architecture)
    if language not in _COMPILERS:
        raise ValueError(f"{language} programs are not built")
    name, source, standard = _COMPILERS[language]
    program, version = _program(name, language)
    flags = (standard, *_CODE, *_WARNINGS)
    argv = [program, *flags, "-o", OUTPUT, source, *_LINK]
    prefix = Path(program).parent.parent
    order = {"how": "run", "argv": argv, "readable": _readable((Path("/usr"), Path("/"), prefix))}
    return Compiler(order, source, digest(version, argv, HEADER, _machine()))


def _program(name: str, language: str) -> tuple[str, str]:
    """Path and version of a compiler or its tool. Raises Fault `evaluator_error` if this machine has none."""
    found = shutil.which(name, path=os.environ.get("PATH", os.defpath) + ":/usr/bin:/bin")
    if found is None:
        raise Fault("evaluator_error", f"there is no {name} on this machine; {language} candidates need one")
    program = os.path.realpath(found)
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    return program, said.partition("\n")[0]


def _inline_compiler() -> Compiler:
    gcc, version = _program("g++", "inline")
    ninja, ninja_version = _program("ninja", "inline")
    places = [str(Path(program).parent) for program in (gcc, ninja)]
    environment = {"PATH": ":".join([*places, "/usr/bin", "/bin"]), "CXX": gcc, "LC_ALL": "C", "HOME": "/"}
    readable = [*isolation.readable_paths(), *_readable((Path("/"), *(Path(place).parent for place in places)))]
    order = {"how": "inline", "source": "candidate.py", "readable": readable, "environment": environment}
    return Compiler(order, "candidate.py", digest(version, ninja_version, torch.__version__, _machine()))


def _triton_compiler(architecture: str) -> Compiler:
    if not triton_cache.available():
        raise Fault("evaluator_error", "Triton is not installed; it comes with PyTorch's builds for CUDA")
    gcc, version = _program("gcc", "triton")  # for a stub that launches kernels
    place = Path(gcc).parent
    environment = {"PATH": f"{place}:/usr/bin:/bin", "CC": gcc, "LC_ALL": "C"}
    readable = [*isolation.readable_paths(), *_readable((Path("/"), place)), sysconfig.get_paths()["include"]]
    order = {"how": "triton", "source": "candidate.py", "readable": readable, "environment": environment}
    identity = digest("triton", metadata.version("triton"), torch.__version__, version, architecture, _machine())
    return Compiler(order, "candidate.py", identity)


def _cuda_compiler(architecture: str) -> Compiler:
    library = nvrtc.find()
    if library is None:
        raise Fault("evaluator_error", "NVRTC is not installed (pip install 'vegflow[cuda]'); cuda candidates need it")
    includes = nvrtc.include_folders(library)
    options = [f"--gpu-architecture={architecture}", "--std=c++17", "--disable-warnings", "-default-device"]
    options += [f"--include-path={folder}" for folder in includes]
    readable = [str(library.parent), *map(str, includes), "/proc/self", "/sys/devices/system/cpu"]
    readable += _readable((Path("/usr"), Path("/")))
    order = {
        "how": "nvrtc",
        "library": str(library),
        "options": options,
        "source": "candidate.cu",
        "readable": readable,
    }
    try:
        version = nvrtc.version(str(library))
    except OSError as error:
        raise Fault("evaluator_error", f"NVRTC cannot be loaded: {error}") from None
    return Compiler(order, "candidate.cu", digest("nvrtc", version, options, nvrtc.HEADERS))


def _readable(prefixes: Sequence[Path]) -> list[str]:
    """What a compiler reads below its prefixes; no home, no /etc, no /proc."""
    places = [prefix / place for prefix in prefixes for place in _PLACES]
    return [str(place) for place in dict.fromkeys(places) if place.exists()]


def _machine() -> list[str]:
    """What `-march=native` looks at."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    known = ("model name", "flags", "Features", "CPU implementer", "CPU part", "cache size")
    return [platform.machine(), *sorted({line for line in lines if line.partition(":")[0].strip() in known})]
