"""What each arm spent, and what its samples came to: budgets and distinct candidates.

Knows counts; the report shows both beside the results they paid for.
"""

import polars as pl

from vegflow.config.analysis import StudyFacts


def budget(samples: pl.DataFrame, updates: pl.DataFrame, facts: StudyFacts) -> list[dict]:
    """Rows of `BUDGET`: rollouts, tokens and evaluation time of each source, mean over its seeds."""
    rows = []
    for source in [*facts.sample_sets, *facts.trajectories]:
        own = samples.filter(pl.col("source") == source)
        made = updates.filter(pl.col("trajectory") == source)
        if not own.height:
            continue
        seeds = own["seed"].n_unique()
        completions = float(own["n_tokens"].sum())
        rows.append(
            {
                "source": source,
                "kind": "trajectory" if source in facts.trajectories else "sample set",
                "seeds": seeds,
                "updates": made.height / seeds,
                "rollouts": own.height / seeds,
                "student_tokens": (completions + float(own["n_prompt_tokens"].sum())) / seeds,
                "completion_tokens": completions / seeds,
                "teacher_tokens": float(made["teacher_tokens"].sum()) / seeds,
                "evaluate_wall_s": float(own["evaluate_wall_s"].sum()) / seeds,
                "evaluate_cpu_s": float(own["evaluate_cpu_s"].sum()) / seeds,
            }
        )
    return rows


def candidates(samples: pl.DataFrame, selections: pl.DataFrame, facts: StudyFacts) -> pl.DataFrame:
    """The columns of `CANDIDATES`: each distinct program of the sample sets, the commonest first.

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
    )
