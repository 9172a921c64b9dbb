"""`vegflow analyse DIR`: the whole analysis of tables that lie in a folder, whoever made them.

Knows what can be told of a study from its rollouts alone: sample sets (no step), trajectories (steps), probes (scores),
and which arms start from one policy. No model, no torch, no Snakemake.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa

from vegflow.artifacts.analysis import ANALYSIS_TABLES
from vegflow.artifacts.frames import read_frame
from vegflow.artifacts.io import atomic, write_table
from vegflow.artifacts.policies import NLL, UPDATES
from vegflow.config.analysis import (
    AnalysisConfig,
    ComparisonConfig,
    ProbeFacts,
    SampleSetFacts,
    StudyFacts,
    TrajectoryFacts,
)
from vegflow.config.report import ReportFacts
from vegflow.errors import ArtifactError, ConfigError
from vegflow.statistics.paper import load_paper
from vegflow.statistics.samples import completed
from vegflow.statistics.stored import Source, analyse_stored, files

RECORD = ("trajectory", "seed", "step", "teacher_tokens")
"""Columns of `UPDATES` that records from elsewhere must have."""
PAPER = Path(__file__).resolve().parent.parent.parent / "resources" / "paper"


@dataclass(frozen=True)
class Folder:
    """What lies in a folder: rollouts and evaluations, and scores and update records where there are any."""

    source: Source
    nll: pl.DataFrame
    updates: pl.DataFrame


def read_folder(path: str | Path) -> Folder:
    """Find the tables: NAME.parquet or NAME/**/*.parquet for rollouts, evaluations and nll; updates also under policies/.

    Raises ArtifactError, naming the folder or file, if rollouts or evaluations are absent or lack a column they need.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise ArtifactError(f"{folder}: there is no such folder")
    source = Source(files(folder, "rollouts"), files(folder, "evaluations"), foreign=True)
    scores = [p for p in (folder / "nll.parquet", *sorted((folder / "nll").rglob("*.parquet"))) if p.is_file()]
    records = [
        folder / "updates.parquet",
        *sorted((folder / "updates").rglob("*.parquet")),
        *sorted((folder / "policies").rglob("update.parquet")),
    ]
    return Folder(source, read_frame(scores, NLL), _records([path for path in records if path.is_file()]))


def _records(paths: list[Path]) -> pl.DataFrame:
    """Update records, those columns of `UPDATES` that every file has. Raises ArtifactError without what budgets need."""
    whole = pl.DataFrame(pl.from_arrow(UPDATES.empty_table()))
    found = [pl.read_parquet(path) for path in paths]
    for path, one in zip(paths, found, strict=True):
        if missing := [name for name in RECORD if name not in one.columns]:
            raise ArtifactError(f"{path}: there is no column {', '.join(missing)}")
    known = [name for name in whole.columns if all(name in one.columns for one in found)]
    return pl.concat(
        [whole.select(known), *(one.select(known).cast(dict(whole.select(known).schema)) for one in found)]
    )


def infer(folder: Folder, comparison: ComparisonConfig | None = None) -> StudyFacts:
    """What the study holds. The comparison, unless given, is of a trajectory with the sample set of its first policy."""
    rollouts, _ = folder.source.scan()
    present = rollouts.collect_schema().names()
    lacking = completed(
        pl.DataFrame(schema=rollouts.collect_schema()),
        pl.DataFrame(schema={"correct": pl.Boolean, "speedup": pl.Float64}),
    )[0]
    keys = ["source", "step", "seed", "task_id", "policy_id"]
    made = {name: pl.lit(None, lacking.schema[name]) for name in keys if name not in present}
    made |= {"source": pl.lit("samples")} if "source" in made else {}
    made |= {"seed": pl.lit(0, pl.Int64)} if "seed" in made else {}
    made |= {"policy_id": pl.lit("base")} if "policy_id" in made else {}
    cells = rollouts.with_columns(**made).group_by(keys).len().collect(engine="streaming").sort(keys)
    if not cells.height:
        raise ArtifactError("rollouts: there are none")
    sets, trajectories = {}, {}
    for (name,), own in cells.filter(pl.col("step").is_null()).group_by("source", maintain_order=True):
        sets[name] = SampleSetFacts(
            k=int(own["len"].max()), seeds=_seeds(own), tasks={"all": _tasks(own)}, policy=_one(own["policy_id"])
        )
    for (name,), own in cells.filter(pl.col("step").is_not_null()).group_by("source", maintain_order=True):
        trajectories[name] = TrajectoryFacts(
            seeds=_seeds(own), steps=int(own["step"].max()), group_size=int(own["len"].max()), tasks=_tasks(own),
            start=_one(own.filter(pl.col("step") == 0)["policy_id"]) or "base",
        )  # fmt: skip
    compared = comparison or _comparison(cells, sets, trajectories)
    probes = _probes(folder, cells, sets, trajectories)
    try:
        return StudyFacts(sample_sets=sets, trajectories=trajectories, probes=probes, comparison=compared)
    except ValueError as error:
        raise ConfigError(f"the comparison does not fit what the folder holds: {error}") from error


