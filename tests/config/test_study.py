"""Wrong studies: one sentence that names the place, before anything runs; and right ones in one canonical form."""

import copy

import pytest

from vegflow.config.study import parse_study, policy_reference
from vegflow.errors import ConfigError
from vegflow.plan import Study

GOOD = {
    "study": "s",
    "model": "tiny",
    "trajectories": {
        "rlvr": {"tasks": "train", "steps": 3, "tasks_per_step": 8, "group_size": 4},
        "ttt": {"start": "rlvr@last", "tasks": ["subset1", "L1/36"], "steps": 2},
        "code": {"like": "ttt", "objective": "paper_ttt"},
    },
    "sample_sets": {"best": {"policy": "rlvr@2", "tasks": ["subset1"], "k": 64, "shard_size": 32}},
    "probes": {"probe": {"rollouts": "best", "policies": "ttt@all"}},
    "comparison": {"search": "best", "adaptation": "ttt"},
}

WRONG = {
    "unknown key": (("sampling", "temprature"), 1, "sampling.temprature: unknown key (got 1)"),
    "unknown key at the top": (("smapling",), {}, "smapling: unknown key"),
    "missing key": (("model",), None, "model: "),
    "wrong type": (("sampling", "temperature"), "hot", "sampling.temperature: input should be a valid number"),
    "not a number at all": (
        ("sampling", "temperature"),
        float("nan"),
        "sampling.temperature: input should be a finite",
    ),
    "negative K": (("sample_sets", "best", "k"), -3, "sample_sets.best.k: input should be greater than or equal to 1"),
    "K no multiple of the shard": (
        ("sample_sets", "best", "k"),
        48,
        "sample_sets.best.k: 48 is not a multiple of shard_size (32)",
    ),
    "zero temperature": (("sampling", "temperature"), 0, "sampling.temperature: input should be greater than 0"),
    "unknown objective": (("trajectories", "ttt", "objective"), "magic", "trajectories.ttt.objective: input should be"),
    "unknown task": (("trajectories", "ttt", "tasks"), ["L1/101"], "there is no task 'L1/101'"),
    "unknown task set": (
        ("trajectories", "ttt", "tasks"),
        "subset9",
        "trajectories.ttt.tasks: there is no task set 'subset9' (there are: subset1, subset2,",
    ),
    "a task twice": (
        ("sample_sets", "best", "tasks"),
        ["subset1", "L1/12"],
        "sample_sets.best.tasks: task L1/12 stands twice",
    ),
    "dangling start": (
        ("trajectories", "ttt", "start"),
        "rl@last",
        "trajectories.ttt.start: there is no trajectory 'rl' (there are: rlvr, ttt, code)",
    ),
    "a start beyond the end": (
        ("trajectories", "ttt", "start"),
        "rlvr@4",
        "trajectories.ttt.start: rlvr has steps 0 to 3, not 4",
    ),
    "a start that is no policy": (
        ("trajectories", "ttt", "start"),
        "rlvr",
        "'rlvr' is no policy; write base, NAME@last",
    ),
    "a start that is several": (("trajectories", "ttt", "start"), "rlvr@all", "means several policies; name one step"),
    "cyclic start": (
        ("trajectories", "rlvr", "start"),
        "ttt@last",
        "trajectories.rlvr.start: goes in a circle (rlvr -> ttt -> rlvr)",
    ),
    "a start at itself": (("trajectories", "rlvr", "start"), "rlvr@1", "goes in a circle (rlvr -> rlvr)"),
    "dangling like": (("trajectories", "code", "like"), "tt", "trajectories.code.like: there is no trajectory 'tt'"),
    "cyclic like": (("trajectories", "ttt", "like"), "code", ".like: goes in a circle (ttt -> code -> ttt)"),
    "dangling probe": (
        ("probes", "probe", "rollouts"),
        "worst",
        "probes.probe.rollouts: there is no sample set 'worst'",
    ),
    "dangling probe policy": (
        ("probes", "probe", "policies"),
        "tt@all",
        "probes.probe.policies: there is no trajectory 'tt'",
    ),
    "a probe's foreign tasks": (
        ("probes", "probe", "tasks"),
        ["subset2"],
        "probes.probe.tasks: 'subset2' is no entry of sample_sets.best.tasks",
    ),
    "a probe's foreign seed": (("probes", "probe", "seeds"), [7], "probes.probe.seeds: sample_sets.best has no seed 7"),
    "dangling comparison": (("comparison", "search"), "x", "comparison.search: there is no sample set 'x'"),
    "dangling training": (("comparison", "training"), "x", "comparison.training: there is no trajectory 'x'"),
    "unknown strategy": (("statistics",), {"strategies": ["best-corect"]}, "statistics.strategies: "),
    "a seed twice": (("trajectories", "ttt", "seeds"), [1, 1], "trajectories.ttt.seeds: a seed stands twice"),
    "no seeds": (("trajectories", "ttt", "seeds"), [], "trajectories.ttt.seeds: "),
    "a group of one": (("trajectories", "ttt", "group_size"), 1, "trajectories.ttt.group_size: input should be"),
    "no mapping": (("trajectories",), [1], "trajectories: input should be a valid dictionary"),
    "a name with a slash": (("sample_sets",), {"a/b": {"tasks": "subset1"}}, "sample_sets.a/b"),
    "one name for two things": (
        ("sample_sets", "ttt"),
        {"tasks": "subset1"},
        "trajectories.ttt: a sample set has the same name",
    ),
    "demonstrations that a ratio is asked of": (
        ("trajectories", "rlvr", "demonstrations"),
        "level1",
        "trajectories.rlvr.demonstrations: no policy drew them, so loss 'clipped' cannot learn from them; take sft",
    ),
    "demonstrations of no corpus": (
        ("trajectories", "rlvr"),
        {"tasks": "train", "steps": 3, "objective": "sft", "demonstrations": "level9"},
        "trajectories.rlvr.demonstrations: there is no corpus 'level9' (there are: level1)",
    ),
    "demonstrations of evaluated tasks": (
        ("trajectories", "rlvr"),
        {"tasks": "subset2", "steps": 3, "objective": "sft", "demonstrations": "level1"},
        "trajectories.rlvr.demonstrations: no task is left to learn from",
    ),
    "an arm that draws nothing": (
        ("trajectories", "ttt"),
        {"tasks": "train", "steps": 2, "objective": "sft", "demonstrations": "level1"},
        "comparison.adaptation: ttt learns from demonstrations and draws nothing to compare",
    ),
    "unknown model": (("model",), "huge", "model: there is no model 'huge'; known are"),
    "a reward model of no rollouts": (
        ("reward_models", "orm"),
        {"train": "rl"},
        "reward_models.orm.train: there is no trajectory, sample set or verification of functions 'rl' (there are: rlvr, "
        "ttt, code, best)",
    ),
    "a reward model that scores no sample set": (
        ("reward_models", "orm"),
        {"train": "rlvr", "score": ["ttt"]},
        "reward_models.orm.score: there is no sample set 'ttt' (there are: best)",
    ),
    "a reward model on no policy": (
        ("reward_models", "orm"),
        {"train": "rlvr", "policy": "rlvr@9"},
        "reward_models.orm.policy: rlvr has steps 0 to 3, not 9",
    ),
    "a reward model on several policies": (
        ("reward_models", "orm"),
        {"train": "rlvr", "policy": "rlvr@all"},
        "reward_models.orm.policy: 'rlvr@all' means several policies; name one step",
    ),
    "a loss that is none": (
        ("reward_models", "orm"),
        {"train": "rlvr", "losses": ["hinge"]},
        "reward_models.orm.losses.0: input should be 'bradley_terry' or 'cross_entropy'",
    ),
    "a reward model that learns from nothing": (
        ("reward_models", "orm"),
        {"train": "rlvr", "losses": []},
        "reward_models.orm.losses: tuple should have at least 1 item",
    ),
    "settings of an adapter without one": (
        ("reward_models", "orm"),
        {"train": "rlvr", "learning_rate": 0.1},
        "reward_models.orm: learning_rate is for adapter 'lora'; leave it out, or write adapter: lora",
    ),
    "a margin of no pairs": (
        ("reward_models", "orm"),
        {"train": "rlvr", "margin": 1},
        "reward_models.orm: margin is for speed_pairs",
    ),
    "an adapter on a reward model's output head": (
        ("reward_models", "orm"),
        {"train": "rlvr", "adapter": "lora", "lora": {"targets": ["lm_head"]}},
        "reward_models.orm.lora.targets: 'lm_head' cannot have an adapter",
    ),
    "ks out of order": (
        ("reward_models", "orm"),
        {"train": "rlvr", "ks": [4, 2]},
        "reward_models.orm.ks: must be positive and ascending",
    ),
}


