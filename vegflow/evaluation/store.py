"""Verdicts on disk, each under the digest of all that it depends on, so that no candidate is judged twice.

Knows one small JSON file a verdict; when a verdict may be kept is for the judge to say.
"""

import contextlib
import fcntl
import hashlib
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from vegflow.artifacts.io import atomic, digest, file_digest
from vegflow.config.evaluation import EvaluationConfig
from vegflow.evaluation.build import compiler_identity
from vegflow.evaluation.candidate import Candidate
from vegflow.evaluation.ceilings import DEVICES
from vegflow.evaluation.languages import compiled, normalised
from vegflow.evaluation.reference import Survey
from vegflow.evaluation.verdict import Fault, Verdict
from vegflow.tasks.task import Task


@cache
def code_identity() -> str:
    """Digest of the evaluator's own source and device table: another evaluator gives other verdicts."""
    files = [*sorted(Path(__file__).parent.glob("*.py")), DEVICES]
    return digest(*[[file.name, file_digest(file)] for file in files])


def verdict_key(task: Task, candidate: Candidate, config: EvaluationConfig, identity: str) -> str:
    """What a verdict depends on, in one digest; `identity` is the device's.

    Programs that differ in comments and layout only have one key.
    """
    language = candidate.language
    program = hashlib.sha256(normalised(candidate.program or "", language).encode("utf-8", "surrogatepass")).hexdigest()
    compiler = _compiler(language)
    return digest(task.revision, program, language, compiler, config.canonical(), identity, code_identity())


def _compiler(language: str) -> str:
    """The compiler's identity; empty for what is not compiled, or cannot be here."""
    try:
        return compiler_identity(language) if compiled(language) or language == "triton" else ""
    except Fault:
        return ""


def survey_key(task: Task, config: EvaluationConfig, identity: str) -> str:
    """What a task's survey depends on, in one digest."""
    protocol = config.resolved
    return digest(
        task.revision, protocol.kinds, protocol.shapes, config.atol, config.rtol, identity, code_identity(), "survey"
    )


class VerdictStore:
    """A directory of verdicts. Writers may come and go: each file is whole or absent."""

    def __init__(self, directory: Path | None) -> None:
        """`directory` None keeps nothing."""
        self._directory = directory

    def get(self, key: str) -> Verdict | None:
        """The verdict kept under `key`; None if there is none that can be read."""
        if self._directory is None:
            return None
        try:
            return Verdict.from_dict(json.loads(self._path(key).read_text())["verdict"])
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def put(self, key: str, verdict: Verdict, **about: Any) -> None:
        """Keep a verdict, with what a person would want to know `about` it."""
        if self._directory is None:
            return
        with atomic(self._path(key)) as temporary:
            temporary.write_text(json.dumps({"verdict": verdict.to_dict(), **about}, indent=1) + "\n")

    def get_survey(self, key: str) -> Survey | None:
        """The survey of a task kept under `key`; None if there is none that can be read."""
        if self._directory is None:
            return None
        try:
            return Survey.from_json(json.loads(self._path(key).read_text())["survey"])
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def put_survey(self, key: str, survey: Survey, task_id: str) -> None:
        """Keep what was found out about a task."""
        if self._directory is None:
            return
        with atomic(self._path(key)) as temporary:
            temporary.write_text(json.dumps({"survey": survey.to_json(), "task": task_id}, indent=1) + "\n")

    @contextlib.contextmanager
    def claim(self, key: str, *, wait: bool = True) -> Iterator[bool]:
        """Hold `key` against other jobs on this file system, so that of two that want a verdict one judges.

        Gives whether it is held: without `wait`, not if another has it. Keys may share a lock, so that who holds one and
        waits for another can wait forever.
        """
        if self._directory is None:
            yield True
            return
        folder = self._path(key).parent
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / ".lock", "w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                yield False
                return
            yield True

    def _path(self, key: str) -> Path:
        assert self._directory is not None
        return self._directory / key[:2] / f"{key}.json"
