"""The over-sharpening probe: how fixed samples' surprisal under each adapted policy goes with their speedup.

Knows `nll` and the samples it belongs to. A negative rho means that the likelier samples are the faster ones, which the
paper's section 5.4 reads the other way round (audit finding 4).
"""

from typing import Any

import numpy as np
import polars as pl

from vegflow.config.analysis import ProbeFacts, StudyFacts
from vegflow.statistics.bootstrap import Resampling
from vegflow.statistics.correlation import influence, spearman, within_spearman
from vegflow.statistics.intervals import SHARE, clustered, correlation_interval, interval, mean_interval


def probe(
    samples: pl.DataFrame, tasks: pl.DataFrame, nll: pl.DataFrame, facts: StudyFacts, how: Resampling
) -> list[dict]:
    """Rows of `PROBE`: each probe, seed, policy, all or correct samples, all or the bottom quartile.

    `samples` are those that `nll` scores, `tasks` is the `TASKS` table.

    The bottom quartile is the quarter of the fixed samples with the lowest log-probability (highest surprisal) under
    the policy of step 0: the same samples at every step. (The paper does not say which quartile it means.)
    """
    rows = []
    for name, one in facts.probes.items():
        scored = _scored(samples, tasks, nll, one, facts)
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


def _scored(
    samples: pl.DataFrame, tasks: pl.DataFrame, nll: pl.DataFrame, one: ProbeFacts, facts: StudyFacts
) -> pl.DataFrame:
    """The probe's samples once per policy of the trajectory, with `step` and the run's seed.

    Step 0 is the policy that the trajectory starts from, so its identity is looked up in the trajectory's own
    rollouts. Samples are scored by the run of their own seed where there is one, else by the first.
    """
    fixed = samples.filter((pl.col("source") == one.sample_set) & pl.col("seed").is_in(one.seeds))
    own_seeds = facts.trajectories[one.trajectory].seeds
    run = pl.col("seed").replace_strict({s: s for s in own_seeds}, default=own_seeds[0], return_dtype=pl.Int64)
    policies = tasks.filter(pl.col("source") == one.trajectory).select(
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
    """Correlations at each step with their influence values, and what selection by that step's surprisal yields."""
    steps: list[dict[str, Any]] = []
    for (step,), at in fixed.group_by("step_of_policy", maintain_order=True):
        x, y, tasks = at["nll"].to_numpy(), at["speedup"].to_numpy(), at["task_id"].to_numpy()
        found, within = spearman(x, y), within_spearman(x, y, tasks)
        steps.append(
            {
                "step": step,
                "n": len(x),
                "nll_mean": float(x.mean()),
                "nll": x - x.mean(),
                "rho": found.rho,
                "p_value": found.p_value,
                "rho_within": within.rho,
                "within_p": within.p_value,
                "tasks": tasks,
                "psi": influence(x, y),
                **_picks(at, how),
            }
        )
    return steps


def _picks(at: pl.DataFrame, how: Resampling) -> dict[str, float | None]:
    """fast_1 of the correct samples that are most and least surprising under the policy that scored them, mean over
    tasks and seeds: surprisal- and confidence-guided selection with this checkpoint's NLL.
    """
    good = at.filter("correct").sort("task_id", "seed", "nll", "index")
    picked = good.group_by("task_id", "seed", maintain_order=True).agg(
        surprisal=pl.col("fast_1").sort_by("nll", "index", descending=[True, False]).first().cast(pl.Float64),
        confidence=pl.col("fast_1").first().cast(pl.Float64),
    )
    names, seeds = picked["task_id"].to_list(), picked["seed"].to_list()
    return {
        f"{name}_fast_1": mean_interval(picked[name].to_numpy(), names, seeds, how, bounds=SHARE).value
        for name in ("surprisal", "confidence")
    }


def _mean_run(runs: list[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """The mean over runs, step by step, for the steps that all of them have.

    Influence values of the mean are those of the runs side by side, N_run / N of each counting once per run.
    """
    steps = []
    for at in zip(*runs, strict=False):
        total = sum(one["n"] for one in at)
        row: dict[str, Any] = {
            "step": at[0]["step"],
            "n": total,
            "p_value": None,
            "within_p": None,
            "tasks": np.concatenate([one["tasks"] for one in at]),
            "psi": None
            if any(one["psi"] is None for one in at)
            else np.concatenate([one["psi"] * total / one["n"] / len(at) for one in at]),
        }
        row["nll"] = np.concatenate([one["nll"] * total / one["n"] / len(at) for one in at])
        for key in ("nll_mean", "rho", "rho_within", "surprisal_fast_1", "confidence_fast_1"):
            values = [one[key] for one in at]
            row[key] = None if any(v is None for v in values) else float(np.mean(values))
        steps.append(row)
    return steps


def _rows(steps: list[dict[str, Any]], how: Resampling) -> list[dict[str, Any]]:
    rows = []
    for at in steps:
        first = steps[0]
        known = at["psi"] is not None and first["psi"] is not None and at["n"] == first["n"]
        variance, n_tasks = clustered(at["psi"], at["tasks"]) if at["psi"] is not None else (0.0, 0)
        change: dict[str, float | None] = {"change": None, "change_low": None, "change_high": None}
        if known:
            # The same samples in the same order at both steps, so their influence values may be subtracted.
            moved, n_tasks = clustered(at["psi"] - first["psi"], at["tasks"])
            value = float(at["rho"] - first["rho"])
            change = interval(value, moved, n_tasks - 1.0, n_tasks, how.confidence).columns("change", "change_")
            if change["change_low"] is not None and change["change_high"] is not None:  # a difference of correlations
                change |= {
                    "change_low": max(change["change_low"], -2.0),
                    "change_high": min(change["change_high"], 2.0),
                }
        keep = ("step", "n", "nll_mean", "p_value", "rho_within", "within_p", "surprisal_fast_1", "confidence_fast_1")
        moved_nll, of_tasks = clustered(at["nll"], at["tasks"])
        rows.append(
            {key: at[key] for key in keep}
            | interval(at["nll_mean"], moved_nll, of_tasks - 1.0, of_tasks, how.confidence).columns("nll_mean", "nll_")
            | correlation_interval(at["rho"], variance, n_tasks, how.confidence).columns("rho")
            | change
        )
    return rows
