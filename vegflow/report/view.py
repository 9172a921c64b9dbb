"""What a table of the report is, and how the paper's number for a row is found.

Knows no particular table; those are in `search_tables`, `adaptation_tables` and `study_tables`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import polars as pl

from vegflow.config.analysis import StudyFacts
from vegflow.report.text import FEW_MARK, FEW_NOTE
from vegflow.statistics.samples import task_sets

Frames = Mapping[str, pl.DataFrame]


@dataclass(frozen=True)
class View:
    """One table of the page. The first `labels` columns are text, the others numbers."""

    name: str
    title: str
    note: str
    head: list[str]
    rows: list[list[str]] = field(default_factory=list)
    labels: int = 1
    missing: str = "This study has no data for it."

    def with_few_note(self) -> "View":
        """The same with what the mark of few tasks means, if a cell has it."""
        marked = any(FEW_MARK in cell for row in self.rows for cell in row)
        return replace(self, note=f"{self.note} {FEW_NOTE}") if marked else self


def size(facts: StudyFacts, source: str, task_set: str) -> int:
    """Tasks of a task set of a sample set, or of a trajectory; 0 if there is none of the name."""
    if source in facts.trajectories:
        return len(facts.trajectories[source].tasks)
    return len(task_sets(facts, source).get(task_set, ())) if source in facts.sample_sets else 0


def paper_number(tables: Frames, series: str, x: float | None = None) -> float | None:
    """The paper's number of a series, at a position in it."""
    rows = tables["paper"].filter(pl.col("series") == series)
    rows = rows if x is None else rows.filter(pl.col("x") == x)
    return rows["value"][0] if rows.height else None


def same_set(facts: StudyFacts) -> str:
    """The task set beside which the paper's subset-1 numbers are printed: that of the comparison, else `subset1`."""
    if facts.comparison is None:
        return "subset1"
    own = facts.sample_sets[facts.comparison.search].tasks
    adapted = set(facts.trajectories[facts.comparison.adaptation].tasks)
    named = next((name for name, tasks in own.items() if set(tasks) == adapted), None)
    return named or f"tasks of {facts.comparison.adaptation}"
