"""The full statistics of many rollouts: seconds and memory, on two cores.

Writes a made-up study of `VEGFLOW_ROLLOUTS` rollouts (10 million if unset) over `VEGFLOW_TASKS` tasks (20,000) as Parquet
shards, with the columns that the analysis reads, and analyses it as `vegflow analyse` does, in a process of its own:
strategies, best-of-N curves, pipeline, power sampling, quartiles, correlations, paired tests, candidates, every table
written. Peak memory is the largest sum of the process's and its children's proportional set sizes.
"""

import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import psutil

ROLLOUTS = int(os.environ.get("VEGFLOW_ROLLOUTS", "10000000"))
TASKS = int(os.environ.get("VEGFLOW_TASKS", "20000"))
CORES = int(os.environ.get("VEGFLOW_CORES", "2"))
SHARD = 500_000
LAYOUT = os.environ.get("VEGFLOW_LAYOUT", "tasks")
"""What a shard holds: all samples of some `tasks`, or some `samples` of every task, as sample sets here are sharded."""
PROGRAMS = 12
"""Distinct programs a task."""


def run() -> dict[str, Any]:
    """Make the study, analyse it, print what it took."""
    folder = Path(tempfile.mkdtemp(prefix="vegflow-analysis-"))
    try:
        started = time.monotonic()
        make(folder, ROLLOUTS, TASKS, LAYOUT)
        made = time.monotonic() - started
        size = sum(path.stat().st_size for path in folder.rglob("*.parquet"))
        started = time.monotonic()
        command = [sys.executable, "-m", "vegflow.cli", "analyse", str(folder), "--no-report", "--cores", str(CORES)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        peak = watch(process)
        seconds = time.monotonic() - started
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        cpu = used.ru_utime + used.ru_stime
        if process.returncode:
            raise SystemExit(process.returncode)
        tables = {
            path.stem: pl.scan_parquet(path).select(pl.len()).collect().item()
            for path in (folder / "analysis" / "tables").glob("*.parquet")
        }
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(
        f"{ROLLOUTS:,} rollouts of {TASKS:,} tasks in shards of {LAYOUT}, {size / 2**30:.2f} GB of Parquet (made in {made:.0f} s)"
    )
    print(
        f"analysis on {CORES} cores: {seconds:.1f} s, {cpu:.1f} CPU-seconds, {ROLLOUTS / seconds:,.0f} rollouts/s, peak {peak / 2**30:.2f} GB"
    )
    print("rows: " + ", ".join(f"{name} {rows:,}" for name, rows in sorted(tables.items()) if rows))
    figures = {
        "layout": LAYOUT,
        "rollouts": ROLLOUTS,
        "tasks": TASKS,
        "seconds": round(seconds, 1),
        "cpu_s": round(cpu, 1),
        "peak_gb": round(peak / 2**30, 2),
        "cores": CORES,
    }
    return {"figures": figures}


def make(folder: Path, rollouts: int, tasks: int, layout: str = "tasks", seed: int = 0) -> None:
    """Write `rollouts` and `evaluations` in shards of some tasks, or of some samples of every task."""
    rng = np.random.default_rng(seed)
    each = rollouts // tasks
    for name in ("rollouts", "evaluations"):
        (folder / name).mkdir(parents=True)
    logits = -np.sort(-rng.normal(0, 1.5, (tasks, PROGRAMS)), axis=1)
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    speed = np.exp(rng.normal(-0.05, 0.25, (tasks, PROGRAMS)))
    good = rng.random((tasks, PROGRAMS)) < 0.8
    bounds, log_p = np.cumsum(p, axis=1), np.log(p)
    for number, (own, index) in enumerate(_shards(tasks, each, layout)):
        row, index = np.repeat(own, len(index)), np.tile(index, len(own)).astype(np.int32)
        chosen = (rng.random(len(row))[:, None] > bounds[row]).sum(axis=1).clip(0, PROGRAMS - 1)
        logprob = log_p[row, chosen]
        correct, speedup = good[row, chosen], np.where(good, speed, 0.0)[row, chosen]
        frame = pl.DataFrame({"t": row, "i": index, "c": chosen})
        task, program = pl.format("L1/{}", "t"), pl.format("{}:{}", "t", "c")
        rid = pl.format("samples/seed0:L1/{}:{}", "t", "i")
        frame.select(
            rollout_id=rid, source=pl.lit("samples"), step=pl.lit(None, pl.Int32), task_id=task, policy_id=pl.lit("base"),
            seed=pl.lit(0, pl.Int64), index="i", logprob=pl.Series(logprob), logprob_tempered=pl.Series(logprob * 1.3),
            n_tokens=(pl.col("c") * 3 + 10).cast(pl.Int32), n_prompt_tokens=pl.lit(300, pl.Int32),
            completion=pl.format("y = torch.form_{}(x)\nreturn y", program),
        ).write_parquet(folder / "rollouts" / f"shard{number:03d}.parquet")  # fmt: skip
        verdict = frame.select(
            rollout_id=rid, task_id=task, candidate_sha256=program, correct=pl.Series(correct), speedup=pl.Series(speedup),
            reason=pl.lit(""), status=pl.when(pl.Series(correct)).then(pl.lit("correct")).otherwise(pl.lit("wrong_output")),
            fast_1=pl.Series(correct & (speedup > 1)), fast=pl.Series(correct & (speedup > 1.05)),
            speedup_low=pl.Series(speedup * 0.97), speedup_high=pl.Series(speedup * 1.03), headroom=pl.lit(3.0),
            reference_us=pl.lit(100.0), evaluate_wall_s=pl.lit(0.05), evaluate_cpu_s=pl.lit(0.04),
        )  # fmt: skip
        verdict.sample(fraction=1, shuffle=True, seed=number).write_parquet(
            folder / "evaluations" / f"shard{number:03d}.parquet"
        )


def _shards(tasks: int, each: int, layout: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(tasks, numbers of samples) of each shard."""
    whole = layout == "tasks"
    step = max(1, SHARD // (each if whole else tasks))
    for first in range(0, tasks if whole else each, step):
        part = np.arange(first, min(first + step, tasks if whole else each))
        yield (part, np.arange(each)) if whole else (np.arange(tasks), part)


def watch(process: subprocess.Popen) -> int:
    """Wait for a process; the largest memory (proportional set size, bytes) it had together with its children."""
    peak, done = 0, threading.Event()
    threading.Thread(target=lambda: (process.wait(), done.set()), daemon=True).start()
    whole = psutil.Process(process.pid)
    while not done.wait(0.5):
        total = 0
        try:
            for one in (whole, *whole.children(recursive=True)):
                total += one.memory_full_info().pss
        except psutil.Error:
            continue
        peak = max(peak, total)
    return peak


if __name__ == "__main__":
    print(json.dumps(run()))
