"""The reference pages, made from the code: every key of a study and of a model's file, every column of every artifact.

`python -m vegflow.reference` writes docs/reference.md; a test holds the page to the code.
"""

import ast
import inspect
import itertools
import textwrap
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from vegflow.artifacts.analysis import ANALYSIS_TABLES
from vegflow.artifacts.evaluations import EVALUATIONS
from vegflow.artifacts.frontier import FRONTIER_TABLES
from vegflow.artifacts.policies import NLL, UPDATES
from vegflow.artifacts.reward_model import REWARD_MODELS, REWARD_TRAINING, SCORES
from vegflow.artifacts.rollouts import ROLLOUTS
from vegflow.artifacts.selections import SELECTIONS
from vegflow.artifacts.verification import CHECKS, POOL, RUNS, STAGE_COSTS, STAGE_RUNS
from vegflow.config.model import ModelConfig
from vegflow.config.study import StudyConfig

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference.md"
TABLES: dict[str, pa.Schema] = {
    "rollouts": ROLLOUTS,
    "evaluations": EVALUATIONS,
    "updates": UPDATES,
    "nll": NLL,
    "selections": SELECTIONS,
    "reward_training": REWARD_TRAINING,
    "scores": SCORES,
    "reward_models": REWARD_MODELS,
    "pool": POOL,
    "checks": CHECKS,
    "runs": RUNS,
    "stage_runs": STAGE_RUNS,
    "stage_costs": STAGE_COSTS,
    **FRONTIER_TABLES,
    **ANALYSIS_TABLES,
}
HEAD = """# Reference

Made from the code by `python -m vegflow.reference`; do not edit.

- [A study](#a-study): the keys of `config.yaml` and of `resources/studies/*.yaml`
- [A model](#a-model): the keys of `resources/models/*.yaml`
- [Artifacts](#artifacts): the columns of every Parquet file under `results/`
"""


def page() -> str:
    """The whole page, as Markdown."""
    parts = [HEAD, "## A study\n", *_blocks(StudyConfig, ""), "## A model\n", *_blocks(ModelConfig, "")]
    parts.append("## Artifacts\n")
    for name, schema in TABLES.items():
        parts += [f"### `{name}`\n", "| column | type | meaning |\n| --- | --- | --- |"]
        parts += [f"| `{f.name}` | {_type_of(f)} | {_cell(f.metadata[b'meaning'].decode())} |" for f in schema]
        parts.append("")
    return "\n".join(parts).rstrip() + "\n"


def _blocks(model: type[BaseModel], place: str) -> Iterator[str]:
    """A table of a block's keys, then the tables of the blocks inside it."""
    if place:
        yield f"### `{place}`\n"
    if model.__doc__ and not model.__doc__.startswith("\n"):
        yield model.__doc__.strip() + "\n"
    yield "| key | type | default | meaning |\n| --- | --- | --- | --- |"
    inner: list[tuple[type[BaseModel], str]] = []
    meanings = _meanings(model)
    for name, field in model.model_fields.items():
        nested = _nested(field.annotation)
        here = f"{place}.{name}" if place else name
        if nested:
            block, many = nested
            inner.append((block, f"{here}.NAME" if many else here))
        meaning = meanings.get(name) or (nested[0].__doc__ if nested else "") or ""
        yield f"| `{name}` | {_type(field.annotation)} | {_default(field)} | {_cell(meaning)} |"
    yield ""
    for block, where in inner:
        yield from _blocks(block, where)


def _meanings(model: type[BaseModel]) -> dict[str, str]:
    """Key -> the text below it in the code. Here and not by pydantic, which would read the source in every job."""
    found: dict[str, str] = {}
    for base in (base for base in reversed(model.__mro__) if issubclass(base, BaseModel) and base is not BaseModel):
        (block,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        for key, below in itertools.pairwise(block.body):
            if isinstance(key, ast.AnnAssign) and isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
                found[ast.unparse(key.target)] = str(below.value.value)
    return found


def _nested(annotation: Any) -> tuple[type[BaseModel], bool] | None:
    """The block inside an annotation, and whether there may be several by name."""
    for part in (annotation, *typing.get_args(annotation)):
        if isinstance(part, type) and issubclass(part, BaseModel):
            return part, typing.get_origin(annotation) is dict
    return None


def _type(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(_type(part) for part in arguments if part is not type(None))
    if origin is tuple:
        return f"list of {_type(arguments[0])}"
    if origin is dict:
        return "named blocks" if _nested(annotation) else "mapping"
    if origin is typing.Annotated:
        return _type(arguments[0])
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "block"
    return {str: "text", int: "whole number", float: "number", bool: "true or false"}.get(annotation, str(annotation))


def _default(field: FieldInfo) -> str:
    value = field.get_default(call_default_factory=True)
    if value is PydanticUndefined:
        return "required"
    if value is None or isinstance(value, BaseModel) or value in ((), {}):
        return ""
    return f"`{list(value) if isinstance(value, tuple) else value}`"


def _type_of(field: pa.Field) -> str:
    return f"{field.type}{', may be null' if field.nullable else ''}".replace("list<element: ", "list<")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)
