"""Staged verification of Python functions, really run: throughput and accuracy of pipelines beside the full test suite.

`VEGFLOW_STAGED_ROLLOUTS` names the completions, a Parquet file of rollouts or CodeT's file of HumanEval samples (JSON
lines), and `VEGFLOW_STAGED_TASKS` their tasks, `own` or `humaneval`; unset, the completions of our own catalogue that ship.
`VEGFLOW_STAGED_EVERY` takes every n-th task, `VEGFLOW_STAGED_SAMPLES` the first so many samples of each;
`VEGFLOW_STAGED_REPEATS` is the number of interleaved repeats, 5 if unset; `VEGFLOW_STAGED_OUT` is a folder for the tables. The peer is `full`: every distinct candidate isolated, tests in order up to
the first that fails. The ratio is its wall time over that of the pipeline HEADLINE, the median over repeats.
"""

import os
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks._completions import read
from vegflow.artifacts.io import write_table
from vegflow.artifacts.verification import CHECKS, POOL, RUNS, STAGE_COSTS, STAGE_RUNS
from vegflow.config.verification import FULL, VerificationConfig
from vegflow.tasks.functions import load_functions
from vegflow.verification.compose import compose_pools, costs_by_stage
from vegflow.verification.executor import Entry
from vegflow.verification.functions import FunctionExecutor
from vegflow.verification.pool import collect_functions
from vegflow.verification.replay import task_pools
from vegflow.verification.run import NOOP, Measured, run_pipelines

SHIPPED = Path(__file__).resolve().parents[1] / "resources" / "measured" / "functions" / "rollouts.parquet"
TEST_S = 0.25
"""CPU seconds for a test, in the full suite too: no right candidate of HumanEval's took 0.02 s for one."""
CAP = {"capped": 0.02}
HEADLINE = "cap, majority 2, full first"
PIPELINES: dict[str, list[Any]] = {
    "syntax, majority": ["syntax", "majority"],
    "lint, majority": ["syntax", "lint", "majority"],
    "1 test, majority": ["one_test", "majority"],
    "10 tests, majority": [{"tests": 10}, "majority"],
    "cap, majority": [CAP, "majority"],
    "full first": [{"full": "first"}],
    "1 test, full first": ["one_test", {"full": "first"}],
    "cap, full first": [CAP, {"full": "first"}],
    HEADLINE: [CAP, {"majority": "top 2"}, {"full": "first"}],
    "cap, random 2, full first": [CAP, {"random": "top 2"}, {"full": "first"}],
    "syntax, agreement 2, full first": ["syntax", {"agreement": "top 2"}, {"full": "first"}],
    "majority 8, full first": [{"majority": "top 8"}, {"full": "first"}],
    "random 8, full first": [{"random": "top 8"}, {"full": "first"}],
    "length 8, full first": [{"length": "top 8"}, {"full": "first"}],
}


def run() -> dict:
    """Collect the pool, run every pipeline in interleaved repeats, compare with what is composed; print, return figures."""
    source = os.environ.get("VEGFLOW_STAGED_TASKS", "own")
    path = Path(os.environ.get("VEGFLOW_STAGED_ROLLOUTS", SHIPPED))
    tasks = load_functions(source)
    rollouts = read(path, tasks)
    every = int(os.environ.get("VEGFLOW_STAGED_EVERY", "1"))
    kept = list(dict.fromkeys(task_id for task_id in tasks if any(row["task_id"] == task_id for row in rollouts)))[
        ::every
    ]
    tasks = {task_id: tasks[task_id] for task_id in kept}
    rollouts = _first(rollouts, tasks, int(os.environ.get("VEGFLOW_STAGED_SAMPLES", "100000")))
    repeats = int(os.environ.get("VEGFLOW_STAGED_REPEATS", "5"))
    pipelines = {name: tuple(stages) for name, stages in PIPELINES.items()}
    config = VerificationConfig(
        domain="functions", rollouts=path.name, tasks=source, pipelines=pipelines, repeats=repeats, test_s=TEST_S
    )
    pool, checks = collect_functions(rollouts, tasks, config, _say("collecting"))
    measured = run_pipelines(pool, checks, {}, tasks, config, progress=_say("running"))
    exhaustive = _without_early_stop(pool, tasks, config)
    out = os.environ.get("VEGFLOW_STAGED_OUT")
    if out:
        _save(Path(out), pool, checks, measured)
    return _report(pool, checks, measured, config, exhaustive)


def _first(rollouts: Sequence[Mapping[str, Any]], tasks: Mapping[str, Any], samples: int) -> list[Mapping[str, Any]]:
    """The first so many samples of each of the tasks."""
    taken: dict[str, int] = dict.fromkeys(tasks, 0)
    found = []
    for row in rollouts:
        if taken.get(row["task_id"], samples) < samples:
            taken[row["task_id"]] += 1
            found.append(row)
    return found


