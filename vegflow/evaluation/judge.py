"""The judge: from candidates and tasks to verdicts.

Knows the order of the checks and the status each failure gets; processes, clocks and comparisons are the other modules'.
"""

import contextlib
import math
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
from vegflow.evaluation import heap
from vegflow.evaluation.candidate import Candidate
from vegflow.evaluation.checks import Checks
from vegflow.evaluation.comparison import Tolerance
from vegflow.evaluation.cuda_times import EVENTS
from vegflow.evaluation.device import device_identity, device_uuid, resolve_device
from vegflow.evaluation.gpu_state import GpuState, together
from vegflow.evaluation.languages import falls_back, trust
from vegflow.evaluation.nursery import discard_zygote, shared_zygote
from vegflow.evaluation.reference import LEAST_CALL_S, Item, Reference, own_shape
from vegflow.evaluation.roofline import Gate
from vegflow.evaluation.rounds import Entrant, measure
from vegflow.evaluation.store import VerdictStore, verdict_key
from vegflow.evaluation.timing import Group, Timing, combine, enough
from vegflow.evaluation.verdict import Fault, Verdict
from vegflow.evaluation.worker import Worker
from vegflow.evaluation.workers import Lazily, Workers
from vegflow.tasks.task import Task
from vegflow.threads import one_thread

