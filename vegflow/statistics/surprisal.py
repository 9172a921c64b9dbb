"""How surprisal, length and speedup hang together over the correct samples of a sample set.

Knows single samples (the paper's quartile table and length control), not what a strategy makes of them.
"""

import numpy as np
import polars as pl

from vegflow.config.analysis import StudyFacts
from vegflow.statistics.bootstrap import Interval, Resampling
from vegflow.statistics.correlation import (
    Correlation,
    influence,
    partial_influence,
    partial_spearman,
    ranked,
    spearman,
    within_influence,
    within_spearman,
)
from vegflow.statistics.intervals import (
    DIFFERENCE,
    POSITIVE,
    SHARE,
    Bounds,
    clustered,
    correlation_interval,
    interval,
)
from vegflow.statistics.samples import task_sets


def quartiles(samples: pl.DataFrame, facts: StudyFacts, how: Resampling) -> list[dict]:
    """Rows of `QUARTILES`: correct samples cut into four equal groups by surprisal, globally and within each task, and in halves.

    Samples of equal surprisal are ordered by task, seed and index, so that the groups have equal size.
    """
    rows = []
    for source, name, good in _correct(samples, facts):
        ordered = good.sort("nll", "task_id", "seed", "index", descending=[True, False, False, False])
        position = pl.int_range(pl.len()) * 4 // pl.len() + 1
        halves = pl.int_range(pl.len()) * 4 // pl.len() // 2 + 1  # whole quartiles, so that they are the same samples
        ranked_by = {"global": position, "within task": position.over("task_id"), "halves": halves}
        for ranking, quartile in ranked_by.items():
            cut = ordered.with_columns(quartile=quartile)
            for (number,), group in cut.group_by("quartile", maintain_order=True):
                rows.append(
                    {
                        "source": source,
                        "task_set": name,
                        "ranking": ranking,
                        "quartile": int(number),
                        "n": group.height,
                        **_mean(group, "fast_1", how, SHARE).columns("fast_1"),
                        **_mean(group, "speedup", how, POSITIVE).columns("mean_speedup", "speedup_"),
                        **_mean(group, "n_tokens", how).columns("mean_tokens", "tokens_"),
                        "nll_mean": float(group["nll"].mean()),
                        "largest_task_share": float(group["task_id"].value_counts()["count"].max() / group.height),
                    }
                )
        high, low = rows[-2:]
        rows.append(high | _halves(ordered.with_columns(half=halves), high, low, how))
    return sorted(rows, key=lambda row: (row["source"], row["task_set"], row["ranking"], row["quartile"]))


def _mean(group: pl.DataFrame, column: str, how: Resampling, bounds: Bounds | None = None) -> Interval:
    """Mean over samples, not tasks, as the paper's; its variance is that of sums over tasks."""
    values = group[column].cast(pl.Float64).to_numpy()
    value = float(values.mean())
    variance, n_tasks = clustered(values - value, group["task_id"].to_physical().to_numpy())
    return interval(value, variance, n_tasks - 1.0, n_tasks, how.confidence, bounds)


def _halves(samples: pl.DataFrame, high: dict, low: dict, how: Resampling) -> dict:
    """The row of the higher minus the lower half; a task's samples in both count with both signs."""
    sign, tasks = np.where(samples["half"].to_numpy() == 1, 1.0, -1.0), samples["task_id"].to_physical().to_numpy()
    size = np.where(sign > 0, high["n"], low["n"])

    def gap(column: str, mean: str, bounds: Bounds | None = None) -> Interval:
        values = samples[column].cast(pl.Float64).to_numpy()
        residual = sign * (values - np.where(sign > 0, high[mean], low[mean])) / size * len(size)
        variance, n_tasks = clustered(residual, tasks)
        return interval(high[mean] - low[mean], variance, n_tasks - 1.0, n_tasks, how.confidence, bounds)

    return {
        "quartile": 0,
        "n": high["n"] + low["n"],
        **gap("fast_1", "fast_1", DIFFERENCE).columns("fast_1"),
        **gap("speedup", "mean_speedup").columns("mean_speedup", "speedup_"),
        **gap("n_tokens", "mean_tokens").columns("mean_tokens", "tokens_"),
        "nll_mean": high["nll_mean"] - low["nll_mean"],
        "largest_task_share": max(high["largest_task_share"], low["largest_task_share"]),
    }


def correlations(samples: pl.DataFrame, facts: StudyFacts, how: Resampling) -> list[dict]:
    """Rows of `CORRELATIONS`: the paper's length control (section 5.2) and the same within tasks."""
    rows = []
    for source, name, good in _correct(samples, facts):
        logprob, speedup, length = (
            ranked(values)
            for values in (
                -good["nll"].to_numpy(),
                good["speedup"].to_numpy(),
                good["n_tokens"].to_numpy().astype(float),
            )
        )
        tasks = good["task_id"].to_physical().to_numpy()
        within = within_influence(logprob, speedup, tasks)
        measures: dict[str, tuple[Correlation, np.ndarray | None, np.ndarray, np.ndarray | None]] = {
            "logprob and speedup": (spearman(logprob, speedup), influence(logprob, speedup), tasks, None),
            "logprob and speedup, length held fixed": (
                partial_spearman(logprob, speedup, length),
                partial_influence(logprob, speedup, length),
                tasks,
                None,
            ),
            "length and speedup": (spearman(length, speedup), influence(length, speedup), tasks, None),
            "logprob and speedup, ranks within task": (
                within_spearman(logprob, speedup, tasks),
                *(within or (None, tasks, None)),
            ),
        }
        for measure, (found, psi, clusters, weights) in measures.items():
            variance, n_tasks = clustered(psi, clusters, weights) if psi is not None else (0.0, 0)
            rows.append(
                {
                    "source": source,
                    "task_set": name,
                    "measure": measure,
                    "n": good.height,
                    **correlation_interval(found.rho, variance, n_tasks, how.confidence).columns("rho"),
                    "p_value": found.p_value,
                }
            )
    return rows


def _correct(samples: pl.DataFrame, facts: StudyFacts) -> list[tuple[str, str, pl.DataFrame]]:
    """(sample set, task set, its correct samples) where there are four or more; `samples` are correct ones."""
    found = []
    for source in facts.sample_sets:
        own = samples.filter(pl.col("source") == source)
        for name, tasks in task_sets(facts, source).items():
            inside = own.filter(pl.col("task_id").is_in(tasks))
            if inside.height >= 4:
                found.append((source, name, inside))
    return found
