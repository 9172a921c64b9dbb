"""The ceilings of a device: bytes a second by how near the bytes can lie, floating-point operations a second by type.

Knows the datasheets (`resources/devices.yaml`), when to measure and where the numbers are kept; the measurement itself
is `ceiling_probe`, and what follows for a task is `roofline`.

Measured rates are the best ever seen on a machine: a later measurement can only raise them. A GPU's are never below its
datasheet's. A CPU's are those of one core, since candidates are timed on one. Ceilings that rest on measurements alone
carry an allowance, by which the hardware may be faster than torch's kernels found it.
"""

import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from vegflow.artifacts.io import atomic, digest
from vegflow.errors import ConfigError
from vegflow.evaluation.device import device_identity, lock_name, resolve_device
from vegflow.evaluation.timing_lock import timing_lock

DEVICES = Path(__file__).resolve().parents[2] / "resources" / "devices.yaml"
ALLOWANCE = 1.25
"""Of measured rates: torch's kernels are not the best there could be (compiled ones with AVX-512 were at most 1.19 times
as fast, at every size from 64 KiB to 64 MiB)."""
NEAREST = 4.0
"""How much faster the nearest cache may be than what is measured at the smallest size, where calling a kernel costs."""
SM_BYTES_PER_CLOCK = 64
"""What a multiprocessor can load from the second-level cache in a clock (NVIDIA, V100 to H100)."""
SPLIT = 3
"""Half-precision products that give one of float32's accuracy (Ootomo and Yokota, 2022)."""
HALF = ("float16", "bfloat16")
MOST_ROUNDS = 6
"""Measurements of one machine, however many claims call for another one."""
PATIENCE_S = 120.0


@dataclass(frozen=True)
class Level:
    """A level of memory: of what a call touches, at most so many bytes can lie there or nearer."""

    up_to_bytes: float
    bytes_per_s: float


@dataclass(frozen=True)
class Ceilings:
    """What a device can do at most."""

    identity: str
    levels: tuple[Level, ...]
    """From the nearest to the farthest, each slower than the one before; none if nothing is known."""
    flops_per_s: Mapping[str, float] = field(default_factory=dict)
    """By type, tensor cores included."""
    allowance: float = 1.0
    """How many times as fast as all this the device may turn out to be."""
    source: str = "unknown"

    def seconds_for_bytes(self, count: float) -> float:
        """Least time to move `count` bytes: as many as can from the nearest level, the others from the next ones."""
        seconds, moved = 0.0, 0.0
        for level in self.levels:
            part = min(count, level.up_to_bytes) - moved
            if part <= 0:
                break
            seconds += part / level.bytes_per_s
            moved += part
        return seconds

    def seconds_for_flops(self, count: float) -> float:
        """Least time for `count` operations in float32's accuracy, on its own units or split into half precision."""
        half = max((self.flops_per_s.get(dtype, 0.0) for dtype in HALF), default=0.0)
        rate = max(self.flops_per_s.get("float32", 0.0), half / SPLIT)
        return count / rate if rate else 0.0

    def seconds_for_flops_of_any_type(self, count: float) -> float:
        """Least time for `count` operations in whatever type is the fastest."""
        return count / max(self.flops_per_s.values(), default=math.inf)


@dataclass(frozen=True)
class Measurement:
    """What `ceiling_probe` found on a machine, the best over all rounds."""

    identity: str
    rounds: int
    bytes_per_s: Mapping[str, float]
    """Size of the working set, bytes -> rate."""
    flops_per_s: Mapping[str, float]
    properties: Mapping[str, float]
    problem: str = ""
    """Why it found nothing, if so."""

    def best(self, other: "Measurement") -> "Measurement":
        """The better of both in everything, with the rounds of both."""
        return replace(
            self,
            rounds=self.rounds + other.rounds,
            bytes_per_s=_larger(self.bytes_per_s, other.bytes_per_s),
            flops_per_s=_larger(self.flops_per_s, other.flops_per_s),
            properties={**self.properties, **other.properties},
        )


_known: dict[tuple[str, Path | None], Measurement] = {}


def ceilings(device: str, cache: Path | None, *, again: bool = False) -> Ceilings:
    """The ceilings of this machine's `device` (`auto`, `cpu` or `cuda`).

    Measured once (a CPU takes about one core-second, and three for starting torch), kept in the directory `cache`, and
    in this process. `again` measures once more before answering, up to `MOST_ROUNDS` times in all, and keeps the best
    of all: what a claim should be held against before it is called impossible. Waits for the timing lock of the device;
    do not call it while holding that. A machine that cannot be measured has the datasheet's ceilings or none.
    """
    device = resolve_device(device)
    identity = device_identity(device)
    known = _known.get((identity, cache)) or _read(cache, identity)
    if known is None or (again and known.rounds < MOST_ROUNDS):
        found = _measure(device, identity)
        kept = _read(cache, identity) or known  # another job may have been faster
        known = found.best(kept) if kept else found
        _write(cache, known)
    _known[identity, cache] = known
    return derive(device, known)


def derive(device: str, found: Measurement) -> Ceilings:
    """What a measurement and, for CUDA, the datasheet say together."""
    return _cuda_ceilings(found) if device == "cuda" else _cpu_ceilings(found)


