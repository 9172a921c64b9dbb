"""The paper's task sets."""

from pathlib import Path

import pytest

from vegflow.errors import ConfigError
from vegflow.tasks.catalogue import builtin_tasks
from vegflow.tasks.splits import paper_sets

SUBSET1 = (4, 5, 12, 14, 15)
SUBSET2 = (18, 28, 29, 30, 32)
EXTENDED = (36, 55, 65, 70, 76, 82, 87, 89, 95, 98)


@pytest.mark.parametrize(
    ("name", "numbers"),
    [("subset1", SUBSET1), ("subset2", SUBSET2), ("extended", EXTENDED), ("eval", SUBSET1 + SUBSET2 + EXTENDED)],
)
def test_evaluation_sets_are_the_papers_in_its_order(name: str, numbers: tuple[int, ...]):
    assert paper_sets()[name] == tuple(f"L1/{number}" for number in numbers)


def test_train_is_every_task_that_is_not_evaluated():
    sets = paper_sets()
    assert list(sets["train"]) == [task_id for task_id in builtin_tasks("cpu") if task_id not in sets["eval"]]
    assert len(sets["train"]) == 80


@pytest.mark.parametrize("text", ["[L1/1]", "train: L1/1", "train: [1, 2]", ""])
def test_a_file_of_another_form_is_told(tmp_path: Path, text: str):
    file = tmp_path / "splits.yaml"
    file.write_text(text)
    with pytest.raises(ConfigError, match="must map names of task sets to lists of ids"):
        paper_sets(file)


def test_a_missing_file_is_told(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"splits\.yaml cannot be read"):
        paper_sets(tmp_path / "splits.yaml")
