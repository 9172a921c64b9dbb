"""KernelBench's problems have changed under their names: which revision a problem's text is, by KernelBench's own hash.

Knows the table `resources/tasks/kernelbench_revisions.csv`, which `tools/kernelbench_revisions.py` makes from a clone of
its repository. The hash tells programs apart and nothing more: what a verdict is kept under is the text's SHA-256.
"""

import csv
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

RESOURCES = Path(__file__).resolve().parents[2] / "resources" / "tasks"
COLUMNS = ("task_id", "hash", "revisions", "commit", "date")
NAMED = {"v0": "6500bbc", "v0.1": "129232e", "HEAD": "423217d"}
"""Name -> commit: the branches `v0` and `v0.1`, and `main` as it was on 2026-03-05."""

_TRIPLE_QUOTED = re.compile('"""[\\s\\S]*?"""|' + "'''[\\s\\S]*?'''")
_COMMENT = re.compile("#.*")


@dataclass(frozen=True)
class Revision:
    """One text that a problem has had in KernelBench's repository."""

    task_id: str
    hash: str
    names: tuple[str, ...]
    """Those of `NAMED` in which the problem has this text; none for one that came and went between them."""
    commit: str
    """The first on `main` with this text."""
    date: str
    """Of that commit."""

    def __str__(self) -> str:
        if not self.names:
            return f"between revisions ({self.commit} of {self.date})"
        return ", ".join(f"{name} ({NAMED[name]})" for name in self.names)


def problem_hash(source: str) -> str:
    """KernelBench's hash of a problem: the MD5 of its text without triple-quoted strings, comments and blank space."""
    bare = _COMMENT.sub("", _TRIPLE_QUOTED.sub("", source))
    return hashlib.md5("".join(bare.split()).encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()


def known_revision(source: str, task_id: str = "") -> Revision | None:
    """The revision that has this text; None if none has. Of problems with one text, that of `task_id` if it is one."""
    found = _revisions(RESOURCES / "kernelbench_revisions.csv").get(problem_hash(source), ())
    return next((revision for revision in found if revision.task_id == task_id), found[0] if found else None)


@cache
def _revisions(table: Path) -> Mapping[str, tuple[Revision, ...]]:
    """Hash -> the revisions with it, those that have a name first."""
    known: dict[str, list[Revision]] = {}
    with table.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            names = tuple(row.pop("revisions").split())
            known.setdefault(row["hash"], []).append(Revision(names=names, **row))
    return {key: tuple(sorted(rows, key=lambda row: not row.names)) for key, rows in known.items()}
