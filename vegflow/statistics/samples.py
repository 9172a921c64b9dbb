"""Rollouts joined with their verdicts, and the task sets to average over: what every other statistic starts from.

Knows the stored tables; computes nothing but rates per task, seed and step.
"""

import polars as pl

from vegflow.artifacts.rollouts import FURTHER
from vegflow.config.analysis import StudyFacts
from vegflow.errors import ArtifactError

ROLLOUT_COLUMNS = (
    "rollout_id", "source", "step", "task_id", "policy_id", "seed", "index", "logprob", "logprob_tempered", "n_tokens",
    "n_prompt_tokens", "completion",
)  # fmt: skip
FURTHER_COLUMNS = tuple(FURTHER.names)
"""Of rollouts from elsewhere, where they have them."""
EVALUATION_COLUMNS = (
    "rollout_id", "candidate_sha256", "status", "reason", "correct", "fast_1", "fast", "speedup", "speedup_low",
    "speedup_high", "headroom", "reference_us", "evaluate_wall_s", "evaluate_cpu_s",
)  # fmt: skip
OPTIONAL = (
    "source", "step", "policy_id", "seed", "index", "logprob_tempered", "n_prompt_tokens", "completion", "candidate_sha256",
    "status", "reason", "fast_1", "fast", "speedup_low", "speedup_high", "headroom", "reference_us", "evaluate_wall_s",
    "evaluate_cpu_s", *FURTHER_COLUMNS,
)  # fmt: skip
"""Columns that tables from elsewhere may lack."""
CELL = ["source", "seed", "step", "task_id"]


