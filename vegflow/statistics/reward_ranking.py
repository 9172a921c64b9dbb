"""How well a reward model ranks the completions of stored rollouts, beside the controls, as rows of `REWARD_MODELS`.

Knows rollouts, verdicts and scores; where the scores come from, and how models are trained, is others' business.

Axes: N distinct completions of a task, T tasks, K numbers of rollouts chosen from.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from vegflow.artifacts.reward_model import HELD_OUT, SHUFFLED, completion_digest
from vegflow.errors import ArtifactError
from vegflow.statistics.bootstrap import Resampling
from vegflow.statistics.calibration import reliability
from vegflow.statistics.intervals import DIFFERENCE, SHARE, interval_of_means
from vegflow.statistics.ranking import best_of_k, pairs_in_order

ROLLOUT_COLUMNS = ("rollout_id", "task_id", "completion", "logprob", "n_tokens")
KEY = ["task_id", "completion_sha256"]
HOW = Resampling()

CONTROLS: dict[str, Callable[[pl.DataFrame], pl.Series]] = {
    "random": lambda candidates: candidates["nll"] * 0,
    "shortest": lambda candidates: -candidates["n_tokens"],
    "longest": lambda candidates: candidates["n_tokens"],
    "surprisal": lambda candidates: candidates["nll"],
    "confidence": lambda candidates: -candidates["nll"],
    "majority": lambda candidates: candidates["count"],
    "oracle": lambda candidates: candidates["passes"],
}
"""Scores that cost nothing to train; surprisal is under the policy that wrote the completion, and known already."""


@dataclass(frozen=True)
class Measuring:
    """What is measured, and how."""

    reward_model: str
    measured_on: str
    label: str
    adapter: str
    ks: Sequence[int]
    bins: int


def rankings(
    candidates: pl.DataFrame, scores: pl.DataFrame, training: pl.DataFrame, how: Measuring
) -> list[dict[str, Any]]:
    """Rows for each scorer in `scores` and each control, of what `candidates_of` or `pool_candidates` gives; for held-out tasks also by fold.

    Raises ArtifactError if a completion has no score.
    """
    rows = [
        _row(candidates.with_columns(score=control(candidates).cast(pl.Float64)), name, "control", None, how)
        for name, control in CONTROLS.items()
    ]
    for scorer in scores["scorer"].unique(maintain_order=True):
        scored = _scored(candidates, scores.filter(scorer=scorer), scorer)
        kind = "shuffled labels" if scorer.endswith(SHUFFLED) else "reward model"
        rows.append(_row(scored, scorer, kind, None, how))
        for fold in sorted(scored["fold"].drop_nulls().unique()):
            rows.append(_row(scored.filter(fold=fold), scorer, kind, fold, how))
    return [row | _training(row, training) for row in rows]


def candidates_of(rollouts: pl.DataFrame, evaluations: pl.DataFrame, label: str) -> pl.DataFrame:
    """Distinct completions of each task: `count` of their rollouts, whether they pass, surprisal, tokens.

    Rollouts whose evaluation broke are left out. Raises ArtifactError if one has no verdict.
    """
    verdicts = evaluations.select("rollout_id", "status", passes=pl.col(label))
    joined = rollouts.select(ROLLOUT_COLUMNS).join(verdicts, on="rollout_id", how="left", maintain_order="left")
    if missing := joined["status"].null_count():
        raise ArtifactError(f"{missing} rollouts have no evaluation; evaluate them first")
    texts = joined["completion"].unique().to_list()
    digests = {text: completion_digest(text) for text in texts}
    return (
        joined.filter(pl.col("status") != "evaluator_error")
        .with_columns(completion_sha256=pl.col("completion").replace_strict(digests, return_dtype=pl.String))
        .group_by(KEY)
        .agg(
            count=pl.len(),
            passes=pl.col("passes").first(),
            nll=-pl.col("logprob").mean(),
            n_tokens=pl.col("n_tokens").first(),
        )
        .sort(KEY)
    )


def pool_candidates(pool: pl.DataFrame, scores: pl.DataFrame) -> pl.DataFrame:
    """The same from a pool of staged verification; surprisal and tokens are the trunk's where none were recorded."""
    read_once = scores.unique(KEY, keep="first").select(*KEY, trunk_nll="nll", trunk_tokens="n_tokens")
    return (
        pool.join(read_once, on=KEY, how="left")
        .select(
            *KEY,
            "count",
            passes="correct",
            nll=pl.coalesce("nll", "trunk_nll").fill_null(0.0),
            n_tokens=pl.coalesce("n_tokens", "trunk_tokens").fill_null(0),
        )
        .sort(KEY)
    )


