"""How a trajectory's policies fare step by step, and which one Best-of-Adaptation (BoA) picks.

Knows rates per task, seed and step; the comparison with search is made in `adaptation`.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import polars as pl

from vegflow.statistics.bootstrap import Resampling
from vegflow.statistics.intervals import POSITIVE, SHARE, mean_interval

Rule = Callable[[np.ndarray], int]


def argmax(rates: np.ndarray) -> int:
    """The step [S] with the highest rate, the earliest of equals (paper section 3.5)."""
    return int(np.argmax(rates))


def early_stop(rates: np.ndarray, patience: int = 1) -> int:
    """The best step seen when `patience` consecutive steps have not exceeded it (paper section 3.5 has P = 1)."""
    return int(np.argmax(rates[: seen_until(rates, patience)]))


def seen_until(rates: np.ndarray, patience: int | None) -> int:
    """Steps sampled until the rule can decide: all for argmax (patience None), else up to the last of the falls.

    A fall is a rate below that of the step before it; equal rates are none.
    """
    falls = 0
    for step in range(1, len(rates)):
        falls = falls + 1 if rates[step] < rates[step - 1] else 0
        if falls == patience:
            return step + 1
    return len(rates)


RULES: dict[tuple[str, int | None], Rule] = {
    ("argmax", None): argmax,
    ("early_stop", 1): functools.partial(early_stop, patience=1),
    ("early_stop", 2): functools.partial(early_stop, patience=2),
}
"""(rule, patience P) -> rule; P is a column of the table."""


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
        bounds = SHARE if "fast" in column or column == "correct" else POSITIVE if column == "mean_speedup" else None
        return mean_interval(values, names, seeds, how, crossed=True, bounds=bounds)

    return {
        **mean("fast_1").columns("fast_1"),
        **mean("any_fast_1").columns("any_fast_1", "any_"),
        "fast": mean("fast").value,
        **mean("correct").columns("correct", "correct_"),
        **mean("mean_speedup").columns("mean_speedup", "speedup_"),
        "nll_mean": mean("nll_mean").value,
        "distinct_candidates": mean("distinct_candidates").value,
    }


def adaptations(tasks: pl.DataFrame) -> Iterator[tuple[str, pl.DataFrame]]:
    """(name, its `TASKS` rows) of trajectories whose every step samples the same tasks: elsewhere steps do not compare."""
    for (name,), own in tasks.filter(pl.col("step").is_not_null()).group_by("source", maintain_order=True):
        sets = own.group_by("seed", "step").agg(pl.col("task_id").sort())["task_id"]
        if sets.n_unique() == 1 and own["step"].n_unique() > 1:
            yield name, own


def boa(tasks: pl.DataFrame, how: Resampling, repeats: pl.DataFrame | None = None) -> list[dict]:
    """Rows of `BOA`: each rule's choice per seed, and the mean over seeds, from the `TASKS` table.

    The choice is made and read on the same rollouts, so `fast_1` is too high (winner's curse). Its honest companions:
    `fast_1_cross` chooses on one half of the samples (by index) and reads on the other; `repeat_fast_1` is a second
    sample of step 0's policy (A/A: the sample set drawn from it, `repeats`); `null_peak` is what the peak would be on
    average if nothing ever changed: verdicts permuted over the steps within each task (hypergeometric draws).
    """
    rows = []
    for name, own in adaptations(tasks):
        repeat = _repeat(own, tasks if repeats is None else repeats)
        for (rule_name, patience), rule in RULES.items():
            runs = [
                _run(own.filter(pl.col("seed") == seed), rule, patience, how) | {"repeat_fast_1": repeat}
                for seed in own["seed"].unique().sort()
            ]
            head = {"trajectory": name, "rule": rule_name, "patience": patience}
            rows += [head | {k: v for k, v in run.items() if not k.startswith("_")} for run in runs]
            rows.append(head | _mean_over_seeds(runs, own, how))
    return rows


def _repeat(own: pl.DataFrame, tasks: pl.DataFrame) -> float | None:
    """Per-sample rate of the sample sets drawn from step 0's policy, on the trajectory's tasks; None if there is none."""
    start = own.filter(pl.col("step") == 0)
    same = tasks.filter(
        pl.col("step").is_null()
        & pl.col("policy_id").is_in(start["policy_id"].unique().to_list())
        & pl.col("task_id").is_in(start["task_id"].unique().to_list())
    )
    if same["task_id"].n_unique() < start["task_id"].n_unique():
        return None
    return float(same.group_by("task_id").agg(pl.col("fast_1").mean())["fast_1"].mean())


def matrix(cells: pl.DataFrame, column: str) -> np.ndarray:
    """Values [S, T] of a run: steps in order, tasks in alphabetical order."""
    ordered = cells.sort("step", "task_id")
    return ordered[column].cast(pl.Float64).to_numpy().reshape(cells["step"].n_unique(), -1)


def _run(cells: pl.DataFrame, rule: Rule, patience: int | None, how: Resampling) -> dict[str, Any]:
    fast, anyone, n = matrix(cells, "fast_1"), matrix(cells, "any_fast_1"), matrix(cells, "n")
    rates = fast.mean(axis=1)
    chosen = rule(rates)
    seed = int(cells["seed"][0])
    tasks = sorted(cells["task_id"].unique())
    seen = seen_until(rates, patience)
    sides = [matrix(cells, f"fast_1_{half}").mean(axis=1) for half in ("even", "odd")]
    crossed = [b[rule(a)] for a, b in (sides, sides[::-1])] if not np.isnan(sides).any() else []
    peaks = _null_peaks(fast, n, how) if patience is None else None
    return {
        "seed": seed,
        "step": chosen,
        **mean_interval(fast[chosen], tasks, [seed] * len(tasks), how, bounds=SHARE).columns("fast_1"),
        "sd_seeds": None,
        "any_fast_1": float(anyone[chosen].mean()),
        "fast_1_cross": float(np.mean(crossed)) if crossed else float(rates[chosen]),
        "start_fast_1": float(rates[0]),
        "last_fast_1": float(rates[-1]),
        "null_peak": None if peaks is None else float(peaks.mean()),
        "null_inflation": None if peaks is None else float(peaks.mean() - (fast * n).sum() / n.sum()),
        "null_p": None if peaks is None else float((peaks >= rates[chosen] - 1e-12).mean()),
        "rollouts": float(n[:seen].sum()),
        "_peaks": peaks,
    }


def _null_peaks(fast: np.ndarray, n: np.ndarray, how: Resampling) -> np.ndarray:
    """Peaks [B] of the mean rate over steps when each task's verdicts are permuted over its steps."""
    rng = np.random.default_rng(how.seed)
    drawn, hits = n.astype(int), np.rint(fast * n).astype(int)
    rates = np.zeros((how.replicates, len(n)))
    for task in range(n.shape[1]):
        total = int(hits[:, task].sum())
        rates += (
            rng.multivariate_hypergeometric(drawn[:, task], total, size=how.replicates, method="marginals")
            / drawn[:, task]
        )
    return (rates / n.shape[1]).max(axis=1)


def _mean_over_seeds(runs: list[dict[str, Any]], cells: pl.DataFrame, how: Resampling) -> dict[str, Any]:
    chosen = cells.join(
        pl.DataFrame(
            [{"seed": run["seed"], "step": run["step"]} for run in runs], schema={"seed": pl.Int64, "step": pl.Int32}
        ),
        on=["seed", "step"],
    ).sort("task_id", "seed")
    value = mean_interval(
        chosen["fast_1"].to_numpy(),
        chosen["task_id"].to_list(),
        chosen["seed"].to_list(),
        how,
        crossed=True,
        bounds=SHARE,
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
        "null_inflation": None if peaks is None else float(np.mean([run["null_inflation"] for run in runs])),
        "null_p": None if peaks is None else float((peaks >= value.value - 1e-12).mean()),
        "repeat_fast_1": runs[0]["repeat_fast_1"],
    }
