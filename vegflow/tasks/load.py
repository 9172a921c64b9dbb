"""The tasks and the task sets that a study's `tasks` block speaks of.

It knows which source holds an id; what a task looks like is left to the sources, `catalogue` and `kernelbench`.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from vegflow.config.tasks import TasksConfig
from vegflow.errors import ConfigError
from vegflow.tasks.catalogue import builtin_tasks
from vegflow.tasks.kernelbench import HUB_DATASET, kernelbench_tasks
from vegflow.tasks.splits import paper_sets
from vegflow.tasks.task import Task

_ID = re.compile(r"L([1-9]\d*)/([1-9]\d*)")


def load_tasks(config: TasksConfig, ids: Iterable[str]) -> dict[str, Task]:
    """The tasks with the given ids, by id and in the given order; an id given twice comes once.

    Raises ConfigError, with the nearest id there is, if the source has no such task, and if the source cannot be read.
    """
    wanted = list(dict.fromkeys(ids))
    known = _known_tasks(config, wanted)
    for task_id in wanted:
        if task_id not in known:
            raise ConfigError(_unknown(config, task_id, known))
    return {task_id: known[task_id] for task_id in wanted}


def load_revisions(options: Mapping[str, Any]) -> dict[str, Task]:
    """The tasks that a job's options name, with the revision that the study was planned with.

    `options` is what `vegflow.plan` wrote: the source's settings and `revisions`, task id -> revision.
    Raises ConfigError if a task's reference has changed in between.
    """
    settings = {key: value for key, value in options.items() if key != "revisions"}
    tasks = load_tasks(TasksConfig(**settings), options["revisions"])
    for task_id, revision in options["revisions"].items():
        if tasks[task_id].revision != revision:
            raise ConfigError(f"task {task_id}: its reference changed since the run was planned; start it again")
    return tasks


def task_sets(config: TasksConfig) -> dict[str, tuple[str, ...]]:
    """Task ids by name of set: the paper's sets, then the study's own, which override a set of the same name."""
    return {**paper_sets(), **config.sets}


def _known_tasks(config: TasksConfig, wanted: list[str]) -> dict[str, Task]:
    if config.source == "builtin":
        return builtin_tasks(config.size)
    levels = {int(match[1]) for task_id in wanted if (match := _ID.fullmatch(task_id))}
    return kernelbench_tasks(config.path, levels or {1}, config.revision)


def _unknown(config: TasksConfig, task_id: str, known: Iterable[str]) -> str:
    source = "the built-in catalogue" if config.source == "builtin" else (config.path or HUB_DATASET)
    nearest = _nearest(task_id, known)
    hint = f"; the nearest there is: {nearest}" if nearest else ", nor any other task of its level"
    return f"there is no task {task_id!r} in {source}{hint}"


def _nearest(task_id: str, known: Iterable[str]) -> str | None:
    """The known id closest by level, then by number; a single number in `task_id` is taken as one of level 1."""
    level, number = [1, 1, *map(int, re.findall(r"\d+", task_id))][-2:]

    def distance(other: str) -> tuple[int, int]:
        other_level, other_number = map(int, re.findall(r"\d+", other))
        return abs(level - other_level), abs(number - other_number)

    return min(known, key=distance, default=None)
