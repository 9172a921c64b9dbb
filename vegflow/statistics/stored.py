"""The analysis of stored tables, block by block of whole tasks: memory does not grow with the number of rollouts.

Knows files; what is made of a block is `reduce`, what of all of them `analyse`. Blocks are independent, so several
processes may share them.
"""

import multiprocessing
import tempfile
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import polars as pl
import pyarrow as pa

from vegflow.artifacts.evaluations import EVALUATIONS
from vegflow.artifacts.frames import scan_frame, task_blocks, tasks_of
from vegflow.artifacts.rollouts import FURTHER, ROLLOUTS
from vegflow.config.analysis import BLOCK, AnalysisConfig, StudyFacts
from vegflow.errors import ArtifactError
from vegflow.statistics.analyse import tabulate
from vegflow.statistics.paper import PaperNumber
from vegflow.statistics.rearrange import rearrange, worthwhile
from vegflow.statistics.reduce import Reduced, Wanted, reduce, together, wanted
from vegflow.statistics.samples import (
    EVALUATION_COLUMNS,
    FURTHER_COLUMNS,
    OPTIONAL,
    ROLLOUT_COLUMNS,
    completed,
    join_samples,
)

Work, Made = TypeVar("Work"), TypeVar("Made")


@dataclass(frozen=True)
class Source:
    """Files with rollouts and with evaluations. `foreign` ones may lack the columns of `samples.OPTIONAL`."""

    rollouts: tuple[str, ...]
    evaluations: tuple[str, ...]
    foreign: bool = False

    def scan(self) -> tuple[pl.LazyFrame, pl.LazyFrame]:
        """Both tables, the columns that the analysis looks at. Raises ArtifactError for files that do not fit."""
        optional = OPTIONAL if self.foreign else ()
        schema = pa.schema([*ROLLOUTS, *FURTHER]) if self.foreign else ROLLOUTS
        of_rollouts, of_evaluations = self.wanted()
        return (
            scan_frame(self.rollouts, schema, of_rollouts, optional=optional),
            scan_frame(
                self.evaluations,
                EVALUATIONS,
                of_evaluations,
                optional=(*optional, "task_id") if optional else (),
            ),
        )

    def wanted(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Columns of rollouts and of evaluations that are looked at, where there are such."""
        verdict = tuple(name for name in EVALUATION_COLUMNS if name != "rollout_id")
        return (*ROLLOUT_COLUMNS, *(FURTHER_COLUMNS if self.foreign else ())), ("rollout_id", "task_id", *verdict)

    def places(self) -> dict[str, frozenset[str]]:
        """Tasks whose rows each file has; files that do not name their tasks are left out."""
        return {path: tasks for path in (*self.rollouts, *self.evaluations) if (tasks := tasks_of(path)) is not None}

    def of(self, tasks: Collection[str], places: Mapping[str, frozenset[str]]) -> "Source":
        """The files among these that may have rows of some tasks."""

        def holding(paths: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(path for path in paths if path not in places or not places[path].isdisjoint(tasks))

        return replace(self, rollouts=holding(self.rollouts), evaluations=holding(self.evaluations))

    def columns(self) -> list[str]:
        """Columns that `block` has; no rows are read."""
        none = [pl.DataFrame(schema=table.collect_schema()) for table in self.scan()]
        return join_samples(*completed(*none)).columns

    def block(self, tasks: Sequence[str] | None) -> pl.DataFrame:
        """Joined samples of some tasks (None: of all), as `join_samples` makes them."""
        rollouts, evaluations = self.scan()
        if tasks is not None:
            inside = pl.col("task_id").is_in(list(tasks))
            rollouts = rollouts.filter(inside)
            if "task_id" in evaluations.collect_schema():
                evaluations = evaluations.filter(inside)
            else:
                evaluations = evaluations.join(rollouts.select("rollout_id"), on="rollout_id", how="semi")
        drawn, verdicts = pl.collect_all([rollouts, evaluations])
        return join_samples(*completed(drawn, verdicts))


def analyse_stored(
    source: Source,
    nll: pl.DataFrame,
    updates: pl.DataFrame,
    selections: pl.DataFrame | None,
    facts: StudyFacts,
    config: AnalysisConfig,
    paper: Sequence[PaperNumber] = (),
    *,
    processes: int = 1,
    most: int = BLOCK,
) -> dict[str, pa.Table]:
    """Every analysis table of stored samples; as `analyse`, which has them in memory.

    Without `selections` the strategies are applied here. More than one of `processes` share the blocks where there are
    several.
    """
    rollouts, _ = source.scan()
    n_samples = int(rollouts.select(pl.len()).collect().item())
    blocks: list[list[str] | None] = [None] if n_samples <= most else list(task_blocks(rollouts, most))
    what = wanted(config, facts, source.columns(), n_samples)
    scored = nll["rollout_id"].unique()
    with tempfile.TemporaryDirectory(prefix="vegflow-analysis-") as folder:
        own = _sources(source, blocks, Path(folder), processes)
        work = [(one, block, scored, _of(selections, block), what) for one, block in zip(own, blocks, strict=True)]
        parts = list(_all(_one, work, min(processes, len(blocks))))
    return tabulate(together(parts), what, nll, updates, paper)


def _sources(source: Source, blocks: list[list[str] | None], folder: Path, processes: int) -> list[Source]:
    """What each block has to read: of the files those that hold its tasks, or files of its own, written to `folder` first."""
    tasks = [block for block in blocks if block is not None]
    if len(tasks) < len(blocks):
        return [source] * len(blocks)
    places = source.places()
    narrow = [source.of(block, places) for block in tasks]
    if not worthwhile([len(one.rollouts) for one in narrow], len(source.rollouts)):
        return narrow
    of_rollouts, of_evaluations = source.wanted()
    work = [(source.rollouts, of_rollouts, tasks, folder / "rollouts")]
    if all(path in places for path in source.evaluations):
        work.append((source.evaluations, of_evaluations, tasks, folder / "evaluations"))
    rollouts, *evaluations = _all(_rearranged, work, min(processes, len(work)))
    judged = [(path,) for path in evaluations[0]] if evaluations else [source.evaluations] * len(tasks)
    # Written files have the columns that are looked at and no others, as files from elsewhere may.
    return [Source((path,), own, foreign=True) for path, own in zip(rollouts, judged, strict=True)]


def _rearranged(work: tuple[tuple[str, ...], tuple[str, ...], list[list[str]], Path]) -> list[str]:
    return rearrange(*work)


def _of(selections: pl.DataFrame | None, tasks: list[str] | None) -> pl.DataFrame | None:
    return selections if selections is None or tasks is None else selections.filter(pl.col("task_id").is_in(tasks))


def _all(make: Callable[[Work], Made], work: Sequence[Work], processes: int) -> Iterable[Made]:
    if processes < 2:
        yield from map(make, work)
        return
    # A forked child of a process with polars' threads may hang, so children start afresh.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(processes, mp_context=context) as pool:
        yield from pool.map(make, work)


def _one(work: tuple[Source, list[str] | None, pl.Series, pl.DataFrame | None, Wanted]) -> Reduced:
    source, tasks, scored, selections, what = work
    return reduce(source.block(tasks), scored, selections, what)


def files(folder: Path, *names: str) -> tuple[str, ...]:
    """Parquet files `NAME.parquet` and those under `NAME/` of a folder, sorted. Raises ArtifactError if there are none."""
    found = [
        path for name in names for path in (folder / f"{name}.parquet", *sorted((folder / name).rglob("*.parquet")))
    ]
    kept = tuple(str(path) for path in found if path.is_file())
    if not kept:
        raise ArtifactError(
            f"{folder}: there is neither {names[0]}.parquet nor a folder {names[0]}/ with Parquet files"
        )
    return kept