def changed(path, value):
    raw = copy.deepcopy(GOOD)
    block = raw
    for key in path[:-1]:
        block = block.setdefault(key, {})
    block[path[-1]] = value
    return raw


@pytest.mark.parametrize(("path", "value", "message"), WRONG.values(), ids=WRONG.keys())
def test_a_wrong_study_is_one_sentence(root, path, value, message):
    with pytest.raises(ConfigError) as caught:
        Study(changed(path, value), root, where="study.yaml")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_several_mistakes_are_all_named(root):
    raw = changed(("sampling", "temprature"), 1)
    raw["sample_sets"]["best"]["k"] = -1
    with pytest.raises(ConfigError, match=r"study.yaml: .*temprature.*; .*best.k") as caught:
        Study(raw, root, where="study.yaml")
    assert str(caught.value).count(";") == 1


def test_like_takes_what_is_not_said():
    study = parse_study(GOOD)
    assert study.trajectories["code"].objective == "paper_ttt"
    assert study.trajectories["code"].start == "rlvr@last"
    assert study.trajectories["code"].steps == 2


def test_equal_settings_have_equal_text():
    written = changed(("sampling",), {"max_tokens": "1024", "temperature": "0.25"})
    assert parse_study(written).sampling.canonical() == parse_study(GOOD).sampling.canonical()


@pytest.mark.parametrize(
    ("text", "expected"), [("base", None), ("rlvr@last", ("rlvr", "last")), ("a_1@12", ("a_1", "12"))]
)
def test_policy_references(text, expected):
    assert policy_reference(text) == expected
