"""The corpus the tiny model is trained on: forms of `forward`, per operation, with how common each is.

It knows the file `resources/corpus/level1.yaml` and what a usable one looks like; how texts are drawn from the forms and
what a model learns from them is for whoever builds the model. `docs/corpus.md` says how the forms were chosen and
weighted; `python -m vegflow.models.corpus` prints the tables of that page.
"""

import argparse
import ast
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vegflow.errors import ConfigError
from vegflow.tasks.catalogue import read_yaml

LEVEL1 = Path(__file__).resolve().parents[2] / "resources" / "corpus" / "level1.yaml"

KINDS = ("honest", "wrong", "broken")
"""Computes the operation; runs and computes something else; does not parse, or raises."""

HONEST_STYLES = {
    "library": "a call of torch or of the module that the constructor made",
    "functional": "a call of torch.nn.functional",
    "method": "a tensor's method, or an operator",
    "naive": "the formula written out",
    "einsum": "an index expression",
    "algebraic": "another formula with the same value",
    "fused": "one call that does several steps",
    "inplace": "steps that overwrite a fresh tensor",
    "layout": "another memory format or view of the same numbers",
    "blocked": "piece by piece",
    "mkldnn": "a call of the CPU's convolution library",
}
FAILURE_STYLES = {
    "formula": "another function: sign, order, operand, reduction",
    "constant": "a wrong number",
    "axis": "a wrong dimension",
    "shape": "a wrong shape or type, such as a missing keepdim",
    "transpose": "a missing or wrong transpose",
    "setting": "stride, padding, dilation, groups or training mode forgotten",
    "activation": "an activation that nobody asked for",
    "dtype": "too few bits, or a wrong type of number",
    "return": "no return",
    "syntax": "a bracket or a quotation mark missing or left over",
    "name": "a name that does not exist",
    "argument": "an argument missing, misspelt or of a wrong kind",
    "device": "a device that the inputs are not on",
}
STYLES = {"honest": HONEST_STYLES, "wrong": FAILURE_STYLES, "broken": FAILURE_STYLES}
"""The styles a form of each kind may have, each with its meaning."""


@dataclass(frozen=True)
class Form:
    """One way to write an operation's `forward`."""

    operation: str
    """An entry of `resources/tasks/operations.yaml`."""
    kind: str
    """One of `KINDS`."""
    style: str
    """One of the kind's `STYLES`."""
    frequency: int
    """Weight among the operation's forms."""
    body: str
    """Body of `forward`, not indented, without a newline at its end."""


def load_corpus(path: Path = LEVEL1) -> dict[str, tuple[Form, ...]]:
    """The forms of each operation, in the order of the file.

    Raises ConfigError, naming operation and form, if the file cannot be read, a form lacks a key or has an unknown one,
    a kind, style or frequency is not a valid one, a body comes twice, or a body does not parse although its form is
    not broken.
    """
    entries = read_yaml(path)
    if not isinstance(entries, dict) or not entries:
        raise ConfigError(f"{path} must map names of operations to lists of forms")
    return {operation: _forms(path, operation, rows) for operation, rows in entries.items()}


def _forms(path: Path, operation: str, rows: Any) -> tuple[Form, ...]:
    if not isinstance(rows, list) or not rows:
        raise ConfigError(f"{path}, operation {operation!r}: needs a list of forms")
    forms: list[Form] = []
    for number, row in enumerate(rows, start=1):
        try:
            forms.append(_form(operation, row))
            if any(form.body == forms[-1].body for form in forms[:-1]):
                raise ValueError("the body is that of an earlier form")
        except ValueError as error:
            raise ConfigError(f"{path}, operation {operation!r}, form {number}: {error}") from error
    return tuple(forms)


