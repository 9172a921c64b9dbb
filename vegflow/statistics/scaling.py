"""The best-of-N curve: how success and the best reward grow with the number of samples.

Knows the samples of a sample set; the curve of a trajectory's policies is not drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from vegflow.config.analysis import StudyFacts
from vegflow.statistics.best_of import expected_best, pass_at_k
from vegflow.statistics.bootstrap import Resampling, mean_interval, sd_over_seeds
from vegflow.statistics.samples import task_sets

METRICS = ("fast_1", "fast", "correct", "speedup")


@dataclass(frozen=True)
class Curve:
    """Unbiased estimates [K, U] at `ks` for units (task, seed)."""

    ks: tuple[int, ...]
    tasks: tuple[str, ...]
    seeds: tuple[int, ...]
    values: np.ndarray


def curve(samples: pl.DataFrame, metric: str, ks: Sequence[int]) -> Curve:
    """Estimate pass@k (`fast_1`, `fast`, `correct`) or the expected best of k (`speedup`) for each task and seed.

    ks above the smallest number of samples of any unit are left out.
    """
    units = samples.group_by("task_id", "seed", maintain_order=True).agg(metric).sort("task_id", "seed")
    lists = [np.asarray(values, dtype=float) for values in units[metric]]
    kept = tuple(k for k in ks if lists and k <= min(map(len, lists)))
    if metric == "speedup":
        rows = [[expected_best(values, k) for values in lists] for k in kept]
    else:
        rows = [[pass_at_k(len(values), int(values.sum()), k) for values in lists] for k in kept]
    return Curve(kept, tuple(units["task_id"]), tuple(units["seed"]), np.array(rows).reshape(len(kept), len(lists)))


def scaling(samples: pl.DataFrame, facts: StudyFacts, ks: Sequence[int], how: Resampling) -> list[dict]:
    """Rows of `SCALING` for every sample set, task set and metric."""
    rows = []
    for source in facts.sample_sets:
        drawn = samples.filter(pl.col("source") == source)
        for name, tasks in task_sets(facts, source).items():
            inside = drawn.filter(pl.col("task_id").is_in(tasks))
            for metric in METRICS:
                line = curve(inside, metric, ks)
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
                            **mean_interval(values, line.tasks, line.seeds, how).columns(),
                        }
                    )
    return rows
