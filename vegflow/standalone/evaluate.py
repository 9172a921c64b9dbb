"""The evaluator as a library call, without a study: `evaluate` one program, `evaluate_many` a folder or a table.

Knows how submissions, tasks and the store come together; judging is `vegflow.evaluation`'s, and what a person reads is
made in `vegflow.standalone.text`.
"""

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pyarrow as pa
import pydantic

from vegflow.artifacts.evaluations import EVALUATIONS, STATUSES
from vegflow.artifacts.io import to_table
from vegflow.config.errors import sentences
from vegflow.config.evaluation import EvaluationConfig
from vegflow.config.tasks import Size
from vegflow.errors import ConfigError
from vegflow.evaluation.candidate import Candidate
from vegflow.evaluation.device import device_identity, resolve_device
from vegflow.evaluation.inputs import Variant
from vegflow.evaluation.judge import evaluate_candidates
from vegflow.evaluation.store import VerdictStore, survey_key, verdict_key
from vegflow.evaluation.verdict import Verdict
from vegflow.standalone.naming import NamedTask, TaskSource, find_tasks
from vegflow.standalone.submissions import Submission, is_batch, read_submissions

Progress = Callable[[int, int, str], None]
ISOLATION = "isolation: "


@dataclass(frozen=True)
class Judged:
    """A submission and all that is to be said of it."""

    submission: Submission
    task: NamedTask
    candidate: Candidate
    scaffold: str
    verdict: Verdict
    stored: bool
    """Whether the verdict was there before."""
    variants: tuple[Variant, ...]
    """The kinds of inputs and shapes on which this task's candidates are tried; empty if it never came to that."""


@dataclass(frozen=True)
class Outcome:
    """What became of one call."""

    judged: list[Judged]
    config: EvaluationConfig
    isolation: str
    """What confined the candidates; empty if none had to run."""


def evaluate(
    program: str | Path,
    task: str | Path,
    *,
    size: Size = "cpu",
    kernelbench: str | None = None,
    language: str = "python",
    scaffold: str | None = None,
    store: Path | None = None,
    progress: Progress | None = None,
    **settings: object,
) -> Verdict:
    """Judge one program.

    `program` is its text, or the Path of a file that holds it; `language` is that of a text. `task` is an id such as
    `L1/12` (of the built-in catalogue at `size`, or of `kernelbench`) or the path of a KernelBench problem file.
    `scaffold` says whether the program is `full` or the `body` of a forward (None: by its looks). With a `store` (a
    directory) nothing is judged twice. `settings` are those of a study's `evaluation` block.

    >>> evaluate("return x.clamp(min=0)", "L1/19").status
    'correct'

    Raises ConfigError for what cannot be judged as asked. A wrong program is no error; it has a verdict.
    """
    if isinstance(program, Path) and is_batch(program):
        raise ConfigError(f"{program}: holds many candidates; they are for evaluate_many")
    if isinstance(program, Path):
        (submission,) = read_submissions(program, str(task))
    else:
        submission = Submission("program", str(task), program, language)
    outcome = judge([submission], TaskSource(size, kernelbench), evaluation(settings), store, scaffold, progress)
    return outcome.judged[0].verdict


def evaluate_many(
    source: str | Path | pl.DataFrame,
    task: str | Path | None = None,
    *,
    size: Size = "cpu",
    kernelbench: str | None = None,
    scaffold: str | None = None,
    store: Path | None = None,
    progress: Progress | None = None,
    **settings: object,
) -> pl.DataFrame:
    """Judge the candidates of a folder, a Parquet file or a frame; one row each, in their order.

    A frame has the columns `task_id` and `program` or `completion`, and possibly `language` and `rollout_id`; the files
    of a folder name their task (`naming.RULE`) unless `task` says it for all. The columns are those of an `evaluations`
    table; without a `rollout_id` to join by, the frame's own follow. Everything else is as in `evaluate`.
    """
    if isinstance(source, pl.DataFrame):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "candidates.parquet"
            source.write_parquet(path)
            submissions = read_submissions(path, task and str(task))
    else:
        submissions = read_submissions(Path(source), task and str(task))
    outcome = judge(submissions, TaskSource(size, kernelbench), evaluation(settings), store, scaffold, progress)
    return pl.DataFrame(verdict_table(outcome.judged))


