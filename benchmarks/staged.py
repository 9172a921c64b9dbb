"""Staged verification of Python functions, really run: throughput and accuracy of pipelines beside the full test suite.

`VEGFLOW_STAGED_ROLLOUTS` names the completions, a Parquet file of rollouts or CodeT's file of HumanEval samples (JSON
lines), and `VEGFLOW_STAGED_TASKS` their tasks, `own` or `humaneval`; unset, the completions of our own catalogue that ship.
`VEGFLOW_STAGED_EVERY` takes every n-th task, `VEGFLOW_STAGED_SAMPLES` the first so many samples of each;
`VEGFLOW_STAGED_REPEATS` is the number of interleaved repeats, 5 if unset; `VEGFLOW_STAGED_OUT` is a folder for the tables, `VEGFLOW_STAGED_FROM` one to report from without running anything. The peer is `full`: every distinct candidate isolated, tests in order up to
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
from vegflow.artifacts.io import read_rows, write_table
from vegflow.artifacts.verification import CHECKS, POOL, RUNS, STAGE_COSTS, STAGE_RUNS
from vegflow.config.verification import FULL, VerificationConfig
from vegflow.tasks.functions import load_functions
from vegflow.verification.compose import compose_pools, costs_by_stage
from vegflow.verification.executor import Entry
from vegflow.verification.functions import FunctionExecutor
from vegflow.verification.pool import collect_functions
from vegflow.verification.replay import task_pools
from vegflow.verification.run import NOOP, run_pipelines

SHIPPED = Path(__file__).resolve().parents[1] / "resources" / "measured" / "functions" / "rollouts.parquet"
TEST_S = 0.25
"""CPU seconds for a test, in the full suite too: no right candidate of HumanEval's took 0.02 s for one."""
CAP = {"capped": 0.01}
TABLES = {"pool": POOL, "checks": CHECKS, "runs": RUNS, "stage_runs": STAGE_RUNS, "stage_costs": STAGE_COSTS}
HEADLINE = "cap, majority 2, full first"
PIPELINES: dict[str, list[Any]] = {
    "syntax, majority": ["syntax", "majority"],
    "lint, majority": ["syntax", "lint", "majority"],
    "1 test, majority": ["one_test", "majority"],
    "cap, majority": [CAP, "majority"],
    "cap, full first": [CAP, {"full": "first"}],
    HEADLINE: [CAP, {"majority": "top 2"}, {"full": "first"}],
    "cap, random 2, full first": [CAP, {"random": "top 2"}, {"full": "first"}],
    "majority 32, cap, full first": [{"majority": "top 32"}, CAP, {"full": "first"}],
    "random 32, cap, full first": [{"random": "top 32"}, CAP, {"full": "first"}],
    "full first": [{"full": "first"}],
    "majority 8, full first": [{"majority": "top 8"}, {"full": "first"}],
    "random 8, full first": [{"random": "top 8"}, {"full": "first"}],
    "length 8, full first": [{"length": "top 8"}, {"full": "first"}],
}


def run() -> dict:
    """Collect the pool, run every pipeline in interleaved repeats, compare with what is composed; print, return figures."""
    source = os.environ.get("VEGFLOW_STAGED_TASKS", "own")
    repeats = int(os.environ.get("VEGFLOW_STAGED_REPEATS", "5"))
    pipelines = {name: tuple(stages) for name, stages in PIPELINES.items()}
    about = {"domain": "functions", "rollouts": "completions", "tasks": source, "test_s": TEST_S}
    config = VerificationConfig(**about, pipelines=pipelines, repeats=repeats)
    stored = os.environ.get("VEGFLOW_STAGED_FROM")
    if stored:
        tables = {name: read_rows(Path(stored) / f"{name}.parquet", schema) for name, schema in TABLES.items()}
        return _report(tables, config)
    tasks = load_functions(source)
    path = Path(os.environ.get("VEGFLOW_STAGED_ROLLOUTS", SHIPPED))
    if not path.exists():
        sys.exit(f"{path}: there are no completions; name a file of them with VEGFLOW_STAGED_ROLLOUTS")
    rollouts = read(path, tasks)
    answered = {row["task_id"] for row in rollouts}
    every = int(os.environ.get("VEGFLOW_STAGED_EVERY", "1"))
    tasks = {task_id: tasks[task_id] for task_id in [each for each in tasks if each in answered][::every]}
    rollouts = _first(rollouts, tasks, int(os.environ.get("VEGFLOW_STAGED_SAMPLES", "100000")))
    pool, checks = collect_functions(rollouts, tasks, config, _say("collecting"))
    measured = run_pipelines(pool, checks, {}, tasks, config, progress=_say("running"))
    tables = {"pool": pool, "checks": checks} | measured._asdict()
    out = os.environ.get("VEGFLOW_STAGED_OUT")
    for name, schema in TABLES.items() if out else ():
        write_table(Path(out) / f"{name}.parquet", tables[name], schema, {})
    return _report(tables, config, _without_early_stop(pool, tasks, config))


def _first(rollouts: Sequence[Mapping[str, Any]], tasks: Mapping[str, Any], samples: int) -> list[Mapping[str, Any]]:
    """The first so many samples of each of the tasks."""
    taken: dict[str, int] = dict.fromkeys(tasks, 0)
    found = []
    for row in rollouts:
        if taken.get(row["task_id"], samples) < samples:
            taken[row["task_id"]] += 1
            found.append(row)
    return found