def completed(rollouts: pl.DataFrame, evaluations: pl.DataFrame) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Tables from elsewhere with the columns they lack, as far as these follow from others; the rest are null.

    One sample set `samples` of seed 0, numbered in the order of the file; `fast_1` is correct and speedup > 1, `fast`
    the same with the interval's lower end where there is one. `logprob_tempered` stays absent: it cannot be made up.
    """

    def add(frame: pl.DataFrame, **columns: pl.Expr) -> pl.DataFrame:
        return frame.with_columns(**{name: made for name, made in columns.items() if name not in frame.columns})

    unit = [c for c in ("source", "task_id", "seed", "step") if c in rollouts.columns]
    rollouts = add(
        rollouts,
        source=pl.lit("samples"), step=pl.lit(None, pl.Int32), policy_id=pl.lit("base"), seed=pl.lit(0, pl.Int64),
        index=pl.int_range(pl.len()).over(unit).cast(pl.Int32), n_prompt_tokens=pl.lit(0, pl.Int32),
        completion=pl.lit("not recorded"),
    )  # fmt: skip
    fast = pl.col("correct") & (pl.col("speedup") > 1)
    none = pl.lit(None, pl.Float64)
    evaluations = add(
        evaluations,
        candidate_sha256=pl.lit(None, pl.String), reason=pl.lit(""), fast_1=fast, speedup_low=none, speedup_high=none,
        headroom=none, reference_us=none, evaluate_wall_s=pl.lit(0.0), evaluate_cpu_s=pl.lit(0.0),
        status=pl.when("correct").then(pl.lit("correct")).otherwise(pl.lit("wrong_output")),
    )  # fmt: skip
    evaluations = add(evaluations, fast=pl.col("correct") & (pl.coalesce("speedup_low", "speedup") > 1))
    return rollouts, evaluations


def join_samples(rollouts: pl.DataFrame, evaluations: pl.DataFrame) -> pl.DataFrame:
    """One row a rollout: its facts and its verdict, with `nll` and `candidate`; in a fixed order.

    `candidate` is the program's digest, or the completion's text where no program could be assembled. Raises
    ArtifactError if a rollout has no verdict or two.
    """
    kept = [name for name in (*ROLLOUT_COLUMNS, *FURTHER_COLUMNS) if name in rollouts.columns]
    joined = rollouts.select(kept).join(evaluations.select(EVALUATION_COLUMNS), on="rollout_id", how="left")
    if joined.height > rollouts.height or rollouts["rollout_id"].n_unique() < rollouts.height:
        raise ArtifactError("rollouts or evaluations: a rollout_id stands twice; were two studies mixed?")
    missing = joined.filter(pl.col("status").is_null())
    if missing.height:
        raise ArtifactError(
            f"evaluations: {missing.height} of {joined.height} rollouts have no verdict, "
            f"'{missing['rollout_id'][0]}' first; evaluate them before the analysis"
        )
    return joined.with_columns(
        nll=-pl.col("logprob"), candidate=pl.coalesce("candidate_sha256", pl.col("completion"))
    ).sort([*CELL, "index"], nulls_last=False)


def judged(samples: pl.DataFrame) -> pl.DataFrame:
    """Samples with a verdict of their own: without those on which the evaluator itself broke."""
    return samples.filter(pl.col("status") != "evaluator_error")


def per_task(samples: pl.DataFrame) -> pl.DataFrame:
    """Rates of each (source, seed, step, task): the columns of `TASKS`."""
    good = pl.col("speedup").filter(pl.col("correct"))
    half = pl.col("index") % 2
    return (
        samples.group_by(CELL, maintain_order=True)
        .agg(
            pl.col("policy_id").first(),
            n=pl.len().cast(pl.Int64),
            correct=pl.col("correct").mean(),
            fast_1=pl.col("fast_1").mean(),
            fast=pl.col("fast").mean(),
            any_fast_1=pl.col("fast_1").any().cast(pl.Float64),
            fast_1_even=pl.col("fast_1").filter(half == 0).mean(),
            fast_1_odd=pl.col("fast_1").filter(half == 1).mean(),
            mean_speedup=good.mean(),
            best_speedup=good.max(),
            distinct_candidates=pl.col("candidate").n_unique().cast(pl.Int64),
            nll_mean=pl.col("nll").mean(),
            nll_std=pl.col("nll").std(),
            mean_tokens=pl.col("n_tokens").mean(),
            mean_prompt_tokens=pl.col("n_prompt_tokens").mean(),
        )
        .select(*CELL, pl.exclude(CELL))
    )


def statuses(samples: pl.DataFrame) -> pl.DataFrame:
    """How often each verdict was given, per source and task: the columns of `STATUSES`."""
    return (
        samples.group_by("source", "task_id", "status")
        .agg(n=pl.len().cast(pl.Int64))
        .with_columns(share=pl.col("n") / pl.col("n").sum().over("source", "task_id"))
        .sort("source", "task_id", "status")
    )


def task_sets(facts: StudyFacts, source: str) -> dict[str, tuple[str, ...]]:
    """Task sets to average a sample set over: its own, all of it, and the tasks of the trajectory compared with it."""
    own = facts.sample_sets[source]
    sets = dict(own.tasks)
    if len(sets) > 1:
        sets["all"] = own.all_tasks()
    if facts.comparison and facts.comparison.search == source:
        name, tasks = comparison_set(facts)
        if tasks:
            sets.setdefault(name, tasks)
    return sets


def comparison_set(facts: StudyFacts) -> tuple[str, tuple[str, ...]]:
    """Name and ids of the tasks that both arms of the comparison share; ("", ()) without a comparison."""
    if facts.comparison is None:
        return "", ()
    own = facts.sample_sets[facts.comparison.search]
    adapted = set(facts.trajectories[facts.comparison.adaptation].tasks)
    shared = tuple(task for task in own.all_tasks() if task in adapted)
    for name, tasks in own.tasks.items():
        if set(tasks) == set(shared):
            return name, tuple(tasks)
    return ("all" if set(shared) == set(own.all_tasks()) else f"tasks of {facts.comparison.adaptation}"), shared
