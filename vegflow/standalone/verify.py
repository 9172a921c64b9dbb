"""`vegflow verify DIR`: the frontier of pipelines from a stored pool and its outcome matrix, in seconds, running nothing.

Knows the folder's files and how a pipeline is written; the tables are made by `vegflow.statistics`.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml
from pydantic import ValidationError

from vegflow.artifacts.frontier import FRONTIER_TABLES
from vegflow.artifacts.io import provenance, read_rows, write_table
from vegflow.artifacts.verification import CHECKS, POOL, RUNS, STAGE_COSTS
from vegflow.config.errors import sentences
from vegflow.config.verification import VerificationConfig
from vegflow.errors import ConfigError
from vegflow.report.text import interval, number, ratio, share
from vegflow.statistics.bootstrap import Resampling
from vegflow.statistics.staged import verification
from vegflow.statistics.staged_tables import frontier_tables
from vegflow.verification.inputs import read_scores

NEEDED = {"pool": POOL, "checks": CHECKS}
MORE = {"runs": RUNS, "stage_costs": STAGE_COSTS}
"""Read where they are there; without them costs come from the times of the checks."""
PIPELINES: dict[str, list[Any]] = {
    "majority": ["syntax", "majority"],
    "test_random": ["syntax", "one_test", "random"],
    "test_majority": ["syntax", "one_test", "majority"],
    "test_agreement": ["syntax", "one_test", "agreement"],
    "tests_majority": ["syntax", {"tests": 3}, "majority"],
    "tests_top2": ["syntax", {"tests": 3}, {"majority": "top 2"}, {"full": "first"}],
    "first": ["syntax", "one_test", {"full": "first"}],
}
"""Replayed where no others are named."""


def verify_folder(
    folder: str,
    output: str | None = None,
    *,
    pipelines: str | None = None,
    scores: str | None = None,
    ks: Sequence[int] = (8, 64),
    how: Resampling | None = None,
) -> dict[str, pa.Table]:
    """Make every table of `FRONTIER_TABLES` from a folder with pool.parquet and checks.parquet, and write them.

    `pipelines` is a YAML file, name -> list of stages; `scores` a Parquet file for the stage `orm`. Raises ConfigError or
    ArtifactError, one sentence, for what is missing or does not fit.
    """
    place = Path(folder)
    if not place.is_dir():
        raise ConfigError(f"{folder}: there is no such folder")
    rows = {name: read_rows(place / f"{name}.parquet", schema) for name, schema in NEEDED.items()}
    for name, schema in MORE.items():
        path = place / f"{name}.parquet"
        rows[name] = read_rows(path, schema) if path.exists() else []
    config = _config(rows["pool"], _pipelines(pipelines), scores, ks)
    scored = {"orm": read_scores([scores], scores)} if scores else {}
    work = verification(place.resolve().name, config, scores=scored, **rows)
    tables = dict(frontier_tables([work], None, how or Resampling()))
    source = provenance(config=config.canonical(), parents=[place / f"{name}.parquet" for name in NEEDED])
    for name, table in tables.items():
        write_table(Path(output or place / "frontier") / f"{name}.parquet", table, FRONTIER_TABLES[name], source)
    return tables


def _pipelines(path: str | None) -> Mapping[str, Any]:
    if path is None:
        return PIPELINES
    try:
        found = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: there is no such file") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from error
    if not isinstance(found, dict) or not found:
        raise ConfigError(f"{path}: write pipelines by name, such as 'first: [syntax, one_test, {{full: first}}]'")
    return found


def _config(pool: Sequence[Mapping[str, Any]], pipelines: Mapping[str, Any], scores: str | None, ks: Sequence[int]):
    kernels = any(row["reward"] not in (0.0, 1.0) for row in pool)
    try:
        return VerificationConfig(
            domain="kernels" if kernels else "functions",
            rollouts="stored.parquet",
            pipelines={name: tuple(stages) for name, stages in pipelines.items()},
            orm=scores or "",
            ks=tuple(sorted(set(ks))),
            repeats=0,
        )
    except (ValidationError, TypeError) as error:
        text = sentences(error) if isinstance(error, ValidationError) else "a pipeline is a list of stages"
        raise ConfigError(f"pipelines: {text}") from error


def frontier_text(tables: Mapping[str, pa.Table]) -> str:
    """The pipelines at the largest k, the fastest first, as lines of text."""
    rows = [row for row in tables["frontier"].to_pylist() if row["metric"] == "correct"]
    rows = [row for row in rows if row["k"] == max(row["k"] for row in rows)]
    lines = [f"{'pipeline':18} {'value':>8} {'interval':>14} {'loss':>8} {'x full':>9} {'full runs':>9}  place"]
    for row in sorted(rows, key=lambda row: -(row["relative_throughput"] or 0)):
        place = "front" if row["on_front"] else "dominated"
        lines.append(
            f"{row['pipeline']:18} {share(row['value']):>8} {interval(row['low'], row['high'], 'share'):>14} "
            f"{share(row['relative_loss']):>8} {ratio(row['relative_throughput']):>9} {number(row['full_runs']):>9}  {place}"
        )
    if rows:
        sources = {
            "run": "runs", "stages": "stages measured one by one", "checks": "stored checks, without process starts",
        }  # fmt: skip
        costs = ", ".join(sorted({sources[row["cost"]] for row in rows}))
        lines.append(f"k = {rows[0]['k']}, {rows[0]['n_tasks']} tasks; costs from {costs}")
    return "\n".join(lines)
