"""How reward models rank beside their controls, as a table of the report (`REWARD_MODELS`).

Knows how the ranking tables are read; what is measured in them is said in docs/reward-models.md.
"""

from collections.abc import Sequence

import polars as pl
import pyarrow as pa

from vegflow.report.text import number, share, with_interval
from vegflow.report.view import View

CHOSEN_FROM = 8
"""Rollouts that the table's best is taken of, or the largest number below that was measured."""


def reward_views(rankings: Sequence[pa.Table]) -> list[View]:
    """One table of all reward models and controls, on the training tasks held out and on each sample set; none without them."""
    rows = [row for table in rankings for row in _whole(table)]
    if not rows:
        return []
    view = View(
        name="reward-models",
        title="Reward models as rankers",
        note="Distinct completions of one task ranked by a score: a reward model that never saw the task, the same trained on "
        "labels dealt out at random within each task, and controls that cost no training. AUROC: a passing completion "
        "above a failing one, 50 % is chance, over tasks that have both. Best of k: the top-scored of k random rollouts passes; "
        "the gain is over a random one, paired by task. Nothing here is corrected for the number of rows.",
        head=["reward model", "measured on", "ranks by", "kind", "passes means", "tasks (with both)", "completions", "AUROC",
              "pairs in order", "k", "best of k", "gain, points", "calibration error", "trained on tasks", "training, s"],
        rows=rows,
        labels=5,
    )  # fmt: skip
    return [view.with_few_note()]


def _whole(table: pa.Table) -> list[list[str]]:
    """A row for each scorer over all tasks, the reward models first, the best AUROC first."""
    frame = pl.DataFrame(pl.from_arrow(table)).filter(pl.col("fold").is_null())
    order = pl.col("kind").replace_strict({"reward model": 0, "shuffled labels": 1}, default=2, return_dtype=pl.Int8)
    return [_row(row) for row in frame.sort(order, -pl.col("auroc"), nulls_last=True, maintain_order=True).to_dicts()]


def _row(row: dict) -> list[str]:
    known = [i for i, k in enumerate(row["ks"]) if k <= CHOSEN_FROM and row["best_of_k"][i] == row["best_of_k"][i]]
    at = known[-1] if known else None
    control = row["kind"] == "control"
    chosen = ["–"] * 3 if at is None else [
        str(row["ks"][at]), share(row["best_of_k"][at]),
        with_interval(row["gain"][at], _real(row["gain_low"][at]), _real(row["gain_high"][at]), "points", row["n_tasks"]),
    ]  # fmt: skip
    return [
        row["reward_model"], row["measured_on"], row["scorer"], row["kind"], row["label"],
        f"{row['n_tasks']} ({row['n_mixed_tasks']})", number(row["n_completions"]),
        with_interval(row["auroc"], row["auroc_low"], row["auroc_high"], "share", row["n_mixed_tasks"]),
        share(row["pairwise_accuracy"]), *chosen, number(row["ece"]),
        "–" if control else number(row["n_train_tasks"]), "–" if control else number(row["seconds"]),
    ]  # fmt: skip


def _real(value: float | None) -> float | None:
    """None for NaN, which a list of ends holds where there is none."""
    return None if value is None or value != value else value
