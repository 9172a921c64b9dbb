"""What the selection strategies yield, and whether one beats another.

Knows `selections` and the study's task sets; a pair is one task and seed on which two strategies chose.
"""

import re

import numpy as np
import polars as pl

from vegflow.config.analysis import StudyFacts
from vegflow.config.selection import paper_strategies
from vegflow.statistics.bootstrap import Interval, Resampling, base_weights, sd_over_seeds, weighted_mean
from vegflow.statistics.intervals import DIFFERENCE, POSITIVE, SHARE, mean_interval
from vegflow.statistics.paired import (
    cohens_h,
    holm,
    pairs_needed,
    positive_probability,
    sign_power,
    sign_test,
    task_permutation,
    wilcoxon,
)
from vegflow.statistics.samples import task_sets

HIGH_VARIANCE = 1.0
"""Standard deviation of the surprisal above which a task counts as of high variance (paper section 5.2), nats."""


def strategies(selections: pl.DataFrame, facts: StudyFacts, how: Resampling) -> list[dict]:
    """Rows of `STRATEGIES`: success and speedup of every strategy on every task set."""
    rows = []
    for source, name, picks in _sets(selections, facts):
        for strategy in picks["strategy"].unique(maintain_order=True):
            own = picks.filter(pl.col("strategy") == strategy)
            tasks, seeds = own["task_id"].to_list(), own["seed"].to_list()
            valid = own.filter("correct")
            logs = own["log_speedup"].cast(pl.Float64).fill_null(float("nan")).to_numpy()
            geometric = mean_interval(logs, tasks, seeds, how).columns("geometric_mean_speedup", "geometric_")
            rows.append(
                {
                    "source": source,
                    "task_set": name,
                    "strategy": strategy,
                    "nll_choice": own["nll_choice"][0],
                    "n_pairs": own.height,
                    "n_valid": valid.height,
                    **mean_interval(own["fast_1"].to_numpy(), tasks, seeds, how, bounds=SHARE).columns("fast_1"),
                    "sd_seeds": sd_over_seeds(own["fast_1"].to_numpy(), seeds),
                    **mean_speedup(valid, how).columns("mean_speedup", "mean_"),
                    **{key: None if value is None else float(np.exp(value)) for key, value in geometric.items()},
                    "extra_evaluations": float(own["extra_evaluations"].mean()),
                }
            )
    return rows


def mean_speedup(valid: pl.DataFrame, how: Resampling) -> Interval:
    """Mean over tasks of the picks' speedups, with its interval on the logarithm; undefined without a pick."""
    return mean_interval(
        valid["speedup"].to_numpy(), valid["task_id"].to_list(), valid["seed"].to_list(), how, bounds=POSITIVE
    )


def paired(selections: pl.DataFrame, facts: StudyFacts, how: Resampling) -> list[dict]:
    """Rows of `PAIRED`: surprisal-guided rules against every other, Holm-corrected within task set, metric and family.

    The family `paper` is the comparisons among the paper's strategies and their controls, `further` all others, so that
    looking at more rules does not weaken the tests of the paper's own claims.
    """
    rows = []
    for source, name, picks in _sets(selections, facts):
        for metric in ("fast_1", "log_speedup"):
            wide = picks.pivot("strategy", index=["task_id", "seed"], values=metric).sort("task_id", "seed")
            made = [
                {"source": source, "task_set": name, "first": a, "second": b, "family": _family(a, b), "metric": metric}
                | compare(wide.select("task_id", "seed", first=a, second=b).drop_nulls(), how, share=metric == "fast_1")
                for a, b in pairs(wide.columns[2:])
            ]
            for family in ("paper", "further"):
                own = [row for row in made if row["family"] == family]
                for row, p in zip(own, holm([row["permutation_p"] for row in own]), strict=True):
                    row["holm_p"] = p
            rows += made
    return rows


def pairs(names: list[str]) -> list[tuple[str, str]]:
    """Comparisons made: surprisal-guided against all single picks, its short list against all short lists and the oracle.

    The oracle bounds everything from above, so it is compared with the short list only, as the paper does.
    """
    short = [n for n in names if "-top" in n]
    single = [n for n in names if n not in short and n != "best-correct"]
    found = [("surprisal-guided", other) for other in single if "surprisal-guided" in single]
    for name in [n for n in short if n.startswith("surprisal-guided")]:
        found += [(name, other) for other in [*short, "surprisal-guided", "best-correct"] if other in names]
    return [(a, b) for a, b in found if a != b]


def _family(first: str, second: str) -> str:
    """`paper` if both are the paper's strategies or their controls, else `further`."""
    known = {re.sub(r"\d+$", "", name) for name in paper_strategies(3)}
    return "paper" if {re.sub(r"\d+$", "", name) for name in (first, second)} <= known else "further"


