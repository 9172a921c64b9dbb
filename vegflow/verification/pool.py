"""The pool of candidates and the outcome matrix, collected once: every check of every distinct candidate, no early stop.

Knows rollouts, tasks and executors; what a pipeline would make of the outcomes is for replays and runs.
"""

import hashlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from vegflow.config.evaluation import EvaluationConfig
from vegflow.config.verification import VerificationConfig
from vegflow.errors import ArtifactError, ConfigError
from vegflow.tasks.functions import FunctionTask, function_program
from vegflow.tasks.task import Task
from vegflow.verification.executor import Check, Checks, Entry
from vegflow.verification.functions import FunctionExecutor
from vegflow.verification.lint import lint
from vegflow.verification.stored import TEST

Progress = Callable[[int, int, str], None]


class Collected(NamedTuple):
    """Rows of two tables."""

    pool: list[dict[str, Any]]
    """Rows of POOL."""
    checks: list[dict[str, Any]]
    """Rows of CHECKS."""


def collect_functions(
    rollouts: Iterable[Mapping[str, Any]],
    tasks: Mapping[str, FunctionTask],
    config: VerificationConfig,
    progress: Progress | None = None,
) -> Collected:
    """Run every check of every distinct completion. `rollouts` are rows of ROLLOUTS, or have task_id and completion.

    Weak checks too run in a process of the candidate's own here, so that no neighbour has a hand in what is stored.
    Raises ConfigError for a completion of an unknown task, and for a stage `lint` without ruff.
    """
    rows = _distinct(rollouts, tasks)
    for row in rows:
        row["program"] = function_program(tasks[row["task_id"]], row["completion"])
    entries = [Entry.of(row) for row in rows]
    checks: list[Checks] = [{} for _ in rows]
    executor = FunctionExecutor(tasks, config)
    try:
        for found, syntax in zip(checks, executor.parse(entries), strict=True):
            found.update(syntax)
        _lint(entries, checks, config)
        for number, (entry, found) in enumerate(zip(entries, checks, strict=True)):
            count = len(tasks[entry.task_id].tests)
            found.update(executor.examine(entry, range(count), early=False))
            if progress is not None:
                progress(number + 1, len(entries), entry.task_id)
    finally:
        executor.close()
    for row, found in zip(rows, checks, strict=True):
        tests = [found["import"], *(found[TEST.format(n)] for n in range(len(tasks[row["task_id"]].tests)))]
        failures = [check for check in tests if check.outcome != "pass"]
        kind = (failures[0].error_kind or failures[0].outcome) if failures else ""
        row |= {"correct": not failures, "reward": float(not failures), "fast_1": not failures, "error_kind": kind}
    return Collected(rows, _check_rows(rows, checks))


def collect_kernels(
    rollouts: Iterable[Mapping[str, Any]],
    evaluations: Iterable[Mapping[str, Any]],
    tasks: Mapping[str, Task],
    programs: Mapping[str, str | None],
    evaluation: EvaluationConfig,
    config: VerificationConfig,
    progress: Progress | None = None,
) -> Collected:
    """The same for kernels: verdicts and rewards come from `evaluations` (rows of EVALUATIONS) of the rollouts.

    `programs`: rollout_id -> the assembled program, None where the completion holds none. Tests are the correctness
    trials, each run to its end, without timing; their outcomes can differ from the evaluation's, which draws inputs of its
    own. Raises ArtifactError for a rollout without an evaluation.
    """
    from vegflow.verification.kernels import KernelExecutor  # loads torch

    rollouts, verdicts = list(rollouts), {row["rollout_id"]: row for row in evaluations}
    lacking = [row["rollout_id"] for row in rollouts if row["rollout_id"] not in verdicts]
    if lacking:
        raise ArtifactError(f"verification: {len(lacking)} rollouts have no evaluation, {lacking[0]} among them")
    rows, names = _distinct(rollouts, tasks), {}
    for rollout in rollouts:
        names.setdefault((rollout["task_id"], sha256(rollout["completion"])), rollout["rollout_id"])
    languages = []
    for row in rows:
        rollout_id = names[row["task_id"], row["completion_sha256"]]
        verdict = verdicts[rollout_id]
        row |= {"program": programs[rollout_id], "error_kind": "" if verdict["correct"] else verdict["status"]}
        row |= {"correct": verdict["correct"], "reward": verdict["speedup"], "fast_1": verdict["fast_1"]}
        languages.append(verdict["language"])
    entries = [Entry.of(row) for row in rows]
    executor = KernelExecutor(tasks, config, evaluation)
    try:
        checks = executor.parse(entries)
        _lint(entries, checks, config)
        for number, (entry, found, language) in enumerate(zip(entries, checks, languages, strict=True)):
            trials = range(executor.trials(entry.task_id))
            found.update(executor.examine(entry, trials, early=False, language=language))
            if progress is not None:
                progress(number + 1, len(entries), entry.task_id)
    finally:
        executor.close()
    return Collected(rows, _check_rows(rows, checks))


def sha256(text: str) -> str:
    """SHA-256 (hex) of a text in UTF-8."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _distinct(rollouts: Iterable[Mapping[str, Any]], known: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row of POOL, without what checks say, for each distinct completion of a task, by task and first index."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    seen: dict[str, int] = {}
    for rollout in rollouts:
        task_id, completion = rollout["task_id"], rollout["completion"]
        if task_id not in known:
            raise ConfigError(f"verification: a completion answers {task_id!r}, which is none of the tasks")
        index = seen[task_id] = seen.get(task_id, -1) + 1
        name = sha256(completion)
        row = rows.get((task_id, name))
        if row is not None:
            row["count"] += 1
            continue
        logprob = rollout.get("logprob")
        rows[task_id, name] = {
            "task_id": task_id,
            "completion_sha256": name,
            "program": None,
            "completion": completion,
            "count": 1,
            "first_index": index,
            "n_tokens": rollout.get("n_tokens"),
            "nll": None if logprob is None else -logprob,
            "truncated": rollout.get("finish_reason") == "length",
        }
    order = {task_id: place for place, task_id in enumerate(known)}
    return sorted(rows.values(), key=lambda row: (order[row["task_id"]], row["first_index"]))


def _lint(entries: Sequence[Entry], checks: Sequence[Checks], config: VerificationConfig) -> None:
    """Add the check `lint`; where ruff is absent and no pipeline asks for it, there is none."""
    asked = any(stage.name == "lint" for stages in config.parsed().values() for stage in stages)
    began = time.perf_counter()
    try:
        codes = lint([entry.program or "" for entry in entries])
    except ConfigError:
        if asked:
            raise
        return
    each = (time.perf_counter() - began) / max(len(entries), 1)
    for found, code in zip(checks, codes, strict=True):
        found["lint"] = Check("fail" if code else "pass", code, wall_s=each, cpu_s=each)


def _check_rows(rows: Sequence[Mapping[str, Any]], checks: Sequence[Checks]) -> list[dict[str, Any]]:
    return [
        {"task_id": row["task_id"], "completion_sha256": row["completion_sha256"], "check": name} | check.row()
        for row, found in zip(rows, checks, strict=True)
        for name, check in found.items()
    ]
