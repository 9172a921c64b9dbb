"""KernelBench's revisions are told apart by the hash of a problem's text."""

import csv
from collections import Counter

import pytest

from vegflow.errors import ConfigError
from vegflow.tasks.kernelbench import problem_task
from vegflow.tasks.revisions import COLUMNS, NAMED, RESOURCES, Revision, known_revision, problem_hash

# L1/12 as three revisions have it, told by what KernelBench's hash leaves: no comments, docstrings and blank space
HEAD_OF_L1_12 = "5014e145fa5e801f28172a0d2eed0765"


@pytest.fixture(scope="module")
def table() -> list[dict[str, str]]:
    with (RESOURCES / "kernelbench_revisions.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_each_named_revision_has_every_problem_once(table):
    assert tuple(table[0]) == COLUMNS
    for name in NAMED:
        ids = Counter(row["task_id"] for row in table if name in row["revisions"].split())
        levels = Counter(task_id.split("/")[0] for task_id in ids)
        assert levels == {"L1": 100, "L2": 100, "L3": 50, "L4": 20}
        assert set(ids.values()) == {1}


def test_no_problem_has_a_text_twice(table):
    assert len({(row["task_id"], row["hash"]) for row in table}) == len(table)


def test_three_problems_changed_after_v0_1(table):
    changed = {row["task_id"] for row in table if row["revisions"] == "HEAD"}
    assert changed == {"L1/12", "L1/92", "L1/97"}
    assert any(row["hash"] == HEAD_OF_L1_12 and row["revisions"] == "HEAD" for row in table)


def test_the_hash_leaves_out_comments_docstrings_and_blank_space():
    assert (
        problem_hash("x = 1") == problem_hash('"""Doc\n# x\n"""\nx=1  # one\n') == problem_hash("'''a'''\n\tx =\n1\n")
    )
    assert problem_hash("x = 1") != problem_hash("x = 2")
    assert problem_hash("") == "d41d8cd98f00b204e9800998ecf8427e"  # MD5 of nothing


def test_a_text_that_no_revision_has_is_unknown():
    assert known_revision("import torch") is None


def test_a_revision_reads():
    assert str(Revision("L1/1", "", ("v0.1", "HEAD"), "6b1cea2", "2025-07-21")) == "v0.1 (129232e), HEAD (423217d)"
    assert str(Revision("L1/1", "", (), "76b487e", "2025-07-17")) == "between revisions (76b487e of 2025-07-17)"


PROBLEM = "class Model:\n    def forward(self, a, b):\n        return a\ndef get_inputs(): pass\ndef get_init_inputs(): pass\n"


@pytest.mark.parametrize(
    ("path", "task_id", "name"),
    [("level1/12_Twice.py", "L1/12", "Twice"), ("level2/3_A_b.py", "L2/3", "A_b"), ("twice.py", "twice", "twice")],
)
def test_a_problem_file_is_a_task_as_it_is(tmp_path, path, task_id, name):
    file = tmp_path / path
    file.parent.mkdir(exist_ok=True)
    file.write_text(PROBLEM)
    task = problem_task(file)
    assert (task.id, task.name, task.arguments, task.source) == (task_id, name, ("a", "b"), PROBLEM)


@pytest.mark.parametrize("content", [None, b"x = (", b"\xff", b"x = 1"])
def test_a_file_that_is_no_problem_is_named(tmp_path, content):
    if content is not None:
        (tmp_path / "p.py").write_bytes(content)
    with pytest.raises(ConfigError, match=r"p\.py"):
        problem_task(tmp_path / "p.py")
