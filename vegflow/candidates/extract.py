"""From what a model wrote to the code in it: total, any text gives code or a reason, never an exception."""

import ast
import re
import textwrap
import warnings
from dataclasses import dataclass

from vegflow.evaluation.languages import compiled, fence_language, python_language

FENCE = re.compile(r"```([^\n`]*)\n(.*?)(?:```|\Z)", re.DOTALL)
STOPS_BODY = re.compile(r"^(?:class |def |if __name__|@|```|#)", re.MULTILINE)


@dataclass(frozen=True)
class Extraction:
    """Normalised code, or None and the reason."""

    code: str | None
    reason: str = ""
    language: str = "python"
    """A name in `evaluation.languages.LANGUAGES`."""


def extract_body(completion: str, arguments: tuple[str, ...]) -> Extraction:
    """The body of `forward`, as normalised statements without indentation.

    Takes the first fenced block if there is one; of a whole function or class, the body of its `forward`; and text
    after the body (a further class, prose) is left out.
    """
    text = _unfence(completion)
    if not text.strip():
        return Extraction(None, "empty completion")
    reason = ""
    for version in _bodies(text):
        code, problem = _parse(version, arguments)
        if code is not None:
            return Extraction(code)
        reason = reason or problem
    return Extraction(None, reason)


def extract_program(completion: str) -> Extraction:
    """A whole program: a Python module that defines `ModelNew`, or a first fenced block of C, C++ or CUDA as it stands."""
    match = FENCE.search(completion)
    language = fence_language(match[1]) if match else "python"
    if match and compiled(language):
        return _source(match[2], language)
    found = extract_module(completion)
    return found if found.code is None else Extraction(found.code, language=python_language(found.code))


def extract_module(completion: str) -> Extraction:
    """A whole module that defines `ModelNew`."""
    text = textwrap.dedent(_unfence(completion))
    if not text.strip():
        return Extraction(None, "empty completion")
    code, problem = _parse(text, None)
    if code is None:
        return Extraction(None, problem)
    if not any(isinstance(node, ast.ClassDef) and node.name == "ModelNew" for node in ast.parse(code).body):
        return Extraction(None, "no class ModelNew")
    return Extraction(code)


def _unfence(completion: str) -> str:
    match = FENCE.search(completion)
    return match[2] if match else completion


def _source(text: str, language: str) -> Extraction:
    """The text of a compiled language, if it is one that a compiler could be given."""
    text = text.replace("\r\n", "\n").strip("\n").rstrip()
    wanted = "__global__" if language == "cuda" else "forward"
    reason = ""
    if not text.strip():
        reason = "empty completion"
    elif "\0" in text:
        reason = "the program contains null bytes"
    elif any("\ud800" <= character <= "\udfff" for character in text):
        reason = "the program contains surrogates, which are no text"
    elif wanted not in text:
        reason = f"no function {wanted}" if language != "cuda" else "no __global__ kernel"
    return Extraction(None if reason else f"{text}\n", reason, language)


def _bodies(text: str) -> list[str]:
    """The text as the lines of a body, in the ways models lay them out: all indented, or the first line not."""
    text = text.strip("\n").rstrip()
    versions = []
    for candidate in (text, _cut(text)):
        versions.append(textwrap.dedent(candidate))
        first, _, rest = candidate.partition("\n")
        versions.append(first.strip() + "\n" + textwrap.dedent(rest))
    return [version for version in dict.fromkeys(versions) if version.strip()]


def _cut(text: str) -> str:
    """Leave out what follows the body: from the first later line that starts something else at the left margin."""
    first, newline, rest = text.partition("\n")
    match = STOPS_BODY.search(rest)
    return first + newline + (rest[: match.start()] if match else rest)


def _parse(text: str, arguments: tuple[str, ...] | None) -> tuple[str | None, str]:
    """A text that compiles as a function's body (with these arguments) or, with None, as a module; normalised.

    The same statements, however laid out or commented, give the same text.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
            compile(tree if arguments is None else _function(tree.body, arguments), "<candidate>", "exec")
            body = tree.body if arguments is None else _unwrap(tree.body)
            return "\n".join(ast.unparse(statement) for statement in body), ""
    except SyntaxError as error:
        return None, f"SyntaxError: {error.msg}" + (f" (line {error.lineno})" if error.lineno else "")
    except (ValueError, RecursionError, MemoryError, OverflowError) as error:
        return None, f"{type(error).__name__}: {error}"


def _function(body: list[ast.stmt], arguments: tuple[str, ...]) -> ast.Module:
    """A module that holds `forward` with this body: nothing in the body can end the function and go on outside it."""
    module = ast.parse(f"def forward(self, {', '.join(arguments)}): pass")
    module.body[0].body = body  # type: ignore[attr-defined]
    return module


def _unwrap(body: list[ast.stmt]) -> list[ast.stmt]:
    """If the statements only define things, the body of the `forward` among them."""
    inner = _find_forward(ast.Module(body=body, type_ignores=[]))
    return inner.body if inner is not None and all(_defines(node) for node in body) else body


def _defines(node: ast.stmt) -> bool:
    return isinstance(node, ast.ClassDef | ast.FunctionDef | ast.Import | ast.ImportFrom)


def _find_forward(tree: ast.Module) -> ast.FunctionDef | None:
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name == "forward"]
    return functions[-1] if functions else None
