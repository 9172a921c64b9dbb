"""How surprisal, length and speedup hang together over the correct samples of a sample set.

Knows single samples (the paper's quartile table and length control), not what a strategy makes of them.
"""

from collections.abc import Callable

import numpy as np
import polars as pl

from vegflow.config.analysis import StudyFacts
from vegflow.statistics.bootstrap import Resampling, percentile_interval, resample
from vegflow.statistics.correlation import Correlation, partial_spearman, spearman, weighted_spearman, within_spearman
from vegflow.statistics.samples import task_sets


def quartiles(samples: pl.DataFrame, facts: StudyFacts) -> list[dict]:
    """Rows of `QUARTILES`: correct samples cut into four equal groups by surprisal, globally and within each task.

    Samples of equal surprisal are ordered by task, seed and index, so that the groups have equal size.
    """
    rows = []
    for source, name, good in _correct(samples, facts):
        ordered = good.sort("nll", "task_id", "seed", "index", descending=[True, False, False, False])
        position = pl.int_range(pl.len()) * 4 // pl.len() + 1
        for ranking, quartile in (("global", position), ("within task", position.over("task_id"))):
            cut = ordered.with_columns(quartile=quartile)
            for (number,), group in cut.group_by("quartile", maintain_order=True):
                rows.append(
                    {
                        "source": source,
                        "task_set": name,
                        "ranking": ranking,
                        "quartile": int(number),
                        "n": group.height,
                        "fast_1": float(group["fast_1"].mean()),
                        "mean_speedup": float(group["speedup"].mean()),
                        "mean_tokens": float(group["n_tokens"].mean()),
                        "nll_mean": float(group["nll"].mean()),
                        "largest_task_share": float(group["task_id"].value_counts()["count"].max() / group.height),
                    }
                )
    return sorted(rows, key=lambda row: (row["source"], row["task_set"], row["ranking"], row["quartile"]))


def correlations(samples: pl.DataFrame, facts: StudyFacts, how: Resampling) -> list[dict]:
    """Rows of `CORRELATIONS`: the paper's length control (section 5.2) and the same within tasks."""
    rows = []
    for source, name, good in _correct(samples, facts):
        logprob, speedup = good["logprob"].to_numpy(), good["speedup"].to_numpy()
        length = good["n_tokens"].to_numpy().astype(float)
        weights = unit_weights(good, how)
        measures: dict[str, tuple[Correlation, Callable[[np.ndarray], np.ndarray] | None]] = {
            "logprob and speedup": (
                spearman(logprob, speedup),
                lambda w, x=logprob, y=speedup: weighted_spearman(x, y, w),
            ),
            "logprob and speedup, length held fixed": (partial_spearman(logprob, speedup, length), None),
            "length and speedup": (
                spearman(length, speedup),
                lambda w, x=length, y=speedup: weighted_spearman(x, y, w),
            ),
            "logprob and speedup, ranks within task": (
                within_spearman(logprob, speedup, good["task_id"].to_list()),
                None,
            ),
        }
        for measure, (found, again) in measures.items():
            replicates = again(weights) if again and weights is not None and found.rho is not None else None
            value = float("nan") if found.rho is None else found.rho
            rows.append(
                {
                    "source": source,
                    "task_set": name,
                    "measure": measure,
                    "n": good.height,
                    **percentile_interval(value, replicates, how.confidence).columns("rho"),
                    "p_value": found.p_value,
                }
            )
    return rows


def unit_weights(samples: pl.DataFrame, how: Resampling) -> np.ndarray | None:
    """Bootstrap weights [B, N] of samples: all samples of a task and seed share the weight of that unit."""
    units = samples.select("task_id", "seed").unique(maintain_order=True)
    weights = resample(units["task_id"].to_list(), units["seed"].to_list(), how)
    if weights is None:
        return None
    place = {unit: i for i, unit in enumerate(units.rows())}
    return weights[:, [place[unit] for unit in samples.select("task_id", "seed").rows()]]


def _correct(samples: pl.DataFrame, facts: StudyFacts) -> list[tuple[str, str, pl.DataFrame]]:
    found = []
    for source in facts.sample_sets:
        own = samples.filter((pl.col("source") == source) & pl.col("correct"))
        for name, tasks in task_sets(facts, source).items():
            inside = own.filter(pl.col("task_id").is_in(tasks))
            if inside.height >= 4:
                found.append((source, name, inside))
    return found