CREW = 4
"""Candidates of a task that are judged together: what is done for the reference and its inputs is done once for all."""
CREWED = 1 << 20
"""Bytes of a call's inputs and outputs, at most, for a crew of several: larger ones put each other's out of the caches, and
their times then scatter so much that more rounds cost what is saved."""

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
    worker = zygote.spawn(60.0, None if zygote.device == "cuda" else 1 << 30)
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
        heap.keep()
        self.config = config
        self.device = device
        self.identity = identity
        self.gate = Gate(device, ceilings)
        self.builds = builds
        """Where what compilers made is kept."""
        self.state = GpuState(device_uuid()) if device == "cuda" else None
        self._clock_said = device == "cpu"
        self.seed = secrets.token_hex(16) if config.seed is None else str(config.seed)
        self._progress = progress
        self._done = done
        self._total = total

    def report(self, text: str) -> None:
        self._progress(self._done, self._total, text)

    def report_clock(self, reference: Reference) -> None:
        """Say once what a GPU's times are measured by, and why it is not something better."""
        if self._clock_said:
            return
        self._clock_said = True
        block = reference.run([])
        problem = f" (no CUPTI: {reference.worker.clock_problem})" if block.clock == EVENTS else ""
        self.report(f"clock: {block.clock}{problem}")
        if reference.mirror_problem:
            self.report(f"inputs: copied by the candidate's process ({reference.mirror_problem})")
        if self.state is not None and self.state.problem:
            self.report(f"clocks of the GPU: not recorded ({self.state.problem})")

    def judge_task(self, task: Task, batch: Mapping[str, Candidate], kept: VerdictStore) -> dict[str, Verdict]:
        """Key -> verdict of each candidate of one task, kept as soon as it is reached."""
        reference = Lazily(self, task, kept)
        contestants = [_Contestant(self, candidate, key) for key, candidate in batch.items()]
        waiting = list(contestants)
        verdicts = {}

        def reached(contestant: _Contestant, verdict: Verdict) -> None:
            verdicts[contestant.key] = verdict
            contestant.close()
            self._done += 1
            self.report(f"{task.id} {verdict.status}")

        try:
            while waiting:
                crew = self._crew(reference, waiting, kept, reached)
                if not crew:
                    continue
                self._play(reference, crew)
                waiting[:0] = [contestant for contestant in crew if contestant.verdict is None]
                done = [contestant for contestant in crew if contestant.verdict is not None]
                for contestant in done:
                    if contestant.verdict.status != "evaluator_error":
                        about = {"task": task.id, "revision": task.revision, "seed": self.seed}
                        kept.put(contestant.key, contestant.verdict, candidate=contestant.candidate.sha256, **about)
                for contestant in done:  # all are kept by now: a report can end the run
                    reached(contestant, contestant.verdict)
            reference.close()
        except BaseException:
            discard_zygote(self.device)  # a question may be left open on its channel
            raise
        finally:
            for contestant in contestants:
                contestant.close()
        return verdicts

    def judge_one(self, reference: Lazily, candidate: Candidate) -> Verdict:
        """One candidate's verdict; it is neither looked up nor kept."""
        contestant = _Contestant(self, candidate)
        try:
            while contestant.verdict is None:
                self._play(reference, [contestant])
        finally:
            contestant.close()
        return contestant.verdict

    def _crew(
        self,
        reference: Lazily,
        waiting: list["_Contestant"],
        kept: VerdictStore,
        reached: Callable[["_Contestant", Verdict], None],
    ) -> list["_Contestant"]:
        """The next who are judged together, no longer `waiting`: who has waited longest, and who was judged before, first.

        Who is to be judged `alone` is. Whose verdict another job reaches is put off; who has one by then is `reached`.
        """
        crew: list[_Contestant] = []
        most = CREW if self.device == "cpu" and reference.call_bytes <= CREWED else 1
        for contestant in list(waiting):
            if len(crew) >= (1 if crew and crew[0].alone else most):
                break
            if crew and contestant.alone:
                continue
            if not contestant.claim(kept, wait=False):
                continue
            waiting.remove(contestant)
            verdict = None if contestant.tries else kept.get(contestant.key)  # another job may have judged it meanwhile
            if verdict is None:
                crew.append(contestant)
            else:
                reached(contestant, verdict)
        if not crew and waiting:  # nobody here holds a claim now, so that no two jobs wait for each other
            waiting[0].claim(kept, wait=True)
        return crew

    def _play(self, reference: Lazily, crew: Sequence["_Contestant"]) -> None:
        """Judge a crew as far as one worker each goes; who has no verdict afterwards needs another.

        What can have been our own fault, or the machine's, is tried once more, alone.
        """
        for contestant in crew:
            contestant.fault = contestant.worker = None
            contestant.tries += not contestant.groups
        began = time.monotonic()
        ready: Reference | None = None
        try:
            ready = reference.get()
            self.report_clock(ready)
            began = time.monotonic()  # the reference's own start is no candidate's cost
            self._examine(ready, crew)
        except Fault as fault:
            self._lost(crew, fault)
        except Exception as error:  # a mistake of ours must neither end the job nor count against a candidate
            self._lost(crew, Fault("evaluator_error", f"{type(error).__name__}: {error}"))
        finally:
            for place, contestant in enumerate(crew):
                with contextlib.suppress(Fault):  # their parent is dead, and so are they
                    contestant.workers.end()
                seat = contestant.workers.seat(place)
                if ready is not None and seat is not None and ready.stage is not None:
                    ready.stage.clear(seat)
            for contestant in crew:
                contestant.wall_s += (time.monotonic() - began) / len(crew)
        if any(contestant.fault and contestant.fault.status == "evaluator_error" for contestant in crew):
            reference.close()
        for contestant in crew:
            if contestant.fault is not None:
                self._conclude(contestant, contestant.fault)
            if contestant.verdict is not None:
                contestant.verdict = self._about(contestant, contestant.verdict)

    @staticmethod
    def _lost(crew: Sequence["_Contestant"], fault: Fault) -> None:
        for contestant in crew:
            contestant.fault = contestant.fault or fault.to_keep()

    def _conclude(self, contestant: "_Contestant", fault: Fault) -> None:
        """The verdict on one with a fault, unless another try could give another."""
        hangs = fault.status == "timeout" and contestant.workers.cpu_s > self.config.timeout_s / 2  # it would again
        again = fault.status == "evaluator_error" or (fault.died and not hangs)
        if again and contestant.tries < 2:
            contestant.begin_again()
            return
        error = fault.max_abs_err
        largest = error if error and math.isfinite(error) else None
        contestant.verdict = Verdict(fault.status, fault.reason, max_abs_err=largest)

    def _about(self, contestant: "_Contestant", verdict: Verdict) -> Verdict:
        """A verdict with what is known of its candidate anyway."""
        candidate, workers = contestant.candidate, contestant.workers
        return replace(
            verdict,
            kernelbench_correct=contestant.checks.kernelbench,
            evaluate_wall_s=contestant.wall_s,
            language=candidate.language,
            trust=trust(candidate.language),
            reference_fallback=falls_back(candidate.program or "", candidate.language),
            evaluate_cpu_s=workers.cpu_s,
            build_cpu_s=workers.build_cpu_s,
            device=self.identity,
        )

    def _examine(self, reference: Reference, crew: Sequence["_Contestant"]) -> None:
        """Compare, time: a group, a verdict or a fault for each. Raises the reference's Faults."""
        protocol, delta = self.config.resolved, self.config.delta
        self._start(reference, crew)
        seconds = self._correct(reference, crew)
        self._make_room(crew)
        entrants = {c: self._entrant(reference, c, place) for place, c in enumerate(crew) if c.worker and not c.fault}
        if not entrants:
            return
        block_s = self.config.block_ms / 1e3
        # the faster of the two fills a block; large outputs take memory that the survey's fastest call need not wait for
        large = self.device == "cpu" and reference.call_bytes > CREWED
        fastest = max(LEAST_CALL_S, min(seconds, reference.trial_s if large else reference.call_s))
        calls = max(2, min(math.ceil(block_s / fastest), reference.stage.changing))
        measure(reference, list(entrants.values()), calls, block_s, protocol, delta, self.device, self.state)
        for contestant, entrant in entrants.items():
            contestant.fault = entrant.fault
            if entrant.group is not None:
                contestant.groups.append(entrant.group)
                timing = combine(contestant.groups)
                if enough(timing, protocol, delta):
                    contestant.verdict = self._timed(reference, contestant, timing)

    def _start(self, reference: Reference, crew: Sequence["_Contestant"]) -> None:
        """A worker for each; if one was timed before, the reference gets a new one, too.

        Then in random order: who gets the better memory is a toss. All have ended before any starts: a new worker is given
        the memory that was freed last, and each side would have its own back.
        """
        places: list[int | None] = list(range(len(crew)))
        if any(contestant.groups for contestant in crew):
            reference.retire()
            places.append(None)
            random.shuffle(places)
        for place in places:
            if place is None:
                reference.renew()
                continue
            with crew[place].charged():
                crew[place].worker = crew[place].workers.start(reference, place)

    def _make_room(self, crew: Sequence["_Contestant"]) -> None:
        """Who would have the crew hold more memory than one candidate may have is judged alone."""
        held = 0
        for place, contestant in enumerate(crew):
            if contestant.worker and not contestant.fault:
                held += contestant.worker.resident_bytes()
                if place and held > self.config.memory_mb << 20:
                    contestant.workers.end()
                    contestant.worker, contestant.alone = None, True
                    contestant.tries -= not contestant.groups

    def _entrant(self, reference: Reference, contestant: "_Contestant", place: int) -> Entrant:
        like, checks = reference.item(0).expectation, contestant.checks

        def check(expected: list[torch.Tensor], actual: list[torch.Tensor]) -> None:
            checks.timed(expected, actual, like)

        return Entrant(contestant.worker, check, contestant.workers.seat(place), list(contestant.groups))

    def _timed(self, reference: Reference, contestant: "_Contestant", timing: Timing) -> Verdict:
        """The verdict on one whose timing is done."""
        calls = min(group.calls for group in timing.groups)
        sm_clocks, memory_clocks, throttling = together(timing.readings)
        runtime_us, reference_us = (statistics.median(times) for times in (timing.runtime_us, timing.reference_us))
        verdict = Verdict(
            "correct",
            correct=True,
            fast_1=timing.speedup > 1,
            fast=timing.low > 1 + self.config.delta,
            speedup=timing.speedup,
            speedup_low=timing.low,
            speedup_high=timing.high,
            headroom=self.gate.headroom(reference.work, reference_us / 1e6, calls),
            paper_speedup=timing.paper_speedup,
            runtime_us=runtime_us,
            reference_us=reference_us,
            runtime_times_us=timing.runtime_us,
            reference_times_us=timing.reference_us,
            reference_first=timing.reference_first,
            max_abs_err=contestant.checks.largest,
            clock=timing.clock,
            sm_clocks_mhz=sm_clocks,
            memory_clocks_mhz=memory_clocks,
            throttling=throttling,
        )
        claim = self.gate.objection(reference.work, runtime_us / 1e6, calls, reference.overhead_s / calls)
        if claim:  # the times stay, as evidence
            nothing = {"correct": False, "fast_1": False, "fast": False, "speedup": 0.0}
            verdict = replace(verdict, status="implausible", reason=claim, **nothing)
        return verdict

    def _correct(self, reference: Reference, crew: Sequence["_Contestant"]) -> float:
        """Every correctness trial of a crew; the shortest time of its calls at the task's own shape, seconds."""
        seconds = math.inf
        for items in reference.trials_by_slot():
            left = [
                (place, contestant)
                for place, contestant in enumerate(crew)
                if contestant.worker and not contestant.fault
            ]
            if not left:
                break
            for place, contestant in left:
                with contestant.charged():
                    took_s = self._tried(reference, contestant, place, items)
                    if own_shape(items.values()):
                        seconds = min(seconds, took_s)
        for contestant in crew:
            contestant.fault = contestant.fault or contestant.checks.fault
        return seconds

    def _tried(self, reference: Reference, contestant: "_Contestant", place: int, items: Mapping[int, Item]) -> float:
        """Of those trials that can still change the verdict, one by one or together: seconds a call; infinite without any.

        Raises Fault; see also the checks' own.
        """
        worker, checks, seat = contestant.worker, contestant.checks, contestant.workers.seat(place)
        items = {slot: item for slot, item in items.items() if checks.wants(item)}
        worker.prepare({slot: item.forms for slot, item in items.items()})
        took_s = math.inf
        # slots can share a place for outputs
        for slots in [list(items)] if seat is None and items else [[slot] for slot in items]:
            if seat is not None:
                reference.stage.poison(seat, slots[0])
            block = worker.run(slots)
            took_s = min(took_s, block.call_s / len(slots))
            for slot in slots:
                try:
                    checks.correct(worker.read(block, slot, items[slot].output_form), items[slot])
                except Fault as fault:
                    checks.wrong(fault, items[slot])
            if reference.changed(worker, {slot: items[slot].inputs for slot in slots}):
                raise Fault("wrong_output", "it changes its inputs")
        return took_s


