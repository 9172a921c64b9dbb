"""The two tables of the catalogue: what a row becomes, and what a bad row is told."""

import ast
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from vegflow.errors import ConfigError
from vegflow.tasks.catalogue import COLUMNS, RESOURCES, builtin_tasks, operation_of, task_operations
from vegflow.tasks.task import Task

OPERATIONS = """
scale:
  description: Matrix A times the scalar s.
  arguments: [A, s]
  init: [bias]
  constructor: |
    self.bias = bias
  forward: |
    out = A * s
    return out + self.bias
"""
ROW = {
    "id": "7",
    "name": "Scale",
    "operation": "scale",
    "init": "[1.5]",
    "cpu_init": "",
    "paper_inputs": "A = normal(64x32); s = 3.14",
    "cpu_inputs": "A = normal(4x2) * 0.5 * random + 1; s = 3.14",
}
CPU_SOURCE = '''\
import torch
import torch.nn as nn
import torch.nn.functional as F


class Model(nn.Module):
    """Matrix A times the scalar s."""

    def __init__(self, bias):
        super().__init__()
        self.bias = bias

    def forward(self, A: torch.Tensor, s: float) -> torch.Tensor:
        out = A * s
        return out + self.bias


def get_inputs():
    A = torch.randn(4, 2) * 0.5 * (0.5 + torch.rand(())) + 1
    s = 3.14
    return [A, s]


def get_init_inputs():
    return [1.5]
'''


def quoted(value: str) -> str:
    return '"' + value.replace('"', '""') + '"'


@pytest.fixture
def tables(tmp_path: Path):
    """Writes the two tables, one row with the given fields; returns their folder."""

    def write(*, operations: str = OPERATIONS, rows: int = 1, **fields: str) -> Path:
        row = ",".join(quoted(value) for value in (ROW | fields).values())
        (tmp_path / "operations.yaml").write_text(operations)
        (tmp_path / "level1.csv").write_text("\n".join([",".join(COLUMNS), *[row] * rows]) + "\n")
        return tmp_path

    return write


def test_a_row_becomes_a_program(tables):
    (task,) = builtin_tasks("cpu", tables()).values()
    assert (task.id, task.name, task.arguments) == ("L1/7", "Scale", ("A", "s"))
    assert task.description == "Matrix A times the scalar s."
    assert task.source == CPU_SOURCE


def test_sizes_differ_in_inputs_and_where_told_in_constructor_arguments(tables):
    folder = tables(cpu_init="[2.5]")
    paper, cpu = (builtin_tasks(size, folder)["L1/7"] for size in ("paper", "cpu"))
    assert "return [1.5]" in paper.source
    assert "torch.randn(64, 32)" in paper.source
    assert "return [2.5]" in cpu.source
    assert paper.revision != cpu.revision


