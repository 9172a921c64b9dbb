"""Make resources/tasks/kernelbench_revisions.csv from a clone of https://github.com/ScalingIntelligence/KernelBench.

    python tools/kernelbench_revisions.py path/to/KernelBench

One row for each text that each problem has had on `main`: identifiers and hashes, none of KernelBench's code.
"""

import csv
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from vegflow.artifacts.io import atomic
from vegflow.tasks.revisions import COLUMNS, NAMED, RESOURCES, problem_hash

PROBLEM = re.compile(r"KernelBench/level(\d+)/(\d+)_.+\.py")


def rows(clone: Path) -> Iterator[tuple[str, ...]]:
    """The table's rows, by level, number and date."""
    history = git(clone, "log", NAMED["HEAD"], "--reverse", "--format=%h %as", "--abbrev=7", "--", "KernelBench")
    first: dict[tuple[int, int, str], tuple[str, str]] = {}
    for line in history.splitlines():
        commit, date = line.split()
        for problem in problems(clone, commit):
            first.setdefault(problem, (commit, date))
    named = {name: set(problems(clone, commit)) for name, commit in NAMED.items()}
    for level, number, text_hash in sorted(first, key=lambda key: (*key[:2], first[key][1], key[2])):
        names = [name for name in NAMED if (level, number, text_hash) in named[name]]
        yield f"L{level}/{number}", text_hash, " ".join(names), *first[level, number, text_hash]


def problems(clone: Path, commit: str) -> Iterator[tuple[int, int, str]]:
    """Level, number and hash of each problem at a commit."""
    for line in git(clone, "ls-tree", "-r", commit, "KernelBench/").splitlines():
        about, path = line.split("\t")
        if match := PROBLEM.fullmatch(path):
            yield int(match[1]), int(match[2]), problem_hash(blob(clone, about.split()[2]))


@cache
def blob(clone: Path, name: str) -> str:
    """The text of a file."""
    return git(clone, "cat-file", "blob", name)


def git(clone: Path, *arguments: str) -> str:
    """What git prints."""
    command = ["git", "-C", str(clone), *arguments]
    return subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout


def main() -> None:
    """Write the table."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with atomic(RESOURCES / "kernelbench_revisions.csv") as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(rows(Path(sys.argv[1])))


if __name__ == "__main__":
    main()
