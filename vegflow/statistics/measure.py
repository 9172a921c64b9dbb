"""What a measure, our side of one of the paper's numbers, is: what it may look at and what it gives.

Knows the analysis tables' columns; the measures themselves are in `search_measures` and `adaptation_measures`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import polars as pl
from scipy import special, stats

from vegflow.config.analysis import StudyFacts
from vegflow.statistics.bootstrap import Resampling
from vegflow.statistics.intervals import Bounds, mean_interval
from vegflow.statistics.samples import comparison_set

NO_COMPARISON = "the study names no comparison of a sample set with a trajectory"


@dataclass(frozen=True)
class Study:
    """What a measure may look at."""

    facts: StudyFacts
    tables: Mapping[str, pl.DataFrame]
    how: Resampling


@dataclass(frozen=True)
class Ours:
    """Our value, its interval, and how many tasks (independent units) it rests on; or `missing`, why there is none.

    `bare` says why a value has no interval, where that is so by its nature.
    """

    value: float | None = None
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    n_tasks: int = 0
    missing: str = ""
    bare: str = ""


def rows_of(study: Study, table: str, **where: object) -> pl.DataFrame:
    """Rows of a table whose columns have these values (None: are null)."""
    found = study.tables[table]
    for column, value in where.items():
        found = found.filter(pl.col(column).is_null() if value is None else pl.col(column) == value)
    return found


def search_of(study: Study, tasks: str = "") -> tuple[str, str]:
    """Sample set and task set that a number is about: those of the comparison, `all`, or a set named outright."""
    facts = study.facts
    source = facts.comparison.search if facts.comparison else next(iter(facts.sample_sets), "")
    if not source:
        return "", ""
    own = facts.sample_sets[source].tasks
    if tasks == "all":
        return source, "all" if len(own) > 1 else next(iter(own), "")
    return source, tasks or comparison_set(facts)[0] or next(iter(own), "")


def adaptation_of(study: Study) -> str:
    """The trajectory of the comparison; empty without one."""
    return study.facts.comparison.adaptation if study.facts.comparison else ""


def first_of(rows: pl.DataFrame, column: str, missing: str, low: str = "low", high: str = "high", p: str = "") -> Ours:
    """The first row's `column`, with its interval and p-value where columns are named for them."""
    if not rows.height or rows[column][0] is None:
        return Ours(missing=missing)
    row = rows.row(0, named=True)
    return Ours(row[column], row.get(low), row.get(high), row.get(p), n_tasks=int(row.get("n_tasks") or 0))


def counted(found: Ours) -> Ours:
    """A number that is counted and not estimated: nothing is uncertain about it, so its interval is the number itself."""
    return found if found.value is None else replace(found, low=found.value, high=found.value, n_tasks=0)


def of_runs(found: Ours, runs: int, confidence: float) -> Ours:
    """A standard deviation of shares over runs: sd sqrt((R - 1) / chi^2), the runs taken for normal; at most 1/2, as of any share."""
    if not found.value or runs < 2:
        return replace(found, bare="the runs do not differ" if runs > 1 else "one run")
    tail = (1 - confidence) / 2
    low, high = (found.value * math.sqrt((runs - 1) / float(special.chdtri(runs - 1, p))) for p in (tail, 1 - tail))
    return replace(found, low=low, high=max(found.value, min(high, 0.5)), n_tasks=0)


def over_tasks(value: float, values: pl.Series, tasks: pl.Series, seeds: pl.Series, study: Study, *,
               crossed: bool = False, bounds: Bounds | None = None) -> Ours:  # fmt: skip
    """`value`, a multiple of the mean over tasks of `values` (one a task and seed), with the interval of that mean."""
    found = mean_interval(
        values.to_numpy(), tasks.to_list(), seeds.to_list(), study.how, crossed=crossed, bounds=bounds
    )
    n = tasks.n_unique()
    if found.value is None or found.low is None or found.high is None:
        return Ours(value, n_tasks=n)
    times = value / found.value if found.value else 1.0
    return Ours(value, found.low * times, found.high * times, n_tasks=n)


def of_rollouts(rows: pl.DataFrame, column: str, missing: str) -> Ours:
    """A share of one task's rollouts (first row of `TASKS`) with Wilson's interval over these rollouts.

    It says what the policy's rate on this task may be, nothing of other tasks; so no tasks are counted.
    """
    if not rows.height:
        return Ours(missing=missing)
    n, share = int(rows["n"][0]), float(rows[column][0])
    ends = stats.binomtest(round(n * share), n).proportion_ci(0.95, method="wilson")
    return Ours(share, float(ends.low), float(ends.high))
