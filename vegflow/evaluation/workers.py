"""Who is at work for the judge: a candidate's workers, one after the other, and a task's reference, started when wanted.

Knows how a program in each language becomes a worker that can be called; what is asked of it is for the judge.
"""

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

from vegflow.config.evaluation import EvaluationConfig
from vegflow.evaluation import triton_cache
from vegflow.evaluation.build import build, scratch
from vegflow.evaluation.candidate import Candidate
from vegflow.evaluation.languages import compiled, device_problem
from vegflow.evaluation.native import sealed
from vegflow.evaluation.nursery import shared_zygote
from vegflow.evaluation.reference import INIT_SEED, Reference
from vegflow.evaluation.store import VerdictStore, survey_key
from vegflow.evaluation.verdict import Fault
from vegflow.evaluation.worker import Worker
from vegflow.tasks.task import Task

BUILD_S = {"inline": 600.0, "triton": 120.0}
"""Seconds more for a build of `load_inline`, which compiles torch's headers, and of Triton, which tunes itself."""


class Circumstances(Protocol):
    """Under which one run of the evaluator judges."""

    config: EvaluationConfig
    device: str
    identity: str
    """Of the device."""
    builds: Path | None
    """Where what compilers made is kept."""
    seed: str
    """Of all inputs."""


@contextlib.contextmanager
def _sealed(binary: bytes) -> Iterator[int]:
    """A descriptor of the bytes, which nobody can change."""
    descriptor = sealed(binary)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


class Workers:
    """A candidate's workers, one after the other."""

    def __init__(self, run: Circumstances, candidate: Candidate) -> None:
        self.cpu_s = 0.0
        """CPU seconds of those that have ended."""
        self.build_cpu_s = 0.0
        self._built: bytes | None = None
        self._kernels_at: dict[str, Any] | None = None
        self._stack = contextlib.ExitStack()
        self._run = run
        self._candidate = candidate
        self._worker: Worker | None = None

    def start(self, reference: Reference, number: int = 0) -> Worker:
        """A new one with the candidate loaded, stopped. Raises Fault with the status of what goes wrong.

        `number` is that of its seat, if it wants one; no two that live at a time have the same.
        """
        config, device = self._run.config, self._run.device
        language, program = self._candidate.language, self._candidate.program
        built = self._binary(reference)
        kernels = self._kernels(built) if language == "triton" and built is not None else None
        folder = kernels["folder"] if kernels else None
        memory = self._memory(reference)
        self._worker = worker = shared_zygote(device).spawn(config.timeout_s, memory, readable=folder)
        worker.host_code = not compiled(language)
        request = {
            "init": reference.init,
            "init_seed": INIT_SEED,
            "device_memory_mb": config.memory_mb if device == "cuda" else None,
        }
        if built is None or kernels:
            worker.ask("load", program=program, class_name="ModelNew", kernels=kernels, **request)
        elif compiled(language):
            worker.ask("load", program=reference.task.source, class_name="Model", **request)
            arguments = list(reference.task.arguments)
            with _sealed(built) as library:
                worker.ask("attach", fds=(library,), language=language, source=program, arguments=arguments)
        else:
            with _sealed(built) as pack:
                worker.ask("load", fds=(pack,), program=program, class_name="ModelNew", **request)
        worker.map(reference.stage, self.seat(number), reference.hands)
        worker.stop()
        worker.prepare(reference.forms_by_slot())
        return worker

    def seat(self, number: int) -> int | None:
        """The seat on the stage of one who writes its outputs there: a compiled program's, and on CUDA everybody's."""
        return number if compiled(self._candidate.language) or self._run.device == "cuda" else None

    def _kernels(self, built: bytes) -> dict[str, Any]:
        """Where a Triton program's kernels lie, which is a folder of this candidate's own."""
        if self._kernels_at is None:
            folder = self._stack.enter_context(scratch())
            try:
                self._kernels_at = {"folder": folder, "ptxas": triton_cache.unpack(built, Path(folder))}
            except ValueError as error:
                raise Fault("compile_error", str(error)) from None
        return self._kernels_at

    def _binary(self, reference: Reference) -> bytes | None:
        """What the candidate's compiler makes of it, made once; None if its language has no build."""
        language = self._candidate.language
        problem = device_problem(language, self._run.device)
        if problem:
            raise Fault("compile_error", problem)
        if self._built is None and (compiled(language) or language in BUILD_S):
            seconds = self._run.config.timeout_s + BUILD_S.get(language, 0.0)
            zygote, call = shared_zygote(self._run.device), None
            if language == "triton":
                about = {"class_name": "ModelNew", "init": reference.init, "init_seed": INIT_SEED}
                call = about | {"forms": reference.forms, "device": self._run.device}
            built = build(zygote, self._candidate.program or "", language, self._run.builds, seconds, call=call)
            self.build_cpu_s += built.cpu_s
            self._built = built.binary
        return self._built

    def close(self) -> None:
        """End the present one, and leave no file behind."""
        self.end()
        self._stack.close()

    def end(self) -> None:
        """End the present one."""
        worker, self._worker = self._worker, None
        if worker is not None:
            self.cpu_s += worker.end().cpu_s

    def _memory(self, reference: Reference) -> int | None:
        """Address space a candidate may add; on CUDA the device's memory is bounded instead."""
        return None if self._run.device == "cuda" else (self._run.config.memory_mb << 20) + reference.stage.shape.size


class Lazily:
    """The reference of a task, started when first wanted; one that fails twice is not tried again."""

    def __init__(self, run: Circumstances, task: Task, kept: VerdictStore) -> None:
        self._run = run
        self._task = task
        self._kept = kept
        self._reference: Reference | None = None
        self._failures = 0
        self._reason = ""

    def get(self) -> Reference:
        """The living reference. Raises Fault `evaluator_error` if it does not start."""
        if self._reference is None:
            if self._failures >= 2:
                raise Fault("evaluator_error", self._reason)
            self._failures += 1
            config = self._run.config
            try:
                zygote = shared_zygote(self._run.device)
                key = survey_key(self._task, config, self._run.identity)
                survey = self._kept.get_survey(key)
                self._reference = Reference(zygote, self._task, config, self._run.seed, survey)
                if survey is None:
                    self._kept.put_survey(key, self._reference.survey, self._task.id)
            except Fault as fault:
                self._reason = fault.reason
                raise
            self._failures = 0
        return self._reference

    @property
    def call_bytes(self) -> float:
        """Of a call's inputs and outputs; infinite while there is no reference."""
        return self._reference.call_bytes if self._reference is not None else math.inf

    def close(self) -> None:
        """End it; `get` starts another."""
        if self._reference is not None:
            self._reference.close()
            self._reference = None
