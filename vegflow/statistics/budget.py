"""What each arm spent, and what its samples came to: budgets and distinct candidates.

Knows counts; the report shows both beside the results they paid for.
"""

import polars as pl

from vegflow.config.analysis import StudyFacts

MOST_CANDIDATES = 100
"""Distinct programs kept per task: the commonest, and all that a strategy picked."""


def spent(samples: pl.DataFrame) -> pl.DataFrame:
    """Rollouts, tokens and evaluation time of each source and seed."""
    return (
        samples.group_by("source", "seed")
        .agg(
            rollouts=pl.len().cast(pl.Int64),
            completion_tokens=pl.col("n_tokens").cast(pl.Float64).sum(),
            prompt_tokens=pl.col("n_prompt_tokens").cast(pl.Float64).sum(),
            evaluate_wall_s=pl.col("evaluate_wall_s").sum(),
            evaluate_cpu_s=pl.col("evaluate_cpu_s").sum(),
        )
        .sort("source", "seed")
    )


def budget(spent: pl.DataFrame, updates: pl.DataFrame, facts: StudyFacts) -> list[dict]:
    """Rows of `BUDGET`: rollouts, tokens and evaluation time of each source, mean over its seeds."""
    rows = []
    for source in [*facts.sample_sets, *facts.trajectories]:
        own = spent.filter(pl.col("source") == source)
        made = updates.filter(pl.col("trajectory") == source)
        if not own.height:
            continue
        seeds = own.height
        total = {name: float(own[name].sum()) for name in own.columns[2:]}
        rows.append(
            {
                "source": source,
                "kind": "trajectory" if source in facts.trajectories else "sample set",
                "seeds": seeds,
                "updates": made.height / seeds,
                "rollouts": total["rollouts"] / seeds,
                "student_tokens": (total["completion_tokens"] + total["prompt_tokens"]) / seeds,
                "completion_tokens": total["completion_tokens"] / seeds,
                "teacher_tokens": float(made["teacher_tokens"].sum()) / seeds,
                "evaluate_wall_s": total["evaluate_wall_s"] / seeds,
                "evaluate_cpu_s": total["evaluate_cpu_s"] / seeds,
            }
        )
    return rows


def candidates(samples: pl.DataFrame, selections: pl.DataFrame, facts: StudyFacts) -> pl.DataFrame:
    """The columns of `CANDIDATES`: distinct programs of the sample sets, the commonest first, at most `MOST_CANDIDATES`
    of a task and those that a strategy picks.

    A program judged in several jobs may have several verdicts; the commonest is shown.
    """
    drawn = samples.filter(pl.col("source").is_in(list(facts.sample_sets)))
    picks = (
        selections.filter(~pl.col("expected"))
        .explode("rollout_ids")
        .drop_nulls("rollout_ids")
        .select(rollout_id="rollout_ids", label=pl.format("{} (seed {})", "strategy", "seed"))
        .group_by("rollout_id", maintain_order=True)
        .agg("label")
    )
    key = ["source", "task_id", "candidate"]
    good = pl.col("speedup").filter(pl.col("correct"))
    return (
        drawn.join(picks, on="rollout_id", how="left")
        .sort("source", "task_id", "seed", "index")
        .with_columns(votes=pl.len().over([*key, "status"]))
        .group_by(key, maintain_order=True)
        .agg(
            completion=pl.col("completion").first(),
            count=pl.len().cast(pl.Int64),
            status=pl.col("status").sort_by("votes", descending=True, maintain_order=True).first(),
            reason=pl.col("reason").sort_by("votes", descending=True, maintain_order=True).first(),
            nll=pl.col("nll").min(),
            n_tokens=pl.col("n_tokens").mean(),
            speedup=good.median().fill_null(0.0),
            speedup_low=pl.col("speedup_low").filter(pl.col("correct")).median(),
            speedup_high=pl.col("speedup_high").filter(pl.col("correct")).median(),
            picked_by=pl.col("label").explode(empty_as_null=True).drop_nulls(),
        )
        .with_columns(of=pl.col("count").sum().over("source", "task_id"))
        .sort("source", "task_id", "count", "candidate", descending=[False, False, True, False])
        .filter(
            (pl.int_range(pl.len()).over("source", "task_id") < MOST_CANDIDATES) | (pl.col("picked_by").list.len() > 0)
        )
    )
