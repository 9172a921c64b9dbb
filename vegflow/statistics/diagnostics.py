"""What the updates of a trajectory did, step by step: is over-sharpening an artefact of rewards and advantages?

Knows the update records (`UPDATES`); how the policies fare is in `trajectory`.
"""

import polars as pl

from vegflow.config.analysis import StudyFacts

MEANS = (
    "gradient_norm", "entropy", "kl_start", "kl_step", "temperature", "ratio_mean", "clipped_share", "mismatch_mean",
    "reward_mean", "reward_std",
    "effective_rollouts", "fast_negative_share", "student_tokens", "teacher_tokens", "seconds",
)  # fmt: skip
"""Columns of `UPDATES` that are carried over; the others become shares of the rollouts or groups learnt from."""
COUNTS = ("n_rollouts", "distinct_candidates", "zero_variance_groups", "stepped")


def diagnostics(updates: pl.DataFrame, facts: StudyFacts) -> list[dict]:
    """Rows of `DIAGNOSTICS`: every trajectory, seed and update, and the mean over seeds.

    Columns that records from elsewhere lack are null.
    """
    known = set(updates.columns)
    lacking = [pl.lit(None, pl.Float64).alias(name) for name in (*MEANS, *COUNTS) if name not in known]
    made = updates.with_columns(lacking)
    group = pl.col("trajectory").replace_strict(
        {name: one.group_size for name, one in facts.trajectories.items()}, default=None, return_dtype=pl.Int64
    )
    table = made.select(
        "trajectory",
        "seed",
        "step",
        pl.col(MEANS).cast(pl.Float64),
        n_rollouts=pl.col("n_rollouts").cast(pl.Float64),
        stepped=pl.col("stepped").cast(pl.Float64),
        effective_share=pl.col("effective_rollouts") / pl.col("n_rollouts"),
        distinct_share=pl.col("distinct_candidates") / pl.col("n_rollouts"),
        zero_variance_share=(pl.col("zero_variance_groups") * group / pl.col("n_rollouts")).clip(0, 1),
    ).sort("trajectory", "seed", "step")
    means = table.group_by("trajectory", "step", maintain_order=True).agg(pl.exclude("seed").mean())
    both = pl.concat([table, means.with_columns(seed=pl.lit(None, pl.Int64)).select(table.columns)])
    # Trajectories in the study's order; the mean after the seeds.
    order = {name: place for place, name in enumerate(facts.trajectories)}
    place = pl.col("trajectory").replace_strict(order, default=len(order), return_dtype=pl.Int64)
    return both.sort(place, "trajectory", "seed", "step", nulls_last=True).to_dicts()
