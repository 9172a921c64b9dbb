"""Really running pipelines on a pool, in interleaved repeats, and what each run and stage costs.

Knows clocks and the order of runs; what a stage does is in `verifiers`, who executes candidates in the executors.
"""

import contextlib
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from vegflow.config.evaluation import EvaluationConfig
from vegflow.config.verification import FULL, Stage, VerificationConfig
from vegflow.randomness import stream
from vegflow.tasks.functions import FunctionTask
from vegflow.tasks.task import Task
from vegflow.verification.executor import Entry, Executor
from vegflow.verification.functions import FunctionExecutor
from vegflow.verification.ledger import STAGE, Key, Ledger, own_cpu_s
from vegflow.verification.pipeline import StageRun, picks, run_pipeline, sum_of
from vegflow.verification.stored import test_orders
from vegflow.verification.team import Team
from vegflow.verification.verifiers import Context, Scorer

Progress = Callable[[int, int, str], None]
NOOP = "noop"
START = "start"
"""In STAGE_COSTS: what comes before the first stage, processes and models."""
BLOCK = 6
"""Tasks that each pipeline takes in turn."""
PROBE = "probe "
"""A stage by itself on the whole pool, for STAGE_COSTS."""


class Measured(NamedTuple):
    """Rows of three tables."""

    runs: list[dict[str, Any]]
    """Rows of RUNS."""
    stage_runs: list[dict[str, Any]]
    """Rows of STAGE_RUNS."""
    stage_costs: list[dict[str, Any]]
    """Rows of STAGE_COSTS."""


@dataclass(frozen=True)
class Bench:
    """What all runs share."""

    pool: Sequence[Mapping[str, Any]]
    tasks: Mapping[str, Any]
    config: VerificationConfig
    n_tests: Mapping[str, int]
    orders: Mapping[tuple[str, int], Sequence[int]]
    scores: Mapping[str, Mapping[Key, float]]
    scorers: Mapping[str, Scorer]
    start: Callable[[], Executor]
    """Starts an executor with its processes."""


