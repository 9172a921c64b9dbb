"""What is handed in: a file, a folder of files, or a Parquet table of candidates, as text with the task each is for.

Knows files and columns; what a program of a language looks like is left to `candidates` and `evaluation`.
"""

import ast
import re
import textwrap
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vegflow.candidates.extract import FENCE
from vegflow.candidates.scaffold import assemble
from vegflow.errors import ConfigError
from vegflow.evaluation.candidate import Candidate
from vegflow.evaluation.languages import LANGUAGES, compiled, fence_language, file_language, python_language
from vegflow.standalone.naming import RULE, is_id, task_of_path
from vegflow.tasks.task import Task

SUFFIXES = tuple(suffix for language in LANGUAGES.values() for suffix in language.suffixes)
TEXT_COLUMNS = ("program", "completion")

_DEFINES = re.compile(r"^\s*class\s+ModelNew\b|^ModelNew\s*=|^from\b.*\bimport\b.*\bModelNew\b", re.MULTILINE)


@dataclass(frozen=True)
class Submission:
    """One text that holds a candidate."""

    name: str
    """File, rollout or row."""
    task: str
    """The task it is for, as it was named."""
    text: str | None
    language: str = "python"
    """`python` stands for what the program's syntax says: python, triton or inline."""
    completion: bool = False
    """Whether the text is what a model wrote, with the program somewhere in it."""
    more: dict[str, Any] = field(default_factory=dict, hash=False, compare=False)
    """What else its source says of it, by column."""

    @property
    def scaffold(self) -> str:
        """`full` if the text holds a whole program, by its looks; else `body`."""
        text = self.text or ""
        block = FENCE.search(text) if self.completion else None
        if compiled(self.language) or (block and compiled(fence_language(block[1]))) or _DEFINES.search(text):
            return "full"
        return "body"

    def candidate(self, task: Task, scaffold: str | None = None) -> Candidate:
        """The candidate in it. Raises ConfigError for the body of a forward in a language that has none."""
        scaffold = scaffold or self.scaffold
        if self.text is None:
            return Candidate(task.id, None, "no program", self.language)
        if scaffold == "body" and compiled(self.language):
            raise ConfigError(f"{self.name}: the body of a forward is Python, and this is {self.language}")
        problem = "" if self.completion or scaffold == "full" else _syntax_problem(self.text)
        if problem:
            return Candidate(task.id, None, problem)
        if self.completion or scaffold == "body":
            found = assemble(self.text, task, scaffold)
            return Candidate(task.id, found.code, found.reason, found.language)
        language = python_language(self.text) if self.language == "python" else self.language
        return Candidate(task.id, self.text, language=language)


def _syntax_problem(body: str) -> str:
    """Why a file's body is no Python; extraction would look for a part of it that is, as it does in prose."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(textwrap.dedent(body))
    except SyntaxError as error:
        return f"SyntaxError: {error.msg}" + (f" (line {error.lineno})" if error.lineno else "")
    except (ValueError, RecursionError, MemoryError) as error:
        return f"{type(error).__name__}: {error}"
    return ""


def read_submissions(path: Path, task: str | None = None) -> list[Submission]:
    """The submissions in a file, a folder or a Parquet table; `task` is for all of them.

    Raises ConfigError if there is nothing to read, or no task to be told.
    """
    if not path.exists():
        raise ConfigError(f"{path}: there is no such file")
    if path.is_dir():
        return list(_from_folder(path, task))
    if path.suffix == ".parquet":
        return list(_from_parquet(path, task))
    return [_from_file(path, path, task)]


def is_batch(path: Path) -> bool:
    """Whether a path holds many candidates, and its verdicts are a table."""
    return path.is_dir() or path.suffix == ".parquet"


def _from_file(path: Path, name: PurePath, task: str | None) -> Submission:
    try:
        text = path.read_text(encoding="utf-8")
        language = file_language(path.name, text)
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not readable as text: {error}") from error
    except OSError as error:
        raise ConfigError(f"{path}: not readable: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(str(error)) from error
    task = task or task_of_path(PurePath(*name.parts[-4:]))
    if task is None:
        raise ConfigError(f"{path}: for which task? Give --task L1/12, or name it in the path: {RULE}")
    return Submission(str(name), task, text, "python" if language in ("triton", "inline") else language)


def _from_folder(folder: Path, task: str | None) -> Iterator[Submission]:
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    files = [path for path in files if not _hidden(path.relative_to(folder))]
    if not files:
        raise ConfigError(f"{folder}: holds no candidate, that is no file that ends in {' '.join(SUFFIXES)}")
    for path in files:
        yield _from_file(path, path.relative_to(folder), task)


def _hidden(path: PurePath) -> bool:
    return any(part.startswith(".") or part == "__pycache__" for part in path.parts) or path.name == "__init__.py"


def _from_parquet(path: Path, task: str | None) -> Iterator[Submission]:
    try:
        table = pq.read_table(path, partitioning=None)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise ConfigError(f"{path}: not a readable Parquet file: {error}") from error
    text = next((column for column in TEXT_COLUMNS if column in table.column_names), None)
    if text is None:
        raise ConfigError(f"{path}: has no column program or completion, but {', '.join(table.column_names)}")
    if task is None and "task_id" not in table.column_names:
        raise ConfigError(f"{path}: for which task? It has no column task_id; give --task")
    simple = [field.name for field in table.schema if not pa.types.is_nested(field.type)]
    for index, row in enumerate(table.select(simple).to_pylist()):
        language = row.get("language") or "python"
        where = f"{path}, row {index}"
        if language not in LANGUAGES:
            raise ConfigError(f"{where}: language {language!r} is none of {', '.join(LANGUAGES)}")
        if not isinstance(row[text], str | None) or not isinstance(row.get("task_id"), str | None):
            raise ConfigError(f"{where}: {text} and task_id must be text")
        named = task or row.get("task_id")
        if named is None or (task is None and not is_id(named)):
            raise ConfigError(f"{where}: task_id {named!r} is no id such as L1/12")
        language = "python" if language in ("triton", "inline") else language
        name = row.get("rollout_id") or f"row {index}"
        yield Submission(str(name), named, row[text], language, text == "completion", row)
