"""Validation errors as sentences that name the place in the file."""

from pydantic import ValidationError

REPHRASED = {
    "extra_forbidden": "unknown key",
    "missing": "this key is required",
}


def sentences(error: ValidationError) -> str:
    """Each problem as `place: what is wrong (got ...)`, joined by semicolons."""
    return "; ".join(_sentence(problem) for problem in error.errors())


def _sentence(problem: dict) -> str:
    place = ".".join(str(part) for part in problem["loc"]) or "top level"
    message = REPHRASED.get(problem["type"], problem["msg"].removeprefix("Value error, "))
    if problem["type"] in ("missing", "value_error"):
        return f"{place}: {message}"
    return f"{place}: {message[:1].lower() + message[1:]} (got {problem['input']!r})"
