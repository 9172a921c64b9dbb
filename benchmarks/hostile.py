"""What many hostile candidates in a row leave behind, and whether honest ones are judged as fast after them as before.

The peer is the evaluator itself before the hostile candidates: the ratio is the CPU time (of judge, zygote and workers)
of honest verdicts after them over before. `VEGFLOW_HOSTILE` sets their number, 1000 if unset.
"""

import contextlib
import os
import statistics
from collections import Counter
from pathlib import Path

from tests.hacks.corpus import TASKS
from tests.hacks.hostile import HACKS
from tests.hacks.judging import CONFIG
from vegflow.config.evaluation import EvaluationConfig
from vegflow.evaluation.candidate import Candidate
from vegflow.evaluation.judge import evaluate_candidates
from vegflow.evaluation.nursery import shared_zygote

COUNT = int(os.environ.get("VEGFLOW_HOSTILE", "1000"))
HONEST = 12
ROUNDS = 3
PACE = CONFIG.model_copy(update={"timing_trials": 3, "timeout_s": 0.5, "delta": 100.0})
HONEST_PACE = EvaluationConfig(device="cpu", timing_trials=3, delta=100.0)
"""Every one of three pairs: how fast they are is decided at the first look."""
SLOW = {
    "drips its answer",
    "ignores every signal and waits",
    "never ends its loading",
    "sends nothing any more",
    "stops itself",
    "two thousand threads with small stacks",
}
"""Left out: nearly all of their time is the patience they are given."""


def run() -> dict:
    """Judge honest ones, hostile ones, honest ones again; print a table, return the figures."""
    cheap = [hack for hack in HACKS if not hack.needs and hack.name not in SLOW]
    candidates = [cheap[index % len(cheap)].candidate(index) for index in range(COUNT)]
    _honest_cpu_s(-1)  # the zygote is there, and the caches are warm
    before = [_honest_cpu_s(index) for index in range(ROUNDS)]
    zygote = shared_zygote("cpu").process.pid
    traces = _traces()
    verdicts = evaluate_candidates(candidates, TASKS, PACE)
    left = {name: sorted(now - traces[name]) for name, now in _traces().items()}
    after = [_honest_cpu_s(ROUNDS + index) for index in range(ROUNDS)]
    ratio = statistics.median(after) / statistics.median(before)
    statuses = Counter(verdict.status for verdict in verdicts)
    rows = {
        "hostile candidates": len(verdicts),
        **{f"  {status}": number for status, number in statuses.most_common()},
        **{f"{name} left": len(found) for name, found in left.items()},
        "zygote replaced": int(shared_zygote("cpu").process.pid != zygote),
        "CPU-ms an honest verdict, before": round(statistics.median(before) * 1e3, 1),
        "CPU-ms an honest verdict, after": round(statistics.median(after) * 1e3, 1),
        "after / before": round(ratio, 3),
    }
    for name, value in rows.items():
        print(f"{name:34}{value:>12}")
    for verdict in verdicts:
        if verdict.status == "evaluator_error":
            print(f"evaluator_error: {verdict.reason}")
    for name, found in left.items():
        for what in found[:5]:
            print(f"{name} left: {what}")
    return {
        "figures": {
            "hostile": len(verdicts),
            "statuses": dict(statuses),
            "left": {name: len(found) for name, found in left.items()},
            "honest_cpu_s_before": round(statistics.median(before), 4),
            "honest_cpu_s_after": round(statistics.median(after), 4),
        },
        "peer": "the same evaluator before them",
        "ratio": round(ratio, 3),
    }


def _honest_cpu_s(round_: int) -> float:
    """CPU seconds a verdict on honest programs, none of which was judged before."""
    task = TASKS["softsign"]
    text = task.source.replace("class Model(", "class ModelNew(")
    zygote = shared_zygote("cpu").process.pid
    start = _cpu_s(zygote)
    candidates = [Candidate(task.id, f"{text}\nOWN = {round_}, {index}\n") for index in range(HONEST)]
    verdicts = evaluate_candidates(candidates, TASKS, HONEST_PACE)
    assert all(verdict.status == "correct" for verdict in verdicts), verdicts
    return (_cpu_s(zygote) - start) / HONEST


def _cpu_s(zygote: int) -> float:
    """CPU seconds of this process, the zygote and the workers it has buried."""
    fields = Path(f"/proc/{zygote}/stat").read_text().rpartition(")")[2].split()
    own = os.times()
    return own.user + own.system + sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def _traces() -> dict[str, set[str]]:
    """What a candidate could leave behind on this machine, by kind; files by the name that all of ours begin with."""
    judge, zygote = os.getpid(), shared_zygote("cpu").process.pid
    held = {pid: _descriptors(pid) for pid in (judge, zygote)}
    return {
        "processes": {str(pid) for pid in _descendants(judge)},
        # sockets have another name each time: what counts is how many there are
        "descriptors": {f"{pid}: number {index}" for pid, names in held.items() for index in range(len(names))},
        "memory files": {f"{pid}: {name}" for pid, names in held.items() for name in names if "memfd:" in name},
        "files in /tmp": {name for name in os.listdir("/tmp") if name.startswith("vegflow")},
        "files in /dev/shm": {name for name in os.listdir("/dev/shm") if name.startswith("vegflow")},
        "System V objects": {
            f"{kind} {line.split()[1]}"
            for kind in ("shm", "sem", "msg")
            for line in Path(f"/proc/sysvipc/{kind}").read_text().splitlines()[1:]
        },
    }


def _descriptors(pid: int) -> list[str]:
    names = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # that of the listing itself
            names.append(os.readlink(entry))
    return names


def _descendants(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").iterdir()
    children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    return children + [below for child in children for below in _descendants(child)]
