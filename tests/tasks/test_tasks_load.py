"""From the study's `tasks` block to tasks and task sets."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from vegflow.config.tasks import TasksConfig
from vegflow.errors import ConfigError
from vegflow.tasks.catalogue import builtin_tasks
from vegflow.tasks.load import load_tasks, task_sets

PROBLEM = """
class Model:
    def forward(self, x):
        return x
def get_inputs(): return []
def get_init_inputs(): return []
"""


@pytest.fixture
def kernelbench(tmp_path: Path) -> TasksConfig:
    for name in ("level1/1_One", "level2/7_Seven"):
        file = tmp_path / f"{name}.py"
        file.parent.mkdir()
        file.write_text(PROBLEM)
    return TasksConfig(source="kernelbench", path=str(tmp_path))


def test_tasks_come_in_the_order_asked_for_and_once():
    tasks = load_tasks(TasksConfig(), ["L1/30", "L1/4", "L1/30"])
    assert list(tasks) == ["L1/30", "L1/4"]
    assert tasks["L1/4"] == builtin_tasks("cpu")["L1/4"]


def test_the_size_is_the_configurations():
    assert load_tasks(TasksConfig(size="paper"), ["L1/4"])["L1/4"] == builtin_tasks("paper")["L1/4"]


def test_no_ids_are_no_tasks():
    assert load_tasks(TasksConfig(), []) == {}


def test_ids_of_several_levels_come_from_kernelbench(kernelbench: TasksConfig):
    assert list(load_tasks(kernelbench, ["L2/7", "L1/1"])) == ["L2/7", "L1/1"]


@pytest.mark.parametrize(
    ("task_id", "nearest"),
    [("L1/101", "L1/100"), ("L1/0", "L1/1"), ("12", "L1/12"), ("l1/12", "L1/12"), ("L2/7", "L1/7"), ("relu", "L1/1")],
)
def test_an_unknown_id_is_told_with_the_nearest(task_id: str, nearest: str):
    with pytest.raises(ConfigError) as caught:
        load_tasks(TasksConfig(), ["L1/1", task_id])
    expected = f"there is no task '{task_id}' in the built-in catalogue; the nearest there is: {nearest}"
    assert str(caught.value) == expected


def test_an_unknown_id_of_kernelbench_is_told(kernelbench: TasksConfig):
    with pytest.raises(ConfigError, match=r"there is no task 'L2/8' in .*; the nearest there is: L2/7"):
        load_tasks(kernelbench, ["L2/8"])
    with pytest.raises(ConfigError, match=r"there is no task 'L4/1' in .*, nor any other task of its level"):
        load_tasks(kernelbench, ["L4/1"])


def test_the_studys_sets_join_the_papers_and_override_them():
    sets = task_sets(TasksConfig(sets={"mine": ["L1/19", "L1/4"], "subset1": ["L1/1"]}))
    assert set(sets) == {"train", "subset1", "subset2", "extended", "eval", "mine"}
    assert sets["mine"] == ("L1/19", "L1/4")
    assert sets["subset1"] == ("L1/1",)
    assert "L1/4" in sets["eval"]


def test_every_task_of_every_set_is_in_the_catalogue():
    for ids in task_sets(TasksConfig()).values():
        assert list(load_tasks(TasksConfig(), ids)) == list(ids)


def test_a_configuration_survives_its_canonical_form(kernelbench: TasksConfig):
    for config in (TasksConfig(sets={"mine": ["L1/1"]}), kernelbench):
        assert TasksConfig.model_validate_json(config.canonical()) == config


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"sets": {"mine": []}}, "task set 'mine' is empty"),
        ({"sets": {"mine": ["L1/1", "L1/2", "L1/1"]}}, "task set 'mine' names L1/1 more than once"),
        ({"path": "somewhere"}, "path: needs `source: kernelbench`"),
        ({"path": "a", "revision": "b"}, "path, revision: needs `source: kernelbench`"),
        ({"source": "hub"}, "'builtin' or 'kernelbench'"),
        ({"size": "huge"}, "'cpu' or 'paper'"),
        ({"sizes": "cpu"}, "Extra inputs"),
    ],
)
def test_a_bad_configuration_is_told(settings: dict, told: str):
    with pytest.raises(ValidationError) as caught:
        TasksConfig(**settings)
    assert told in str(caught.value)
