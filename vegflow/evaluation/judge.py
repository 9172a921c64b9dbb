"""The judge: from candidates and tasks to verdicts.

Knows the order of the checks and the status each failure gets; processes, clocks and comparisons are the other modules'.
"""

import contextlib
import math
import os
import random
import secrets
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from vegflow.config.evaluation import EvaluationConfig
from vegflow.errors import ConfigError
from vegflow.evaluation.build import build
from vegflow.evaluation.candidate import Candidate
from vegflow.evaluation.checks import Checks
from vegflow.evaluation.comparison import Tolerance
from vegflow.evaluation.device import device_identity, resolve_device
from vegflow.evaluation.languages import compiled, device_problem, falls_back, trust
from vegflow.evaluation.native import sealed
from vegflow.evaluation.nursery import discard_zygote, shared_zygote
from vegflow.evaluation.reference import INIT_SEED, Reference
from vegflow.evaluation.roofline import Gate
from vegflow.evaluation.store import VerdictStore, survey_key, verdict_key
from vegflow.evaluation.timing import Group, combine, enough, measure
from vegflow.evaluation.verdict import Fault, Verdict
from vegflow.evaluation.worker import Worker
from vegflow.tasks.task import Task
from vegflow.threads import one_thread

INLINE_S = 600.0
"""Seconds more for a build of `load_inline`, which compiles torch's headers."""

Progress = Callable[[int, int, str], None]


def evaluate_candidates(
    candidates: Sequence[Candidate],
    tasks: Mapping[str, Task],
    config: EvaluationConfig,
    *,
    store: Path | None = None,
    progress: Progress | None = None,
) -> list[Verdict]:
    """Judge candidates; the verdicts are in the order given.

    Equal programs for equal tasks are judged once, and not at all if `store` (a directory) holds their verdict.
    `progress` is called with (done, total, text). Raises ConfigError for a candidate of an unknown task.
    """
    unknown = sorted({c.task_id for c in candidates} - tasks.keys())
    if unknown:
        raise ConfigError(f"candidates name tasks that are not given: {', '.join(unknown)}")
    device = resolve_device(config.device)
    identity = device_identity(device)
    keys = [verdict_key(tasks[c.task_id], c, config, identity) for c in candidates]
    kept = VerdictStore(store)
    verdicts: dict[str, Verdict] = {}
    waiting: dict[str, dict[str, Candidate]] = {}  # task revision -> key -> candidate
    for key, candidate in zip(keys, candidates, strict=True):
        found = kept.get(key) if candidate.program is not None and key not in verdicts else None
        if found is not None:
            verdicts[key] = found
        elif candidate.program is not None and key not in verdicts:
            waiting.setdefault(tasks[candidate.task_id].revision, {})[key] = candidate
    total = len(verdicts) + sum(map(len, waiting.values()))
    builds = store / "builds" if store is not None else None
    say = progress or (lambda done, total, text: None)
    run = _Run(config, device, identity, builds, store, say, len(verdicts), total)
    if waiting:
        run.report(f"isolation: {_isolation(device, config.isolation == 'strict')}")
        run.report(f"ceilings: {run.gate.source}")
    with one_thread():  # those of a pool spin between calls, on the core where workers are timed
        for batch in waiting.values():
            task = tasks[next(iter(batch.values())).task_id]
            verdicts |= run.judge_task(task, batch, kept)
    nothing = {
        c: Verdict("parse_error", c.reason or "no program", device=identity) for c in candidates if c.program is None
    }
    return [nothing.get(c) or verdicts[key] for c, key in zip(candidates, keys, strict=True)]


def isolation_report(device: str = "auto") -> dict[str, str]:
    """Layer -> what confines a candidate on this machine, or "lacking: why" (starts a worker to find out)."""
    zygote = shared_zygote(resolve_device(device))
    worker = zygote.spawn(60.0, 1 << 30)
    worker.end()
    return worker.layers | zygote.layers


def _isolation(device: str, strict: bool) -> str:
    """What confines a candidate, in one line. Raises ConfigError if that is less than all and `strict`."""
    try:
        layers = isolation_report(device)
    except Fault as fault:
        if strict:
            raise ConfigError(f"evaluation.isolation: strict, but no worker started: {fault.reason}") from fault
        return f"unknown: {fault.reason}"
    lacking = sorted(name for name, what in layers.items() if what.startswith("lacking"))
    if strict and lacking:
        reasons = "; ".join(f"{name} ({layers[name]})" for name in lacking)
        raise ConfigError(f"evaluation.isolation: strict, but this machine's kernel gives less: {reasons}")
    return "; ".join(f"{name} ({what})" for name, what in sorted(layers.items()))


