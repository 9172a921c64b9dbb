"""The over-sharpening probe: how fixed samples' surprisal under each adapted policy goes with their speedup.

Knows `nll` and the samples it belongs to. A negative rho means that the likelier samples are the faster ones, which the
paper's section 5.4 reads the other way round (audit finding 4).
"""

from typing import Any

import numpy as np
import polars as pl

from vegflow.config.analysis import ProbeFacts, StudyFacts
from vegflow.statistics.bootstrap import Resampling, percentile_interval
from vegflow.statistics.correlation import spearman, weighted_spearman, within_spearman
from vegflow.statistics.surprisal import unit_weights


def probe(samples: pl.DataFrame, nll: pl.DataFrame, facts: StudyFacts, how: Resampling) -> list[dict]:
    """Rows of `PROBE`: each probe, seed, policy, all or correct samples, all or the bottom quartile.

    The bottom quartile is the quarter of the fixed samples with the lowest log-probability (highest surprisal) under
    the policy of step 0: the same samples at every step. (The paper does not say which quartile it means.)
    """
    rows = []
    for name, one in facts.probes.items():
        scored = _scored(samples, nll, one, facts)
        for which in ("all", "correct"):
            runs = {}
            for (seed,), run in scored.group_by("seed_of_run", maintain_order=True):
                kept = run.filter("correct") if which == "correct" else run
                for subset, fixed in _subsets(kept).items():
                    runs[seed, subset] = _run(fixed, how)
            for subset in dict.fromkeys(subset for _, subset in runs):
                head = {"probe": name, "trajectory": one.trajectory, "samples": which, "subset": subset}
                own = {seed: steps for (seed, s), steps in runs.items() if s == subset}
                for seed, steps in [*own.items(), (None, _mean_run(list(own.values())))]:
                    rows += [head | {"seed": seed} | row for row in _rows(steps, how)]
    return rows


def _scored(samples: pl.DataFrame, nll: pl.DataFrame, one: ProbeFacts, facts: StudyFacts) -> pl.DataFrame:
    """The probe's samples once per policy of the trajectory, with `step` and the run's seed.

    Step 0 is the policy that the trajectory starts from, so its identity is looked up in the trajectory's own
    rollouts. Samples are scored by the run of their own seed where there is one, else by the first.
    """
    fixed = samples.filter((pl.col("source") == one.sample_set) & pl.col("seed").is_in(one.seeds))
    own_seeds = facts.trajectories[one.trajectory].seeds
    run = pl.col("seed").replace_strict({s: s for s in own_seeds}, default=own_seeds[0], return_dtype=pl.Int64)
    policies = samples.filter(pl.col("source") == one.trajectory).select(
        "policy_id", pl.col("step").alias("step_of_policy"), pl.col("seed").alias("seed_of_run")
    ).unique()  # fmt: skip
    return (
        fixed.drop("nll", "policy_id")
        .with_columns(seed_of_run=run)
        .join(nll.select("rollout_id", "policy_id", "nll").unique(["rollout_id", "policy_id"]), on="rollout_id")
        .join(policies, on=["policy_id", "seed_of_run"])
        .sort("seed_of_run", "step_of_policy", "task_id", "seed", "index")
    )


def _subsets(run: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """All of a run's samples, and the quarter with the highest surprisal at its first step."""
    first = run.filter(pl.col("step_of_policy") == run["step_of_policy"].min()) if run.height else run
    worst = first.sort("nll", "rollout_id", descending=[True, False]).head(first.height // 4)
    return {"all": run, "bottom quartile": run.filter(pl.col("rollout_id").is_in(worst["rollout_id"].implode()))}


def _run(fixed: pl.DataFrame, how: Resampling) -> list[dict[str, Any]]:
    """Correlations at each step, with their bootstrap replicates, on the same resamples at all steps."""
    steps: list[dict[str, Any]] = []
    weights = None
    for (step,), at in fixed.group_by("step_of_policy", maintain_order=True):
        x, y = at["nll"].to_numpy(), at["speedup"].to_numpy()
        if not steps:
            weights = unit_weights(at, how)
        found, within = spearman(x, y), within_spearman(x, y, at["task_id"].to_list())
        usable = weights is not None and found.rho is not None and weights.shape[1] == len(x)
        steps.append(
            {
                "step": step,
                "n": len(x),
                "nll_mean": float(x.mean()),
                "rho": found.rho,
                "p_value": found.p_value,
                "rho_within": within.rho,
                "within_p": within.p_value,
                "cloud": weighted_spearman(x, y, weights) if usable else None,
            }
        )
    return steps


def _mean_run(runs: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The mean over runs, step by step, for the steps that all of them have."""
    steps = []
    for at in zip(*runs, strict=False):
        row: dict[str, Any] = {
            "step": at[0]["step"],
            "n": sum(one["n"] for one in at),
            "p_value": None,
            "within_p": None,
        }
        for key in ("nll_mean", "rho", "rho_within", "cloud"):
            values = [one[key] for one in at]
            row[key] = None if any(v is None for v in values) else np.mean(values, axis=0)
        steps.append(row)
    return steps


def _rows(steps: list[dict[str, Any]], how: Resampling) -> list[dict[str, Any]]:
    rows = []
    for at in steps:
        first = steps[0]
        known = at["rho"] is not None and first["rho"] is not None
        paired = known and at["cloud"] is not None and first["cloud"] is not None
        value = float("nan") if at["rho"] is None else float(at["rho"])
        change = percentile_interval(
            float(at["rho"] - first["rho"]) if known else float("nan"),
            at["cloud"] - first["cloud"] if paired else None,
            how.confidence,
        )
        rows.append(
            {key: at[key] for key in ("step", "n", "nll_mean", "p_value", "rho_within", "within_p")}
            | percentile_interval(value, at["cloud"], how.confidence).columns("rho")
            | change.columns("change", "change_")
        )
    return rows
