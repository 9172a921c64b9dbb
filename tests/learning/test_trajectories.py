"""Trajectories as configuration: what an update reads, and what a study may not say about learning."""

import copy
import json

import pytest
import yaml

from vegflow.config.learning import UpdateConfig
from vegflow.config.study import parse_study
from vegflow.errors import ConfigError
from vegflow.options import JobOptions
from vegflow.plan import Study

STUDY = {
    "study": "s",
    "model": "tiny",
    "trajectories": {
        "rlvr": {"tasks": "train", "steps": 3, "tasks_per_step": 8, "group_size": 4},
        "ttt": {"start": "rlvr@last", "tasks": "subset1", "steps": 2},
        "entropic": {"like": "ttt", "objective": "ttt_discover", "reward": "log"},
        "sdpo": {"like": "ttt", "objective": "sdpo_paper_feedback"},
    },
}


def study(root, **ttt):
    raw = copy.deepcopy(STUDY)
    raw["trajectories"]["ttt"] |= ttt
    return Study(raw, root)


def test_the_optimizer_begins_afresh_or_is_carried_over(root):
    fresh, carried = study(root), study(root, optimizer_state="carried")
    first, second = "ttt/seed42/step001", "ttt/seed42/step002"
    assert fresh.update_inputs(first)["optimizer"] == []
    assert carried.update_inputs(first)["optimizer"] == ["results/s/policies/rlvr/seed42/step003/optimizer.safetensors"]
    for made in (fresh, carried):
        assert made.update_inputs(second)["optimizer"] == [f"results/s/policies/{first}/optimizer.safetensors"]
        assert made.update_inputs("rlvr/seed42/step001")["optimizer"] == []


def test_a_job_is_told_its_objective_and_how_prompts_are_made(root):
    told = json.loads(JobOptions(study(root)).update("entropic/seed42/step001"))
    parts = UpdateConfig(**told["update"]).parts
    assert (parts.advantage, parts.reward, parts.loss) == ("entropic", "log", "importance_sampling")
    assert told["prompt"] == "compact"


@pytest.mark.parametrize(
    ("name", "settings", "sentence"),
    [
        (
            "rlvr",
            {"optimizer_state": "carried"},
            "trajectories.rlvr.optimizer_state: base has no optimizer to carry on",
        ),
        ("ttt", {"loss": "sdpo_paper"}, "trajectories.ttt: loss 'sdpo_paper' needs teacher"),
        ("ttt", {"lora": {"targets": ["lm_head"]}}, "trajectories.ttt.lora.targets: 'lm_head' cannot have an adapter"),
        ("ttt", {"reward": "loud"}, "trajectories.ttt.reward: input should be 'speedup'"),
        ("ttt", {"top_p": 0.9}, "trajectories.ttt.top_p: unknown key"),
    ],
)
def test_wrong_settings_are_one_sentence(name, settings, sentence):
    raw = copy.deepcopy(STUDY)
    raw["trajectories"] = {key: raw["trajectories"][key] for key in ("rlvr", "ttt")}
    raw["trajectories"][name] |= settings
    with pytest.raises(ConfigError) as caught:
        parse_study(raw)
    assert sentence in str(caught.value)


@pytest.mark.parametrize(("key", "value"), [("top_p", 0.9), ("top_k", 5), ("min_p", 0.1)])
def test_trajectories_do_not_learn_from_filtered_samples(key, value):
    """Log-probabilities are of the whole distribution: the ratio of an update would not know of the filter."""
    with pytest.raises(
        ConfigError, match=f"sampling.{key}: trajectories learn from rollouts of the whole distribution"
    ):
        parse_study({**STUDY, "sampling": {key: value}})


REPORTED = {
    "study": "s",
    "model": "tiny",
    "trajectories": {
        "rlvr": {"tasks": "train", "steps": 40, "tasks_per_step": 8, "group_size": 8},
        "ttt": {"start": "rlvr@20", "tasks": "subset1", "steps": 2, "seeds": [42, 43, 44]},
        "ttt_subset2": {"like": "ttt", "tasks": "subset2"},
        "ttt_isolated": {"like": "ttt", "isolated": True, "tasks": ["subset1", "L1/36"]},
        "ttt_slow": {"like": "ttt", "learning_rate": 1e-6},
        "sdpo": {"like": "ttt", "objective": "sdpo_paper_feedback"},
        "sdpo_prompt": {"like": "ttt", "objective": "sdpo_paper_prompt"},
        "sdpo_official": {"like": "ttt", "objective": "sdpo_official"},
    },
    "sample_sets": {
        "checkpoint": {"policy": "rlvr@20", "tasks": ["subset1", "subset2"], "k": 32},
        "transfer": {"policy": "ttt@last", "tasks": ["subset2"], "k": 32, "seeds": [42, 43]},
        "alone": {"policy": "ttt_isolated_l1_4@last", "tasks": ["L1/4"], "k": 32},
    },
    "probes": {"elsewhere": {"rollouts": "checkpoint", "tasks": ["subset2"], "policies": "ttt@all"}},
}


