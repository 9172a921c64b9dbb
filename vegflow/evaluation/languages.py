"""The languages a candidate may be written in: how one is recognised, a program's canonical form, static labels.

Knows text only. How a language is built is in `build`, how what is built runs is in `native` and `cuda_driver`; no
verdict rests on what is said here.
"""

import ast
import itertools
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Language:
    """One language."""

    name: str
    suffixes: tuple[str, ...]
    """Of files that hold a candidate; none for those that are told by their content."""
    fences: tuple[str, ...]
    """What a model writes after ``` to open a block of it."""
    compiled: bool
    """Built before it runs; what a worker then executes is machine code and no Python."""


LANGUAGES = {
    language.name: language
    for language in (
        Language("python", (".py",), ("python", "py", "python3"), False),
        Language("triton", (), (), False),
        Language("inline", (), (), False),
        Language("c", (".c",), ("c",), True),
        Language("cpp", (".cpp", ".cc", ".cxx"), ("cpp", "c++", "cxx", "cc"), True),
        Language("cuda", (".cu",), ("cuda", "cu"), True),
    )
}
"""Name -> language. `triton` and `inline` are Python modules that import Triton, or call `load_inline`."""

COMPILED = tuple(name for name, language in LANGUAGES.items() if language.compiled)
LAUNCH_WORDS = ("launch", "let", "scratch")
"""First words of the comments of a CUDA program that say how its kernels are launched."""
LARGEST = 1 << 20
"""Characters beyond which a program is not looked into."""

_DIRECTIVE = re.compile(rf"\s*(?:{'|'.join(LAUNCH_WORDS)})\b")
# layouts that a C program can see, or that a line-by-line reading would get wrong: such a program stays as it is
_SEES_LAYOUT = re.compile(
    r"__LINE__|__COUNTER__|__builtin_LINE|source_location|\?\?[=/'()!<>-]|%:|R\"|[0-9a-fA-F]'[0-9a-fA-F]"
    r"|include(?:_next)?\s*<[^>\n]*/[/*]|\\[\n\r]"
)
_C_TOKEN = re.compile(
    r"""(?P<line>//[^\n]*)|(?P<block>/\*.*?(?:\*/|\Z))|(?P<text>"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?)"""
    r"|(?P<end>\n)|(?P<blank>[ \t\r\f\v]+)|(?P<rest>[^\s/\"']+|.)",
    re.DOTALL,
)
_SEES_SOURCE = re.compile(r"__doc__|\binspect\b|linecache|getsource|lineno|__file__|_getframe|__loader__")


def compiled(language: str) -> bool:
    """Whether a program of this language is built before it runs. Raises KeyError for an unknown language."""
    return LANGUAGES[language].compiled


def trust(language: str) -> str:
    """`compiled` or `interpreted`: a Python program shares its interpreter with the loop that calls it."""
    return "compiled" if compiled(language) else "interpreted"


def fence_language(tag: str) -> str:
    """The language that the text after an opening ``` names; `python` if it names none."""
    word = tag.strip().lower().split(maxsplit=1)[0] if tag.strip() else ""
    word = word.strip("{}.,")
    return next((name for name, language in LANGUAGES.items() if word in language.fences), "python")


def file_language(name: str, program: str) -> str:
    """The language of a candidate's file, by the end of its name and, for Python, its content.

    Raises ValueError for a name that ends like no language's.
    """
    for language in LANGUAGES.values():
        if name.lower().endswith(language.suffixes) and language.suffixes:
            return python_language(program) if language.name == "python" else language.name
    endings = " ".join(suffix for language in LANGUAGES.values() for suffix in language.suffixes)
    raise ValueError(f"{name}: a candidate's file ends in one of {endings}")


def python_language(program: str) -> str:
    """`python`, `triton` (it imports Triton) or `inline` (it calls `load_inline`), by the program's syntax."""
    tree = _tree(program)
    found = "python"
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.Call) and _last_name(node.func) == "load_inline":
            return "inline"
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module or ""]
        else:
            continue
        if any(module.split(".")[0] == "triton" for module in modules):
            found = "triton"
    return found


def device_problem(language: str, device: str) -> str:
    """Why a program of this language cannot run on `device` (`cpu` or `cuda`); empty if it can.

    Raises KeyError for an unknown language.
    """
    if language in ("triton", "cuda") and device != "cuda":
        return f"a {language} program needs a GPU, and this evaluation runs on the CPU"
    if language in ("c", "cpp") and device != "cpu":
        return f"a {language} program runs on the CPU, and this evaluation runs on a GPU"
    if language not in LANGUAGES:
        raise KeyError(language)
    return ""


