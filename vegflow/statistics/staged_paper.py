"""The table that the paper on staged verification prints, what follows from it, and ours beside it.

Knows `resources/paper/staged.yaml`; none of its numbers is ours.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from pydantic import ValidationError

from vegflow.config.block import Block
from vegflow.config.errors import sentences
from vegflow.config.verification import FULL, parse_pipeline
from vegflow.errors import ConfigError
from vegflow.statistics.frontier import front
from vegflow.statistics.staged import named

ALL_TESTS = "all tests"


class StagedPaper(Block):
    """The paper's numbers."""

    source: str
    filters: dict[str, tuple[Any, ...]]
    """Its filters as our stages."""
    rankers: dict[str, tuple[Any, ...]]
    """Its rankers as our stages."""
    headline: dict[str, dict[str, float]]
    """Version -> times the throughput, and loss of accuracy in percent."""
    rows: dict[str, tuple[tuple[str, str, float, float], ...]]
    """Benchmark -> (filter, ranker, accuracy in percent, distinct programs a second)."""


def load_staged_paper(path: str | Path) -> StagedPaper:
    """Read `resources/paper/staged.yaml`. Raises ConfigError, naming the file."""
    try:
        return StagedPaper.model_validate(yaml.safe_load(Path(path).read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: there is no such file") from error
    except ValidationError as error:
        raise ConfigError(f"{path}: {sentences(error)}") from error


def paper_rows(paper: StagedPaper) -> list[dict]:
    """The paper's rows with their place relative to all tests, and whether they are on their benchmark's front."""
    rows = []
    for benchmark, own in paper.rows.items():
        accuracy, speed = np.array([row[2] for row in own]) / 100, np.array([row[3] for row in own])
        full = next(n for n, row in enumerate(own) if row[0] == ALL_TESTS)
        on = front(accuracy, speed)
        rows += [
            {
                "benchmark": benchmark,
                "filter": row[0],
                "ranker": row[1],
                "accuracy": accuracy[n],
                "throughput": speed[n],
            }
            | {"relative_throughput": speed[n] / speed[full], "relative_loss": 1 - accuracy[n] / accuracy[full]}
            | {"on_front": bool(on[n])}
            for n, row in enumerate(own)
        ]
    return rows


def aggregate(rows: Sequence[Mapping[str, Any]], filter_: str, rankers: Sequence[str]) -> dict[str, float]:
    """Means over benchmarks (and `rankers`) of a filter's rows: arithmetic and geometric ratio of throughput, points lost
    and relative loss of accuracy.
    """
    own = [row for row in rows if row["filter"] == filter_ and row["ranker"] in rankers]
    full = {row["benchmark"]: row["accuracy"] for row in rows if row["filter"] == ALL_TESTS}
    ratios = np.array([row["relative_throughput"] for row in own])
    return {
        "arithmetic_mean": float(ratios.mean()),
        "geometric_mean": float(np.exp(np.log(ratios).mean())),
        "points": float(np.mean([full[row["benchmark"]] - row["accuracy"] for row in own])),
        "relative_loss": float(np.mean([row["relative_loss"] for row in own])),
    }


def beside_ours(paper: StagedPaper, frontier: Sequence[Mapping[str, Any]]) -> list[dict]:
    """Rows of STAGED_PAPER: each of the paper's, beside each of our pipelines of the same stages (correct, largest k)."""
    own = [row for row in frontier if row["metric"] == "correct"]
    largest = {row["verification"]: max(r["k"] for r in own if r["verification"] == row["verification"]) for row in own}
    own = [row for row in own if row["k"] == largest[row["verification"]]]
    found = []
    for row in paper_rows(paper):
        stages = (*paper.filters[row["filter"]], *paper.rankers[row["ranker"]])
        text = FULL if row["filter"] == ALL_TESTS else named(parse_pipeline(list(stages)))
        same = [ours for ours in own if ours["stages"] == text]
        found += [row | _ours(ours) for ours in same] or [row | _ours(None)]
    return found


def _ours(row: Mapping[str, Any] | None) -> dict:
    wanted = {
        "verification": "verification", "pipeline": "pipeline", "ours": "value", "ours_low": "low", "ours_high": "high",
        "ours_relative_throughput": "relative_throughput", "ours_relative_loss": "relative_loss",
    }  # fmt: skip
    return {column: None if row is None else row[key] for column, key in wanted.items()}
