"""The best-of-N curve: how success and the best reward grow with the number of samples.

Knows the rates of the sample sets' tasks (`TASKS`); the curve of a trajectory's policies is not drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from vegflow.config.analysis import StudyFacts
from vegflow.statistics.best_of import passes_at_k
from vegflow.statistics.bootstrap import Resampling, sd_over_seeds
from vegflow.statistics.intervals import POSITIVE, SHARE, mean_interval
from vegflow.statistics.samples import task_sets

METRICS = ("fast_1", "fast", "correct", "speedup")


@dataclass(frozen=True)
class Curve:
    """Unbiased estimates [K, U] at `ks` for units (task, seed)."""

    ks: tuple[int, ...]
    tasks: tuple[str, ...]
    seeds: tuple[int, ...]
    values: np.ndarray


def curve(tasks: pl.DataFrame, metric: str, ks: Sequence[int]) -> Curve:
    """Estimate pass@k (`fast_1`, `fast`, `correct`) for each task and seed, from rows of `TASKS` (n and the rate).

    ks above the smallest number of samples of any unit are left out.
    """
    units = tasks.sort("task_id", "seed")
    n = units["n"].to_numpy()
    kept = tuple(k for k in ks if len(n) and k <= n.min())
    hits = np.rint(n * units[metric].to_numpy()).astype(np.int64)
    values = (
        passes_at_k(n[None], hits[None], np.array(kept, dtype=np.int64)[:, None]) if kept else np.empty((0, len(n)))
    )
    return Curve(kept, tuple(units["task_id"]), tuple(units["seed"]), values)


def speedup_curve(best: pl.DataFrame, ks: Sequence[int]) -> Curve:
    """Expected best speedup of k samples, an incorrect one counting 0, from rows (task_id, seed, best [K])."""
    units = best.sort("task_id", "seed")
    values = np.array(units["best"].to_list(), dtype=float).reshape(units.height, -1).T
    kept = [i for i in range(len(values)) if units.height and not np.isnan(values[i]).any()]
    return Curve(tuple(ks[i] for i in kept), tuple(units["task_id"]), tuple(units["seed"]), values[kept])


def scaling(
    tasks: pl.DataFrame, best: pl.DataFrame, facts: StudyFacts, ks: Sequence[int], how: Resampling
) -> list[dict]:
    """Rows of `SCALING` for every sample set, task set and metric."""
    rows = []
    drawn = tasks.filter(pl.col("step").is_null())
    for source in facts.sample_sets:
        for name, wanted in task_sets(facts, source).items():
            inside = (pl.col("source") == source) & pl.col("task_id").is_in(wanted)
            for metric in METRICS:
                share = metric != "speedup"
                line = curve(drawn.filter(inside), metric, ks) if share else speedup_curve(best.filter(inside), ks)
                for k, values in zip(line.ks, line.values, strict=True):
                    rows.append(
                        {
                            "source": source,
                            "task_set": name,
                            "metric": metric,
                            "k": k,
                            "n_tasks": len(set(line.tasks)),
                            "n_seeds": len(set(line.seeds)),
                            "sd_seeds": sd_over_seeds(values, line.seeds),
                            **mean_interval(
                                values, line.tasks, line.seeds, how, bounds=SHARE if share else POSITIVE
                            ).columns(),
                        }
                    )
    return rows
