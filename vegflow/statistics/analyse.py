"""All statistics of a study: stored tables in, analysis tables out.

Knows in which order the parts are computed; each part is a module of its own. No torch, no Snakemake.
"""

from collections.abc import Sequence

import polars as pl
import pyarrow as pa

from vegflow.artifacts.analysis import ANALYSIS_TABLES
from vegflow.artifacts.io import to_table
from vegflow.config.analysis import AnalysisConfig, StudyFacts
from vegflow.statistics.adaptation import equivalents, self_check
from vegflow.statistics.bootstrap import Resampling
from vegflow.statistics.budget import budget, candidates
from vegflow.statistics.claims import claims
from vegflow.statistics.headroom import headroom
from vegflow.statistics.measure import Study
from vegflow.statistics.paper import PaperNumber
from vegflow.statistics.probe import probe
from vegflow.statistics.samples import join_samples, judged, per_task, statuses
from vegflow.statistics.scaling import scaling
from vegflow.statistics.strategies import head_to_head, paired, strategies
from vegflow.statistics.surprisal import correlations, quartiles
from vegflow.statistics.trajectory import boa, trajectory


def analyse(
    rollouts: pl.DataFrame,
    evaluations: pl.DataFrame,
    nll: pl.DataFrame,
    updates: pl.DataFrame,
    selections: pl.DataFrame,
    facts: StudyFacts,
    config: AnalysisConfig,
    paper: Sequence[PaperNumber] = (),
) -> dict[str, pa.Table]:
    """Compute every analysis table, as named and described in `vegflow.artifacts.analysis.ANALYSIS_TABLES`.

    The inputs are the concatenated shards of `ROLLOUTS`, `EVALUATIONS`, `NLL`, `UPDATES` and `SELECTIONS`; `nll` and
    `updates` may have no rows. What a study lacks (a probe, a comparison, a second task) leaves its tables empty or its
    cells null. Rollouts on which the evaluator itself broke count in `statuses` only. Raises ArtifactError if rollouts
    lack verdicts.
    """
    how = Resampling(config.bootstrap, config.confidence, config.seed)
    every = join_samples(rollouts, evaluations)
    samples = judged(every)
    tasks = per_task(samples)
    boa_rows = boa(tasks, samples, how)
    rows: dict[str, list[dict]] = {
        "scaling": scaling(samples, facts, config.ks, how),
        "strategies": strategies(selections, facts, how),
        "paired": paired(selections, facts, how),
        "head_to_head": head_to_head(selections, tasks, facts),
        "quartiles": quartiles(samples, facts),
        "correlations": correlations(samples, facts, how),
        "trajectory": trajectory(tasks, how),
        "boa": boa_rows,
        "equivalent_k": equivalents(samples, tasks, boa_rows, facts, how),
        "self_check": self_check(samples, facts),
        "probe": probe(samples, nll, facts, how),
        "tasks": tasks.to_dicts(),
        "statuses": statuses(every).to_dicts(),
        "headroom": headroom(samples).to_dicts(),
        "budget": budget(every, updates, facts),
        "candidates": candidates(every, selections, facts).to_dicts(),
        "paper": [
            n.model_dump(include={"id", "place", "claim", "value", "unit", "measure", "series", "x"}) for n in paper
        ],
    }
    tables = {name: to_table(rows[name], schema) for name, schema in ANALYSIS_TABLES.items() if name in rows}
    frames = {name: pl.DataFrame(pl.from_arrow(table)) for name, table in tables.items()}
    tables["claims"] = to_table(claims(paper, Study(facts, samples, frames, how)), ANALYSIS_TABLES["claims"])
    return {name: tables[name] for name in ANALYSIS_TABLES}
