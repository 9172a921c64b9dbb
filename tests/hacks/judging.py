"""What the evaluator makes of the two corpora, and whether that is right: shared by the tests and `python -m tests.hacks`."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import torch

from tests.hacks.corpus import MOST_SPEEDUP, TASKS, Hack
from tests.hacks.honest import Honest
from vegflow.candidates.scaffold import assemble
from vegflow.config.evaluation import EvaluationConfig
from vegflow.evaluation.candidate import Candidate
from vegflow.evaluation.device import resolve_device
from vegflow.evaluation.judge import evaluate_candidates, isolation_report
from vegflow.evaluation.nursery import shared_zygote
from vegflow.evaluation.verdict import Verdict
from vegflow.tasks.catalogue import builtin_tasks
from vegflow.tasks.task import Task

CONFIG = EvaluationConfig(timeout_s=2.0, timing_trials=11)  # so that noise alone makes hardly anything `fast`
MARK = "vegflow-answers"
"""In the names of all files that hostile candidates try to leave."""
MOST_DESCRIPTORS = 100
HONEST_CONFIG = EvaluationConfig(timing_trials=3, block_ms=0.2, delta=100.0)
"""What counts is whether they are accepted: how fast they are is decided at the first look."""


def runs_here(hack: Hack) -> bool:
    """Whether this machine has what the hack needs."""
    return not hack.needs or torch.cuda.is_available()


def judge_hacks(hacks: Iterable[Hack]) -> dict[Hack, Verdict]:
    """The verdict on each hack that can run here."""
    here = [hack for hack in hacks if runs_here(hack)]
    verdicts = evaluate_candidates([hack.candidate() for hack in here], TASKS, CONFIG)
    return dict(zip(here, verdicts, strict=True))


def fault_of(hack: Hack, verdict: Verdict) -> str:
    """What is wrong with the verdict on a hostile candidate; empty if it is caught or gains nothing."""
    if verdict.status not in hack.statuses:
        return f"is {verdict.status} ({verdict.reason}), right would be: {', '.join(hack.statuses)}"
    if verdict.fast and verdict.speedup > MOST_SPEEDUP:
        return f"gains: {verdict.speedup:.2f} [{verdict.speedup_low:.2f}, {verdict.speedup_high:.2f}]"
    if "it could" in verdict.reason:
        return "could do what it must not"
    if not verdict.reason.isprintable():
        return "its reason is not fit to be printed"
    return ""


def left_behind() -> list[str]:
    """What candidates have left on this machine, once all are judged."""
    zygote = shared_zygote(resolve_device(CONFIG.device)).process.pid
    children = Path(f"/proc/{zygote}/task/{zygote}/children").read_text().split()
    files = [f"{place}/{name}" for place in ("/tmp", "/dev/shm") for name in os.listdir(place) if MARK in name]
    descriptors = [os.readlink(f"/proc/{zygote}/fd/{fd}") for fd in os.listdir(f"/proc/{zygote}/fd")]
    found = [f"process {pid}" for pid in children] + files
    found += [name for name in descriptors if "memfd:" in name]
    mine = len(os.listdir("/proc/self/fd"))
    return found + ([f"{mine} descriptors of the judge"] if mine > MOST_DESCRIPTORS else [])


def lacking() -> list[str]:
    """Layers of isolation that this machine lacks; without them some hacks cannot be stopped."""
    return [f"{name}: {what}" for name, what in isolation_report().items() if what.startswith("lacking")]


def judge_honest(programs: Iterable[Honest]) -> dict[Honest, Verdict]:
    """The verdict on each honest program, each task's in one go."""
    tasks = builtin_tasks("cpu")
    programs = list(programs)
    candidates = [_candidate(program, tasks) for program in programs]
    return dict(zip(programs, evaluate_candidates(candidates, tasks, HONEST_CONFIG), strict=True))


def _candidate(honest: Honest, tasks: Mapping[str, Task]) -> Candidate:
    if honest.language != "python":
        return Candidate(honest.task_id, honest.text, language=honest.language)
    extraction = assemble(honest.text, tasks[honest.task_id], honest.scaffold)
    return Candidate(honest.task_id, extraction.code, extraction.reason)
