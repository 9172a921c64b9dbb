"""Conditions on answers that can be decided by looking: comparisons of one answer with a literal.

Knows data and syntax; no code of a test or a candidate runs here. What needs running is for the `referee`.
"""

import ast
import contextlib
from typing import Any

_RULES = {
    "equal": lambda answer, wanted: answer == wanted,
    "is": lambda answer, wanted: answer is wanted,
    "true": lambda answer, _: bool(answer),
    "false": lambda answer, _: not answer,
}
_rules: dict[str, tuple[str, Any] | None] = {}


def plain_rule(condition: str) -> tuple[str, Any] | None:
    """A condition that compares one answer with a literal, as a rule and the literal; None for any other."""
    if condition not in _rules:
        _rules[condition] = _plain_rule(ast.parse(condition, mode="eval").body)
    return _rules[condition]


def _plain_rule(node: ast.expr) -> tuple[str, Any] | None:
    if _is_answer(node):
        return "true", None
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not) and _is_answer(node.operand):
        return "false", None
    if not (isinstance(node, ast.Compare) and len(node.ops) == 1 and _is_answer(node.left)):
        return None
    with contextlib.suppress(ValueError, TypeError, SyntaxError):
        wanted = ast.literal_eval(node.comparators[0])
        if isinstance(node.ops[0], ast.Eq):
            return "equal", wanted
        if isinstance(node.ops[0], ast.Is) and (wanted is None or isinstance(wanted, bool)):
            return "is", wanted
    return None


def _is_answer(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "_answer_0"


def holds(rule: tuple[str, Any], answer: Any) -> bool:
    """Whether an answer, plain data, is as a rule of `plain_rule` wants it."""
    kind, wanted = rule
    try:
        return bool(_RULES[kind](answer, wanted))
    except (TypeError, ValueError, RecursionError, OverflowError):
        return False