def run_pipelines(
    pool: Sequence[Mapping[str, Any]],
    checks: Sequence[Mapping[str, Any]],
    scores: Mapping[str, Mapping[tuple[str, str], float]],
    tasks: Mapping[str, FunctionTask] | Mapping[str, Task],
    config: VerificationConfig,
    evaluation: EvaluationConfig | None = None,
    scorers: Mapping[str, Scorer] | None = None,
    progress: Progress | None = None,
) -> Measured:
    """Run every configured pipeline, `full` and `noop`, `config.repeats` times, in a new random order each time.

    `pool` are rows of POOL; `checks`, rows of CHECKS, serve learned test orders only. `scores`: name of a reward model
    -> (task_id, completion_sha256) -> score, taken where `scorers` (by name, too) has no model to run.
    `evaluation` is the evaluator's protocol, for kernels. Every run starts its own processes. A repeat goes through the
    pool in blocks of BLOCK tasks, and each block through all pipelines in a new random order, so that a busy minute of the
    machine is not one pipeline's alone. In the even repeats each stage also runs by itself on all of the pool: that is
    what STAGE_COSTS are from, so that the odd repeats are left to test what is composed of them.
    """
    bench = _bench(pool, checks, scores, tasks, config, evaluation, scorers or {})
    pipelines = {NOOP: ()} | config.parsed()
    probes = {PROBE + cost_key(stage): (plain(stage),) for stages in pipelines.values() for stage in stages}
    probes.pop(PROBE + FULL, None)  # the pipeline `full` is that already
    blocks = _blocks(pool)
    runs, stage_runs, costs = [], [], Costs()
    total = len(blocks) * (config.repeats * len(pipelines) + (config.repeats + 1) // 2 * len(probes))
    done = 0
    for repeat in range(config.repeats):
        turn = pipelines | (probes if repeat % 2 == 0 else {})
        names = sorted(turn)
        draws = stream("verification runs", config.seed, repeat)
        draws.shuffle(names)
        with contextlib.ExitStack() as stack:
            running = {name: stack.enter_context(contextlib.closing(Run(bench, name, turn[name]))) for name in names}
            for block in blocks:
                draws.shuffle(names)
                for name in names:
                    running[name].take(block)
                    done += 1
                    if progress is not None:
                        progress(done, total, f"repeat {repeat + 1}: {name} {running[name].wall_s:.2f} s")
        for name, run in running.items():
            if not name.startswith(PROBE):
                runs.append({"pipeline": name, "repeat": repeat} | run.row())
                stage_runs += _stage_rows(name, repeat, run.stages)
            if repeat % 2 == 0 and (name.startswith(PROBE) or name == FULL):
                costs.add(cost_key(turn[name][0]), run.stages[0].ledger, run.start)
    return Measured(runs, stage_runs, costs.rows())


def cost_key(stage: Stage) -> str:
    """The name under which a stage's costs are kept: neither `top M` nor `first B` changes what one candidate costs."""
    return plain(stage).text


def plain(stage: Stage) -> Stage:
    """The stage without `top M` or `first B`."""
    return Stage(stage.name, count=None if stage.name == FULL else stage.count, seconds=stage.seconds)


class Costs:
    """Ledgers of stages by themselves, added up over repeats."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, Key], list[float]] = {}
        self._repeats: dict[str, int] = {}

    def add(self, stage: str, ledger: Ledger, start: Ledger) -> None:
        """Take in one run of a stage, and what came before it."""
        for name, book in ((stage, ledger), (START, start)):
            self._repeats[name] = self._repeats.get(name, 0) + 1
            for key in book.wall_s:
                sums = self._sums.setdefault((name, key), [0.0, 0.0])
                sums[0] += book.wall_s[key]
                sums[1] += book.cpu_s[key]

    def rows(self) -> list[dict[str, Any]]:
        """Rows of STAGE_COSTS: means over the repeats."""
        return [
            {"stage": stage, "task_id": task_id, "completion_sha256": sha}
            | {"wall_s": wall / self._repeats[stage], "cpu_s": cpu / self._repeats[stage]}
            for (stage, (task_id, sha)), (wall, cpu) in sorted(self._sums.items())
        ]


def _bench(pool: Any, checks: Any, scores: Any, tasks: Any, config: Any, evaluation: Any, scorers: Any) -> Bench:
    needed = {row["task_id"]: tasks[row["task_id"]] for row in pool}
    counts: dict[str, int] = dict.fromkeys(needed, 0)
    for row in checks:
        if row["check"].startswith("test/") and row["task_id"] in counts:
            number = int(row["check"].removeprefix("test/"))
            counts[row["task_id"]] = max(counts[row["task_id"]], number + 1)

    def start() -> Executor:
        if config.domain == "functions":
            if config.workers > 1:
                return Team(lambda: FunctionExecutor(needed, config), config.workers)
            return FunctionExecutor(needed, config)
        from vegflow.verification.kernels import KernelExecutor  # loads torch

        return KernelExecutor(needed, config, evaluation or EvaluationConfig())

    orders = test_orders(checks, config, counts)
    return Bench(pool, needed, config, counts, orders, scores, scorers, start)


class Run:
    """One run of a pipeline: started once, then given the pool block by block."""

    def __init__(self, bench: Bench, name: str, stages: Sequence[Stage]) -> None:
        began, began_cpu = time.perf_counter(), own_cpu_s()
        self._bench, self._name, self._stages = bench, name, stages
        self._executor = bench.start()
        try:
            for ranker in {stage.name for stage in stages} & bench.scorers.keys():
                bench.scorers[ranker].load()
            cpu_s = self._executor.cpu_s() - began_cpu
        except BaseException:
            self._executor.close()
            raise
        self.wall_s = time.perf_counter() - began
        self.cpu_s = cpu_s
        self.start = Ledger(self._executor.cpu_s, {STAGE: self.wall_s}, {STAGE: cpu_s})
        """What came before the first stage."""
        self.stages: list[StageRun] = []
        self._picks: dict[str, Entry | None] = {}
        self._counts = {"n_samples": 0, "n_candidates": 0}

    def take(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Run it on some tasks' rows of the pool."""
        began, began_cpu = time.perf_counter(), self._executor.cpu_s()
        entries = [Entry.of(row) for row in rows]
        if self._name == NOOP:
            self._executor.noop(entries)
        else:
            course = run_pipeline(self._stages, entries, self._context())
            self._picks |= picks(self._stages, entries, course)
            sums = (
                [sum_of(*pair) for pair in zip(self.stages, course.runs, strict=True)] if self.stages else course.runs
            )
            self.stages = sums
        self.wall_s += time.perf_counter() - began
        self.cpu_s += self._executor.cpu_s() - began_cpu
        self._counts["n_samples"] += sum(entry.count for entry in entries)
        self._counts["n_candidates"] += len(entries)

    def row(self) -> dict[str, Any]:
        """The columns of RUNS but the first two."""
        times = {"wall_s": self.wall_s, "cpu_s": self.cpu_s, "fixed_s": self.start.wall_s[STAGE]}
        values = _values(self._bench.pool, self._picks)
        return self._counts | times | {"workers": self._bench.config.workers} | values

    def close(self) -> None:
        """End its processes."""
        self._executor.close()

    def _context(self) -> Context:
        bench = self._bench
        truth = {(row["task_id"], row["completion_sha256"]): row["reward"] for row in bench.pool}
        known = {"truth": truth, "scores": bench.scores, "scorers": bench.scorers}
        return Context(self._executor, bench.config, bench.n_tests, bench.orders, **known)


def _blocks(pool: Sequence[Mapping[str, Any]]) -> list[list[Mapping[str, Any]]]:
    """The pool's rows in blocks of BLOCK tasks each."""
    tasks = list(dict.fromkeys(row["task_id"] for row in pool))
    places = {task_id: number // BLOCK for number, task_id in enumerate(tasks)}
    blocks: list[list[Mapping[str, Any]]] = [[] for _ in range(math.ceil(len(tasks) / BLOCK))]
    for row in pool:
        blocks[places[row["task_id"]]].append(row)
    return blocks


def _values(pool: Sequence[Mapping[str, Any]], found: Mapping[str, Entry | None]) -> dict[str, float]:
    truth = {(row["task_id"], row["completion_sha256"]): row for row in pool}
    rows = [truth[task_id, entry.sha256] for task_id, entry in found.items() if entry is not None]
    return {
        "picked_correct": sum(row["correct"] for row in rows) / max(len(found), 1),
        "picked_reward": sum(row["reward"] for row in rows) / max(len(found), 1),
    }


def _stage_rows(name: str, repeat: int, stages: Sequence[StageRun]) -> list[dict[str, Any]]:
    return [
        {
            "pipeline": name,
            "repeat": repeat,
            "place": place,
            "stage": run.stage.text,
            "n_in": run.n_in,
            "n_kept": run.n_kept,
            "n_run": run.n_run,
            "wall_s": run.wall_s,
            "cpu_s": run.cpu_s,
        }
        for place, run in enumerate(stages)
    ]
