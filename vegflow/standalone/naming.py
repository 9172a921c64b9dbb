"""Which task is meant: by an id, by a number, by a KernelBench problem file; and which one a candidate's file names.

Knows how tasks are spoken of outside a study; where they come from is left to `vegflow.tasks`.
"""

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePath

from vegflow.config.tasks import Size, TasksConfig
from vegflow.errors import ConfigError
from vegflow.tasks.catalogue import builtin_tasks
from vegflow.tasks.kernelbench import problem_task
from vegflow.tasks.load import load_tasks
from vegflow.tasks.revisions import known_revision, problem_hash
from vegflow.tasks.task import Task

RULE = (
    "a file names its task by L1_12 or 12_ at the start of its name (L1_12_mine.py, 12_mine.c), by folders (L1/12/mine.py, "
    "L1_12/mine.py, level1/12_mine.py), or as KernelBench's runs do (level_1_problem_12_sample_0_kernel.py)"
)

_ID = re.compile(r"(?:(?:L|level_?)?(\d+)/)?(\d+)", re.IGNORECASE)
_IN_PATH = re.compile(r"(?:^|/)(?:L|level_?)(\d+)(?:[/_-]|_problem_)(\d+)(?=[/_.-]|$)", re.IGNORECASE)
_IN_NAME = re.compile(r"(\d+)[_.-]")


@dataclass(frozen=True)
class TaskSource:
    """Where ids are looked up."""

    size: Size = "cpu"
    """Of the built-in catalogue's tasks."""
    kernelbench: str | None = None
    """A checkout, Parquet file or data set of KernelBench's, instead of the catalogue."""

    @property
    def config(self) -> TasksConfig:
        """As a study's `tasks` block."""
        if self.kernelbench is None:
            return TasksConfig(size=self.size)
        return TasksConfig(source="kernelbench", path=self.kernelbench)


@dataclass(frozen=True)
class NamedTask:
    """A task, and where it is from in words."""

    task: Task
    origin: str

    @property
    def title(self) -> str:
        """Id and name."""
        return self.task.id if self.task.name == self.task.id else f"{self.task.id} {self.task.name}"


def find_tasks(names: Iterable[str], source: TaskSource) -> dict[str, NamedTask]:
    """Name -> task, for ids (`L1/12`, `12` for one of level 1) and paths of problem files.

    Raises ConfigError if there is no such task, with the nearest there is.
    """
    names = list(dict.fromkeys(names))
    files = {name: Path(name).expanduser() for name in names if _is_path(name)}
    ids = {name: _task_id(name) for name in names if name not in files}
    loaded = load_tasks(source.config, ids.values()) if ids else {}
    found = {name: problem_task(file) for name, file in files.items()} | {name: loaded[ids[name]] for name in ids}
    return {name: NamedTask(found[name], _origin(found[name], source, name in files)) for name in names}


def task_of_path(path: PurePath) -> str | None:
    """The id of the task that a candidate's path names, by `RULE`; None if it names none."""
    text = path.as_posix()
    if found := _IN_PATH.search(text):
        return f"L{int(found[1])}/{int(found[2])}"
    if found := _IN_NAME.match(path.name):
        return f"L1/{int(found[1])}"
    return None


def is_id(name: str) -> bool:
    """Whether a name has the form of an id, and is no path."""
    return _ID.fullmatch(name) is not None


def _is_path(name: str) -> bool:
    return name.endswith(".py") or (not is_id(name) and Path(name).expanduser().exists())


def _task_id(name: str) -> str:
    match = _ID.fullmatch(name)
    if not match:
        known = {task.name.lower(): task for task in builtin_tasks("cpu").values()}
        near = [f"{known[key].id} is {known[key].name}" for key in difflib.get_close_matches(name.lower(), known, 1)]
        hint = f" ({near[0]})" if near else ""
        raise ConfigError(f"task {name!r}: neither an id such as L1/12 nor a problem file that exists{hint}")
    return f"L{int(match[1] or 1)}/{int(match[2])}"


def _origin(task: Task, source: TaskSource, is_file: bool) -> str:
    """`the built-in catalogue, ...`, or KernelBench's name, with the revision."""
    if not is_file and source.kernelbench is None:
        return f"built-in catalogue, size {source.size}, revision {task.revision[:12]}"
    known = known_revision(task.source, task.id)
    if known is None:
        return f"problem file of {task.id}, unknown revision {problem_hash(task.source)[:7]}"
    other = f", of {known.task_id}" if known.task_id != task.id else ""
    return f"KernelBench {task.id}, revision {known}{other}"
