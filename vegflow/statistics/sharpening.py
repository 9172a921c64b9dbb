"""Power sampling without training: what the stored samples say of a policy sharpened or flattened to q^alpha.

Knows one task's samples and their surprisal under the distribution q that drew them. If adaptation does no more than
sharpen (Ji et al. 2026, arXiv 2601.21590), its rates should lie on this curve; a training-free control for it.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl

from vegflow.config.analysis import StudyFacts
from vegflow.selection import Samples
from vegflow.statistics.bootstrap import Resampling
from vegflow.statistics.intervals import SHARE, interval_of_means, task_means
from vegflow.statistics.samples import task_sets

COLUMNS = ("fast_1", "correct", "speedup", "effective")
RELIABLE = 5.0
"""Effective samples below which a task's estimate says little."""


def reweighted(samples: Samples, alphas: Sequence[float]) -> np.ndarray:
    """Self-normalised importance estimates [4, A] of the rows of `COLUMNS` under the target q^alpha.

    Samples are from q (tempered where its log-probabilities are stored), so their weights are q^(alpha - 1), normalised
    to sum 1: alpha > 1 sharpens, < 1 flattens, 1 is the plain mean. `speedup` counts 0 for incorrect ones; `effective`
    is Kish's 1 / sum w^2. Biased by O(1 / effective): where one sample holds all the weight, nothing is known.
    """
    nll = samples.nlls.get("tempered", samples.nlls["sum"])
    with np.errstate(over="ignore"):
        log_w = -np.multiply.outer(np.asarray(alphas) - 1.0, nll)
        w = np.exp(log_w - log_w.max(axis=1, keepdims=True))
    w /= w.sum(axis=1, keepdims=True)
    return np.stack([w @ samples.fast_1, w @ samples.correct, w @ samples.gain, 1 / (w * w).sum(axis=1)])


def sharpening(
    units: pl.DataFrame, values: np.ndarray, alphas: Sequence[float], facts: StudyFacts, how: Resampling
) -> list[dict]:
    """Rows of `SHARPENING` from `reweighted` values [U, 4, A] of `units` (source, task_id, seed)."""
    rows = []
    for source in facts.sample_sets:
        for name, tasks in task_sets(facts, source).items():
            inside = units.select((pl.col("source") == source) & pl.col("task_id").is_in(tasks)).to_series()
            own, at = units.filter(inside), values[inside.to_numpy()]
            if not own.height:
                continue
            by_task = task_means(at, own["task_id"].to_numpy())
            for i, alpha in enumerate(alphas):
                rows.append(
                    {
                        "source": source,
                        "task_set": name,
                        "alpha": float(alpha),
                        "n_tasks": len(by_task),
                        **interval_of_means(by_task[:, 0, i], how, SHARE).columns("fast_1"),
                        "correct": float(by_task[:, 1, i].mean()),
                        "mean_speedup": float(by_task[:, 2, i].mean()),
                        "effective_samples": float(at[:, 3, i].mean()),
                        "effective_least": float(at[:, 3, i].min()),
                        "unreliable": float((at[:, 3, i] < RELIABLE).mean()),
                    }
                )
    return rows
