"""What is measured of a reward model, against the same by hand on three tasks, and beside the controls."""

import numpy as np
import polars as pl
import pytest

from vegflow.artifacts.io import to_table
from vegflow.artifacts.reward_model import HELD_OUT, REWARD_MODELS, REWARD_TRAINING, SCORES, completion_digest
from vegflow.errors import ArtifactError
from vegflow.statistics.ranking import auroc, best_of_k
from vegflow.statistics.reward_ranking import CONTROLS, Measuring, candidates_of, rankings

HOW = Measuring("orm", "samples", "correct", "none", (1, 2, 4), 4)
TASKS = {
    "a": [("x", True, 0.9), ("x", True, 0.9), ("y", False, 0.2), ("z", False, 0.4)],
    "b": [("x", False, 0.9), ("y", True, 0.1), ("z", False, 0.1), ("w", False, 0.0)],
    "c": [("x", True, 0.3), ("y", True, 0.3), ("z", True, 0.7), ("w", True, 0.6)],
}


def frame(rows, schema):
    return pl.DataFrame(pl.from_arrow(to_table(rows, schema)))


def study(fold=None, scorer="orm.cross_entropy"):
    rollouts, evaluations, scores = [], [], {}
    for task, samples in TASKS.items():
        for index, (text, passes, probability) in enumerate(samples):
            name = f"{task}:{index}"
            length = len(task) + index
            rollouts.append((name, task, text, -1.0 - ord(text), length))
            evaluations.append((name, "correct" if passes else "wrong_output", passes))
            scores[task, text] = {
                "task_id": task,
                "completion_sha256": completion_digest(text),
                "scorer": scorer,
                "score": 10 * probability,
                "probability": probability,
                "fold": fold and fold[task],
                "nll": 1.0,
                "n_tokens": length,
                "seconds": 0.1,
            }
    return (
        pl.DataFrame(rollouts, ["rollout_id", "task_id", "completion", "logprob", "n_tokens"], orient="row"),
        pl.DataFrame(evaluations, ["rollout_id", "status", "correct"], orient="row"),
        frame(scores.values(), SCORES),
    )


def ranked(tables, records, how=HOW):
    rollouts, evaluations, scores = tables
    return rankings(candidates_of(rollouts, evaluations, how.label), scores, records, how)


def training(*records):
    base = {"n_train_completions": 4, "train_loss": 0.1, "steps": 9, "trunk_seconds": 2.0}
    return frame([base | record for record in records], REWARD_TRAINING)


WHOLE = {
    "scorer": "orm.cross_entropy",
    "fold": None,
    "n_train_tasks": 5,
    "n_pairs": 0,
    "train_accuracy": 0.9,
    "seconds": 3.0,
}


def row(rows, scorer, fold=None):
    (found,) = [r for r in rows if (r["scorer"], r["fold"]) == (scorer, fold)]
    return found


def test_a_scorer_by_hand():
    rows = ranked(study(), training(WHOLE, WHOLE | {"fold": 0, "seconds": 99.0}))
    assert to_table(rows, REWARD_MODELS).num_rows == len(CONTROLS) + 1
    found = row(rows, "orm.cross_entropy")
    assert (found["n_tasks"], found["n_mixed_tasks"], found["n_completions"], found["n_rollouts"]) == (3, 2, 11, 12)
    assert found["pass_rate"] == pytest.approx((2 / 4 + 1 / 4 + 1) / 3)
    in_b = auroc([0.9, 0.1, 0.1, 0.0], [0, 1, 0, 0])
    assert found["auroc"] == pytest.approx((1.0 + in_b) / 2)
    assert found["auroc_low"] < found["auroc"] < found["auroc_high"]
    assert found["pairwise_accuracy"] == pytest.approx((2 + 3 * in_b) / 5)
    best = [best_of_k([p for *_, p in s], [float(ok) for _, ok, _ in s], HOW.ks) for s in TASKS.values()]
    np.testing.assert_allclose(found["best_of_k"], np.mean(best, axis=0))
    np.testing.assert_allclose(found["gain"], np.mean(best, axis=0) - found["pass_rate"], atol=1e-12)
    assert found["bin_count"] == [4, 3, 2, 2]
    assert found["brier"] == pytest.approx(
        np.mean([(p - ok) ** 2 for s in TASKS.values() for ok, p in {t: (ok, p) for t, ok, p in s}.values()])
    )
    assert (found["n_train_tasks"], found["seconds"], found["kind"]) == (5, 3.0, "reward model")


def test_controls_bound_it_and_need_no_training():
    rows = ranked(study(), training(WHOLE))
    random, oracle = row(rows, "random"), row(rows, "oracle")
    np.testing.assert_allclose(random["gain"], 0, atol=1e-12)
    assert (random["auroc"], random["auroc_low"], random["auroc_high"]) == (0.5, None, None)
    assert oracle["auroc"] == 1.0
    assert oracle["best_of_k"][-1] == 1.0
    for one in rows:
        assert all(a <= b + 1e-12 for a, b in zip(one["best_of_k"], oracle["best_of_k"], strict=True))
    assert row(rows, "surprisal")["auroc"] == pytest.approx(1 - row(rows, "confidence")["auroc"])
    majority = row(rows, "majority")
    assert majority["auroc"] == pytest.approx((1.0 + 0.5) / 2)
    assert (majority["kind"], majority["seconds"], majority["ece"]) == ("control", 0.0, None)


def test_held_out_tasks_are_measured_fold_by_fold_and_together():
    folds = {"a": 0, "b": 1, "c": 1}
    records = [WHOLE | {"fold": fold, "n_train_tasks": 4 + 2 * fold} for fold in (0, 1)]
    how = Measuring("orm", HELD_OUT, "correct", "none", (1,), 4)
    rows = ranked(study(fold=folds), training(WHOLE | {"seconds": 50.0}, *records), how)
    assert row(rows, "orm.cross_entropy")["seconds"] == 6.0
    assert row(rows, "orm.cross_entropy")["n_train_tasks"] == 5
    assert row(rows, "orm.cross_entropy", 0)["auroc"] == 1.0
    assert row(rows, "orm.cross_entropy", 1)["n_tasks"] == 2
    assert row(rows, "orm.cross_entropy", 1)["n_train_tasks"] == 6


def test_more_than_a_task_has_is_nan():
    how = Measuring("orm", "samples", "correct", "none", (4, 5), 4)
    found = row(ranked(study(), training(WHOLE), how), "orm.cross_entropy")
    assert np.isfinite(found["best_of_k"][0])
    assert np.isnan(found["best_of_k"][1])


def test_rollouts_whose_evaluation_broke_are_left_out():
    rollouts, evaluations, scores = study()
    broken = evaluations.with_columns(
        status=pl.when(pl.col("rollout_id") == "a:2").then(pl.lit("evaluator_error")).otherwise("status")
    )
    assert row(ranked((rollouts, broken, scores), training(WHOLE)), "random")["n_rollouts"] == 11


def test_what_is_missing_is_a_sentence():
    rollouts, evaluations, scores = study()
    with pytest.raises(ArtifactError, match="1 completions have no score of 'orm"):
        ranked((rollouts, evaluations, scores.head(10)), training(WHOLE))
    with pytest.raises(ArtifactError, match="2 rollouts have no evaluation"):
        ranked((rollouts, evaluations.head(10), scores), training(WHOLE))


def test_without_scores_there_are_the_controls(tmp_path):
    rollouts, evaluations, scores = study()
    rows = ranked((rollouts, evaluations, scores.head(0)), training())
    assert [r["scorer"] for r in rows] == list(CONTROLS)
