"""Trajectories as configuration: what an update reads, and what a study may not say about learning."""

import copy
import json

import pytest

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


@pytest.mark.parametrize("key", ["top_p", "top_k", "min_p"])
def test_filters_are_no_part_of_sampling(key):
    """They would change the distribution that log-probabilities are recorded under, and bias every ratio."""
    with pytest.raises(ConfigError, match=f"sampling.{key}: unknown key"):
        parse_study({**STUDY, "sampling": {key: 0.9}})
