"""Where the default study's time and memory go: the whole of it, from nothing, in a folder of its own."""

import json
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent


def run() -> dict[str, Any]:
    """Run the study, print a table of stages, and return wall time, peak memory and seconds by stage."""
    folder = Path(tempfile.mkdtemp(prefix="vegflow-study-"))
    try:
        command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--cores", "all"]
        command += ["--directory", str(folder), "--workflow-profile", str(ROOT / "profiles" / "default")]
        started = time.monotonic()
        with open(folder / "log", "w") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
            peak = _watch(process)
        wall = time.monotonic() - started
        if process.returncode:
            raise SystemExit((folder / "log").read_text()[-3000:])
        stages = _stages(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{'stage':<12} {'jobs':>5} {'seconds':>9}  (wall time of the jobs, two of which may run at a time)")
    for stage, seconds in sorted(stages.items(), key=lambda item: -sum(item[1])):
        print(f"{stage:<12} {len(seconds):>5} {sum(seconds):>9.1f}")
    print(f"{'all':<12} {sum(map(len, stages.values())):>5} {wall:>9.1f}  peak memory {peak / 2**30:.2f} GB")
    figures = {"wall_s": round(wall, 1), "peak_gb": round(peak / 2**30, 2)}
    figures |= {f"{stage}_s": round(sum(seconds), 1) for stage, seconds in stages.items()}
    return {"figures": figures}


def _stages(folder: Path) -> dict[str, list[float]]:
    """Seconds of each job, by rule."""
    stages: dict[str, list[float]] = defaultdict(list)
    for path in folder.glob("results/*/benchmarks/**/*.jsonl"):
        _add(stages, path)
    for path in folder.glob("results/benchmarks/**/*.jsonl"):
        _add(stages, path)
    return stages


def _add(stages: dict[str, list[float]], path: Path) -> None:
    parts = path.parts[path.parts.index("benchmarks") + 1 :]
    stage = parts[0].removesuffix(".jsonl")
    stages[stage].append(json.loads(path.read_text().splitlines()[-1])["s"])


def _watch(process: subprocess.Popen) -> int:
    """Wait for a run to end; the largest memory (proportional set size, bytes) its processes had together."""
    peak = 0
    done = threading.Event()
    threading.Thread(target=lambda: (process.wait(), done.set()), daemon=True).start()
    while not done.wait(1.0):
        peak = max(peak, sum(map(_memory, _family(process.pid))))
    return peak


def _family(pid: int) -> set[psutil.Process]:
    """The process, its descendants, and the helper that its jobs share, with that one's descendants."""
    found: set[psutil.Process] = set()
    for process in psutil.process_iter():
        try:
            own = process.pid == pid or f"--serve {pid}" in " ".join(process.cmdline())
            if own:
                found |= {process, *process.children(recursive=True)}
        except psutil.Error:
            continue
    return found


def _memory(process: psutil.Process) -> int:
    try:
        return process.memory_full_info().pss
    except psutil.Error:
        return 0