def _form(operation: str, row: Any) -> Form:
    keys = ("kind", "style", "frequency", "body")
    if not isinstance(row, dict) or set(row) != set(keys):
        raise ValueError(f"needs exactly the keys {', '.join(keys)}")
    kind, style, frequency, body = (row[key] for key in keys)
    _one_of("kind", kind, KINDS)
    _one_of(f"style of a form of kind {kind}", style, STYLES[kind])
    if type(frequency) is not int or frequency < 1:
        raise ValueError(f"frequency {frequency!r} is not a whole number above 0")
    if not isinstance(body, str) or not body.strip():
        raise ValueError("the body is empty")
    form = Form(operation, kind, style, frequency, body.rstrip("\n"))
    if kind != "broken" and not parses(form.body):
        raise ValueError(f"the body does not parse, yet its kind is {kind!r}")
    return form


def _one_of(what: str, value: Any, allowed: Iterable[str]) -> None:
    if not isinstance(value, str) or value not in tuple(allowed):
        raise ValueError(f"{what} is {value!r}; known: {', '.join(allowed)}")


def parses(body: str) -> bool:
    """Whether `body` is Python, as the body of a function."""
    try:
        ast.parse(f"def forward():\n{textwrap.indent(body, '    ')}\n")
    except SyntaxError:
        return False
    return True


def failure_share(forms: Sequence[Form]) -> float:
    """Share of the forms that are not honest, by frequency."""
    return sum(form.frequency for form in forms if form.kind != "honest") / sum(form.frequency for form in forms)


def largest_share(forms: Sequence[Form]) -> float:
    """Share of the most frequent form."""
    return max(form.frequency for form in forms) / sum(form.frequency for form in forms)


def tables(corpus: Mapping[str, Sequence[Form]]) -> str:
    """The corpus in numbers, as Markdown: forms and shares by kind, by kind and style, and the ranges over operations.

    Shares are by frequency; every operation counts the same.
    """
    shares = _shares(corpus)
    kinds = _table(("kind",), _counted(shares, lambda form: (form.kind,), [(kind,) for kind in KINDS]))
    styles = [(kind, style) for kind in KINDS for style in STYLES[kind]]
    by_style = _table(("kind", "style"), _counted(shares, lambda form: (form.kind, form.style), styles))
    return "\n\n".join((kinds, by_style, "\n".join(_ranges(corpus))))


def _shares(corpus: Mapping[str, Sequence[Form]]) -> dict[Form, float]:
    """Each form's share of the whole corpus."""
    return {
        form: form.frequency / sum(other.frequency for other in forms) / len(corpus)
        for forms in corpus.values()
        for form in forms
    }


def _counted(
    shares: Mapping[Form, float], key: Callable[[Form], tuple[str, ...]], order: Iterable[tuple[str, ...]]
) -> Iterator[tuple[str, ...]]:
    for value in order:
        found = [share for form, share in shares.items() if key(form) == value]
        if found:
            yield *value, str(len(found)), f"{100 * sum(found):.2f} %"


def _table(names: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    head = (*names, "forms", "share")
    rule = (*("---" for _ in names), "---:", "---:")
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))


def _ranges(corpus: Mapping[str, Sequence[Form]]) -> Iterator[str]:
    yield f"- operations: {len(corpus)}"
    yield f"- forms per operation: {_range([len(forms) for forms in corpus.values()])}"
    honest = [sum(form.kind == "honest" for form in forms) for forms in corpus.values()]
    yield f"- honest forms per operation: {_range(honest)}"
    yield f"- share of the most frequent form: {_range([round(100 * largest_share(f)) for f in corpus.values()])} %"
    yield f"- share of wrong and broken forms: {_range([round(100 * failure_share(f)) for f in corpus.values()])} %"


def _range(values: Sequence[int]) -> str:
    return f"{min(values)} to {max(values)}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables of a corpus. Raises ConfigError if it is not usable."""
    parser = argparse.ArgumentParser(prog="python -m vegflow.models.corpus", description=main.__doc__)
    parser.add_argument("corpus", type=Path, nargs="?", default=LEVEL1, help="a corpus file (default: %(default)s)")
    print(tables(load_corpus(parser.parse_args(arguments).corpus)))


if __name__ == "__main__":
    main()