def _scored(candidates: pl.DataFrame, scores: pl.DataFrame, scorer: str) -> pl.DataFrame:
    once = scores.unique(KEY, keep="first", maintain_order=True)
    found = candidates.join(
        once.select(*KEY, "score", "probability", "fold"), on=KEY, how="left", maintain_order="left"
    )
    if missing := found["score"].null_count():
        raise ArtifactError(f"{missing} completions have no score of '{scorer}'; score all cells of the sample set")
    return found


def _row(candidates: pl.DataFrame, scorer: str, kind: str, fold: int | None, how: Measuring) -> dict[str, Any]:
    """Everything measured of one scorer."""
    tasks = candidates.partition_by("task_id", maintain_order=True)
    best_TK = np.array([best_of_k(t["score"], t["passes"].cast(int), how.ks, t["count"]) for t in tasks])
    rates_T = np.array([(t["passes"] * t["count"]).sum() / t["count"].sum() for t in tasks])
    pairs = np.array([pairs_in_order(t["score"], t["passes"]) for t in tasks]).reshape(-1, 2)
    mixed = pairs[pairs[:, 1] > 0]
    share, difference = (None, None) if scorer == "random" else (SHARE, DIFFERENCE)  # known, not estimated: no ends
    area = interval_of_means(mixed[:, 0] / mixed[:, 1], HOW, share) if len(mixed) else None
    gains = [interval_of_means(best_T - rates_T, HOW, difference) for best_T in best_TK.T]
    return {
        "reward_model": how.reward_model,
        "scorer": scorer,
        "kind": kind,
        "measured_on": how.measured_on,
        "fold": fold,
        "label": how.label,
        "adapter": "" if kind == "control" else how.adapter,
        "n_tasks": len(tasks),
        "n_completions": candidates.height,
        "n_rollouts": int(candidates["count"].sum()),
        "n_mixed_tasks": len(mixed),
        "pass_rate": float(rates_T.mean()) if len(tasks) else float("nan"),
        "auroc": area and area.value,
        "auroc_low": area and area.low,
        "auroc_high": area and area.high,
        "pairwise_accuracy": float(mixed[:, 0].sum() / mixed[:, 1].sum()) if len(mixed) else None,
        "ks": list(how.ks),
        "best_of_k": best_TK.mean(0).tolist(),
        "gain": [_number(gain.value) for gain in gains],
        "gain_low": [_number(gain.low) for gain in gains],
        "gain_high": [_number(gain.high) for gain in gains],
        **_calibration(candidates, how.bins),
    }


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _calibration(candidates: pl.DataFrame, bins: int) -> dict[str, Any]:
    """How far the probabilities are from the shares that pass, over distinct completions; nothing without probabilities."""
    known = candidates.filter(pl.col("probability").is_not_null()) if "probability" in candidates.columns else None
    if known is None or not known.height:
        return dict.fromkeys(("ece", "brier", "bin_count", "bin_probability", "bin_rate"))
    found = reliability(known["probability"], known["passes"].cast(int), bins)
    return {
        "ece": found.ece,
        "brier": found.brier,
        "bin_count": found.count.tolist(),
        "bin_probability": found.probability.tolist(),
        "bin_rate": found.rate.tolist(),
    }


def _training(row: Mapping[str, Any], training: pl.DataFrame) -> dict[str, Any]:
    """What the models behind a row were trained on: those of the folds for held-out tasks, else the one of all tasks."""
    own = training.filter(scorer=row["scorer"])
    if row["fold"] is not None:
        own = own.filter(fold=row["fold"])
    elif row["measured_on"] == HELD_OUT:
        own = own.filter(pl.col("fold").is_not_null())
    else:
        own = own.filter(pl.col("fold").is_null())
    if not own.height:
        return {"n_train_tasks": 0, "n_pairs": 0, "train_accuracy": None, "seconds": 0.0}
    return {
        "n_train_tasks": round(own["n_train_tasks"].mean()),
        "n_pairs": round(own["n_pairs"].mean()),
        "train_accuracy": own["train_accuracy"].mean(),
        "seconds": own["seconds"].sum(),
    }
