"""Single checks of a kernel instead of a verdict: does it load, and is it right on this correctness trial or that.

Knows the judge's workers, references and comparisons, which it uses as the judge does; nothing is timed.
"""

import hashlib
import random
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from vegflow.config.evaluation import EvaluationConfig
from vegflow.evaluation.candidate import Candidate
from vegflow.evaluation.checks import Checks
from vegflow.evaluation.comparison import Tolerance
from vegflow.evaluation.device import device_identity, resolve_device
from vegflow.evaluation.judge import _Run
from vegflow.evaluation.nursery import discard_zygote, shared_zygote
from vegflow.evaluation.reference import Reference
from vegflow.evaluation.store import VerdictStore
from vegflow.evaluation.verdict import Fault, Verdict
from vegflow.evaluation.worker import Worker
from vegflow.evaluation.workers import Lazily, Workers
from vegflow.tasks.task import Task
from vegflow.threads import one_thread

PLACES = 16
"""Elements of each output that an answer's digest is of."""
GRID = 0.05
"""Their rounding, in root mean squares of the output: much more than what right programs differ by."""
LOADED = -1
"""In place of a trial's number: the program loads and its model is constructed."""


@dataclass(frozen=True)
class Trial:
    """What one check found."""

    status: str
    """`correct`, or a status of STATUSES."""
    answer_sha256: str | None
    """Digest of the outputs, coarsely; equal for most pairs of programs that agree."""
    wall_s: float
    cpu_s: float
    """Of the worker, by the kernel's account (on CUDA: wall time)."""


class Examiner:
    """Examines candidates one after the other; those of one task, in a row, share its reference and its inputs."""

    def __init__(self, tasks: Mapping[str, Task], config: EvaluationConfig, store: Path | None = None) -> None:
        device = resolve_device(config.device)
        builds = store / "builds" if store is not None else None
        self._run = _Run(config, device, device_identity(device), builds, store, lambda *_: None, 0, 0)
        self._kept = VerdictStore(store)
        self._tasks, self._config, self._device = tasks, config, device
        self._at: tuple[str, Lazily] | None = None

    def reference(self, task_id: str) -> Reference:
        """The task's reference at work. Raises Fault `evaluator_error`."""
        return self._lazily(task_id).get()

    def trials(self, task_id: str) -> int:
        """Number of the task's correctness trials."""
        return self.reference(task_id).trials

    def examine(self, candidate: Candidate, trials: Sequence[int], *, early: bool) -> dict[int, Trial]:
        """LOADED and the given trials, in order; `early`: up to the first that does not pass.

        A trial after one that took the worker away runs in a new worker. Raises Fault `evaluator_error`.
        """
        reference = self.reference(candidate.task_id)
        found: dict[int, Trial] = {}
        workers = Workers(self._run, candidate)
        worker: Worker | None = None
        with one_thread():
            try:
                worker, found[LOADED] = self._start(workers, reference)
                for number in trials:
                    if found[LOADED].status != "correct":
                        if early:
                            break
                        found[number] = Trial(found[LOADED].status, None, 0.0, 0.0)
                        continue
                    if worker is None:
                        worker, again = self._start(workers, reference)
                        if worker is None:
                            found[number] = again
                            continue
                    found[number], lost = self._trial(worker, reference, number, workers.seat(0))
                    if lost:
                        workers.end()
                        worker = None
                    if early and found[number].status != "correct":
                        break
            except BaseException:
                discard_zygote(self._device)
                self._at = None
                raise
            finally:
                workers.close()
        return found

    def judge(self, candidate: Candidate) -> Verdict:
        """The whole evaluation, as `evaluate_candidates` has it, with timing; verdicts are neither looked up nor kept."""
        with one_thread():
            return self._run.judge_one(self._lazily(candidate.task_id), candidate)

    def start_only(self) -> None:
        """A confined worker that loads nothing: what isolation costs."""
        worker = shared_zygote(self._device).spawn(self._config.timeout_s, self._config.memory_mb << 20)
        worker.end()

    def settle(self) -> None:
        """End the reference at work."""
        if self._at is not None:
            self._at[1].close()
            self._at = None

    def _lazily(self, task_id: str) -> Lazily:
        if self._at is None or self._at[0] != task_id:
            self.settle()
            self._at = task_id, Lazily(self._run, self._tasks[task_id], self._kept)
        return self._at[1]

    def _start(self, workers: Workers, reference: Reference) -> tuple[Worker | None, Trial]:
        began = time.monotonic()
        try:
            worker = workers.start(reference)
        except Fault as fault:
            if fault.status == "evaluator_error":
                raise
            return None, Trial(fault.status, None, time.monotonic() - began, 0.0)
        return worker, Trial("correct", None, time.monotonic() - began, worker.clock())

    def _trial(self, worker: Worker, reference: Reference, number: int, seat: int | None) -> tuple[Trial, bool]:
        """One trial, and whether the worker is lost for others."""
        began, cpu_s = time.monotonic(), worker.clock()
        checks, answer, lost = Checks(Tolerance(self._config.atol, self._config.rtol)), None, False
        try:
            item = reference.item(number)
            began = time.monotonic()  # making the inputs is no candidate's cost
            slot, item = reference.place(number, random.randrange(reference.stage.changing))
            worker.prepare({slot: item.forms})
            if seat is not None:
                reference.stage.poison(seat, slot)
            outputs = worker.read(worker.run([slot]), slot, item.output_form)
            answer = _digest(outputs)
            checks.correct(outputs, item)
            if reference.changed(worker, {slot: item.inputs}):
                raise Fault("wrong_output", "it changes its inputs")
            status = checks.fault.status if checks.fault else "correct"
            cpu_s = worker.clock() - cpu_s
        except Fault as fault:
            if fault.status == "evaluator_error":
                raise
            status, lost, cpu_s = fault.status, fault.status not in ("wrong_output", "low_precision"), 0.0
        return Trial(status, answer, time.monotonic() - began, cpu_s), lost


def _digest(outputs: Sequence[torch.Tensor]) -> str:
    """Forms, and some elements of each output in multiples of GRID root mean squares."""
    sha = hashlib.sha256()
    for output in outputs:
        flat = output.detach().reshape(-1)
        sha.update(f"{output.dtype}{tuple(output.shape)}".encode())
        if not flat.numel():
            continue
        if not flat.is_floating_point():
            sha.update(str(flat[torch.linspace(0, flat.numel() - 1, PLACES).long()].tolist()).encode())
            continue
        flat = flat.double().nan_to_num(nan=1e300)
        scale = flat.square().mean().sqrt().clamp_min(1e-30)
        places = torch.linspace(0, flat.numel() - 1, PLACES).long()
        sha.update(str((flat[places] / (GRID * scale)).round().tolist()).encode())
    return sha.hexdigest()