def compare(table: pl.DataFrame, how: Resampling, *, share: bool) -> dict:
    """Compare columns `first` and `second` of a table with one row a task and seed."""
    first, second = table["first"].cast(pl.Float64).to_numpy(), table["second"].cast(pl.Float64).to_numpy()
    tasks, seeds = table["task_id"].to_list(), table["seed"].to_list()
    d = first - second
    d = np.where(np.abs(d) < 1e-12, 0.0, d)
    signed_rank = wilcoxon(d) if len(d) else None
    return {
        "n_pairs": len(d),
        "n_tasks": len(set(tasks)),
        **mean_interval(d, tasks, seeds, how, bounds=DIFFERENCE if share else None).columns("difference"),
        "wins": int((d > 0).sum()),
        "losses": int((d < 0).sum()),
        "ties": int((d == 0).sum()),
        "sign_p": sign_test(d),
        "sign_p_one_sided": sign_test(d, "greater"),
        "wilcoxon_statistic": signed_rank.statistic if signed_rank else None,
        "wilcoxon_p": signed_rank.p_value if signed_rank else None,
        "permutation_p": task_permutation(d, tasks, how.seed) if len(d) else None,
        "posterior": positive_probability(d, tasks),
        **_effect(first, second, tasks, how, share=share and len(d) > 0).columns("cohens_h", "h_"),
    }


def _effect(first: np.ndarray, second: np.ndarray, tasks: list[str], how: Resampling, *, share: bool) -> Interval:
    """Cohen's h of two shares of the same pairs, by the delta method over tasks.

    h = phi(p) - phi(q), phi'(p) = 1 / sqrt(p (1 - p)); the slopes are taken half a task away from 0 and 1, where they
    have none.
    """
    if not share:
        return Interval(None)
    p, q = _mean(first, tasks) or 0.0, _mean(second, tasks) or 0.0
    n = len(set(tasks))
    slopes = [1 / np.sqrt(inner * (1 - inner)) for inner in ((n * p + 0.5) / (n + 1), (n * q + 0.5) / (n + 1))]
    found = mean_interval(slopes[0] * (first - p) - slopes[1] * (second - q), tasks, [0] * len(tasks), how)
    h = cohens_h(p, q)
    if found.low is None or found.high is None:
        return Interval(h)
    return Interval(h, max(h + found.low, -np.pi), min(h + found.high, np.pi))


def head_to_head(selections: pl.DataFrame, tasks: pl.DataFrame, facts: StudyFacts) -> list[dict]:
    """Rows of `HEAD_TO_HEAD`: surprisal-guided against confidence-guided on each task and seed, by spread of surprisal.

    `tasks` is the `TASKS` table. A pick wins by a larger speedup; the same program has the same speedup, a tie.
    """
    rows = []
    spread = {(r["source"], r["seed"], r["task_id"]): r["nll_std"] for r in tasks.iter_rows(named=True)}
    for source, name, picks in _sets(selections, facts):
        wide = picks.pivot("strategy", index=["task_id", "seed", "n_correct"], values="speedup").sort("task_id", "seed")
        if not {"surprisal-guided", "confidence-guided"} <= set(wide.columns):
            continue
        for row in wide.iter_rows(named=True):
            std = spread.get((source, row["seed"], row["task_id"]))
            a, b = row["surprisal-guided"], row["confidence-guided"]
            none = row["n_correct"] == 0
            regime = "high variance" if (std or 0.0) > HIGH_VARIANCE else "low variance"
            rows.append(
                {
                    "source": source,
                    "task_set": name,
                    "task_id": row["task_id"],
                    "seed": row["seed"],
                    "nll_std": std,
                    "regime": "no correct sample" if none else regime,
                    "surprisal_speedup": None if none else a,
                    "confidence_speedup": None if none else b,
                    "winner": "none" if none else "tie" if a == b else "surprisal" if a > b else "confidence",
                }
            )
    return rows


def _sets(selections: pl.DataFrame, facts: StudyFacts) -> list[tuple[str, str, pl.DataFrame]]:
    """(source, task set, its picks) for every sample set that has picks."""
    found = []
    for source in facts.sample_sets:
        own = selections.filter(pl.col("source") == source)
        for name, tasks in task_sets(facts, source).items():
            inside = own.filter(pl.col("task_id").is_in(tasks))
            if inside.height:
                found.append((source, name, inside))
    return found


def _mean(values: np.ndarray, tasks: list[str]) -> float | None:
    """Mean over tasks of the mean over seeds; None of nothing."""
    return float(weighted_mean(values, base_weights(tasks)[None])[0]) if len(values) else None


SIZES = (10, 20, 30, 40, 60, 80, 100)


def power(paired_rows: list[dict]) -> list[dict]:
    """Rows of `POWER`: power of the exact sign test of independent tasks, and how many of them 80 % power takes.

    Scenarios: the paper's own pairs (3 of 10 won, none lost), the same 30 points with 40 won and 10 lost of 100 (what 80
    and 50 % give if the two picks are independent), and what this study saw of surprisal against confidence.
    """
    scenarios = {
        "paper: 30 % won, none lost": (0.3, 0.0),
        "80 % against 50 %, independent picks: 40 % won, 10 % lost": (0.4, 0.1),
    }
    for row in paired_rows:
        is_main = (row["first"], row["second"], row["metric"]) == ("surprisal-guided", "confidence-guided", "fast_1")
        if is_main and row["n_pairs"] and row["wins"] + row["losses"]:
            shares = row["wins"] / row["n_pairs"], row["losses"] / row["n_pairs"]
            label = f"this study, {row['source']}, {row['task_set']}: {shares[0]:.0%} won, {shares[1]:.0%} lost"
            scenarios[label] = shares
    return [
        {
            "scenario": name,
            "wins": wins,
            "losses": losses,
            "n_tasks": n,
            "power": sign_power(n, wins, losses),
            "needed": pairs_needed(wins, losses) if abs(wins - losses) > 0.02 else None,
        }
        for name, (wins, losses) in scenarios.items()
        for n in SIZES
    ]
