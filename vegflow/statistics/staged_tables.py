"""All tables of staged verification, from what was collected and run for each entry of a study's `verification`.

Knows the order of the work; each table's rows are made in the module that its name says.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa

from vegflow.artifacts.frontier import FRONTIER_TABLES
from vegflow.artifacts.io import to_table
from vegflow.config.verification import FULL
from vegflow.statistics.bootstrap import Resampling
from vegflow.statistics.staged import (
    Verification,
    adjacent_rows,
    composed_seconds,
    domain_rows,
    frontier_rows,
    points,
    timings,
)
from vegflow.statistics.staged_paper import StagedPaper, beside_ours
from vegflow.statistics.staged_rankers import ranked_values, ranker_pairs, ranker_rows
from vegflow.statistics.staged_tuning import tuning_rows
from vegflow.statistics.staged_waste import kinds, pruned_rows, wasted_rows

NOOP = "noop"
"""The run that checks nothing."""


def frontier_tables(work: Sequence[Verification], paper: StagedPaper | None, how: Resampling) -> Mapping[str, pa.Table]:
    """Every table of `FRONTIER_TABLES` by name, over all verifications."""
    rows: dict[str, list[dict]] = {name: [] for name in FRONTIER_TABLES}
    for one in work:
        for name, own in _own_rows(one, how).items():
            rows[name] += own
    rows["domains"] = domain_rows(rows["frontier"])
    rows["staged_paper"] = beside_ours(paper, rows["frontier"]) if paper else []
    return {name: to_table(rows[name], schema) for name, schema in FRONTIER_TABLES.items()}


def _own_rows(work: Verification, how: Resampling) -> dict[str, list[dict]]:
    """Rows of one verification's tables."""
    rows: dict[str, list[dict]] = {"frontier": [], "frontier_pairs": [], "rankers": [], "tuning": []}
    if not work.pools:
        return rows
    whole, kind = timings(work), kinds(work)
    for k in work.ks:
        found = points(work, k, whole, how)
        values = ranked_values(work, k)
        rows["frontier"] += frontier_rows(work, k, found, how)
        rows["frontier_pairs"] += adjacent_rows(work, k, found, how) + ranker_pairs(work, k, values, how)
        rows["rankers"] += ranker_rows(work, k, values, how)
    rows["tuning"] = tuning_rows(work, work.ks[-1], how)
    return rows | {
        "pruned": pruned_rows(work, kind),
        "wasted": wasted_rows(work, kind),
        "composed": composed_rows(work),
    }


def _times_full(work: Verification, name: str) -> dict[str, float | None]:
    """Wall time of the full suite's run over that of this one, repeat by repeat: everything included, nothing composed."""
    walls = {
        which: {row["repeat"]: row["wall_s"] for row in work.runs if row["pipeline"] == which} for which in (FULL, name)
    }
    ratios = [walls[FULL][repeat] / wall for repeat, wall in walls[name].items() if repeat in walls[FULL]]
    ends = (float(np.median(ratios)), min(ratios), max(ratios)) if ratios else (None, None, None)
    return dict(zip(("times_full", "times_full_low", "times_full_high"), ends, strict=True))


def composed_rows(work: Verification) -> list[dict]:
    """Rows of COMPOSED: what composition says of each pipeline against the odd repeats of really running it."""
    pipelines = work.config.parsed()
    rows = []
    for name in dict.fromkeys(row["pipeline"] for row in work.runs):
        own = [row for row in work.runs if row["pipeline"] == name and row["repeat"] % 2]
        if not own:
            continue
        wall = np.array([row["wall_s"] for row in own])
        composed = None
        if name in pipelines and work.costs.measured(pipelines[name]):
            composed = float(work.costs.start + composed_seconds(work, pipelines[name]))
        fixed = float(np.median([row["fixed_s"] for row in own]))
        rows.append(
            {
                "verification": work.name,
                "domain": work.config.domain,
                "pipeline": name,
                "n_repeats": len(own),
                "run_s": float(np.median(wall)),
                "run_low": float(wall.min()),
                "run_high": float(wall.max()),
                "composed_s": composed,
                "ratio": None if composed is None else composed / float(np.median(wall)),
                **_times_full(work, name),
                "cpu_s": float(np.median([row["cpu_s"] for row in own])),
                "fixed_s": None if np.isnan(fixed) else fixed,
                "n_candidates": own[0]["n_candidates"],
            }
        )
    return rows
