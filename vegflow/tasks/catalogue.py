"""The built-in catalogue: KernelBench's level 1 as two tables, and the reference programs written from them.

It knows the grammar of the tables and the text of a program; which tasks a study uses is left to `vegflow.tasks.load`,
running them to the evaluator.

`level1.csv` has one row a problem: its number, name and operation (an entry of `operations.yaml`), the constructor's
arguments as a Python list, and the inputs at two sizes. `cpu_init` is empty where the constructor's arguments are the
same at both. Inputs read `name = draw; name = draw`, where a draw is one of

    3.14                             a plain number
    kind(64x128)                     a tensor of that shape, of a kind in `KINDS`
    integers(64 below 10)            64 integers from 0 to 9
    normal(64x128) * 2 * random + 1  what is drawn, scaled and shifted; `random` is one factor drawn anew in each call

Tensors are drawn so that no degenerate answer (an input unchanged, zeros, a constant, an earlier answer) passes at a
tolerance of 1e-4, and so that products and sums have unit scale: there an honest float32 sum passes in any order and a
sum of half-precision products does not.
"""

import ast
import csv
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args

import yaml

from vegflow.config.tasks import Size
from vegflow.errors import ConfigError
from vegflow.tasks.task import Task

RESOURCES = Path(__file__).resolve().parents[2] / "resources" / "tasks"
COLUMNS = ("id", "name", "operation", "init", "cpu_init", "paper_inputs", "cpu_inputs")
LINE_LENGTH = 120
INDENT = " " * 4

KINDS = {
    "normal": ("torch.randn({shape})",),
    "uniform": ("torch.rand({shape})",),
    "heavy": ("torch.randn({shape}) / (1 - torch.rand({shape})).sqrt()",),
    "sign": ("torch.randint(0, 2, {size}).float() * 2 - 1",),
    "bool": ("torch.rand({shape}) < 0.5",),
    "integers": ("torch.randint({below}, {size})",),
    "probabilities": ("torch.randn({shape})", "torch.softmax({name}, dim=-1)"),
    "symmetric": ("torch.randn({shape})", "({name} + {name}.T) / 2"),
    "upper_triangular": ("torch.randn({shape})", "torch.triu({name})"),
    "lower_triangular": ("torch.randn({shape})", "torch.tril({name})"),
}
"""Kind of tensor: how it is drawn (what `* factor` and `+ offset` apply to), and what is made of the draw."""
DISCRETE = ("sign", "bool", "integers")
"""Kinds that are neither scaled nor shifted."""

_DRAW = re.compile(
    r"(?P<kind>\w+)\((?P<shape>\d+(?:x\d+)*)(?: below (?P<below>\d+))?\)"
    r"(?P<factors>(?: *\* *(?:random|[\d.]+))*)(?: *\+ *(?P<offset>[\d.]+))?"
)
_RANDOM_FACTOR = "(0.5 + torch.rand(()))"


@dataclass(frozen=True)
class Operation:
    """What a problem computes, whatever its size: an entry of `operations.yaml`."""

    description: str
    """One line."""
    arguments: tuple[str, ...]
    """Names of `forward`'s arguments."""
    init: tuple[str, ...]
    """Names of the constructor's parameters."""
    constructor: str
    """Body of `__init__` after `super().__init__()`."""
    forward: str
    """Body of `forward`."""


def builtin_tasks(size: Size = "cpu", folder: Path = RESOURCES) -> dict[str, Task]:
    """The built-in tasks by id, `L1/1` to `L1/100`, in the order of the table.

    `paper` has KernelBench's own shapes; `cpu` has the same operations scaled to milliseconds on one core. The tables
    are read on the first call. Raises ConfigError, naming file and row, if a table is missing or not as described above.
    """
    return dict(_tasks(size, folder))