def _report(tables: Mapping[str, Any], config: VerificationConfig, exhaustive: float | None = None) -> dict:
    runs, pool = _by_name(tables["runs"]), tables["pool"]
    pools, costs = task_pools(pool, tables["checks"], {}, config), costs_by_stage(tables["stage_costs"])
    hangs = {(row["task_id"], row["completion_sha256"]) for row in tables["checks"] if row["outcome"] == "timeout"}
    full = runs[FULL]
    samples = full[0]["n_samples"]
    print(f"{len(pools)} tasks, {samples} samples, {len(pool)} candidates, {len(hangs)} of them time out")
    if exhaustive is not None:
        print(f"full suite without early stop: {exhaustive:.2f} times the wall time of that with it, time-outs apart")
    patient = _patient(tables, hangs, costs, config)
    heads = ("cand/s", "x full", "least", "most", "x CPU", "no hangs", "picked", "loss %", "wall c/r", "CPU c/r")
    print(f"{'pipeline':34}" + "".join(f"{head:>9}" for head in heads))
    figures: dict[str, Any] = {"pipelines": {}}
    within = {"wall_s": 0, "cpu_s": 0}
    for name in sorted(runs, key=lambda name: statistics.median(row["wall_s"] for row in runs[name])):
        one = _figures(name, runs, len(pool)) | _composed(runs[name], name, pools, costs, config)
        one |= {"cpu_ratio_without_time_outs": patient[name]} if name in patient else {}
        figures["pipelines"][name] = {key: round(value, 4) for key, value in one.items()}
        for key in within:
            within[key] += abs(one.get(f"composed_{key}", 0.0) - 1) <= 0.1
        keys = (
            "per_s",
            "wall_ratio",
            "wall_ratio_least",
            "wall_ratio_most",
            "cpu_ratio",
            "cpu_ratio_without_time_outs",
        )
        keys += ("picked_correct", "relative_loss", "composed_wall_s", "composed_cpu_s")
        print(f"{name:34}" + "".join(f"{_cell(key, one.get(key)):>9}" for key in keys))
    print(
        f"composed within 10 % of running: wall {within['wall_s']}, CPU {within['cpu_s']} of {len(runs) - 1} pipelines"
    )
    best = figures["pipelines"][HEADLINE]
    figures |= {
        "relative_accuracy_loss": best["relative_loss"],
        "cpu_ratio": best["cpu_ratio"],
        "cpu_ratio_without_time_outs": best["cpu_ratio_without_time_outs"],
        "full_per_s": figures["pipelines"][FULL]["per_s"],
        "noop_per_s": figures["pipelines"][NOOP]["per_s"],
        "time_outs": len(hangs),
        "candidates": len(pool),
        "composed_within_10_percent_wall": within["wall_s"],
        "composed_within_10_percent_cpu": within["cpu_s"],
    } | ({} if exhaustive is None else {"without_early_stop": round(exhaustive, 2)})
    return {"figures": figures, "peer": "the full suite in the same sandbox, early stop", "ratio": best["wall_ratio"]}


def _figures(name: str, runs: Mapping[str, Sequence[Mapping]], candidates: int) -> dict[str, float]:
    """Throughput and accuracy of a pipeline, beside the full suite's in the same repeats."""
    rows, full = runs[name], runs[FULL]
    walls, cpus = (
        [other[key] / row[key] for row, other in zip(rows, full, strict=True)] for key in ("wall_s", "cpu_s")
    )
    found = {
        "per_s": candidates / statistics.median(row["wall_s"] for row in rows),
        "wall_ratio": statistics.median(walls),
        "wall_ratio_least": min(walls),
        "wall_ratio_most": max(walls),
        "cpu_ratio": statistics.median(cpus),
    }
    if name == NOOP:
        return found
    picked = rows[0]["picked_correct"]
    return found | {"picked_correct": picked, "relative_loss": 1 - picked / full[0]["picked_correct"]}


def _patient(tables: Mapping[str, Any], hangs: Any, costs: Any, config: VerificationConfig) -> dict[str, float]:
    """Composed CPU time of the full suite over that of each pipeline, had there been no candidate that times out."""
    pool, checks = (
        [row for row in tables[name] if (row["task_id"], row["completion_sha256"]) not in hangs]
        for name in ("pool", "checks")
    )
    pools = task_pools(pool, checks, {}, config)
    cost = {name: compose_pools(stages, pools, costs, config).cpu_s for name, stages in config.parsed().items()}
    return {name: cost[FULL] / seconds for name, seconds in cost.items()}


def _cell(key: str, value: float | None) -> str:
    if value is None:
        return ""
    if key in ("picked_correct", "relative_loss"):
        return f"{value:.3f}" if key == "picked_correct" else f"{100 * value:.1f}"
    return f"{value:.0f}" if key == "per_s" else f"{value:.2f}"


def _composed(
    rows: Sequence[Mapping], name: str, pools: Any, costs: Any, config: VerificationConfig
) -> dict[str, float]:
    """Composed cost over the mean of the odd repeats, which it was not made from."""
    odd = [row for row in rows if row["repeat"] % 2]
    if name == NOOP or not odd:
        return {}
    cost = compose_pools(config.parsed()[name], pools, costs, config)
    real = {key: statistics.mean(row[key] for row in odd) for key in ("wall_s", "cpu_s")}
    return {f"composed_{key}": getattr(cost, key) / seconds for key, seconds in real.items()}


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


def _say(what: str) -> Any:
    def progress(done: int, total: int, text: str) -> None:
        if what == "running" or done % 500 == 0:
            print(f"{what} {done}/{total} {text}", file=sys.stderr, flush=True)

    return progress