def _cpu_ceilings(found: Measurement) -> Ceilings:
    sizes = sorted(map(int, found.bytes_per_s))
    if not sizes:
        return Ceilings(found.identity, (), source=f"not measured: {found.problem}")
    rates = [max(found.bytes_per_s[str(near)] for near in sizes if near >= size) for size in sizes]
    # What lies between two sizes gets the smaller one's rate, which is the faster one.
    ends, speeds = [*sizes, math.inf], [NEAREST * rates[0], *rates]
    levels = tuple(map(Level, ends, speeds))
    return Ceilings(found.identity, levels, found.flops_per_s, ALLOWANCE, f"{_measured(found)} on one core")


def _cuda_ceilings(found: Measurement) -> Ceilings:
    name = found.identity.split(";")[0]
    sheet = datasheet(name)
    measured = max(found.bytes_per_s.values(), default=0.0)
    if sheet is not None:
        far, flops = max(sheet.bytes_per_s, measured), _larger(sheet.flops_per_s, found.flops_per_s)
        l2, sms, clock = sheet.l2_bytes, sheet.multiprocessors, sheet.clock_hz
        allowance, source = 1.0, f"datasheet of {name} ({sheet.source})"
    elif measured:
        far, flops = measured, dict(found.flops_per_s)
        l2, sms, clock = (found.properties.get(key, 0.0) for key in ("l2_bytes", "multiprocessors", "clock_hz"))
        allowance, source = ALLOWANCE, f"{_measured(found)} on {name}"
    else:
        return Ceilings(
            found.identity, (), source=f"{name} is not in the table of devices; not measured: {found.problem}"
        )
    near = max(NEAREST * far, SM_BYTES_PER_CLOCK * sms * clock)
    return Ceilings(found.identity, (Level(l2, near), Level(math.inf, far)), flops, allowance, source)


def _measured(found: Measurement) -> str:
    return f"measured {found.rounds} time{'s' if found.rounds > 1 else ''}"


@dataclass(frozen=True)
class Datasheet:
    """The peaks of a GPU as its maker gives them."""

    bytes_per_s: float
    flops_per_s: Mapping[str, float]
    """Dense, by type."""
    l2_bytes: float
    multiprocessors: int
    clock_hz: float
    source: str


def datasheet(name: str, path: Path = DEVICES) -> Datasheet | None:
    """The datasheet of the GPU that the driver calls `name`: of those whose words all occur in it, the longest."""
    words = set(name.replace("-", " ").lower().split())
    entries = [(key.lower().split(), sheet) for key, sheet in _datasheets(path).items()]
    fitting = [(len(key), sheet) for key, sheet in entries if words.issuperset(key)]
    return max(fitting, key=lambda pair: pair[0])[1] if fitting else None


@cache
def _datasheets(path: Path) -> Mapping[str, Datasheet]:
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
        return {
            name: Datasheet(
                bytes_per_s=entry["memory_GB_s"] * 1e9,
                flops_per_s={dtype: tera * 1e12 for dtype, tera in entry["TFLOP_s"].items()},
                l2_bytes=entry["l2_MB"] * 2**20,
                multiprocessors=entry["multiprocessors"],
                clock_hz=entry["clock_MHz"] * 1e6,
                source=entry["source"],
            )
            for name, entry in entries.items()
        }
    except (OSError, yaml.YAMLError, AttributeError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is not a table of devices ({type(error).__name__}: {error})") from error


def _measure(device: str, identity: str) -> Measurement:
    """Run the probe; a measurement without rates if it fails."""
    command = [sys.executable, "-P", "-m", "vegflow.evaluation.ceiling_probe", device]
    paths = [str(Path(__file__).resolve().parents[2]), os.environ.get("PYTHONPATH", "")]
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    environment = {**os.environ, **threads, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    try:
        with timing_lock(lock_name(device)):
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=PATIENCE_S, check=True
            )
        return _measurement({"identity": identity, "rounds": 1, **json.loads(done.stdout)})
    except (OSError, subprocess.SubprocessError, ValueError, TypeError, KeyError) as error:
        last = str(getattr(error, "stderr", None) or "").strip().splitlines()[-1:]
        return Measurement(identity, 1, {}, {}, {}, " ".join([f"{type(error).__name__}: {error}", *last]))


def _measurement(entry: Mapping[str, Any]) -> Measurement:
    """From JSON. Raises KeyError, TypeError or ValueError if it is not one."""
    tables = [
        {str(key): float(value) for key, value in dict(entry[name]).items()}
        for name in ("bytes_per_s", "flops_per_s", "properties")
    ]
    if not all(math.isfinite(value) and value >= 0 for table in tables for value in table.values()):
        raise ValueError("a rate is not a number")
    sizes = tuple(map(int, tables[0]))
    if any(size <= 0 for size in sizes):
        raise ValueError("a size is not a number of bytes")
    return Measurement(str(entry["identity"]), int(entry["rounds"]), *tables)


def _path(directory: Path, identity: str) -> Path:
    return directory / f"ceilings-{digest(identity)[:16]}.json"


def _read(directory: Path | None, identity: str) -> Measurement | None:
    if directory is None:
        return None
    try:
        found = _measurement(json.loads(_path(directory, identity).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return found if found.identity == identity else None


def _write(directory: Path | None, found: Measurement) -> None:
    if directory is not None and found.bytes_per_s:
        with atomic(_path(directory, found.identity)) as temporary:
            temporary.write_text(json.dumps(asdict(found), indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _larger(first: Mapping[str, float], second: Mapping[str, float]) -> dict[str, float]:
    return {key: max(first.get(key, 0.0), second.get(key, 0.0)) for key in {**first, **second}}
