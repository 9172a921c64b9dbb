"""All statistics of a study: stored tables in, analysis tables out.

Knows in which order the parts are computed; each part is a module of its own. No torch, no Snakemake.
"""

from collections.abc import Sequence

import polars as pl
import pyarrow as pa

from vegflow.artifacts.analysis import ANALYSIS_TABLES
from vegflow.artifacts.io import check, to_table
from vegflow.config.analysis import AnalysisConfig, StudyFacts
from vegflow.statistics.adaptation import equivalents, self_check
from vegflow.statistics.audit import audit
from vegflow.statistics.bootstrap import Resampling
from vegflow.statistics.budget import budget, same_budget
from vegflow.statistics.claims import claims
from vegflow.statistics.diagnostics import diagnostics
from vegflow.statistics.measure import Study
from vegflow.statistics.paper import PaperNumber
from vegflow.statistics.pipeline import pipeline
from vegflow.statistics.probe import probe
from vegflow.statistics.reduce import Reduced, Wanted, curves_of, reduce, wanted
from vegflow.statistics.samples import join_samples
from vegflow.statistics.scaling import scaling
from vegflow.statistics.sharpening import sharpening
from vegflow.statistics.strategies import head_to_head, paired, power, strategies
from vegflow.statistics.surprisal import correlations, quartiles
from vegflow.statistics.trajectory import boa, trajectory


def analyse(
    rollouts: pl.DataFrame,
    evaluations: pl.DataFrame,
    nll: pl.DataFrame,
    updates: pl.DataFrame,
    selections: pl.DataFrame | None,
    facts: StudyFacts,
    config: AnalysisConfig,
    paper: Sequence[PaperNumber] = (),
) -> dict[str, pa.Table]:
    """Compute every analysis table, as named and described in `vegflow.artifacts.analysis.ANALYSIS_TABLES`.

    The inputs are the concatenated shards of `ROLLOUTS`, `EVALUATIONS`, `NLL`, `UPDATES` and `SELECTIONS`; `nll` and
    `updates` may have no rows, and without `selections` the strategies are applied here. What a study lacks (a probe, a comparison, a second task) leaves its tables empty or its
    cells null. Rollouts on which the evaluator itself broke count in `statuses` only. Raises ArtifactError if rollouts
    lack verdicts.
    """
    every = join_samples(rollouts, evaluations)
    what = wanted(config, facts, every.columns)
    return tabulate(reduce(every, nll["rollout_id"].unique(), selections, what), what, nll, updates, paper)


def tabulate(
    kept: Reduced, what: Wanted, nll: pl.DataFrame, updates: pl.DataFrame, paper: Sequence[PaperNumber]
) -> dict[str, pa.Table]:
    """Every analysis table from the reduced samples."""
    facts, config = what.facts, what.config
    how = Resampling(config.bootstrap, config.confidence, config.seed)
    tasks, picks = kept.tasks, kept.selections
    correct = kept.correct.with_columns(pl.col("task_id").cast(pl.Categorical))
    boa_rows, paired_rows = boa(tasks, how), paired(picks, facts, how)
    rows: dict[str, list[dict]] = {
        "scaling": scaling(tasks, kept.units, facts, config.ks, how),
        "strategies": strategies(picks, facts, how),
        "paired": paired_rows,
        "head_to_head": head_to_head(picks, tasks, facts),
        "quartiles": quartiles(correct, facts, how),
        "correlations": correlations(correct, facts, how),
        "trajectory": trajectory(tasks, how),
        "boa": boa_rows,
        "equivalent_k": equivalents(tasks, boa_rows, facts, how),
        "self_check": self_check(tasks, facts),
        "probe": probe(kept.probed, tasks, nll, facts, how),
        "pipeline": pipeline(curves_of(kept, what), facts, how),
        "sharpening": sharpening(kept.units, kept.reweighted, config.alphas, facts, how),
        "power": power(paired_rows) if facts.sample_sets else [],
        "audit": audit(paper),
        "budget": budget(kept.spent, updates, facts),
        "same_budget": same_budget(tasks, kept.units, config.ks, updates, facts, how),
        "diagnostics": diagnostics(updates, facts),
        "paper": [
            n.model_dump(include={"id", "place", "claim", "value", "unit", "measure", "series", "x"}) for n in paper
        ],
    }
    tables = {name: to_table(rows[name], ANALYSIS_TABLES[name]) for name in rows}
    for name in ("tasks", "statuses", "headroom", "candidates"):
        schema = ANALYSIS_TABLES[name]
        table = getattr(kept, name).select(schema.names).to_arrow(compat_level=pl.CompatLevel.oldest()).cast(schema)
        tables[name] = check(table, schema, name)
    frames = {name: pl.DataFrame(pl.from_arrow(table)) for name, table in tables.items()}
    tables["claims"] = to_table(claims(paper, Study(facts, frames, how)), ANALYSIS_TABLES["claims"])
    return {name: tables[name] for name in ANALYSIS_TABLES}
