"""What a worker or a build may not do: limits, capabilities, file system (Landlock), system calls (seccomp), network.

Knows Linux through ctypes and nothing of tasks; what a kernel lacks is reported layer by layer, never skipped in silence.
"""

import contextlib
import ctypes
import os
import platform
import resource
import signal
import stat
import struct
import sys
import sysconfig
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from vegflow.evaluation.syscalls import DENIED, NUMBERS, seccomp_program

_libc = ctypes.CDLL(None, use_errno=True)
_users_apart = False
"""Whether this process, by `namespaces`, is in a user namespace of its own."""

PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, PR_SET_CHILD_SUBREAPER = 1, 22, 38, 36
CLONE_NEWUTS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWNET = 0x04000000, 0x08000000, 0x10000000, 0x40000000
LANDLOCK_CREATE, LANDLOCK_ADD, LANDLOCK_RESTRICT = 444, 445, 446
LANDLOCK_EXECUTE, LANDLOCK_REFER = 1 << 0, 1 << 13
LANDLOCK_WRITE_FILE, LANDLOCK_READ_FILE, LANDLOCK_READ_DIR, LANDLOCK_IOCTL_DEV = 1 << 1, 1 << 2, 1 << 3, 1 << 15
PROC = ("/proc/self", "/proc/cpuinfo", "/proc/meminfo", "/proc/sys/vm/overcommit_memory")
"""What of /proc a program reads that minds its own business."""
MOST_THREADS = 512
"""Threads of all workers of one parent, where the kernel counts them: see `namespaces`."""


@dataclass(frozen=True)
class Limits:
    """What one worker or one build may take."""

    address_space: int | None
    """Bytes beyond what its parent has; None on CUDA, whose driver reserves all address space."""
    cpu_s: int
    """CPU seconds of one process, all threads together."""
    file_bytes: int = 0
    """Largest file it may write; a worker writes none."""


def _check(result: int, what: str) -> int:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")
    return result


def _syscall(number: int, *arguments: object) -> int:
    return _libc.syscall(ctypes.c_long(number), *arguments)


def prctl(option: int, value: int) -> None:
    """One `prctl` call; OSError if the kernel refuses."""
    _check(_libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0), f"prctl {option}")


