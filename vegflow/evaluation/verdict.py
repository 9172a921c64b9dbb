"""A verdict: what the judge concluded about one candidate, in the columns of the `evaluations` table.

Knows statuses and how an error becomes one line of text; who reaches the verdict, and how, is the judge's business.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, Self

from vegflow.artifacts.evaluations import STATUSES

REASON_LENGTH = 300


@dataclass(frozen=True)
class Verdict:
    """The columns of `EVALUATIONS` that do not say which rollout, task or program it is about."""

    status: str
    reason: str = ""
    correct: bool = False
    fast_1: bool = False
    fast: bool = False
    speedup: float = 0.0
    speedup_low: float | None = None
    speedup_high: float | None = None
    headroom: float | None = None
    paper_speedup: float | None = None
    runtime_us: float | None = None
    reference_us: float | None = None
    runtime_times_us: list[float] | None = None
    reference_times_us: list[float] | None = None
    reference_first: list[bool] | None = None
    max_abs_err: float | None = None
    kernelbench_correct: bool | None = None
    language: str = "python"
    trust: str = "interpreted"
    reference_fallback: bool = False
    evaluate_wall_s: float = 0.0
    evaluate_cpu_s: float = 0.0
    build_cpu_s: float = 0.0
    device: str = ""
    clock: str | None = None
    sm_clocks_mhz: list[int] | None = None
    memory_clocks_mhz: list[int] | None = None
    throttling: str | None = None

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ValueError(f"'{self.status}' is not a status; one of {', '.join(STATUSES)}")
        object.__setattr__(self, "reason", one_line(self.reason))

    def to_dict(self) -> dict[str, Any]:
        """The verdict as column -> value."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Self:
        """The verdict that `to_dict` gave; TypeError or ValueError if `values` are not such."""
        return cls(**values)


class Fault(Exception):  # noqa: N818 - the name says it
    """An evaluation ends here: the status it ends with, and why."""

    def __init__(self, status: str, reason: str, max_abs_err: float | None = None, *, died: bool = False) -> None:
        super().__init__(f"{status}: {reason}")
        self.status = status
        self.reason = reason
        self.max_abs_err = max_abs_err
        self.died = died
        """Whether the worker was lost, which can be the machine's doing."""

    def to_keep(self) -> "Fault":
        """The same without its traceback, which would keep alive what the frames hold: workers, inputs, memory files."""
        return Fault(self.status, self.reason, self.max_abs_err, died=self.died)


def one_line(text: str) -> str:
    """`text` with every run of white space and unprintable characters as one space, at most 300 characters."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text[: 20 * REASON_LENGTH]).split())
    return line if len(line) <= REASON_LENGTH else line[: REASON_LENGTH - 1] + "…"
