"""Who runs candidates for a stage: one interface for functions and kernels.

Knows what an execution says and what it is asked for; how it is done is in `functions` and `kernels`, what follows from
it in `stored`.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from vegflow.verification.ledger import Ledger


@dataclass(frozen=True)
class Entry:
    """A candidate as a pipeline sees it: nothing of what the full suite says."""

    task_id: str
    sha256: str
    """Of the completion."""
    program: str | None
    completion: str
    count: int
    """Samples that wrote it."""
    nll: float | None

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> "Entry":
        """From a row of POOL."""
        return cls(
            row["task_id"], row["completion_sha256"], row["program"], row["completion"], row["count"], row["nll"]
        )


@dataclass(frozen=True)
class Check:
    """What one check said."""

    outcome: str
    """One of OUTCOMES."""
    error_kind: str = ""
    answer: str | Sequence[Any] | None = None
    """What it answered: a digest, or the encoded answers that one can be made of; None if nothing."""
    wall_s: float = 0.0
    cpu_s: float = 0.0

    @property
    def answer_sha256(self) -> str | None:
        """Digest of what it answered, made when it is asked for."""
        return self.answer if self.answer is None or isinstance(self.answer, str) else answer_digest(self.answer)

    def row(self) -> dict[str, Any]:
        """The columns of CHECKS that are about the check."""
        times = {"wall_s": self.wall_s, "cpu_s": self.cpu_s}
        return {"outcome": self.outcome, "error_kind": self.error_kind, "answer_sha256": self.answer_sha256, **times}


Checks = dict[str, Check]
"""By name of the check: syntax, import, test/0..."""


@dataclass(frozen=True)
class Full:
    """What the full suite said."""

    correct: bool
    reward: float
    checks: Checks
    runs: int = 1
    """Executions made."""


class Executor(Protocol):
    """Runs candidates. What it is given at once may share a process, except for `full`, which isolates each candidate.

    Each call books its costs to `ledger`, candidate by candidate.
    """

    ledger: Ledger

    def parse(self, entries: Sequence[Entry]) -> list[Checks]:
        """The check `syntax`."""

    def load(self, entries: Sequence[Entry]) -> list[Checks]:
        """The check `import`."""

    def tests(
        self, entries: Sequence[Entry], numbers: Sequence[Sequence[int]], seconds: float | None = None
    ) -> list[Checks]:
        """`import` and some tests of each; up to the first time-out, and with `seconds` until those are used up."""

    def full(self, entries: Sequence[Entry], orders: Sequence[Sequence[int]], stop: int | None = None) -> list[Full]:
        """The full suite of one task's candidates, in turn, each up to its first failure, until `stop` of them pass."""

    def full_all(
        self, tasks: Sequence[tuple[Sequence[Entry], Sequence[Sequence[int]]]], stop: int | None = None
    ) -> list[list[Full]]:
        """The same for several tasks."""

    def settle(self) -> None:
        """A stage is over."""

    def noop(self, entries: Sequence[Entry]) -> None:
        """The isolation of each of them, and nothing in it."""

    def cpu_s(self) -> float:
        """CPU seconds so far of all its processes and of this one."""

    def close(self) -> None:
        """End its processes."""


def answer_digest(answers: Sequence[Any]) -> str:
    """Digest of encoded answers; sets and dictionaries count whatever their order."""
    return hashlib.sha256(json.dumps([_canonical(answer) for answer in answers]).encode()).hexdigest()


def _canonical(data: Any) -> Any:
    if not isinstance(data, list):
        return data
    tag, *items = data
    if tag == "d":  # of pairs, which have no tag
        return [tag, *sorted(([_canonical(key), _canonical(item)] for key, item in items), key=json.dumps)]
    items = [_canonical(item) for item in items]
    return [tag, *(sorted(items, key=json.dumps) if tag in ("s", "z") else items)]