class _Run:
    """One call of `evaluate_candidates`."""

    def __init__(
        self,
        config: EvaluationConfig,
        device: str,
        identity: str,
        builds: Path | None,
        ceilings: Path | None,
        progress: Progress,
        done: int,
        total: int,
    ) -> None:
        self.config = config
        self.device = device
        self.identity = identity
        self.gate = Gate(device, ceilings)
        self.builds = builds
        """Where what compilers made is kept."""
        self.seed = secrets.token_hex(16) if config.seed is None else str(config.seed)
        self._progress = progress
        self._done = done
        self._total = total

    def report(self, text: str) -> None:
        self._progress(self._done, self._total, text)

    def judge_task(self, task: Task, batch: Mapping[str, Candidate], kept: VerdictStore) -> dict[str, Verdict]:
        """Key -> verdict of each candidate of one task, kept as soon as it is reached."""
        reference = _Lazily(self, task, kept)
        verdicts = {}
        try:
            for key, candidate in batch.items():
                with kept.claim(key):
                    verdict = kept.get(key)  # another job may have judged it meanwhile
                    if verdict is None:
                        verdict = self._judge_twice(reference, candidate)
                        if verdict.status != "evaluator_error":
                            about = {"task": task.id, "revision": task.revision, "candidate": candidate.sha256}
                            kept.put(key, verdict, **about, seed=self.seed)
                verdicts[key] = verdict
                self._done += 1
                self.report(f"{task.id} {verdict.status}")
            reference.close()
        except BaseException:
            discard_zygote(self.device)  # a question may be left open on its channel
            raise
        return verdicts

    def _judge_twice(self, reference: "_Lazily", candidate: Candidate) -> Verdict:
        """A candidate's verdict; what can have been our own fault, or the machine's, is tried once more."""
        verdict, again = self._judge(reference, candidate)
        if again:
            if verdict.status == "evaluator_error":
                reference.close()
            verdict, _ = self._judge(reference, candidate)
        return verdict

    def _judge(self, reference: "_Lazily", candidate: Candidate) -> tuple[Verdict, bool]:
        """One candidate's verdict, whatever happens to its worker, and whether another try could give another."""
        start = time.monotonic()
        died = False
        checks = Checks(Tolerance(self.config.atol, self.config.rtol))
        workers = _Workers(self, candidate)
        try:
            ready = reference.get()
            ready.writes_outputs = compiled(candidate.language) or self.device == "cuda"
            start = time.monotonic()  # the reference's own start is no candidate's cost
            verdict = self._examine(workers, ready, checks)
        except Fault as fault:
            error = fault.max_abs_err
            verdict = Verdict(fault.status, fault.reason, max_abs_err=error if error and math.isfinite(error) else None)
            died = fault.died
        except Exception as error:  # a mistake of ours must neither end the job nor count against the candidate
            verdict = Verdict("evaluator_error", f"{type(error).__name__}: {error}")
        finally:
            workers.end()
            reference.clear()
        wall_s = time.monotonic() - start
        verdict = replace(
            verdict,
            kernelbench_correct=checks.kernelbench,
            evaluate_wall_s=wall_s,
            language=candidate.language,
            trust=trust(candidate.language),
            reference_fallback=falls_back(candidate.program or "", candidate.language),
            evaluate_cpu_s=workers.cpu_s,
            build_cpu_s=workers.build_cpu_s,
            device=self.identity,
        )
        hangs = verdict.status == "timeout" and workers.cpu_s > wall_s / 2  # it had the machine, and would again
        return verdict, verdict.status == "evaluator_error" or (died and not hangs)

    def _examine(self, workers: "_Workers", reference: Reference, checks: Checks) -> Verdict:
        """Compare, time. Raises Fault with the status of the first thing that goes wrong."""
        protocol, delta = self.config.resolved, self.config.delta
        worker = workers.start(reference)
        seconds = self._correct(worker, reference, checks)
        calls = math.ceil(self.config.block_ms / 1e3 / min(seconds, reference.call_s))
        calls = max(1, min(calls, reference.stage.shape.slots))  # the faster of the two fills a block
        like = reference.item(0).expectation

        def check(expected: list[torch.Tensor], actual: list[torch.Tensor]) -> None:
            checks.timed(expected, actual, like)

        block_s = self.config.block_ms / 1e3

        def time_both() -> Group:
            return measure(reference, worker, calls, block_s, protocol, delta, self.device, check)

        groups = [time_both()]
        timing = combine(groups)
        while not enough(timing, protocol, delta):
            worker = self._both_anew(workers, reference)
            self._correct(worker, reference, checks)
            groups.append(time_both())
            timing = combine(groups)
        calls = min(group.calls for group in groups)
        runtime_us, reference_us = (statistics.median(times) for times in (timing.runtime_us, timing.reference_us))
        verdict = Verdict(
            "correct",
            correct=True,
            fast_1=timing.speedup > 1,
            fast=timing.low > 1 + delta,
            speedup=timing.speedup,
            speedup_low=timing.low,
            speedup_high=timing.high,
            headroom=self.gate.headroom(reference.work, reference_us / 1e6, calls),
            paper_speedup=timing.paper_speedup,
            runtime_us=runtime_us,
            reference_us=reference_us,
            runtime_times_us=timing.runtime_us,
            reference_times_us=timing.reference_us,
            max_abs_err=checks.largest,
        )
        claim = self.gate.objection(reference.work, runtime_us / 1e6, calls, reference.overhead_s / calls)
        if claim:  # the times stay, as evidence
            nothing = {"correct": False, "fast_1": False, "fast": False, "speedup": 0.0}
            return replace(verdict, status="implausible", reason=claim, **nothing)
        return verdict

    def _both_anew(self, workers: "_Workers", reference: Reference) -> Worker:
        """New workers for both sides, in random order: which gets the better memory is a toss.

        Both end before either starts: a new worker is given the memory that was freed last, and each side would have its
        own back.
        """
        workers.end()
        reference.retire()
        if random.random() < 0.5:
            reference.renew()
            return workers.start(reference)
        worker = workers.start(reference)
        reference.renew()
        return worker

    def _correct(self, worker: Worker, reference: Reference, checks: Checks) -> float:
        """Every correctness trial; the shortest time of a call at the task's own shape, seconds."""
        seconds = math.inf
        for index in reference.items():
            item = reference.item(index)
            if not checks.wants(item):
                continue
            slot = random.randrange(reference.stage.shape.slots)
            worker.prepare({slot: item.forms})
            reference.fill(slot, item.inputs)
            block = worker.run([slot])
            try:
                checks.correct(worker.read(block, slot, item.output_form), item)
            except Fault as fault:
                checks.wrong(fault, item)
            if not reference.unchanged(slot, item.inputs):
                raise Fault("wrong_output", "it changes its inputs")
            if not item.variant.narrow:
                seconds = min(seconds, block.call_s)
        if checks.fault is not None:
            raise checks.fault
        return seconds