def normalised(program: str, language: str = "python") -> str:
    """The program without what has no meaning: comments, docstrings, blank space. Total: the text itself if in doubt.

    Two programs with one normal form compute the same; two that compute the same may well have two.
    """
    if len(program) > LARGEST:
        return program
    try:
        return _normalised_c(program) if compiled(language) else _normalised_python(program)
    except (KeyError, ValueError, RecursionError, MemoryError):
        return program


def falls_back(program: str, language: str = "python") -> bool:
    """Whether the program visibly leaves the work to the reference: the label `reference_fallback`, never a verdict.

    That is a `ModelNew` derived from `Model` without a `forward` of its own, one that constructs `Model` or calls its
    `forward`, or one whose `forward` has the body of `Model.forward` in the same program.
    """
    if compiled(language) or len(program) > LARGEST:
        return False
    try:
        return _falls_back(_tree(program))
    except (RecursionError, MemoryError):
        return False


def _falls_back(tree: ast.Module | None) -> bool:
    classes = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef)} if tree is not None else {}
    new, reference = classes.get("ModelNew"), classes.get("Model")
    if tree is None or reference is None:
        return False
    if new is None:  # ModelNew = Model
        return any(
            isinstance(node, ast.Assign)
            and _last_name(node.value) == "Model"
            and any(_last_name(target) == "ModelNew" for target in node.targets)
            for node in tree.body
        )
    inherits = any(_last_name(base) == "Model" for base in new.bases)
    own, theirs = _method(new, "forward"), _method(reference, "forward")
    if own is None:
        return inherits
    for node in (part for statement in tree.body if statement is not reference for part in ast.walk(statement)):
        if isinstance(node, ast.Call):
            function = node.func
            if isinstance(function, ast.Name) and function.id == "Model":
                return True
            if isinstance(function, ast.Attribute) and function.attr in ("forward", "__call__"):
                if _last_name(function.value) == "Model":
                    return True
                if inherits and isinstance(function.value, ast.Call) and _last_name(function.value.func) == "super":
                    return True
    return theirs is not None and _shape(own) == _shape(theirs)


def _shape(function: ast.FunctionDef) -> str:
    """A function's body with its arguments named by their places."""
    arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
    names = {argument.arg: f"argument{index}" for index, argument in enumerate(arguments)}
    body = ast.parse("\n".join(ast.unparse(statement) for statement in _without_docstring(function.body)))
    for node in ast.walk(body):
        if isinstance(node, ast.Name):
            node.id = names.get(node.id, node.id)
    return ast.unparse(body)


def _method(node: ast.ClassDef, name: str) -> ast.FunctionDef | None:
    found = [child for child in node.body if isinstance(child, ast.FunctionDef) and child.name == name]
    return found[-1] if found else None


def _last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _tree(program: str) -> ast.Module | None:
    if len(program) > LARGEST:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(program)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _normalised_python(program: str) -> str:
    tree = _tree(program)
    if tree is None or _SEES_SOURCE.search(program):
        return program
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            node.body = _without_docstring(node.body)
    return ast.unparse(tree) + "\n"


def _without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    """Without all strings that it begins with: a second one would become the docstring."""
    kept = list(itertools.dropwhile(_is_string, body))
    return kept or (body and [ast.Pass()])


def _is_string(statement: ast.stmt) -> bool:
    value = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(value, ast.Constant) and isinstance(value.value, str)


def _normalised_c(program: str) -> str:
    """Comments become one space, runs of space one space, lines stay; a CUDA program keeps its launch comments.

    Space is never removed altogether: `0x1e + 3` and `0x1e+3` are different programs.
    """
    if _SEES_LAYOUT.search(program):
        return program
    lines: list[list[str]] = [[]]
    for token in _C_TOKEN.finditer(program):
        kind, text = token.lastgroup, token[0]
        if kind == "end":
            lines.append([])
        elif kind == "line" and _DIRECTIVE.match(text[2:]):
            lines[-1].append("// " + " ".join(text[2:].split()))
        elif kind in ("line", "block", "blank"):
            lines[-1].append(" ")
        elif kind == "text" and (len(text) < 2 or text[-1] != text[0]):
            raise ValueError("a literal that does not end on its line")
        else:
            lines[-1].append(text)
    return "".join(f"{line}\n" for line in map(_squeezed, lines) if line)


def _squeezed(tokens: list[str]) -> str:
    kept: list[str] = []
    for token in tokens:
        if token != " " or (kept and kept[-1] != " "):
            kept.append(token)
    return "".join(kept).strip(" ")


def launch_comments(program: str) -> Iterator[tuple[int, str, str]]:
    """The launch comments of a CUDA program, in order: (line number, first word, what follows)."""
    for token in _C_TOKEN.finditer(program):
        found = _DIRECTIVE.match(token[0][2:]) if token.lastgroup == "line" else None
        if found:
            rest = token[0][2:][found.end() :].strip().removeprefix(":")
            yield program.count("\n", 0, token.start()) + 1, found[0].strip(), rest.strip()
