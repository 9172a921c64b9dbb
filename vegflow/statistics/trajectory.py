"""How a trajectory's policies fare step by step, and which one Best-of-Adaptation (BoA) picks.

Knows rates per task, seed and step; the comparison with search is made in `adaptation`.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import polars as pl

from vegflow.statistics.bootstrap import Resampling, mean_interval

Rule = Callable[[np.ndarray], int]


def argmax(rates: np.ndarray) -> int:
    """The step [S] with the highest rate, the earliest of equals (paper section 3.5)."""
    return int(np.argmax(rates))


def early_stop(rates: np.ndarray) -> int:
    """The step before the first regression, P = 1 (paper section 3.5); the last if there is none."""
    falls = np.flatnonzero(np.diff(rates) < 0)
    return int(falls[0]) if len(falls) else len(rates) - 1


RULES: dict[str, Rule] = {"argmax": argmax, "early_stop": early_stop}


def trajectory(tasks: pl.DataFrame, how: Resampling) -> list[dict]:
    """Rows of `TRAJECTORY` from the `TASKS` table: every trajectory, step and seed, and the mean over seeds."""
    rows = []
    steps = tasks.filter(pl.col("step").is_not_null())
    for (name,), own in steps.group_by("source", maintain_order=True):
        for seed in [*own["seed"].unique().sort(), None]:
            run = own if seed is None else own.filter(pl.col("seed") == seed)
            spent = 0
            for (step,), cells in run.sort("step").group_by("step", maintain_order=True):
                drawn = round(cells["n"].sum() / cells["seed"].n_unique())
                spent += drawn
                rows.append(
                    {
                        "trajectory": name,
                        "seed": seed,
                        "step": step,
                        "n_tasks": cells["task_id"].n_unique(),
                        "n_rollouts": drawn,
                        "cumulative_rollouts": spent,
                        **_means(cells, how),
                    }
                )
    return rows


def _means(cells: pl.DataFrame, how: Resampling) -> dict[str, Any]:
    names, seeds = cells["task_id"].to_list(), cells["seed"].to_list()

    def mean(column: str) -> Any:
        values = cells[column].cast(pl.Float64).fill_null(float("nan")).to_numpy()
        return mean_interval(values, names, seeds, how, crossed=True)

    return {
        **mean("fast_1").columns("fast_1"),
        **mean("any_fast_1").columns("any_fast_1", "any_"),
        "fast": mean("fast").value,
        "correct": mean("correct").value,
        "mean_speedup": mean("mean_speedup").value,
        "nll_mean": mean("nll_mean").value,
        "distinct_candidates": mean("distinct_candidates").value,
    }


def adaptations(tasks: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    """(name, its `TASKS` rows) of trajectories whose every step samples the same tasks: elsewhere steps do not compare."""
    for (name,), own in tasks.filter(pl.col("step").is_not_null()).group_by("source", maintain_order=True):
        sets = own.group_by("seed", "step").agg(pl.col("task_id").sort())["task_id"]
        if sets.n_unique() == 1 and own["step"].n_unique() > 1:
            yield name, own


def boa(tasks: pl.DataFrame, samples: pl.DataFrame, how: Resampling) -> list[dict]:
    """Rows of `BOA`: each rule's choice per seed, and the mean over seeds.

    The choice is made and read on the same rollouts, so `fast_1` is too high (winner's curse): `fast_1_cross` chooses
    on one half of the samples (by index) and reads on the other, and `null_peak` is what the peak would be on average
    if nothing ever changed.
    """
    rows = []
    for name, own in adaptations(tasks):
        halves = _halves(samples.filter(pl.col("source") == name))
        for rule_name, rule in RULES.items():
            runs = [_run(own.filter(pl.col("seed") == seed), rule, halves, how) for seed in own["seed"].unique().sort()]
            head = {"trajectory": name, "rule": rule_name}
            rows += [head | {k: v for k, v in run.items() if not k.startswith("_")} for run in runs]
            rows.append(head | _mean_over_seeds(runs, own, how))
    return rows


def matrix(cells: pl.DataFrame, column: str) -> np.ndarray:
    """Values [S, T] of a run: steps in order, tasks in alphabetical order."""
    ordered = cells.sort("step", "task_id")
    return ordered[column].cast(pl.Float64).to_numpy().reshape(cells["step"].n_unique(), -1)


def _run(cells: pl.DataFrame, rule: Rule, halves: pl.DataFrame, how: Resampling) -> dict[str, Any]:
    fast, anyone, n = matrix(cells, "fast_1"), matrix(cells, "any_fast_1"), matrix(cells, "n")
    rates = fast.mean(axis=1)
    chosen = rule(rates)
    seed = int(cells["seed"][0])
    tasks = sorted(cells["task_id"].unique())
    seen = chosen + 2 if rule is early_stop else len(rates)
    own = halves.filter(pl.col("seed") == seed)
    sides = [own.filter(pl.col("half") == half).sort("step")["fast_1"].to_numpy() for half in (0, 1)]
    crossed = [b[rule(a)] for a, b in (sides, sides[::-1])] if len(sides[0]) == len(sides[1]) == len(rates) else []
    peaks = _null_peaks(fast, n, how) if rule is argmax else None
    return {
        "seed": seed,
        "step": chosen,
        **mean_interval(fast[chosen], tasks, [seed] * len(tasks), how).columns("fast_1"),
        "sd_seeds": None,
        "any_fast_1": float(anyone[chosen].mean()),
        "fast_1_cross": float(np.mean(crossed)) if crossed else float(rates[chosen]),
        "start_fast_1": float(rates[0]),
        "last_fast_1": float(rates[-1]),
        "null_peak": None if peaks is None else float(peaks.mean()),
        "null_p": None if peaks is None else float((peaks >= rates[chosen] - 1e-12).mean()),
        "rollouts": float(n[:seen].sum()),
        "_peaks": peaks,
    }


def _null_peaks(fast: np.ndarray, n: np.ndarray, how: Resampling) -> np.ndarray:
    """Peaks [B] of the mean rate over steps when each task keeps its own pooled rate at every step (binomial draws)."""
    pooled = (fast * n).sum(axis=0) / n.sum(axis=0)
    rng = np.random.default_rng(how.seed)
    draws = rng.binomial(n.astype(int), np.clip(pooled, 0, 1), size=(how.replicates, *n.shape)) / n
    return draws.mean(axis=2).max(axis=1)


def _halves(samples: pl.DataFrame) -> pl.DataFrame:
    """Rate per seed, step and half of the samples (even and odd index), mean over tasks."""
    return (
        samples.with_columns(half=pl.col("index") % 2)
        .group_by("seed", "step", "half", "task_id")
        .agg(pl.col("fast_1").mean())
        .group_by("seed", "step", "half")
        .agg(pl.col("fast_1").mean())
    )


def _mean_over_seeds(runs: list[dict[str, Any]], cells: pl.DataFrame, how: Resampling) -> dict[str, Any]:
    chosen = cells.join(
        pl.DataFrame(
            [{"seed": run["seed"], "step": run["step"]} for run in runs], schema={"seed": pl.Int64, "step": pl.Int32}
        ),
        on=["seed", "step"],
    ).sort("task_id", "seed")
    value = mean_interval(
        chosen["fast_1"].to_numpy(), chosen["task_id"].to_list(), chosen["seed"].to_list(), how, crossed=True
    )
    averaged = ("any_fast_1", "fast_1_cross", "start_fast_1", "last_fast_1", "rollouts")
    peaks = None if runs[0]["_peaks"] is None else np.mean([run["_peaks"] for run in runs], axis=0)
    return {
        "seed": None,
        "step": None,
        **value.columns("fast_1"),
        "sd_seeds": float(np.std([run["fast_1"] for run in runs], ddof=1)) if len(runs) > 1 else None,
        **{key: float(np.mean([run[key] for run in runs])) for key in averaged},
        "null_peak": None if peaks is None else float(peaks.mean()),
        "null_p": None if peaks is None else float((peaks >= value.value - 1e-12).mean()),
    }