@pytest.mark.parametrize(
    ("draw", "lines"),
    [
        ("uniform(3)", ["A = torch.rand(3)"]),
        ("normal(3x4)*2", ["A = torch.randn(3, 4) * 2"]),
        ("normal(3x4) + 1", ["A = torch.randn(3, 4) + 1"]),
        ("heavy(5)", ["A = torch.randn(5) / (1 - torch.rand(5)).sqrt()"]),
        ("bool(5)", ["A = torch.rand(5) < 0.5"]),
        ("sign(5)", ["A = torch.randint(0, 2, (5,)).float() * 2 - 1"]),
        ("integers(5 below 10)", ["A = torch.randint(10, (5,))"]),
        ("integers(5x6 below 10)", ["A = torch.randint(10, (5, 6))"]),
        ("probabilities(2x3) * 4", ["A = torch.randn(2, 3) * 4", "A = torch.softmax(A, dim=-1)"]),
        ("symmetric(3x3) * 0.1", ["A = torch.randn(3, 3) * 0.1", "A = (A + A.T) / 2"]),
        ("upper_triangular(3x3)", ["A = torch.randn(3, 3)", "A = torch.triu(A)"]),
        ("lower_triangular(3x3)", ["A = torch.randn(3, 3)", "A = torch.tril(A)"]),
        ("-2.5", ["A = -2.5"]),
    ],
)
def test_how_each_kind_is_drawn(tables, draw: str, lines: list[str]):
    source = builtin_tasks("cpu", tables(cpu_inputs=f"A = {draw}; s = 1"))["L1/7"].source
    body = source.partition("def get_inputs():\n")[2].partition("    s = 1\n")[0]
    assert [line.strip() for line in body.splitlines()] == lines


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"id": "seven"}, "line 2: id 'seven' is not a number"),
        ({"operation": "skale"}, "operation 'skale' is not in operations.yaml"),
        ({"init": "[1.5"}, "init '[1.5' is not a Python list of literals"),
        ({"init": "[open('x')]"}, "is not a Python list of literals"),
        ({"init": "1.5"}, "init '1.5' is not a Python list of literals"),
        ({"init": "[]"}, "init '[]' must hold 1 values (bias)"),
        ({"cpu_init": "[1, 2]"}, "cpu_init '[1, 2]' must hold 1 values (bias)"),
        ({"cpu_inputs": "A normal(3); s = 1"}, "'A normal(3)' is not of the form `name = draw`"),
        ({"cpu_inputs": "A = normal(3)"}, "cpu_inputs draws A where forward takes A, s"),
        ({"cpu_inputs": "s = 1; A = normal(3)"}, "cpu_inputs draws s, A where forward takes A, s"),
        ({"cpu_inputs": "A = gaussian(3); s = 1"}, "A = gaussian(3): not a number nor `kind(shape)"),
        ({"cpu_inputs": "A = normal(3,4); s = 1"}, "A = normal(3,4): not a number nor `kind(shape)"),
        ({"cpu_inputs": "A = normal(3) * two; s = 1"}, "A = normal(3) * two: not a number nor"),
        ({"cpu_inputs": "A = integers(3); s = 1"}, "`below` goes with integers, and integers need it"),
        ({"cpu_inputs": "A = normal(3 below 4); s = 1"}, "`below` goes with integers"),
        ({"cpu_inputs": "A = bool(3) * 2; s = 1"}, "bool takes no factor and no offset"),
        ({"rows": 2}, "line 3: L1/7 is already in the table"),
        ({"operations": "scale: ["}, "operations.yaml is not valid YAML"),
        ({"operations": "- scale"}, "must map names of operations"),
        ({"operations": "scale: {description: d}"}, "operation 'scale': needs exactly the keys arguments, constructor"),
    ],
)
def test_a_bad_table_is_told_in_one_sentence(tables, fields: dict, told: str):
    with pytest.raises(ConfigError) as caught:
        builtin_tasks("cpu", tables(**fields))
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_row_with_too_many_fields_is_told(tables):
    folder = tables()
    with (folder / "level1.csv").open("a") as table:
        table.write("8,Scale,scale,[1],,A = normal(3,4); s = 1,A = normal(3); s = 1\n")
    with pytest.raises(ConfigError, match="line 3: a row has 7 fields"):
        builtin_tasks("cpu", folder)


def test_other_columns_are_told(tables):
    folder = tables()
    (folder / "level1.csv").write_text("id,name\n1,x\n")
    with pytest.raises(ConfigError, match=r"the columns must be id, name, operation"):
        builtin_tasks("cpu", folder)


def test_a_missing_table_is_told(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"operations\.yaml cannot be read .No such file"):
        builtin_tasks("cpu", tmp_path)


def test_an_unknown_size_is_told():
    with pytest.raises(ConfigError, match="sizes cpu and paper, not 'huge'"):
        builtin_tasks("huge")  # type: ignore[arg-type]


@pytest.mark.parametrize("size", ["cpu", "paper"])
def test_the_catalogue_holds_the_hundred_problems_in_order(size: str):
    tasks = builtin_tasks(size)
    assert list(tasks) == [f"L1/{number}" for number in range(1, 101)]
    assert len({task.source for task in tasks.values()}) == 100
    for task in tasks.values():
        forward = next(n for n in ast.walk(ast.parse(task.source)) if getattr(n, "name", "") == "forward")
        assert tuple(parameter.arg for parameter in forward.args.args[1:]) == task.arguments
        assert task.description.endswith(".")


@pytest.mark.parametrize("size", ["cpu", "paper"])
def test_every_task_knows_its_operation_at_both_sizes(size: str):
    assert {name: operation_of(task) for name, task in builtin_tasks(size).items()} == task_operations()


def test_a_problem_is_known_by_its_number_name_and_arguments_whatever_its_program():
    def named(number: str, name: str, *arguments: str) -> str | None:
        return operation_of(Task(number, name, "", arguments, "a program"))

    assert named("L1/19", "ReLU", "input") == "relu"
    assert named("L1/20", "ReLU", "x") is None
    assert named("L2/19", "ReLU", "x") is None
    assert named("L1/19", "ReLU", "x", "y") is None


def test_changing_the_result_does_not_change_the_catalogue():
    builtin_tasks("cpu").clear()
    assert len(builtin_tasks("cpu")) == 100


def test_both_sizes_are_read_in_less_than_fifty_milliseconds(tmp_path: Path):
    seconds = []
    for repeat in range(5):
        folder = shutil.copytree(RESOURCES, tmp_path / str(repeat))
        started = time.process_time()
        builtin_tasks("cpu", folder)
        builtin_tasks("paper", folder)
        seconds.append(time.process_time() - started)
    assert min(seconds) < 0.05


def test_torch_is_not_imported():
    code = "import sys; from vegflow.tasks import load; load.builtin_tasks('cpu'); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
