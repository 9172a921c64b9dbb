"""Small function tasks and candidates that the tests of verification share."""

import hashlib

from vegflow.config.verification import VerificationConfig
from vegflow.tasks.asserts import split_tests
from vegflow.tasks.functions import FunctionTask, function_program
from vegflow.verification.executor import Entry

CONFIG = VerificationConfig(domain="functions", rollouts="none", test_s=0.15, memory_mb=256)


def task(name: str, tests: str, prompt: str = "", solution: str = "    return None\n") -> FunctionTask:
    """A task of one function with these asserts."""
    prompt = prompt or f"def {name}(*values):\n"
    return FunctionTask(f"T/{name}", name, prompt, split_tests(tests, name), solution=solution)


DOUBLE = task("double", "assert double(3) == 6\nassert double('ab') == 'abab'\nassert double(-1) == -2")
CLOSE = task(
    "close", "assert abs(close(2) - 0.5) < 1e-6\nassert close(4)\nassert not close(0)\nassert close(1) is True"
)
LOOP = task(
    "loop",
    "for x in range(4):\n    assert loop(x) == helper(x)",
    "def helper(x):\n    return 2 * x\n\n\ndef loop(x):\n",
)
TASKS = {each.id: each for each in (DOUBLE, CLOSE, LOOP)}


def entry(of: FunctionTask, body: str, *, count: int = 1, nll: float | None = None) -> Entry:
    """The candidate that a completion makes."""
    return whole(of, function_program(of, body), count=count, nll=nll)


def whole(of: FunctionTask, program: str, *, count: int = 1, nll: float | None = None) -> Entry:
    """A candidate with this very program."""
    sha = hashlib.sha256(program.encode("utf-8", "surrogatepass")).hexdigest()
    return Entry(of.id, sha, program, program, count, nll)