def task_operations(folder: Path = RESOURCES) -> dict[str, str]:
    """Operation (an entry of `operations.yaml`) of each built-in task, by id."""
    return {f"L1/{row['id']}": row["operation"] for row in _rows(folder / "level1.csv")}


def operation_of(task: Task, folder: Path = RESOURCES) -> str | None:
    """The operation (an entry of `operations.yaml`) that a task computes; None if the catalogue does not know it.

    KernelBench's own file of a problem computes the same operation as the catalogue's, at whatever shapes: it is
    recognised by its number, name and number of arguments.
    """
    known = _problems(folder).get((task.id, task.name))
    return known[0] if known and known[1] == len(task.arguments) else None


@cache
def _problems(folder: Path) -> Mapping[tuple[str, str], tuple[str, int]]:
    """(id, name) of each built-in problem -> its operation, and how many arguments that takes."""
    operations = _operations(folder / "operations.yaml")
    return {
        (f"L1/{row['id']}", row["name"]): (row["operation"], len(operations[row["operation"]].arguments))
        for row in _rows(folder / "level1.csv")
    }


@cache
def _tasks(size: Size, folder: Path) -> Mapping[str, Task]:
    if size not in get_args(Size):
        raise ConfigError(f"built-in tasks have the sizes {' and '.join(get_args(Size))}, not {size!r}")
    operations = _operations(folder / "operations.yaml")
    table = folder / "level1.csv"
    tasks: dict[str, Task] = {}
    for line, row in enumerate(_rows(table), start=2):
        try:
            task = _task(row, size, operations)
            if task.id in tasks:
                raise ValueError(f"{task.id} is already in the table")
        except (ValueError, SyntaxError) as error:
            raise ConfigError(f"{table}, line {line}: {error}") from error
        tasks[task.id] = task
    return tasks


def read_yaml(path: Path) -> Any:
    """What a YAML file says, through the C parser where there is one. Raises ConfigError if it cannot be read."""
    try:
        return yaml.load(_read(path), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from error


def _operations(path: Path) -> dict[str, Operation]:
    entries = read_yaml(path)
    if not isinstance(entries, dict):
        raise ConfigError(f"{path} must map names of operations to their descriptions")
    return {name: _operation(path, name, entry) for name, entry in entries.items()}


def _operation(path: Path, name: str, entry: Any) -> Operation:
    fields = set(Operation.__dataclass_fields__)
    if not isinstance(entry, dict) or set(entry) != fields:
        raise ConfigError(f"{path}, operation {name!r}: needs exactly the keys {', '.join(sorted(fields))}")
    return Operation(
        entry["description"], tuple(entry["arguments"]), tuple(entry["init"]), entry["constructor"], entry["forward"]
    )


def _rows(path: Path) -> list[dict[str, str]]:
    reader = csv.DictReader(_read(path).splitlines())
    if tuple(reader.fieldnames or ()) != COLUMNS:
        raise ConfigError(f"{path}: the columns must be {', '.join(COLUMNS)}")
    return list(reader)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}); it is part of a checkout of vegflow") from error


def _task(row: dict[str, str], size: Size, operations: Mapping[str, Operation]) -> Task:
    if None in row or None in row.values():
        raise ValueError(f"a row has {len(COLUMNS)} fields; put quotes around a field with commas")
    if not row["id"].isdecimal():
        raise ValueError(f"id {row['id']!r} is not a number")
    operation = operations.get(row["operation"])
    if operation is None:
        raise ValueError(f"operation {row['operation']!r} is not in operations.yaml")
    init_column = "cpu_init" if size == "cpu" and row["cpu_init"] else "init"
    init = _init_values(row[init_column], init_column, operation)
    inputs = _inputs(row[f"{size}_inputs"], f"{size}_inputs", operation)
    source = _source(operation, init, inputs)
    return Task(f"L1/{row['id']}", row["name"], operation.description, operation.arguments, source)


