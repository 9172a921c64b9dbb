"""Every figure of the report by name; a figure is a function from analysis tables to a Vega-Lite specification.

Knows which there are; how they are drawn is in `search_figures` and `adaptation_figures`.
"""

from collections.abc import Callable, Mapping
from typing import Any

import polars as pl
import pyarrow as pa

from vegflow.config.analysis import StudyFacts
from vegflow.report import adaptation_figures, open_figures, search_figures

Tables = Mapping[str, pl.DataFrame]

FIGURES: dict[str, Callable[[Tables, StudyFacts], dict[str, Any]]] = {
    "figure1_overview": search_figures.overview,
    "figure3_scaling": search_figures.scaling,
    "figure4a_strategies": search_figures.strategies,
    "figure4b_speedups": search_figures.speedups,
    "figure5a_trajectory": adaptation_figures.trajectory,
    "figure5b_tasks": adaptation_figures.tasks,
    "figure6_probe": adaptation_figures.probe,
    "figure7_regimes": adaptation_figures.regimes,
    "figure8_pipeline": open_figures.pipeline,
    "figure8_costs": open_figures.costs,
    "figure9_sharpening": open_figures.sharpening,
    "figure10_budget": adaptation_figures.same_budget,
    "figure11_updates": adaptation_figures.updates,
}
"""Every figure by name, in the report's order."""


def figures(tables: Mapping[str, pa.Table], facts: StudyFacts) -> dict[str, dict[str, Any]]:
    """Vega-Lite specification of every figure in `FIGURES`, by name.

    `tables` are those of `ANALYSIS_TABLES`. A figure for which the study has no data says so in its place. The same
    tables give the same specifications.
    """
    frames = {name: pl.DataFrame(pl.from_arrow(table)) for name, table in tables.items()}
    return {name: draw(frames, facts) for name, draw in FIGURES.items()}
