"""Verdicts on disk, each under the digest of all that it depends on, so that no candidate is judged twice.

Knows one small JSON file a verdict; when a verdict may be kept is for the judge to say.
"""

import contextlib
import fcntl
import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from vegflow.artifacts.io import atomic, digest, file_digest
from vegflow.config.evaluation import EvaluationConfig
from vegflow.evaluation.candidate import Candidate
from vegflow.evaluation.verdict import Verdict
from vegflow.tasks.task import Task


@cache
def code_identity() -> str:
    """Digest of the evaluator's own source: another evaluator gives other verdicts."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return digest(*[[file.name, file_digest(file)] for file in files])


def verdict_key(task: Task, candidate: Candidate, config: EvaluationConfig, identity: str) -> str:
    """What a verdict depends on, in one digest; `identity` is the device's."""
    return digest(task.revision, candidate.sha256, config.canonical(), identity, code_identity())


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

    @contextlib.contextmanager
    def claim(self, key: str) -> Iterator[None]:
        """Hold `key` against other jobs on this file system, so that of two that want a verdict one judges."""
        if self._directory is None:
            yield
            return
        folder = self._path(key).parent
        folder.mkdir(parents=True, exist_ok=True)
        with open(folder / ".lock", "w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield

    def _path(self, key: str) -> Path:
        assert self._directory is not None
        return self._directory / key[:2] / f"{key}.json"