def _init_values(text: str, column: str, operation: Operation) -> list[Any]:
    try:
        values = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        values = None
    if not isinstance(values, list):
        raise ValueError(f"{column} {text!r} is not a Python list of literals")
    if len(values) != len(operation.init):
        raise ValueError(f"{column} {text!r} must hold {len(operation.init)} values ({', '.join(operation.init)})")
    return values


def _inputs(text: str, column: str, operation: Operation) -> dict[str, str]:
    draws = {}
    for part in text.split(";"):
        name, equals, draw = (piece.strip() for piece in part.partition("="))
        if not equals:
            raise ValueError(f"{column}: {part.strip()!r} is not of the form `name = draw`")
        draws[name] = draw
    if tuple(draws) != operation.arguments:
        raise ValueError(f"{column} draws {', '.join(draws)} where forward takes {', '.join(operation.arguments)}")
    return draws


def _is_number(draw: str) -> bool:
    return re.fullmatch(r"-?\d+(\.\d*)?", draw) is not None


def _steps(name: str, draw: str) -> list[str]:
    """The expressions to assign to `name`, one after the other."""
    if _is_number(draw):
        return [draw]
    match = _DRAW.fullmatch(draw)
    if match is None or match["kind"] not in KINDS:
        kinds = ", ".join(KINDS)
        raise ValueError(f"{name} = {draw}: not a number nor `kind(shape) * factor + offset`, kind one of {kinds}")
    if (match["below"] is not None) != (match["kind"] == "integers"):
        raise ValueError(f"{name} = {draw}: `below` goes with integers, and integers need it")
    scale = _scale(match["factors"], match["offset"])
    if scale and match["kind"] in DISCRETE:
        raise ValueError(f"{name} = {draw}: {match['kind']} takes no factor and no offset")
    size = tuple(map(int, match["shape"].split("x")))
    words = {"name": name, "shape": ", ".join(map(str, size)), "size": size, "below": match["below"]}
    first, *others = (step.format(**words) for step in KINDS[match["kind"]])
    return [first + scale, *others]


def _scale(factors: str, offset: str | None) -> str:
    terms = [factor.strip() for factor in factors.split("*")[1:]]
    scale = "".join(f" * {_RANDOM_FACTOR if term == 'random' else term}" for term in terms)
    return f"{scale} + {offset}" if offset else scale


def _source(operation: Operation, init: Sequence[Any], inputs: Mapping[str, str]) -> str:
    lines = ["import torch", "import torch.nn as nn", "import torch.nn.functional as F", "", ""]
    lines += ["class Model(nn.Module):", f'{INDENT}"""{operation.description}"""', ""]
    if operation.init or operation.constructor:
        body = ["super().__init__()", *operation.constructor.splitlines()]
        lines += [*_function(f"{INDENT}def __init__", ("self", *operation.init), "", body), ""]
    arguments = [f"{name}: {'float' if _is_number(inputs[name]) else 'torch.Tensor'}" for name in operation.arguments]
    lines += _function(f"{INDENT}def forward", ("self", *arguments), " -> torch.Tensor", operation.forward.splitlines())
    draws = [f"{name} = {step}" for name, draw in inputs.items() for step in _steps(name, draw)]
    lines += ["", "", *_function("def get_inputs", (), "", [*draws, f"return [{', '.join(inputs)}]"])]
    lines += ["", "", *_function("def get_init_inputs", (), "", [f"return {list(init)!r}"])]
    return "\n".join(lines) + "\n"


def _function(head: str, parameters: Sequence[str], returns: str, body: Sequence[str]) -> list[str]:
    outer = head[: len(head) - len(head.lstrip())]
    signature = [f"{head}({', '.join(parameters)}){returns}:"]
    if len(signature[0]) > LINE_LENGTH:
        signature = [f"{head}(", *(f"{outer}{INDENT}{name}," for name in parameters), f"{outer}){returns}:"]
    return signature + [f"{outer}{INDENT}{line}" if line else "" for line in body]
