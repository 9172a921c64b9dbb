"""What each arm spent, what its samples came to, and both arms under one budget.

Knows counts and rates per task; the report shows what was spent beside the results it paid for.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl

from vegflow.config.analysis import StudyFacts
from vegflow.statistics.best_of import passes_at_k
from vegflow.statistics.bootstrap import Resampling
from vegflow.statistics.intervals import DIFFERENCE, SHARE, mean_interval
from vegflow.statistics.paired import task_permutation
from vegflow.statistics.trajectory import adaptations

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


def same_budget(
    tasks: pl.DataFrame,
    best: pl.DataFrame,
    ks: Sequence[int],
    updates: pl.DataFrame,
    facts: StudyFacts,
    how: Resampling,
) -> list[dict]:
    """Rows of `SAME_BUDGET`: what a trajectory found up to each step, beside best-of-N for as many rollouts or tokens.

    `tasks` is the `TASKS` table, `best` has each sample set's expected best speedups [K] at `ks` (source, task_id, seed).
    A trajectory is set beside the sample sets of its first policy. Everything it drew on the way counts, as all K samples
    of best-of-N do. Search's value is the unbiased pass@k of each task, k the rollouts the trajectory drew for it, or its
    tokens over those of a mean sample; k is at most the samples there are. Best speedups are log-linear between `ks`.
    """
    rows = []
    for name, own in adaptations(tasks):
        start = own.filter(pl.col("step") == 0)["policy_id"].unique().to_list()
        running = _running(own, updates.filter(pl.col("trajectory") == name))
        for source in facts.sample_sets:
            drawn = tasks.filter(
                (pl.col("source") == source) & pl.col("step").is_null() & pl.col("policy_id").is_in(start)
            )
            both = _beside(running, drawn.join(best, on=["source", "task_id", "seed"], how="left"), ks)
            for (step,), cells in both.group_by("step", maintain_order=True):
                rows.append({"search": source, "trajectory": name, "step": step} | _compared(cells, how))
    return rows


def _running(cells: pl.DataFrame, updates: pl.DataFrame) -> pl.DataFrame:
    """Of each seed, task and step: rollouts, tokens (student, teacher) and whether anything is found, up to that step."""
    unit = ["seed", "task_id"]
    taught = (
        updates.select("seed", "step", taught=pl.col("teacher_tokens").fill_null(0) / cells["task_id"].n_unique())
        .sort("seed", "step")
        .with_columns(pl.col("taught").cum_sum().over("seed"))
    )
    tokens = pl.col("n") * (pl.col("mean_tokens") + pl.col("mean_prompt_tokens"))
    return (
        cells.sort("step", "task_id", "seed")
        .with_columns(
            rollouts=pl.col("n").cum_sum().over(unit),
            student=tokens.cum_sum().over(unit),
            found=pl.col("any_fast_1").cum_max().over(unit),
            best_speedup=pl.col("best_speedup").fill_null(0.0).cum_max().over(unit),
        )
        .join(taught.with_columns(pl.col("step").cast(cells.schema["step"])), on=["seed", "step"], how="left")
        .with_columns(pl.col("taught").fill_null(0.0))
        .select("step", *unit, "rollouts", "student", "taught", "fast_1", "found", "best_speedup")
    )


def _beside(running: pl.DataFrame, drawn: pl.DataFrame, ks: Sequence[int]) -> pl.DataFrame:
    """`running` with search's success on the same task, mean over its seeds: columns k, pass and short by budget, search."""
    units = drawn.select(
        "task_id", held="n", hits=(pl.col("n") * pl.col("fast_1")).round().cast(pl.Int64),
        each=pl.col("mean_tokens") + pl.col("mean_prompt_tokens"), curve="best",
    )  # fmt: skip
    joined = running.join(units, on="task_id", maintain_order="left")
    paid = {
        "rollouts": joined["rollouts"].to_numpy(),
        "tokens": np.floor((joined["student"] + joined["taught"]).to_numpy() / np.maximum(joined["each"].to_numpy(), 1e-9)),
    }  # fmt: skip
    held, hits = joined["held"].to_numpy(), joined["hits"].to_numpy()
    found = {}
    for by, wanted in paid.items():
        k = np.minimum(wanted, held).astype(np.int64)
        found |= {f"k_{by}": k, f"pass_{by}": passes_at_k(held, hits, k), f"short_{by}": wanted > held}
    found["search"] = np.array(
        [_between(ks, curve, k) for curve, k in zip(joined["curve"].to_list(), found["k_rollouts"], strict=True)]
    )
    key = ["step", "task_id", "seed"]
    return (
        joined.with_columns(**{name: pl.Series(name, values) for name, values in found.items()})
        .group_by(key, maintain_order=True)
        .agg(
            pl.col("rollouts", "student", "taught", "fast_1", "found", "best_speedup").first(),
            pl.col(list(found)).mean(),
        )
    )


def _between(ks: Sequence[int], curve: Sequence[float] | None, k: float) -> float:
    """A curve's value at k, linear in log k between `ks`, of which the first point without a value ends it."""
    known = [(np.log(at), value) for at, value in zip(ks, curve or (), strict=False) if not np.isnan(value)]
    return float(np.interp(np.log(max(k, 1)), *zip(*known, strict=True))) if known else float("nan")


def _compared(cells: pl.DataFrame, how: Resampling) -> dict:
    """One step's numbers of a trajectory and of search, and their differences over tasks."""
    names, seeds = cells["task_id"].to_list(), cells["seed"].to_list()

    def mean(column: str) -> float:
        return float(cells.group_by("task_id", maintain_order=True).agg(pl.col(column).mean())[column].mean())

    gaps = {by: (cells["found"] - cells[f"pass_{by}"]).to_numpy() for by in ("rollouts", "tokens")}
    gaps = {by: np.where(np.abs(gap) < 1e-12, 0.0, gap) for by, gap in gaps.items()}
    rollouts, tokens = (mean_interval(gap, names, seeds, how, crossed=True, bounds=DIFFERENCE) for gap in gaps.values())
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.log(cells["best_speedup"].to_numpy() / cells["search"].to_numpy())
    logs = mean_interval(np.where(np.isfinite(logs), logs, np.nan), names, seeds, how, crossed=True)
    ratio = {
        key: None if end is None else float(np.exp(end)) for key, end in logs.columns("speedup_ratio", "ratio_").items()
    }
    found = mean_interval(cells["found"].to_numpy(), names, seeds, how, crossed=True, bounds=SHARE)
    return {
        "n_tasks": len(set(names)),
        "rollouts": mean("rollouts"),
        "student_tokens": mean("student"),
        "teacher_tokens": mean("taught"),
        "fast_1": mean("fast_1"),
        **found.columns("found", "found_"),
        "k_rollouts": mean("k_rollouts"),
        "search_rollouts": mean("pass_rollouts"),
        **rollouts.columns("difference"),
        "permutation_p": task_permutation(gaps["rollouts"], names, how.seed),
        "k_tokens": mean("k_tokens"),
        "search_tokens": mean("pass_tokens"),
        **tokens.columns("token_difference", "token_"),
        **ratio,
        "bounded": bool(mean("short_rollouts") + mean("short_tokens") > 0),
    }


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