def _seeds(cells: pl.DataFrame) -> tuple[int, ...]:
    return tuple(cells["seed"].unique().sort())


def _tasks(cells: pl.DataFrame) -> tuple[str, ...]:
    return tuple(cells["task_id"].unique().sort())


def _one(names: pl.Series) -> str | None:
    return names[0] if names.n_unique() == 1 else None


def _comparison(cells: pl.DataFrame, sets: dict, trajectories: dict) -> ComparisonConfig | None:
    """The first trajectory whose steps share their tasks and whose first policy drew a sample set, and that set."""
    for name, facts in trajectories.items():
        own = cells.filter((pl.col("source") == name) & pl.col("step").is_not_null())
        shared = own.group_by("seed", "step").agg(pl.col("task_id").sort())["task_id"].n_unique() == 1
        start = own.filter(pl.col("step") == 0)["policy_id"].unique().to_list()
        for search in sets:
            drawn = cells.filter((pl.col("source") == search) & pl.col("policy_id").is_in(start))
            if shared and facts.steps and drawn.height:
                return ComparisonConfig(search=search, adaptation=name)
    return None


def _probes(folder: Folder, cells: pl.DataFrame, sets: dict, trajectories: dict) -> dict[str, ProbeFacts]:
    """One probe for each trajectory whose policies scored a sample set's rollouts."""
    if not folder.nll.height:
        return {}
    scored = folder.nll["rollout_id"].unique().implode()
    rollouts, _ = folder.source.scan()
    drawn = rollouts.filter(pl.col("rollout_id").is_in(scored)).select("source", "seed").unique().collect()
    found = {}
    for name in trajectories:
        own = cells.filter((pl.col("source") == name) & (pl.col("step") > 0))["policy_id"].unique().to_list()
        seen = folder.nll.filter(pl.col("policy_id").is_in(own))["policy_id"].n_unique()
        if seen > 1 or (seen == 1 and len(own) == 1):  # one of many is where another trajectory starts
            for (source,), part in drawn.filter(pl.col("source").is_in(list(sets))).group_by("source"):
                found[f"{source}_under_{name}"] = ProbeFacts(sample_set=source, seeds=_seeds(part), trajectory=name)
    return found


def analyse_folder(
    path: str | Path,
    output: str | Path | None = None,
    *,
    comparison: ComparisonConfig | None = None,
    config: AnalysisConfig | None = None,
    report: bool = True,
    cores: int = 1,
) -> Path:
    """Analyse the tables of a folder; leaves `tables/`, `figures/` and `report.html` in `output` (`DIR/analysis`).

    Returns the report's path, or that of the tables without one. Raises ArtifactError or ConfigError.
    """
    folder, target = read_folder(path), Path(output or Path(path) / "analysis")
    facts = infer(folder, comparison)
    paper = load_paper(PAPER / "results.yaml")
    tables = analyse_stored(
        folder.source, folder.nll, folder.updates, None, facts, config or AnalysisConfig(), paper, processes=cores
    )
    for name, table in tables.items():
        write_table(target / "tables" / f"{name}.parquet", table, ANALYSIS_TABLES[name], {"made": "vegflow analyse"})
    return _report(target, tables, facts, str(path)) if report else target / "tables"


def _report(target: Path, tables: dict[str, pa.Table], facts: StudyFacts, path: str) -> Path:
    """Figures and the report beside the tables."""
    from vegflow.report.figures import figures  # the drawing library, which tables do without
    from vegflow.report.render import load_caveats, render

    drawn = figures(tables, facts)
    for name, specification in drawn.items():
        with atomic(target / "figures" / f"{name}.json") as temporary:
            temporary.write_text(json.dumps(specification, indent=1))
    about = ReportFacts(title=f"Analysis of {Path(path).resolve().name}", command=f"vegflow analyse {path}")
    html = render(tables, drawn, facts, about, load_caveats(PAPER / "caveats.yaml"))
    with atomic(target / "report.html") as temporary:
        temporary.write_text(html, encoding="utf-8")
    return target / "report.html"
