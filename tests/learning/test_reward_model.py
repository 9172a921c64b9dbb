"""A reward model finds a planted cause, finds nothing in shuffled labels, never scores what it saw, and is one whole file."""

import math
import os

import numpy as np
import pytest
import torch

from tests.learning.reward_scenario import planted, settings
from tests.models.families import tiny_model
from vegflow.artifacts.io import to_table
from vegflow.artifacts.reward_model import REWARD_TRAINING, SCORES, SHUFFLED
from vegflow.config.learning import LoraConfig
from vegflow.errors import ArtifactError, VegflowError
from vegflow.learning.reward_examples import make_examples
from vegflow.learning.reward_model import RewardModel
from vegflow.learning.reward_scoring import score_rollouts
from vegflow.learning.reward_training import train
from vegflow.learning.reward_tuning import schedule
from vegflow.models.packing import score
from vegflow.statistics.ranking import auroc

TARGETS = ("q_proj", "v_proj", "down_proj")
FROZEN = {"pooling": "mean", "l2": 0.01}
TUNED = {
    "adapter": "lora",
    "lora": LoraConfig(rank=4, alpha=8),
    "learning_rate": 0.02,
    "epochs": 8,
    "batch_pairs": 8,
    "losses": ("bradley_terry",),
    "folds": 2,
    "shuffles": 0,
}


def trunk():
    return tiny_model("llama")


def fitted(tasks=24, k=16, copies=2, **changes):
    rollouts, evaluations = planted(tasks, k, copies=copies)
    examples = make_examples(rollouts, evaluations, "correct")
    return train(trunk(), examples, settings(pairs_per_task=8, **changes), "orm", TARGETS), examples


@pytest.fixture(scope="module")
def frozen():
    return fitted(tasks=60, **FROZEN)


@pytest.fixture(scope="module")
def tuned():
    return fitted(copies=1, **TUNED)


def area(trained, examples, scorer):
    """Mean over tasks of the AUROC of the held-out scores."""
    scores = {(r["task_id"], r["completion_sha256"]): r["score"] for r in trained.held_out if r["scorer"] == scorer}
    own = np.array([scores[c.task_id, c.sha256] for c in examples.completions])
    return np.mean([auroc(own[n], examples.passes_N[n]) for n in examples.by_task().values()])


@pytest.mark.parametrize("loss", ["bradley_terry", "cross_entropy"])
def test_a_planted_cause_is_found_in_tasks_not_seen_and_none_in_shuffled_labels(frozen, loss):
    assert area(*frozen, f"orm.{loss}") > 0.9
    assert abs(area(*frozen, f"orm.{loss}{SHUFFLED}") - 0.5) < 0.1


def test_training_the_trunk_finds_what_its_last_state_does_not_show(tuned):
    """The head alone, on the state at the last token, does worse."""
    alone = fitted(copies=1, losses=("bradley_terry",), folds=2, shuffles=0)
    assert area(*tuned, "orm.bradley_terry") > max(0.85, area(*alone, "orm.bradley_terry") + 0.05)


def test_probabilities_are_calibrated_on_tasks_not_seen(frozen):
    trained, examples = frozen
    rows = [r for r in trained.held_out if r["scorer"] == "orm.cross_entropy"]
    assert np.mean([r["probability"] for r in rows]) == pytest.approx(examples.passes_N.mean(), abs=0.02)
    assert all(r["probability"] is None for r in trained.held_out if r["scorer"].endswith(SHUFFLED))


def test_no_task_is_scored_by_a_model_that_saw_it(frozen):
    """Moving the labels of one task leaves its held-out scores as they are; it moves those of others."""
    trained, _ = frozen
    rollouts, evaluations = planted(60, 16)
    task = "L1/5"
    for verdict in evaluations:
        if f":{task}:" in verdict["rollout_id"]:
            verdict["correct"] = not verdict["correct"]
    other = train(trunk(), make_examples(rollouts, evaluations, "correct"), trained.model.config, "orm", TARGETS)
    assert other.model.folds == trained.model.folds
    moved = {
        a["task_id"]
        for a, b in zip(trained.held_out, other.held_out, strict=True)
        if not a["scorer"].endswith(SHUFFLED) and a["score"] != b["score"]
    }
    assert task not in moved
    assert moved


@pytest.mark.parametrize("kind", ["frozen", "tuned"])
def test_tasks_trained_on_get_held_out_scores_and_others_those_of_the_whole_model(kind, request, tmp_path):
    trained, _ = request.getfixturevalue(kind)
    trained.model.save(tmp_path / "model.safetensors")
    model = RewardModel.load(tmp_path / "model.safetensors")
    rollouts, _ = planted(60) if kind == "frozen" else planted(24, copies=1)
    new = [row | {"task_id": "L9/9"} for row in rollouts[:3]]
    rows = score_rollouts(trunk(), model, "orm", [*rollouts[:40], *new, *rollouts[:5]])
    assert len(rows) == len(model.config.losses) * 43
    held_out = {(r["task_id"], r["completion_sha256"], r["scorer"]): r for r in trained.held_out}
    for row in rows:
        if row["task_id"] == "L9/9":
            assert row["fold"] is None
            continue
        known = held_out[row["task_id"], row["completion_sha256"], row["scorer"]]
        assert row["score"] == pytest.approx(known["score"], abs=1e-4)
        assert row["fold"] == known["fold"] == model.folds[row["task_id"]]
        assert row["probability"] == pytest.approx(known["probability"], abs=1e-4)
    to_table(rows, SCORES)


