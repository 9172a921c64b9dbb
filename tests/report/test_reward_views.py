"""Reward models as rankers: the models first, controls beside them, folds left to the table."""

import pyarrow as pa

from vegflow.artifacts.reward_model import REWARD_MODELS
from vegflow.report.reward_views import reward_views
from vegflow.report.text import FEW_MARK

NAN = float("nan")
ROW = {
    "reward_model": "orm", "scorer": "orm.cross_entropy", "kind": "reward model", "measured_on": "held-out", "fold": None,
    "label": "correct", "adapter": "none", "n_train_tasks": 8, "n_pairs": 0, "train_accuracy": 0.9, "seconds": 12.5,
    "n_tasks": 12, "n_completions": 100, "n_rollouts": 300, "n_mixed_tasks": 9, "pass_rate": 0.5, "auroc": 0.75,
    "auroc_low": 0.6, "auroc_high": 0.86, "pairwise_accuracy": 0.7, "ks": [1, 4, 16], "best_of_k": [0.5, 0.625, NAN],
    "gain": [0.0, 0.125, NAN], "gain_low": [0.0, 0.05, NAN], "gain_high": [0.0, 0.2, NAN], "ece": 0.1, "brier": 0.2,
    "bin_count": None, "bin_probability": None, "bin_rate": None,
}  # fmt: skip
CONTROL = ROW | {
    "scorer": "surprisal", "kind": "control", "adapter": "", "auroc": 0.9, "train_accuracy": None, "ece": None, "brier": None,
}  # fmt: skip


def ranking(*rows):
    return pa.Table.from_pylist(list(rows), schema=REWARD_MODELS)


def test_the_models_stand_before_their_controls_and_folds_are_left_out():
    (view,) = reward_views([ranking(CONTROL, ROW, ROW | {"fold": 0})])
    assert [row[2] for row in view.rows] == ["orm.cross_entropy", "surprisal"]
    assert all(len(row) == len(view.head) for row in view.rows)
    model = dict(zip(view.head, view.rows[0], strict=True))
    assert model["AUROC"] == f"75.0\u00a0% [60.0, 86.0]{FEW_MARK}"  # nine tasks have both outcomes
    assert (model["k"], model["best of k"], model["gain, points"]) == ("4", "62.5\u00a0%", "+12.5 [+5.0, +20.0]")
    assert dict(zip(view.head, view.rows[1], strict=True))["training, s"] == "–"


def test_a_study_without_reward_models_has_no_table():
    assert reward_views([]) == []
    assert reward_views([ranking(ROW | {"fold": 1})]) == []


def test_a_ranker_that_cannot_be_measured_shows_dashes():
    bare = ROW | {"auroc": None, "auroc_low": None, "auroc_high": None, "ks": [16], "best_of_k": [NAN]}
    (view,) = reward_views([ranking(bare | {"gain": [NAN], "gain_low": [NAN], "gain_high": [NAN]})])
    row = dict(zip(view.head, view.rows[0], strict=True))
    assert (row["AUROC"], row["k"], row["gain, points"]) == ("–", "–", "–")
