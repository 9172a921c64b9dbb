"""The judge: from candidates and tasks to verdicts.

Knows the order of the checks and the status each failure gets; processes, clocks and comparisons are the other modules'.
"""

import contextlib
import itertools
import math
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from vegflow.config.evaluation import EvaluationConfig
from vegflow.errors import ConfigError
from vegflow.evaluation.candidate import Candidate
from vegflow.evaluation.checks import Checks
from vegflow.evaluation.comparison import Tolerance
from vegflow.evaluation.device import device_identity, resolve_device
from vegflow.evaluation.nursery import discard_zygote, shared_zygote
from vegflow.evaluation.reference import INIT_SEED, Reference, fill
from vegflow.evaluation.store import VerdictStore, verdict_key
from vegflow.evaluation.timing import measure
from vegflow.evaluation.verdict import Fault, Verdict
from vegflow.evaluation.worker import Worker
from vegflow.tasks.task import Task

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
    run = _Run(config, device, identity, progress or (lambda done, total, text: None), len(verdicts), total)
    if waiting:
        run.report(f"isolation: {_isolation(device)}")
    with _one_thread():
        for batch in waiting.values():
            task = tasks[next(iter(batch.values())).task_id]
            verdicts |= run.judge_task(task, batch, kept)
    nothing = {
        c: Verdict("parse_error", c.reason or "no program", device=identity) for c in candidates if c.program is None
    }
    return [nothing.get(c) or verdicts[key] for c, key in zip(candidates, keys, strict=True)]


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Have the judge compare with one thread: those of a pool spin between calls, on the core where workers are timed."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def isolation_report(device: str = "auto") -> dict[str, str]:
    """Layer -> what confines a candidate on this machine, or "lacking: why" (starts a worker to find out)."""
    zygote = shared_zygote(resolve_device(device))
    worker = zygote.spawn(60.0, 1 << 30)
    worker.end()
    return worker.layers | zygote.layers


def _isolation(device: str) -> str:
    try:
        layers = isolation_report(device)
    except Fault as fault:
        return f"unknown: {fault.reason}"
    return "; ".join(f"{name} ({what})" for name, what in sorted(layers.items()))


class _Run:
    """One call of `evaluate_candidates`."""

    def __init__(
        self, config: EvaluationConfig, device: str, identity: str, progress: Progress, done: int, total: int
    ) -> None:
        self.config = config
        self.device = device
        self.identity = identity
        self.seed = secrets.token_hex(16) if config.seed is None else str(config.seed)
        self._progress = progress
        self._done = done
        self._total = total

    def report(self, text: str) -> None:
        self._progress(self._done, self._total, text)

    def judge_task(self, task: Task, batch: Mapping[str, Candidate], kept: VerdictStore) -> dict[str, Verdict]:
        """Key -> verdict of each candidate of one task, kept as soon as it is reached."""
        reference = _Lazily(self, task)
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
        """A candidate's verdict; what was our own fault is tried once more."""
        verdict = self._judge(reference, candidate)
        if verdict.status == "evaluator_error":
            reference.close()
            verdict = self._judge(reference, candidate)
        return verdict

    def _judge(self, reference: "_Lazily", candidate: Candidate) -> Verdict:
        """One candidate's verdict, whatever happens to its worker."""
        start = time.monotonic()
        worker: Worker | None = None
        cpu_s = 0.0
        try:
            ready = reference.get()
            start = time.monotonic()  # the reference's own start is no candidate's cost
            worker = shared_zygote(self.device).spawn(self.config.timeout_s, self._memory(ready))
            verdict = self._examine(worker, ready, candidate)
        except Fault as fault:
            error = fault.max_abs_err
            verdict = Verdict(fault.status, fault.reason, max_abs_err=error if error and math.isfinite(error) else None)
        except Exception as error:  # a mistake of ours must neither end the job nor count against the candidate
            verdict = Verdict("evaluator_error", f"{type(error).__name__}: {error}")
        finally:
            if worker is not None:
                cpu_s = worker.end().cpu_s
        return replace(verdict, evaluate_wall_s=time.monotonic() - start, evaluate_cpu_s=cpu_s, device=self.identity)

    def _examine(self, worker: Worker, reference: Reference, candidate: Candidate) -> Verdict:
        """Load, compare, time. Raises Fault with the status of the first thing that goes wrong."""
        memory_mb = self.config.memory_mb if self.device == "cuda" else None
        worker.ask(
            "load",
            program=candidate.program,
            class_name="ModelNew",
            init=reference.init,
            init_seed=INIT_SEED,
            device_memory_mb=memory_mb,
        )
        worker.map(reference.shape)
        worker.stop()
        checks = Checks(worker, reference, Tolerance(self.config.atol, self.config.rtol))
        trials = self.config.correctness_trials
        seconds = math.inf
        rounds = self.config.timing_trials + 1  # the first warms up
        items = iter(reference.items(trials + rounds * reference.shape.slots))
        tried = list(itertools.islice(items, trials))
        for item in tried:
            fill(worker, [item])
            block = worker.run(1)
            checks.correct(block, [item])
            seconds = min(seconds, block.call_s)
        wanted = math.ceil(self.config.block_ms / 1e3 / max(seconds, reference.call_s))
        calls = max(1, min(wanted, reference.shape.slots))  # the slower of the two fills a block
        pairs = [list(itertools.islice(items, calls)) for _ in range(rounds)]
        reference.renew(tried)
        timing = measure(reference, worker, pairs, self.device, checks.timed)
        return Verdict(
            "correct",
            correct=True,
            fast_1=timing.speedup > 1,
            fast=timing.low > 1 + self.config.delta,
            speedup=timing.speedup,
            speedup_low=timing.low,
            speedup_high=timing.high,
            runtime_us=timing.runtime_us,
            reference_us=timing.reference_us,
            max_abs_err=checks.largest,
        )

    def _memory(self, reference: Reference) -> int | None:
        """Address space a candidate may add; on CUDA the device's memory is bounded instead."""
        return None if self.device == "cuda" else (self.config.memory_mb << 20) + reference.shape.size


class _Lazily:
    """The reference of a task, started when first wanted; one that fails twice is not tried again."""

    def __init__(self, run: _Run, task: Task) -> None:
        self._run = run
        self._task = task
        self._reference: Reference | None = None
        self._failures = 0

    def get(self) -> Reference:
        """The living reference. Raises Fault `evaluator_error` if it does not start."""
        if self._reference is None:
            if self._failures >= 2:
                raise Fault("evaluator_error", f"the reference of {self._task.id} failed twice")
            self._failures += 1
            zygote = shared_zygote(self._run.device)
            self._reference = Reference(zygote, self._task, self._run.config, self._run.seed)
            self._failures = 0
        return self._reference

    def close(self) -> None:
        """End it; `get` starts another."""
        if self._reference is not None:
            self._reference.close()
            self._reference = None
