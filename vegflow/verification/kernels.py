"""Runs kernels for the stages of a pipeline, with the evaluator's workers, references and clock.

Knows which of the evaluator's checks a stage stands for; a kernel's full suite is its evaluation, timing included.
"""

import contextlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from vegflow.config.evaluation import EvaluationConfig
from vegflow.config.verification import VerificationConfig
from vegflow.errors import ConfigError
from vegflow.evaluation.candidate import Candidate
from vegflow.evaluation.device import resolve_device
from vegflow.evaluation.examination import LOADED, Examiner, Trial
from vegflow.evaluation.languages import python_language
from vegflow.evaluation.nursery import shared_zygote
from vegflow.tasks.task import Task
from vegflow.verification.executor import Check, Checks, Entry, Full
from vegflow.verification.functions import FunctionExecutor
from vegflow.verification.ledger import Ledger
from vegflow.verification.stored import TEST

OUTCOME = {"correct": "pass", "wrong_output": "fail", "low_precision": "fail", "timeout": "timeout"}
"""Status of a check -> outcome; all others are errors."""


class KernelExecutor:
    """An executor of kernels on this machine's device; one at a time, since a device times one at a time."""

    def __init__(self, tasks: Mapping[str, Task], config: VerificationConfig, evaluation: EvaluationConfig) -> None:
        """Raises ConfigError for several workers."""
        if config.workers != 1:
            raise ConfigError("verification.workers: kernels are timed one at a time; set it to 1")
        self.tasks, self.evaluation = tasks, evaluation
        self._parser = FunctionExecutor({}, config)
        self._examiner = Examiner(tasks, evaluation)
        self._clock = _ZygoteClock(resolve_device(evaluation.device))
        self.ledger = Ledger(self.cpu_s)

    def parse(self, entries: Sequence[Entry]) -> list[Checks]:
        """The check `syntax`, in a confined process; a program in another language than Python passes."""
        python = [entry for entry in entries if entry.program is not None and _language(entry.program) in INTERPRETED]
        self._parser.ledger = self.ledger
        found = dict(zip(((e.task_id, e.sha256) for e in python), self._parser.parse(python), strict=True))
        other = {"syntax": Check("pass")}
        return [
            {"syntax": Check("error", "no program")}
            if entry.program is None
            else found.get((entry.task_id, entry.sha256), other)
            for entry in entries
        ]

    def load(self, entries: Sequence[Entry]) -> list[Checks]:
        """The check `import`: it compiles, loads, and its model is constructed."""
        return self.tests(entries, [()] * len(entries))

    def tests(
        self, entries: Sequence[Entry], numbers: Sequence[Sequence[int]], seconds: float | None = None
    ) -> list[Checks]:
        """`import` and some correctness trials, each candidate in a worker of its own, up to its first failure.

        With `seconds` of CPU time, what is cut counts as a time-out.
        """
        found = []
        for entry, own in zip(entries, numbers, strict=True):
            self._open(entry)
            checks = self.examine(entry, own, early=True)
            if seconds is not None:
                checks = _capped(checks, seconds)
            missing = Check("error", "not run")
            found.append(
                {"import": checks["import"]}
                | {TEST.format(number): checks.get(TEST.format(number), missing) for number in own}
            )
            self.ledger.book(entry.task_id, entry.sha256)
        return found

    def examine(self, entry: Entry, trials: Sequence[int], *, early: bool, language: str = "") -> Checks:
        """`import` and trials of one candidate; see `Examiner.examine`."""
        if entry.program is None:
            nothing = Check("error", "no program")
            return {"import": nothing} | ({} if early else {TEST.format(number): nothing for number in trials})
        candidate = Candidate(entry.task_id, entry.program, language=language or _language(entry.program))
        found = self._examiner.examine(candidate, trials, early=early)
        return {"import" if number == LOADED else TEST.format(number): _check(trial) for number, trial in found.items()}

    def full(self, entries: Sequence[Entry], orders: Sequence[Sequence[int]], stop: int | None = None) -> list[Full]:
        """The evaluations of a task's candidates in turn: every correctness trial, then timing."""
        found: list[Full] = []
        for entry in entries:
            if entry.program is None:
                found.append(Full(False, 0.0, {}, runs=0))
            else:
                self._open(entry)
                candidate = Candidate(entry.task_id, entry.program, language=_language(entry.program))
                verdict = self._examiner.judge(candidate)
                found.append(Full(verdict.correct, verdict.speedup, {}))
            self.ledger.book(entry.task_id, entry.sha256)
            if stop is not None and sum(said.correct for said in found) >= stop:
                break
        return found

    def full_all(
        self, tasks: Sequence[tuple[Sequence[Entry], Sequence[Sequence[int]]]], stop: int | None = None
    ) -> list[list[Full]]:
        """The same for several tasks."""
        return [self.full(entries, orders, stop) for entries, orders in tasks]

    def noop(self, entries: Sequence[Entry]) -> None:
        """A confined worker for each, which loads nothing."""
        for entry in entries:
            self._examiner.start_only()
            self.ledger.book(entry.task_id, entry.sha256)

    def trials(self, task_id: str) -> int:
        """Number of the task's correctness trials."""
        return self._examiner.trials(task_id)

    def settle(self) -> None:
        """A stage is over: the reference at work ends."""
        self._examiner.settle()
        self.ledger.book()

    def cpu_s(self) -> float:
        """CPU seconds so far of this process, the zygote and the workers it has buried."""
        return self._parser.cpu_s() + self._clock.read()

    def close(self) -> None:
        """End its processes; the zygote is the process's, and stays."""
        self._examiner.settle()
        self._parser.close()

    def _open(self, entry: Entry) -> None:
        """Start the reference where a new task begins, and book it to the task."""
        if entry.program is not None:
            self._examiner.reference(entry.task_id)
            self.ledger.book(entry.task_id)


class _ZygoteClock:
    """CPU seconds of a device's zygote and of the children it has buried, since this began; zygotes may be replaced."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._pid = shared_zygote(device).process.pid
        self._before = self._last = _tree_cpu_s(self._pid)
        self._past = 0.0

    def read(self) -> float:
        """Seconds so far, in steps of the kernel's clock tick."""
        with contextlib.suppress(OSError):
            self._last = _tree_cpu_s(self._pid)
        seconds = self._past + self._last - self._before
        zygote = shared_zygote(self._device).process.pid
        if zygote != self._pid:
            self._past, self._pid, self._before = seconds, zygote, 0.0
        return seconds


INTERPRETED = ("python", "triton", "inline")


def _language(program: str) -> str:
    """What a program of the pool is written in, which its text has to tell."""
    if "ModelNew" in program:
        return python_language(program)
    if "__global__" in program:
        return "cuda"
    return "cpp" if 'extern "C"' in program else "c"


def _check(trial: Trial) -> Check:
    outcome = OUTCOME.get(trial.status, "error")
    kind = "" if outcome == "pass" else trial.status
    return Check(outcome, kind, trial.answer_sha256, trial.wall_s, trial.cpu_s)


def _capped(checks: Checks, seconds: float) -> Checks:
    """The checks that were over within `seconds` of CPU time; the rest timed out."""
    used, found = 0.0, {}
    for name, check in checks.items():
        used += check.cpu_s
        found[name] = check if used <= seconds else Check("timeout", "timeout")
    return found


def _tree_cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