def _report(pool: Any, checks: Any, measured: Measured, config: VerificationConfig, exhaustive: float) -> dict:
    runs = _by_name(measured.runs)
    pools, costs = task_pools(pool, checks, {}, config), costs_by_stage(measured.stage_costs)
    hangs = {row["completion_sha256"] for row in checks if row["outcome"] == "timeout"}
    full = runs[FULL]
    accuracy = full[0]["picked_correct"]
    print(f"{len(pools)} tasks, {full[0]['n_samples']} samples, {len(pool)} candidates, {len(hangs)} of them time out")
    print(f"full suite without early stop: {exhaustive:.2f} times the wall time of that with it")
    heads = ("pipeline", "cand/s", "x full", "least", "most", "x CPU", "picked", "loss %", "wall c/r", "CPU c/r")
    print(f"{heads[0]:34}" + "".join(f"{head:>9}" for head in heads[1:]))
    figures: dict[str, Any] = {"pipelines": {}}
    within = {"wall_s": 0, "cpu_s": 0}
    for name in sorted(runs, key=lambda name: statistics.median(row["wall_s"] for row in runs[name])):
        rows = runs[name]
        ratios = {
            key: [other[key] / row[key] for row, other in zip(rows, full, strict=True)] for key in ("wall_s", "cpu_s")
        }
        speed = len(pool) / statistics.median(row["wall_s"] for row in rows)
        loss = 1 - rows[0]["picked_correct"] / accuracy
        composed = _composed(rows, name, pools, costs, config)
        for key, value in composed.items():
            within[key] += abs(value - 1) <= 0.1
        wall, cpu = (statistics.median(ratios[key]) for key in ("wall_s", "cpu_s"))
        cells = (
            f"{speed:.0f}",
            f"{wall:.2f}",
            f"{min(ratios['wall_s']):.2f}",
            f"{max(ratios['wall_s']):.2f}",
            f"{cpu:.2f}",
        )
        said = ("", "") if name == NOOP else (f"{rows[0]['picked_correct']:.3f}", f"{100 * loss:.1f}")
        ends = tuple(f"{composed[key]:.2f}" if key in composed else "" for key in ("wall_s", "cpu_s"))
        print(f"{name:34}" + "".join(f"{cell:>9}" for cell in (*cells, *said, *ends)))
        figures["pipelines"][name] = {
            "per_s": round(speed, 1),
            "wall_ratio": round(wall, 2),
            "cpu_ratio": round(cpu, 2),
            "relative_loss": round(loss, 4),
        } | {f"composed_{key}": round(value, 3) for key, value in composed.items()}
    print(
        f"composed within 10 % of running: wall {within['wall_s']}, CPU {within['cpu_s']} of {len(runs) - 1} pipelines"
    )
    best = figures["pipelines"][HEADLINE]
    figures |= {
        "relative_accuracy_loss": best["relative_loss"],
        "cpu_ratio": best["cpu_ratio"],
        "full_per_s": figures["pipelines"][FULL]["per_s"],
        "noop_per_s": figures["pipelines"][NOOP]["per_s"],
        "without_early_stop": round(exhaustive, 2),
        "time_outs": len(hangs),
        "candidates": len(pool),
        "composed_within_10_percent_wall": within["wall_s"],
        "composed_within_10_percent_cpu": within["cpu_s"],
    }
    return {"figures": figures, "peer": "the full suite in the same sandbox, early stop", "ratio": best["wall_ratio"]}


def _composed(
    rows: Sequence[Mapping], name: str, pools: Any, costs: Any, config: VerificationConfig
) -> dict[str, float]:
    """Composed cost over the mean of the odd repeats, which it was not made from."""
    odd = [row for row in rows if row["repeat"] % 2]
    if name == NOOP or not odd:
        return {}
    cost = compose_pools(config.parsed()[name], pools, costs, config)
    return {key: getattr(cost, key) / statistics.mean(row[key] for row in odd) for key in ("wall_s", "cpu_s")}


def _without_early_stop(pool: Any, tasks: Any, config: VerificationConfig) -> float:
    """Wall time of all tests over that of tests up to the first failure, on candidates in turn; time-outs left out."""
    executor = FunctionExecutor(tasks, config)
    times = {True: 0.0, False: 0.0}
    try:
        for number, entry in enumerate(map(Entry.of, pool[::5])):
            order = range(len(tasks[entry.task_id].tests))
            for early in (True, False) if number % 2 else (False, True):
                began = time.perf_counter()
                checks = executor.examine(entry, order, early=early)
                if any(check.outcome == "timeout" for check in checks.values()):
                    break
                times[early] += time.perf_counter() - began
    finally:
        executor.close()
    return times[False] / times[True]


def _by_name(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Mapping[str, Any]]]:
    found: dict[str, list[Mapping[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: row["repeat"]):
        found.setdefault(row["pipeline"], []).append(row)
    return found


def _save(folder: Path, pool: Any, checks: Any, measured: Measured) -> None:
    tables = {"pool": (pool, POOL), "checks": (checks, CHECKS), "runs": (measured.runs, RUNS)}
    tables |= {"stage_runs": (measured.stage_runs, STAGE_RUNS), "stage_costs": (measured.stage_costs, STAGE_COSTS)}
    for name, (rows, schema) in tables.items():
        write_table(folder / f"{name}.parquet", rows, schema, {})


def _say(what: str) -> Any:
    def progress(done: int, total: int, text: str) -> None:
        if what == "running" or done % 500 == 0:
            print(f"{what} {done}/{total} {text}", file=sys.stderr, flush=True)

    return progress