def die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when its parent dies; exit at once if it is dead already."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def namespaces(device: str) -> str:
    """Leave the network, the IPC objects and the host name of the machine; every later child inherits it.

    Must run before any thread exists. Where it takes a user namespace, the kernel counts the workers' threads apart from
    the user's others, and they can be limited. Returns what came of it: "network ipc uts", or raises OSError.
    """
    flags = CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS
    if _libc.unshare(flags) == 0:
        return "network ipc uts"
    if device == "cuda":  # the driver does not start in a user namespace
        raise OSError("not permitted without a user namespace, which CUDA does not bear")
    global _users_apart
    uid, gid = os.getuid(), os.getgid()
    _check(_libc.unshare(CLONE_NEWUSER | flags), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    _users_apart = True
    return "user network ipc uts"


def landlock_abi() -> int:
    """The kernel's Landlock version; 0 if it has none."""
    return max(0, _syscall(LANDLOCK_CREATE, None, ctypes.c_size_t(0), ctypes.c_uint32(1)))


def readable_paths() -> list[str]:
    """What a candidate may read: the interpreter, its packages, system libraries; no home, no results, no /tmp.

    Of /proc its own process, of /dev what everybody has.
    """
    places = [
        sys.prefix,
        sys.base_prefix,
        *sys.path,
        "/usr",
        "/lib",
        "/lib64",
        "/etc/ld.so.cache",
        *PROC,
        "/sys/devices/system/cpu",
        "/sys/devices/system/node",
        "/sys/kernel/mm/transparent_hugepage",
        "/dev/null",
        "/dev/zero",
        "/dev/random",
        "/dev/urandom",
    ]
    return [place for place in dict.fromkeys(places) if place and place != "/" and os.path.exists(place)]


def library_paths() -> list[str]:
    """What a Python function may read: the standard library, without the installed packages, and the system's libraries.

    A package may hold the tests that the function is to pass.
    """
    library = Path(sysconfig.get_paths()["stdlib"])
    places = [str(path) for path in library.iterdir() if path.name not in ("site-packages", "dist-packages")]
    triplet = sysconfig.get_config_var("MULTIARCH") or ""
    places += [f"/usr/lib/{triplet}", f"/lib/{triplet}"] if triplet else []
    places += ["/usr/lib64", "/lib64", "/etc/ld.so.cache", "/usr/share/zoneinfo", *PROC, "/dev/null", "/dev/urandom"]
    return [place for place in dict.fromkeys(places) if os.path.exists(place)]


def landlock_ruleset(device: str, readable: Sequence[str]) -> int:
    """A file descriptor of a Landlock rule set: read `readable`, write no file, no TCP, no signal to others.

    Made once by the parent of the workers (and again for those that may read more), so it lets all of /proc be read, of which `confine` leaves a worker its own.
    OSError if the kernel has no Landlock.
    """
    read = LANDLOCK_READ_FILE | LANDLOCK_READ_DIR
    allowed = [(path, read) for path in (*readable, "/proc")]
    allowed.append(("/dev/null", LANDLOCK_READ_FILE | LANDLOCK_WRITE_FILE | LANDLOCK_IOCTL_DEV))
    return _landlock(allowed + (_gpu_paths() if device == "cuda" else []))


def _gpu_paths() -> list[tuple[str, int]]:
    """What the CUDA driver needs, and how: its devices, /sys, and /proc, through which cuInit names its threads."""
    read = LANDLOCK_READ_FILE | LANDLOCK_READ_DIR
    devices = [(str(p), LANDLOCK_READ_FILE | LANDLOCK_WRITE_FILE | LANDLOCK_IOCTL_DEV) for p in _gpu_devices()]
    return [*devices, ("/sys", read), ("/proc", read | LANDLOCK_WRITE_FILE)]


def _gpu_devices() -> Iterable[Path]:
    return sorted(Path("/dev").glob("nvidia*"))


def _own_ruleset(device: str) -> int:
    """A second rule set for the process that calls: of /proc only what is its own; of the rest all that the first allows.

    On CUDA, whose driver reads there, it may also read the rest of /proc.
    """
    rights = LANDLOCK_READ_FILE | LANDLOCK_READ_DIR | LANDLOCK_WRITE_FILE
    allowed = [(f"/{name}", rights) for name in os.listdir("/") if name != "proc"]
    allowed += [(path, rights & ~LANDLOCK_WRITE_FILE) for path in PROC]
    allowed.append(("/proc/self", rights))
    if device == "cuda":
        allowed.append(("/proc", rights & ~LANDLOCK_WRITE_FILE))
    # a file of /proc that nobody holds may be forgotten by the kernel, and comes back as another file, without a rule
    for path in PROC:
        with contextlib.suppress(FileNotFoundError):
            os.open(path, os.O_PATH | os.O_CLOEXEC)
    return _landlock([(path, access) for path, access in allowed if os.path.exists(path)], rights)


def build_ruleset(readable: Sequence[str], scratch: str, device: str = "cpu", *, moves: bool = False) -> int:
    """A file descriptor of a Landlock rule set for one build: read and execute `readable`, write in `scratch` only.

    On the `device` cuda it may use the GPU; if it `moves`, rename files from folder to folder in `scratch`. OSError if the kernel has no Landlock or `scratch` does not exist; a missing place in `readable` is left out.
    """
    read = LANDLOCK_READ_FILE | LANDLOCK_READ_DIR | LANDLOCK_EXECUTE
    allowed = [(path, read) for path in readable if os.path.exists(path)]
    allowed.append(("/dev/null", LANDLOCK_READ_FILE | LANDLOCK_WRITE_FILE))
    allowed.append((scratch, ~(LANDLOCK_EXECUTE | LANDLOCK_IOCTL_DEV | (0 if moves else LANDLOCK_REFER))))
    return _landlock(allowed + (_gpu_paths() if device == "cuda" else []))


def _landlock(allowed: Iterable[tuple[str, int]], only: int | None = None) -> int:
    """A rule set that denies all the kernel's Landlock can deny, but for these rights beneath these paths.

    With `only` it denies nothing but these rights.
    """
    abi = landlock_abi()
    if not abi:
        raise OSError("the kernel has no Landlock")
    rights = (1 << 13) - 1  # ABI 1, then: refer, truncate, device ioctl
    rights |= (1 << 13 if abi >= 2 else 0) | (1 << 14 if abi >= 3 else 0) | (LANDLOCK_IOCTL_DEV if abi >= 5 else 0)
    network, scopes = (3 if abi >= 4 else 0), (3 if abi >= 6 else 0)  # TCP; abstract sockets and signals
    if only is not None:
        rights, network, scopes = only, 0, 0
    attribute = struct.pack("=QQQ", rights, network, scopes)[: 24 if abi >= 6 else 16 if abi >= 4 else 8]
    ruleset = _check(
        _syscall(LANDLOCK_CREATE, attribute, ctypes.c_size_t(len(attribute)), ctypes.c_uint32(0)), "landlock"
    )
    for path, access in allowed:
        fd = os.open(path, os.O_PATH | os.O_CLOEXEC)
        if not stat.S_ISDIR(os.fstat(fd).st_mode):
            access &= LANDLOCK_EXECUTE | LANDLOCK_READ_FILE | LANDLOCK_WRITE_FILE | LANDLOCK_IOCTL_DEV
        rule = struct.pack("=Qi", access & rights, fd)
        _check(_syscall(LANDLOCK_ADD, ctypes.c_int(ruleset), ctypes.c_int(1), rule, ctypes.c_uint32(0)), path)
        os.close(fd)
    return ruleset


def _limit(limits: Limits, executes: bool = False) -> str:
    def put(kind: int, soft: int, hard: int | None = None) -> None:
        hard = soft if hard is None else hard
        current = resource.getrlimit(kind)[1]
        if current != resource.RLIM_INFINITY:
            soft, hard = min(soft, current), min(hard, current)
        resource.setrlimit(kind, (soft, hard))

    put(resource.RLIMIT_CORE, 0)
    put(resource.RLIMIT_FSIZE, limits.file_bytes)
    put(resource.RLIMIT_NOFILE, 256)
    put(resource.RLIMIT_CPU, limits.cpu_s, limits.cpu_s + 2)
    if limits.address_space is not None:
        pages = 0 if executes else int(Path("/proc/self/statm").read_text().split()[0])
        put(resource.RLIMIT_AS, pages * resource.getpagesize() + limits.address_space)
    threads = _users_apart and os.getuid() != 0  # the limit does not bind root
    if threads:
        put(resource.RLIMIT_NPROC, MOST_THREADS)
    memory = ", memory" if limits.address_space is not None else ""
    return f"files, CPU time{memory}" + (", threads" if threads else "; threads only as the judge counts them")


def _drop_capabilities() -> str:
    header = struct.pack("=Ii", 0x20080522, 0)
    _check(_libc.capset(header, bytes(24)), "capset")
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    return "none held"


def _seccomp(builds: bool = False) -> str:
    machine = platform.machine()
    if machine not in NUMBERS:
        raise OSError(f"no system call table for {machine}")
    program = seccomp_program(machine, os.getpid(), builds=builds)
    buffer = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("=HxxxxxxQ", len(program) // 8, ctypes.addressof(buffer))
    _check(_libc.prctl(PR_SET_SECCOMP, ctypes.c_ulong(2), header, 0, 0), "seccomp")
    return f"{len(DENIED)} calls denied"


def confine(limits: Limits, ruleset: int | None) -> dict[str, str]:
    """Confine this process, a worker, for good. Returns layer -> what holds, or "lacking: why"."""
    device = "cuda" if limits.address_space is None else "cpu"
    layers: dict[str, Callable[[], str]] = {
        "limits": lambda: _limit(limits),
        "capabilities": _drop_capabilities,
        "landlock": lambda: _restrict_worker(ruleset, device),
        "seccomp": _seccomp,
    }
    return {name: attempt(layer) for name, layer in layers.items()}


def confine_build(limits: Limits, ruleset: int | None, *, executes: bool) -> dict[str, str]:
    """Confine this process, which builds, for good; it may still start processes, in its own group.

    With `executes` it is about to become another program: its memory limit is then that program's, not on top of what
    this one has. Returns layer -> what holds, or "lacking: why".
    """
    layers: dict[str, Callable[[], str]] = {
        "capabilities": _drop_capabilities,
        "landlock": lambda: _restrict(ruleset),
        "seccomp": lambda: _seccomp(builds=True),
        "limits": lambda: _limit(limits, executes),  # last: this process may have more than the limit
    }
    return {name: attempt(layer) for name, layer in layers.items()}


def _restrict_worker(ruleset: int | None, device: str) -> str:
    if ruleset is None:
        return _restrict(None)
    own = _own_ruleset(device)  # before the first one holds, which hides the list of what is there
    try:
        said = _restrict(ruleset)
        _restrict(own)
    finally:
        os.close(own)
    return said


def _restrict(ruleset: int | None) -> str:
    if ruleset is None:
        raise OSError("the kernel has no Landlock")
    _check(_syscall(LANDLOCK_RESTRICT, ctypes.c_int(ruleset), ctypes.c_uint32(0)), "landlock")
    return f"ABI {landlock_abi()}"


def attempt(layer: Callable[[], str]) -> str:
    """What `layer` says it holds, or "lacking: " and why it failed."""
    try:
        return layer()
    except (OSError, ValueError, AttributeError) as error:
        return f"lacking: {error}"
