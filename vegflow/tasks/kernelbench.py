"""KernelBench's own problems as tasks, from a checkout of its repository or from its data set.

It knows their layouts and reads their source without ever running it; which tasks a study uses is left to
`vegflow.tasks.load`.
"""

import ast
import re
from collections.abc import Collection, Iterator
from dataclasses import replace
from pathlib import Path

from vegflow.errors import ConfigError
from vegflow.tasks.revisions import known_revision
from vegflow.tasks.task import Task

HUB_DATASET = "ScalingIntelligence/KernelBench"
COLUMNS = ("problem_id", "name", "code", "level")

_HUB_NAME = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*")
_PROBLEM_FILE = re.compile(r"(\d+)_.+\.py")
_LEVEL_FOLDER = re.compile(r"level(\d+)")


def kernelbench_tasks(path: str | None, levels: Collection[int], revision: str | None = None) -> dict[str, Task]:
    """KernelBench's problems of the given levels by id (`L1/12`, `L2/3`), in order of level and number.

    `path` is a checkout of the repository (or its folder that holds `level1/`), a Parquet file or a folder of them with
    the columns `problem_id`, `name`, `code` and `level`, or a data set on the hub, of which `revision` names the commit;
    None means `ScalingIntelligence/KernelBench` on the hub. A level that is not there has no tasks.

    Raises ConfigError if nothing is at `path`, the hub cannot be reached, or a problem is not in KernelBench's format.
    """
    place = Path(path).expanduser() if path is not None else None
    if place is None or not place.exists():
        place = _download(path or HUB_DATASET, sorted(levels), revision)
    elif revision is not None:
        raise ConfigError(f"tasks.revision {revision!r} goes with a data set on the hub, but {path} is on this machine")
    tasks: dict[str, Task] = {}
    for level, number, name, code, origin in sorted(_problems(place, levels)):
        task = _task(level, number, name, code, origin)
        if tasks.setdefault(task.id, task).source != code:
            raise ConfigError(f"{place} holds two different versions of {task.id}; keep one of them")
    return tasks


def problem_task(file: Path) -> Task:
    """One problem file as it is, as a task.

    Its id is said by the folder and the name, as in `level1/12_Name.py`, or else by the table of known revisions; the id
    of any other file is its name without the ending. Raises ConfigError if it is not readable or not in KernelBench's
    format.
    """
    try:
        code = file.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(f"{file}: there is no such file") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: not readable as text: {error}") from error
    level, number = _LEVEL_FOLDER.fullmatch(file.resolve().parent.name), _PROBLEM_FILE.fullmatch(file.name)
    if level and number:
        return _task(int(level[1]), int(number[1]), file.stem, code, str(file))
    task = _task(0, 0, file.stem, code, str(file))
    known = known_revision(code)
    return replace(task, id=known.task_id if known else file.stem)


_Problem = tuple[int, int, str, str, str]
"""Level, number, name, code, and where it was found."""


def _problems(place: Path, levels: Collection[int]) -> Iterator[_Problem]:
    for folder in (place / "KernelBench", place):
        if next(folder.glob("level*/*.py"), None):
            return _from_checkout(folder, levels)
    files = [place] if place.is_file() else sorted(place.rglob("*.parquet"))
    if not files:
        raise ConfigError(f"{place} holds neither KernelBench/level1/*.py, level1/*.py nor Parquet files")
    return _from_parquet(files, levels)


def _from_checkout(folder: Path, levels: Collection[int]) -> Iterator[_Problem]:
    for level in levels:
        for file in (folder / f"level{level}").glob("*.py"):
            if match := _PROBLEM_FILE.fullmatch(file.name):
                yield level, int(match[1]), file.stem, file.read_text(encoding="utf-8"), str(file)


def _from_parquet(files: list[Path], levels: Collection[int]) -> Iterator[_Problem]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    for file in files:
        try:
            missing = set(COLUMNS) - set(pq.read_schema(file).names)
            if missing:
                raise ConfigError(f"{file} has no column {', '.join(sorted(missing))}; expected {', '.join(COLUMNS)}")
            rows = pq.read_table(file, columns=list(COLUMNS), filters=[("level", "in", set(levels))]).to_pylist()
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise ConfigError(f"{file} is not a Parquet file of KernelBench problems: {error}") from error
        for row in rows:
            yield row["level"], row["problem_id"], row["name"], row["code"], f"{file}, problem {row['problem_id']}"


def _download(name: str, levels: list[int], revision: str | None) -> Path:
    if not _HUB_NAME.fullmatch(name):
        raise ConfigError(f"tasks.path {name}: there is no such file or folder, and it is not a name on the hub")
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise ConfigError(f"{name} is on the hub: install `vegflow[hub]`, or set tasks.path to a local copy") from error
    patterns = [f"data/level_{level}-*.parquet" for level in levels]
    try:
        return Path(snapshot_download(name, repo_type="dataset", revision=revision, allow_patterns=patterns))
    except Exception as error:  # the hub's client raises a dozen unrelated types
        commit = f" at revision {revision}" if revision else ""
        raise ConfigError(
            f"the data set {name}{commit} is neither a path on this machine nor could it be fetched from the hub "
            f"({type(error).__name__}); connect once, or set tasks.path to a local copy"
        ) from error


def _task(level: int, number: int, name: str, code: str, origin: str) -> Task:
    try:
        tree = ast.parse(code)
    except (SyntaxError, ValueError) as error:
        raise ConfigError(f"{origin} is not valid Python: {error}") from error
    defined = {node.name: node for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    missing = [symbol for symbol in ("Model", "get_inputs", "get_init_inputs") if symbol not in defined]
    model = defined.get("Model")
    methods = [node for node in getattr(model, "body", ()) if isinstance(node, ast.FunctionDef)]
    forward = next((node for node in methods if node.name == "forward"), None)
    if missing or forward is None or model is None:
        raise ConfigError(f"{origin} is not in KernelBench's format: no {', '.join(missing or ['Model.forward'])}")
    title = re.sub(r"^\d+_", "", name.removesuffix(".py")).strip("_")
    description = _first_line(ast.get_docstring(model)) or title.replace("_", " ")
    return Task(f"L{level}/{number}", title, description, _argument_names(forward), code)


def _argument_names(function: ast.FunctionDef) -> tuple[str, ...]:
    parameters = (*function.args.posonlyargs, *function.args.args)
    return tuple(parameter.arg for parameter in parameters[1:])


def _first_line(text: str | None) -> str:
    return text.strip().partition("\n")[0].strip() if text else ""