@pytest.fixture
def reported(root):
    return Study(copy.deepcopy(REPORTED), root)


def test_a_trajectory_starts_from_a_checkpoint(reported):
    assert reported.update_inputs("ttt/seed43/step001")["adapter"] == [
        "results/s/policies/rlvr/seed42/step020/adapter_model.safetensors"
    ]
    assert {cell.policy for cell in reported.cells_of("checkpoint")} == {"rlvr/seed42/step020"}


def test_isolated_training_is_a_trajectory_for_each_task(reported):
    made = [name for name in reported.config.trajectories if name.startswith("ttt_isolated")]
    assert made == [f"ttt_isolated_l1_{number}" for number in (4, 5, 12, 14, 15, 36)]
    for name in made:
        (task,) = reported.trajectory_tasks(name)
        assert name == "ttt_isolated_" + task.lower().replace("/", "_")
        assert all(cell.tasks == (task,) for cell in reported.cells_of(name))
    together, alone = (reported.config.trajectories[name] for name in ("ttt", "ttt_isolated_l1_4"))
    assert together.update() == alone.update()
    assert (together.seeds, together.steps, together.start) == (alone.seeds, alone.steps, alone.start)
    assert {cell.policy for cell in reported.cells_of("alone")} == {"ttt_isolated_l1_4/seed42/step002"}


def test_a_policy_is_tried_on_tasks_that_it_was_not_trained_on(reported):
    assert {cell.policy for cell in reported.cells_of("transfer")} == {"ttt/seed42/step002", "ttt/seed43/step002"}
    assert {cell.tasks for cell in reported.cells_of("transfer")} == {reported.trajectory_tasks("ttt_subset2")}
    assert {path.split("/of/")[0] for path in reported.probe_scores("elsewhere")} == {
        f"results/s/nll/{policy}" for policy in ("rlvr/seed42/step020", "ttt/seed42/step001", "ttt/seed42/step002")
    }


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"ttt_l1_4": {"like": "ttt"}}, "a trajectory 'ttt_l1_4' is there already"),
        ({"next": {"like": "ttt", "start": "ttt@last"}}, "trajectories.next_l1_4.start: there is no trajectory 'ttt'"),
        ({"next": {"like": "ttt", "tasks": ["subset9"]}}, "trajectories.next.tasks: there is no task set 'subset9'"),
        ({"next": {"like": "ttt", "tasks": ["subset1", "L1/4"]}}, "trajectories.next.tasks: task L1/4 stands twice"),
    ],
)
def test_wrong_isolated_trajectories_are_one_sentence(root, more, sentence):
    raw = {
        "study": "s",
        "model": "tiny",
        "trajectories": {"ttt": {"tasks": ["L1/4"], "steps": 1, "isolated": True}, **more},
    }
    if "ttt_l1_4" in more:
        raw["trajectories"]["ttt_l1_4"] = {"tasks": ["L1/4"], "steps": 1}
    with pytest.raises(ConfigError) as caught:
        Study(raw, root)
    assert sentence in str(caught.value)


@pytest.mark.parametrize("reward", ["speedup", "log", "clipped", "binary"])
@pytest.mark.parametrize("advantage", ["global_z", "group_z", "centred", "entropic"])
def test_the_grid_of_objectives_ships_under_one_budget(root, advantage, reward):
    shipped = Study(yaml.safe_load((root / "resources/studies/objectives.yaml").read_text()), root)
    prefix = advantage.removesuffix("_z")
    config = shipped.config.trajectories[f"{prefix}_{reward}"]
    assert (config.parts.advantage, config.parts.reward) == (advantage, reward)
    search = shipped.config.sample_sets["best_of_n"]
    assert (config.steps + 1) * config.group_size == search.k
    assert (config.start, config.tasks, config.seeds) == (search.policy, *search.tasks, search.seeds)
