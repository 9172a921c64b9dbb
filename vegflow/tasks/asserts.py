"""Test code taken apart, statically, into tests that stand alone.

Knows Python's syntax only: what a call answers, and whether that is right, is found out elsewhere.
"""

import ast
import copy
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

CANDIDATE = "candidate"
"""The function under test, in every test."""
ANSWER = "_answer_{}"
_SCOPES = (ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


@dataclass(frozen=True)
class Test:
    """One test: calls of the function, and a condition on their answers that is decided where the function cannot reach."""

    __test__ = False  # no test of pytest's

    source: str
    """Statements, with the function under test as `candidate`."""
    calls: tuple[str, ...] = ()
    """Its calls, as expressions; none where the test cannot be taken apart and has to run statement by statement."""
    condition: str = ""
    """Expression over `_answer_0`, `_answer_1`...: true if the answers to the calls are right."""


def split_tests(code: str, name: str) -> tuple[Test, ...]:
    """The tests in `code`, statements that assert something of the function `name` or `candidate`.

    Every `assert` is a test of its own, with the statements before it that are no asserts; one whose calls depend on
    more than themselves (on those statements, on a loop, on each other) keeps its statements and gets no `calls`.
    What asserts nothing of the function is no test. Raises SyntaxError.
    """
    return _split(_renamed(ast.parse(code), name).body)


def split_check(code: str, name: str, check: str = "check") -> tuple[str, tuple[Test, ...]]:
    """HumanEval's form: the code around a function `check(candidate)`, and the tests in its body.

    They may call the function by its own `name` as well. Raises ValueError if there is no `check`.
    """
    module = _renamed(ast.parse(code), name)
    found = [node for node in module.body if isinstance(node, ast.FunctionDef) and node.name == check]
    if not found or len(found[-1].args.args) != 1:
        raise ValueError(f"the test code defines no function {check} with one argument")
    around = [node for node in module.body if node is not found[-1]]
    setup = "\n".join(ast.unparse(node) for node in around if not _is_metadata(node))
    body = _renamed(ast.Module(found[-1].body, []), found[-1].args.args[0].arg).body
    names = {name for node in around if not _is_metadata(node) for name in _bound(node)}
    return setup, _split(body, names)


def _split(statements: Sequence[ast.stmt], around: set[str] = frozenset()) -> tuple[Test, ...]:
    """`around`: names that are bound before the statements."""
    tests, before, bound = [], [], set(around)
    derived: set[str] = set()  # names whose values come from the function, such as x after `x = candidate(3)`
    for statement in statements:
        about = _mentions(statement) or bool(_names(statement) & derived)
        asserts = any(isinstance(node, ast.Assert) for node in ast.walk(statement))
        if (
            about
            and isinstance(statement, ast.Assert)
            and not _names(statement) & bound
            and (apart := _apart(statement))
        ):
            tests.append(apart)
        elif about and asserts:
            tests.append(Test(_text([*before, statement])))
        elif not isinstance(statement, ast.Assert | ast.Pass):
            before.append(statement)
            bound |= _bound(statement)
            derived |= _bound(statement) if about else set()
    return tuple(tests)


def _apart(statement: ast.Assert) -> Test | None:
    """The calls and the condition of an `assert`; None where a call is not all there is of the function in it."""
    taker = _Taker()
    condition = taker.visit(copy.deepcopy(statement.test))
    if taker.within or not taker.calls or _mentions(condition):
        return None
    calls = tuple(ast.unparse(call) for call in taker.calls)
    return Test(ast.unparse(ast.Assert(statement.test, None)), calls, ast.unparse(condition))


class _Taker(ast.NodeTransformer):
    """Takes the calls of `candidate` out of an expression and leaves names of their answers."""

    def __init__(self) -> None:
        self.calls: list[ast.Call] = []
        self.within = False
        """A call depends on more than itself."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        if not (isinstance(node.func, ast.Name) and node.func.id == CANDIDATE):
            return self.generic_visit(node)
        self.within |= any(_mentions(part) for part in (*node.args, *node.keywords))
        self.calls.append(node)
        return ast.copy_location(ast.Name(ANSWER.format(len(self.calls) - 1), ast.Load()), node)

    def generic_visit(self, node: ast.AST) -> ast.AST:
        if isinstance(node, _SCOPES) and _mentions(node):
            self.within = True
        return super().generic_visit(node)


class _Renamer(ast.NodeTransformer):
    def __init__(self, name: str) -> None:
        self._name = name

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.copy_location(ast.Name(CANDIDATE, node.ctx), node) if node.id == self._name else node


def _renamed(module: ast.Module, name: str) -> ast.Module:
    return _Renamer(name).visit(module)


def _mentions(node: ast.AST) -> bool:
    return any(isinstance(part, ast.Name) and part.id == CANDIDATE for part in ast.walk(node))


def _names(node: ast.AST) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}


def _bound(statement: ast.stmt) -> set[str]:
    """Names that a statement may give a meaning to."""
    found = {
        part.id for part in ast.walk(statement) if isinstance(part, ast.Name) and not isinstance(part.ctx, ast.Load)
    }
    for part in ast.walk(statement):
        if isinstance(part, ast.FunctionDef | ast.ClassDef):
            found.add(part.name)
        elif isinstance(part, ast.alias):
            found.add((part.asname or part.name).split(".")[0])
    return found


def _is_metadata(node: ast.stmt) -> bool:
    return isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "METADATA" for t in node.targets)


def _text(statements: Iterable[ast.stmt]) -> str:
    return "\n".join(ast.unparse(statement) for statement in statements)