@contextlib.contextmanager
def _sealed(binary: bytes) -> Iterator[int]:
    """A descriptor of the bytes, which nobody can change."""
    descriptor = sealed(binary)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


class _Workers:
    """A candidate's workers, one after the other."""

    def __init__(self, run: _Run, candidate: Candidate) -> None:
        self.cpu_s = 0.0
        """CPU seconds of those that have ended."""
        self.build_cpu_s = 0.0
        self._built: bytes | None = None
        self._run = run
        self._candidate = candidate
        self._worker: Worker | None = None

    def start(self, reference: Reference) -> Worker:
        """A new one with the candidate loaded, stopped. Raises Fault with the status of what goes wrong."""
        config, device = self._run.config, self._run.device
        language, program = self._candidate.language, self._candidate.program
        built = self._binary()
        self._worker = worker = shared_zygote(device).spawn(config.timeout_s, self._memory(reference))
        request = {
            "init": reference.init,
            "init_seed": INIT_SEED,
            "device_memory_mb": config.memory_mb if device == "cuda" else None,
        }
        if built is None:
            worker.ask("load", program=program, class_name="ModelNew", **request)
        elif compiled(language):
            worker.ask("load", program=reference.task.source, class_name="Model", **request)
            arguments = list(reference.task.arguments)
            with _sealed(built) as library:
                worker.ask("attach", fds=(library,), language=language, source=program, arguments=arguments)
        else:
            with _sealed(built) as pack:
                worker.ask("load", fds=(pack,), program=program, class_name="ModelNew", **request)
        worker.map(reference.stage)
        worker.stop()
        return worker

    def _binary(self) -> bytes | None:
        """What the candidate's compiler makes of it, made once; None if its language has no build."""
        language = self._candidate.language
        problem = device_problem(language, self._run.device)
        if problem:
            raise Fault("compile_error", problem)
        if self._built is None and (compiled(language) or language == "inline"):
            seconds = self._run.config.timeout_s + (INLINE_S if language == "inline" else 0.0)
            zygote = shared_zygote(self._run.device)
            built = build(zygote, self._candidate.program or "", language, self._run.builds, seconds)
            self.build_cpu_s += built.cpu_s
            self._built = built.binary
        return self._built

    def end(self) -> None:
        """End the present one."""
        if self._worker is not None:
            self.cpu_s += self._worker.end().cpu_s
            self._worker = None

    def _memory(self, reference: Reference) -> int | None:
        """Address space a candidate may add; on CUDA the device's memory is bounded instead."""
        return None if self._run.device == "cuda" else (self._run.config.memory_mb << 20) + reference.stage.shape.size


class _Lazily:
    """The reference of a task, started when first wanted; one that fails twice is not tried again."""

    def __init__(self, run: _Run, task: Task, kept: VerdictStore) -> None:
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

    def clear(self) -> None:
        """Leave nothing of one candidate for the next."""
        if self._reference is not None:
            self._reference.clear()

    def close(self) -> None:
        """End it; `get` starts another."""
        if self._reference is not None:
            self._reference.close()
            self._reference = None