def test_the_surprisal_of_the_same_pass_is_the_policys(frozen):
    trained, _ = frozen
    rollouts = planted(60, 16)[0][:4]
    found = score_rollouts(trunk(), trained.model, "orm", rollouts)
    with torch.no_grad():
        logprobs = score(trunk(), rollouts[0]["prompt_ids"], [r["token_ids"] for r in rollouts]).logprobs
    assert sorted(r["nll"] for r in found if r["scorer"] == "orm.bradley_terry") == pytest.approx(
        sorted(-float(p.sum()) for p in logprobs), abs=1e-4
    )


def test_a_trained_trunk_claims_no_surprisal(tuned):
    rollouts = planted(24, 16)[0][:4]
    assert {r["nll"] for r in score_rollouts(trunk(), tuned[0].model, "orm", rollouts)} == {None}


@pytest.mark.parametrize("kind", [{**FROZEN, "folds": 2}, {**TUNED, "epochs": 1}], ids=["frozen", "tuned"])
def test_the_same_inputs_give_the_same_bytes(kind, tmp_path):
    for name in "ab":
        trained, _ = fitted(tasks=4, **kind)
        trained.model.save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a").read_bytes() != _other_seed(tmp_path, kind)


def _other_seed(folder, kind):
    trained, _ = fitted(tasks=4, seed=1, **kind)
    trained.model.save(folder / "c")
    return (folder / "c").read_bytes()


def test_records_say_what_was_trained_on(frozen, tuned):
    trained, _ = frozen
    assert to_table(trained.training, REWARD_TRAINING).num_rows == 2 * (3 + 1) + 2 * 3
    assert len(trained.training) == 14
    whole = [r for r in trained.training if r["fold"] is None]
    assert [r["n_train_tasks"] for r in whole] == [60, 60]
    assert whole[0]["n_pairs"] > 0 == whole[1]["n_pairs"]
    assert whole[0]["n_train_completions"] == 2 * whole[0]["n_pairs"]
    assert all(r["steps"] > TUNED["epochs"] for r in tuned[0].training)


def test_too_few_tasks_train_without_holding_out(tmp_path):
    trained, _ = fitted(tasks=1)
    assert trained.held_out == []
    assert [member.platt for member in trained.model.members] == [None, None]
    rows = score_rollouts(trunk(), trained.model, "orm", planted(1, 16)[0])
    assert {(r["fold"], r["probability"]) for r in rows} == {(None, None)}


def test_nothing_to_learn_is_a_sentence():
    rollouts, evaluations = planted(3, 4, rate=0.0)
    with pytest.raises(VegflowError, match="none of the 3 tasks has completions that pass \\(correct\\) and others"):
        train(trunk(), make_examples(rollouts, evaluations, "correct"), settings(), "orm")


def test_training_that_is_not_finite_stops_with_a_sentence():
    with pytest.raises(VegflowError, match=r"training with bradley_terry at step \d+ is not finite .*learning_rate"):
        fitted(tasks=4, **{**TUNED, "learning_rate": 1e30})


def test_states_that_are_not_finite_stop_with_a_sentence():
    model = trunk()
    model.model.norm.weight[0] = math.nan
    with pytest.raises(VegflowError, match="base model's states are not finite"):
        train(model, make_examples(*planted(3), "correct"), settings(), "orm")


def test_a_killed_save_leaves_nothing_half_written(frozen, tmp_path):
    """The child dies inside the writing of the file; what was there before is still whole."""
    trained, _ = frozen
    path = tmp_path / "model.safetensors"
    trained.model.save(path)
    before = path.read_bytes()
    child = os.fork()
    if child == 0:
        from vegflow.learning import reward_model

        def die_half_way(tensors, file, metadata):
            file.write_bytes(before[: len(before) // 2])
            os._exit(9)

        reward_model.save_file = die_half_way
        trained.model.save(path)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert path.read_bytes() == before
    RewardModel.load(path)


def test_another_file_is_refused_by_name(tmp_path):
    path = tmp_path / "model.safetensors"
    for content in (b"", b"no tensors at all, only text"):
        path.write_bytes(content)
        with pytest.raises(ArtifactError, match=r"model\.safetensors: not a readable reward model"):
            RewardModel.load(path)
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(ArtifactError, match="no reward model of this version"):
        RewardModel.load(path)


def test_the_learning_rate_rises_falls_and_is_never_0():
    factors = [schedule(step, 50) for step in range(50)]
    assert factors[4] == 1.0
    assert factors[:5] == sorted(factors[:5])
    assert factors[4:] == sorted(factors[4:], reverse=True)
    assert factors[-1] > 0
    assert [schedule(step, 1) for step in range(1)] == [1.0]
    assert math.isclose(factors[0], 0.2)