class _Contestant:
    """A candidate on its way to a verdict."""

    def __init__(self, run: _Run, candidate: Candidate, key: str = "") -> None:
        self.key, self.candidate = key, candidate
        self.worker: Worker | None = None
        """The present one."""
        self.wall_s = 0.0
        """Spent on it so far: of what was done for several at a time, its share."""
        self.alone = False
        """Whether it is to be judged without others."""
        self.tries = 0
        self.verdict: Verdict | None = None
        self._run = run
        self._claim: contextlib.ExitStack | None = None
        self._begin()

    def _begin(self) -> None:
        config = self._run.config
        self.workers = Workers(self._run, self.candidate)
        self.checks = Checks(Tolerance(config.atol, config.rtol))
        self.groups: list[Group] = []
        self.fault: Fault | None = None

    def begin_again(self) -> None:
        """Forget what was found out; the next try is without others."""
        self.workers.close()
        self.alone = True
        self.wall_s = 0.0
        self._begin()

    @contextlib.contextmanager
    def charged(self) -> Iterator[None]:
        """A Fault is its own, unless it is the evaluator's."""
        try:
            yield
        except Fault as fault:
            self.fault = fault.to_keep()

    def claim(self, kept: VerdictStore, *, wait: bool) -> bool:
        """Hold its key against other jobs, from now on; whether it does."""
        if self._claim is None:
            stack = contextlib.ExitStack()
            if not stack.enter_context(kept.claim(self.key, wait=wait)):
                stack.close()
                return False
            self._claim = stack
        return True

    def close(self) -> None:
        """End its worker, and let go of its key."""
        self.workers.close()
        if self._claim is not None:
            self._claim.close()
            self._claim = None