def evaluation(settings: dict[str, object]) -> EvaluationConfig:
    """The settings as an `evaluation` block. Raises ConfigError, naming each wrong one."""
    try:
        config = EvaluationConfig.model_validate(settings)
    except pydantic.ValidationError as error:
        raise ConfigError(f"evaluation: {sentences(error)}") from error
    if config.device == "cuda" and resolve_device("auto") != "cuda":
        raise ConfigError("device cuda: torch finds no GPU on this machine")
    return config


def default_store() -> Path:
    """Where the command keeps verdicts: a directory for this user's cached files."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "vegflow" / "verdicts"


def judge(
    submissions: Sequence[Submission],
    source: TaskSource,
    config: EvaluationConfig,
    store: Path | None = None,
    scaffold: str | None = None,
    progress: Progress | None = None,
) -> Outcome:
    """Judge submissions, in their order."""
    named = find_tasks([submission.task for submission in submissions], source)
    candidates = [each.candidate(named[each.task].task, scaffold) for each in submissions]
    tasks = {each.task.id: each.task for each in named.values()}
    lines: list[str] = []

    def listen(done: int, total: int, text: str) -> None:
        if text.startswith(ISOLATION):
            lines.append(text.removeprefix(ISOLATION))
        elif progress is not None:
            progress(done, total, text)

    with _directory(store) as directory:
        kept = VerdictStore(directory)
        identity = device_identity(resolve_device(config.device))

        def known(candidate: Candidate) -> bool:
            key = verdict_key(tasks[candidate.task_id], candidate, config, identity)
            return candidate.program is not None and kept.get(key) is not None

        stored = {candidate: known(candidate) for candidate in dict.fromkeys(candidates)}
        verdicts = evaluate_candidates(candidates, tasks, config, store=directory, progress=listen)
        surveys = {id_: kept.get_survey(survey_key(task, config, identity)) for id_, task in tasks.items()}
    judged = [
        Judged(
            submission,
            named[submission.task],
            candidate,
            scaffold or submission.scaffold,
            verdict,
            stored[candidate],
            tuple(survey.variants) if (survey := surveys[candidate.task_id]) else (),
        )
        for submission, candidate, verdict in zip(submissions, candidates, verdicts, strict=True)
    ]
    return Outcome(judged, config, lines[-1] if lines else "")


def verdict_table(judged: Sequence[Judged]) -> pa.Table:
    """EVALUATIONS, one row a submission; a source without `rollout_id` has its other columns behind them."""
    rows = [
        {
            "rollout_id": each.submission.name,
            "task_id": each.task.task.id,
            "task_revision": each.task.task.revision,
            "candidate_sha256": each.candidate.sha256,
            **each.verdict.to_dict(),
        }
        for each in judged
    ]
    table = to_table(rows, EVALUATIONS)
    more = [each.submission.more for each in judged]
    names = dict.fromkeys(name for row in more for name in row)
    if "rollout_id" in names:
        return table
    for name in names:
        if name not in table.column_names:
            table = table.append_column(name, pa.array([row.get(name) for row in more]))
    return table


def summary(table: pa.Table) -> dict[str, object]:
    """What a table of verdicts comes to: counts, and the median speedup of the correct."""
    frame = pl.DataFrame(table.select(["task_id", "status", "correct", "fast", "fast_1", "speedup"]))
    counts = dict(frame["status"].value_counts().iter_rows())
    return {
        "candidates": len(frame),
        "tasks": frame["task_id"].n_unique(),
        "by_status": {status: counts[status] for status in STATUSES if status in counts},
        "fast": int(frame["fast"].sum()),
        "fast_1": int(frame["fast_1"].sum()),
        "median_speedup": frame.filter("correct")["speedup"].median(),
    }


@contextlib.contextmanager
def _directory(store: Path | None) -> Iterator[Path]:
    """The store, or a directory that goes with the call."""
    if store is not None:
        try:
            store.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"store {store}: {error.strerror}") from error
        yield store
        return
    with tempfile.TemporaryDirectory(prefix="vegflow-") as folder:
        yield Path(folder)
