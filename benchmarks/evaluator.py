"""Candidates per second and CPU-seconds each: our evaluator against a fresh interpreter for every candidate.

The peer is how KernelBench's batch script isolates: a new process that imports torch, seeds, compares on as many inputs
and times reference and candidate as often as ours did on average. It is written out here, and does less than ours: its
timed calls all have the same inputs and nobody looks at their outputs, its oracle is the reference, and a candidate's
process is its own judge. It is slow, so one correct program of each task and some failures are run, and the rest of a
batch is taken to cost as much (of duplicates every one: KernelBench judges each).

`VEGFLOW_DISTINCT` distinct programs a task (20 if unset), `VEGFLOW_SINGLE` programs for each kind of cost (20), and
`VEGFLOW_CATALOGUE` for the cost on each task of the catalogue (none; four take seven minutes).
"""

import json
import math
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pyarrow.parquet as pq
import torch

from benchmarks._programs import TASKS, candidate_of, distinct, forms_of, proportional
from vegflow.config.evaluation import EvaluationConfig
from vegflow.evaluation.candidate import Candidate
from vegflow.evaluation.judge import evaluate_candidates
from vegflow.evaluation.nursery import discard_zygote, shared_zygote
from vegflow.evaluation.reference import Reference
from vegflow.evaluation.rounds import Entrant, measure
from vegflow.evaluation.verdict import Verdict

CONFIG = EvaluationConfig(device="cpu")
DISTINCT = int(os.environ.get("VEGFLOW_DISTINCT", "20"))
SINGLE = int(os.environ.get("VEGFLOW_SINGLE", "20"))
CATALOGUE = int(os.environ.get("VEGFLOW_CATALOGUE", "0"))
BATCH_TASKS = ("L1/1", "L1/12", "L1/30", "L1/40", "L1/67", "L1/95")
"""A product, a broadcast, an activation, a normalisation, a convolution, a loss; 0.05 to a few milliseconds a call."""
FIRST_TASK = "L1/31"
"""Not one of those."""
STORES = ("once", "distinct", "repeats", "single")
SAMPLES = 64
MOST_CALLS = 32
MOST_CPU_S = 0.05
"""What a PyTorch program should cost at most beyond its own running."""
REPEATS = ([56, 8], [61, 2, 1], [50, 13, 1], [54, 7, 2, 1], [54, 6, 1, 1, 1, 1], [26, 15, 6, 5, 3, 2, 2, 1, 1, 1, 1, 1])
"""How often each distinct completion comes among 64 samples of a task, where there are no results to take it from: least,
quartiles and most of 40 groups of the default study (their mean number of distinct ones is 4.8)."""
PEER_TIMEOUT_S = 300.0

SOFTSIGN = """
#include <math.h>
int forward(const vegflow_tensor *inputs, int n_inputs, vegflow_tensor *outputs, int n_outputs) {
  const float *x = (const float *)inputs[0].data;
  float *y = (float *)outputs[0].data;
  int64_t n = 1;
  for (int d = 0; d < inputs[0].ndim; d++) n *= inputs[0].shape[d];
  for (int64_t i = 0; i < n; i++) y[i] = x[i] / (1 + fabsf(x[i]));
  return 0;
}
"""

DIAGONAL = """
int forward(const vegflow_tensor *inputs, int n_inputs, vegflow_tensor *outputs, int n_outputs) {
  const float *a = (const float *)inputs[0].data, *b = (const float *)inputs[1].data;
  float *y = (float *)outputs[0].data;
  for (int64_t i = 0; i < inputs[1].shape[0]; i++)
    for (int64_t j = 0; j < inputs[1].shape[1]; j++) y[i * inputs[1].shape[1] + j] = a[i] * b[i * inputs[1].shape[1] + j];
  return 0;
}
"""

PEER = """
import json, statistics, sys, time
import torch
task, program, trials, timings, block_s, most_calls = json.loads(sys.stdin.read())
torch.set_num_threads(1)
reference, candidate = {}, {}
exec(task, reference)
exec(program, candidate)
torch.manual_seed(42); model = reference["Model"](*reference["get_init_inputs"]())
torch.manual_seed(42); other = candidate["ModelNew"](*reference["get_init_inputs"]())
with torch.no_grad():
    for seed in range(trials):
        torch.manual_seed(seed)
        inputs = reference["get_inputs"]()
        start = time.perf_counter()
        expected = model(*inputs)
        seconds = time.perf_counter() - start
        output = other(*inputs)
        assert expected.shape == output.shape and torch.allclose(expected, output, atol=1e-4, rtol=1e-4)
    calls = max(1, min(most_calls, round(block_s / seconds)))
    ratios = []
    for _ in range(timings + 1):
        times = []
        for m in (model, other):
            start = time.perf_counter()
            for _ in range(calls):
                m(*inputs)
            times.append(time.perf_counter() - start)
        ratios.append(times[0] / times[1])
print(statistics.median(ratios))
"""


@dataclass(frozen=True)
class Cost:
    """Of some judging."""

    wall_s: float
    cpu_s: float

    def __add__(self, other: "Cost") -> "Cost":
        return Cost(self.wall_s + other.wall_s, self.cpu_s + other.cpu_s)


def run() -> dict[str, Any]:
    """Measure both, print tables, return the figures."""
    with tempfile.TemporaryDirectory(prefix="vegflow-benchmark-") as folder:
        return _measure(Path(folder))


def _measure(machine: Path) -> dict[str, Any]:
    """As `run`; `machine` is an empty directory for the store that all others are copies of."""
    random.seed(0)
    _say("a first verdict: the page cache is warm for all that follow, and the device's ceilings are known")
    _judge([candidate_of(TASKS[FIRST_TASK], _honest(FIRST_TASK))], machine)

    _say("one candidate of each task: what starting costs, with nothing and then with the surveys known")
    once = machine / "once"
    one, start, _ = _judge([candidate_of(TASKS[task], _honest(task), -1) for task in BATCH_TASKS], machine, once)
    two, known, _ = _judge([candidate_of(TASKS[task], _honest(task), -2) for task in BATCH_TASKS], once)
    _expect_correct(one + two)

    _say(f"{DISTINCT} distinct programs of each of {len(BATCH_TASKS)} tasks")
    forms = {task: proportional(forms_of(task), DISTINCT) for task in BATCH_TASKS}
    bodies = [(task, form.body) for task in BATCH_TASKS for form in forms[task]]
    random.shuffle(bodies)
    batch = [candidate_of(TASKS[task], body, number) for number, (task, body) in enumerate(bodies)]
    verdicts, whole, trials = _judge(batch, machine, machine / "distinct")
    further_s = statistics.fmean(verdict.evaluate_wall_s for verdict in verdicts)  # the references' starts left out
    statuses = Counter(verdict.status for verdict in verdicts)

    _say(f"{SAMPLES} samples of each task, with repeats")
    counts, source = _repeats()
    samples = [
        (task, form.body, copies)
        for task, of_task in zip(BATCH_TASKS, counts, strict=True)
        for form, copies in zip(_common(task, len(of_task)), of_task, strict=False)
    ]
    repeated = [candidate_of(TASKS[task], body) for task, body, copies in samples for _ in range(copies)]
    random.shuffle(repeated)
    with_repeats, realistic, _ = _judge(repeated, machine, machine / "repeats")

    pairs = {task: _mean_pairs(verdicts, batch, task) for task in BATCH_TASKS}
    peer_correct, peer_failed = _peers(trials, pairs)
    peer_distinct = _extrapolate(batch, verdicts, peer_correct, peer_failed)
    peer_repeats = _extrapolate(repeated, with_repeats, peer_correct, peer_failed)
    ratio_distinct = peer_distinct.wall_s / whole.wall_s
    ratio_repeats = peer_repeats.wall_s / realistic.wall_s
    further_ratio = peer_distinct.wall_s / len(batch) / further_s

    n, m = len(batch), len(repeated)
    head = f"{'':46}{'vegflow':>12}{'fresh python':>14}{'ratio':>8}"
    print(head)
    print(f"all distinct: {n} programs of {len(BATCH_TASKS)} tasks, {statuses['correct']} of them correct")
    _row("  per second, start included", n / whole.wall_s, n / peer_distinct.wall_s, ratio_distinct)
    _row("  per second, each further one", 1 / further_s, n / peer_distinct.wall_s, further_ratio)
    _row(
        "  CPU-seconds each, start included",
        whole.cpu_s / n,
        peer_distinct.cpu_s / n,
        peer_distinct.cpu_s / whole.cpu_s,
    )
    print(f"realistic: {SAMPLES} samples a task, {len(samples)} distinct of {m} (repeats: {source})")
    _row("  per second, start included", m / realistic.wall_s, m / peer_repeats.wall_s, ratio_repeats)
    _row("  CPU-seconds each", realistic.cpu_s / m, peer_repeats.cpu_s / m, peer_repeats.cpu_s / realistic.cpu_s)
    print(
        f"start (zygote, {len(BATCH_TASKS)} references and a candidate each): {start.wall_s:.1f} s, {start.cpu_s:.1f} CPU-s; "
        f"with the tasks' surveys known {known.wall_s:.1f} s, {known.cpu_s:.1f} CPU-s"
    )
    runs = len(peer_correct) + len(peer_failed)
    print(f"The peer's figures are extrapolated from {runs} runs: a correct program of each task, and some failures.")
    for task in BATCH_TASKS:
        mine = [v for v, c in zip(verdicts, batch, strict=True) if c.task_id == task and v.correct]
        print(
            f"  {task:6} {_median(mine):9.0f} µs a call, {pairs[task]:5.1f} pairs, {trials[task]} inputs; a correct one: "
            f"ours {statistics.fmean(v.evaluate_wall_s for v in mine):.2f} s, peer {peer_correct[task].wall_s:.2f} s"
        )

    beyond = costs_beyond(machine)
    figures = {
        "candidates_distinct": n,
        "share_correct": statuses["correct"] / n,
        "candidates_per_s": n / whole.wall_s,
        "candidates_per_s_further": 1 / further_s,
        "cpu_s_per_candidate": whole.cpu_s / n,
        "start_s": start.wall_s,
        "start_cpu_s": start.cpu_s,
        "start_known_s": known.wall_s,
        "samples_per_s": m / realistic.wall_s,
        "cpu_s_per_sample": realistic.cpu_s / m,
        "peer_candidates_per_s": n / peer_distinct.wall_s,
        "peer_cpu_s_per_candidate": peer_distinct.cpu_s / n,
        "peer_samples_per_s": m / peer_repeats.wall_s,
        "ratio_distinct": ratio_distinct,
        "ratio_distinct_further": further_ratio,
        "ratio_realistic": ratio_repeats,
        "ratio_distinct_cpu": peer_distinct.cpu_s / whole.cpu_s,
        "ratio_realistic_cpu": peer_repeats.cpu_s / realistic.cpu_s,
    } | beyond
    return {
        "figures": {name: round(value, 4) for name, value in figures.items()},
        "peer": f"a fresh Python interpreter a candidate, extrapolated; torch {torch.__version__}",
        "ratio": round(ratio_repeats, 2),
    }


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _row(what: str, ours: float, theirs: float, ratio: float | None = None) -> None:
    print(f"{what:46}{ours:12.3f}{theirs:14.3f}" + (f"{ratio:8.1f}" if ratio is not None else ""))


def _honest(task: str) -> str:
    """The most common honest body of a task."""
    return next(form.body for form in forms_of(task) if form.kind == "honest")


def _common(task: str, count: int) -> list:
    """The `count` most common forms of a task; fewer if it has not so many."""
    return forms_of(task)[:count]


def _repeats() -> tuple[list[list[int]], str]:
    """How often each distinct completion of a task comes, largest first, for each benchmark task; and the source."""
    groups: list[list[int]] = []
    for path in sorted(Path("results").glob("*/rollouts/*/seed*/*/*.parquet")):
        table = pq.read_table(path, columns=["task_id", "policy_id", "seed", "completion"]).to_pylist()
        found: dict[tuple, Counter] = {}
        for row in table:
            found.setdefault((row["task_id"], row["policy_id"], row["seed"]), Counter())[row["completion"]] += 1
        groups += [[n for _, n in c.most_common()] for c in found.values() if sum(c.values()) == SAMPLES]
    if len(groups) < len(BATCH_TASKS):
        return [list(counts) for counts in REPEATS], "six groups of the default study"
    groups.sort(key=len)
    places = [round(i * (len(groups) - 1) / (len(BATCH_TASKS) - 1)) for i in range(len(BATCH_TASKS))]
    return [groups[place] for place in places], f"quantiles of {len(groups)} groups of {SAMPLES} in the results here"


def _judge(
    candidates: Sequence[Candidate], store: Path, copy: Path | None = None
) -> tuple[list[Verdict], Cost, dict[str, int]]:
    """Verdicts, what they cost from no process to no process, and how many inputs a candidate of each task was tried on.

    With a `copy`, the store is a new copy of `store`.
    """
    discard_zygote("cpu")
    if copy is not None:
        shutil.copytree(store, copy, ignore=lambda folder, names: STORES)
    wall, cpu = time.perf_counter(), _ended_cpu_s()
    verdicts = evaluate_candidates(candidates, TASKS, CONFIG, store=copy or store, progress=_progress)
    discard_zygote("cpu")
    cost = Cost(time.perf_counter() - wall, _ended_cpu_s() - cpu)
    trials = _trials(copy or store)
    print(file=sys.stderr)
    broken = [verdict for verdict in verdicts if verdict.status == "evaluator_error"]
    assert not broken, broken[:3]
    return verdicts, cost, trials


def _progress(done: int, total: int, text: str) -> None:
    if not text.startswith("isolation"):
        print(f"\r  {done} of {total} {text:40}", end="", file=sys.stderr, flush=True)


def _trials(store: Path) -> dict[str, int]:
    """How many inputs a candidate of each task is compared on."""
    entries = [json.loads(path.read_text()) for path in store.glob("*/*.json")]
    least = CONFIG.resolved.correctness_trials
    return {e["task"]: max(least, len(e["survey"]["variants"])) for e in entries if "survey" in e}


def _ended_cpu_s() -> float:
    """CPU seconds of this process and of all its descendants that have ended."""
    return sum(os.times()[:4])


def _expect_correct(verdicts: Sequence[Verdict]) -> None:
    assert all(verdict.correct for verdict in verdicts), [v for v in verdicts if not v.correct]


def _mean_pairs(verdicts: Sequence[Verdict], candidates: Sequence[Candidate], task: str) -> float:
    """Pairs of timings a correct candidate of a task got, on average."""
    counts = [
        len(verdict.runtime_times_us or ())
        for verdict, candidate in zip(verdicts, candidates, strict=True)
        if candidate.task_id == task and verdict.correct
    ]
    return statistics.fmean(counts) if counts else float(CONFIG.resolved.least_pairs)


def _median(verdicts: Sequence[Verdict]) -> float:
    return statistics.median(verdict.reference_us or 0.0 for verdict in verdicts) if verdicts else math.nan


def _peers(trials: dict[str, int], pairs: dict[str, float]) -> tuple[dict[str, Cost], list[Cost]]:
    """What the peer takes for a correct program of each task, and for failures of some."""
    correct, failed = {}, []
    for task in BATCH_TASKS:
        _say(f"peer: {task}")
        inputs = trials.get(task, CONFIG.resolved.correctness_trials)
        correct[task] = _peer(task, _honest(task), inputs, round(pairs[task]), works=True)
        if len(failed) < 4:
            for kind in ("wrong", "broken"):
                body = next((form.body for form in forms_of(task) if form.kind == kind and form.style != "dtype"), None)
                if body is not None:
                    failed.append(_peer(task, body, inputs, round(pairs[task]), works=False))
    return correct, failed


def _peer(task: str, body: str, trials: int, timings: int, *, works: bool) -> Cost:
    text = candidate_of(TASKS[task], body).program or body  # what does not parse fails there in `exec`
    request = [TASKS[task].source, text, trials, timings, CONFIG.block_ms / 1e3, MOST_CALLS]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    wall, cpu = time.perf_counter(), _ended_cpu_s()
    done = subprocess.run(
        [sys.executable, "-c", PEER],
        input=json.dumps(request),
        text=True,
        capture_output=True,
        env=environment,
        timeout=PEER_TIMEOUT_S,
    )
    cost = Cost(time.perf_counter() - wall, _ended_cpu_s() - cpu)
    assert (done.returncode == 0) == works, (task, body, done.stderr[-500:])
    return cost


def _extrapolate(
    candidates: Sequence[Candidate], verdicts: Sequence[Verdict], correct: dict[str, Cost], failed: Sequence[Cost]
) -> Cost:
    """What the peer would take for all of them, one after the other."""
    failure = Cost(statistics.fmean(c.wall_s for c in failed), statistics.fmean(c.cpu_s for c in failed))
    total = Cost(0.0, 0.0)
    for candidate, verdict in zip(candidates, verdicts, strict=True):
        total += correct[candidate.task_id] if verdict.correct else failure
    return total


def costs_beyond(machine: Path) -> dict[str, float]:
    """CPU seconds beyond a candidate's own running, by kind of candidate; prints a table. `machine` as in `_measure`.

    On calls whose inputs and outputs have 0.5, 2 and 8 MB: 15, 52 and 85 of the 100 tasks have no more.
    """
    print("CPU-seconds beyond a candidate's own calls (judge, zygote, all workers and compilers)")
    print(
        f"{'':34}{'all':>8}{'own':>8}{'beyond':>8}{'pairs':>7}  of it, timing: {'reference':>9}{'judge':>7}{'itself':>7}"
        f"  and without timing: {'all':>7}{'build':>7}{'judge':>7}"
    )
    kinds = {
        "pytorch_half_mb": ("L1/12", _honest("L1/12"), "python"),
        "pytorch_2_mb": ("L1/88", _honest("L1/88"), "python"),
        "pytorch_8_mb": ("L1/30", _honest("L1/30"), "python"),
        "c_half_mb": ("L1/12", DIAGONAL, "c"),
        "c_8_mb": ("L1/30", SOFTSIGN, "c"),
        "wrong_8_mb": ("L1/30", "return x * (1 + torch.abs(x))", "python"),
        "raises": ("L1/30", "return torch.softsignn(x)", "python"),
    }
    costs = {kind: _beyond(machine, *what) for kind, what in kinds.items()}
    if CATALOGUE:
        of_tasks = [_beyond(machine, task, _honest(task), count=CATALOGUE) for task in TASKS]
        for place, name in enumerate(("beyond", "without timing")):
            column = [cost[place] for cost in of_tasks]
            below = sum(cost <= MOST_CPU_S for cost in column)
            print(
                f"PyTorch, {len(TASKS)} tasks, {name}: mean {statistics.fmean(column):.3f}, median "
                f"{statistics.median(column):.3f}, largest {max(column):.3f}; at most {MOST_CPU_S} in {below}"
            )
        costs["pytorch_mean_of_tasks"] = tuple(map(statistics.fmean, zip(*of_tasks, strict=True)))
    return {f"cpu_s_{kind}": all_of_it for kind, (all_of_it, _) in costs.items()} | {
        f"cpu_s_{kind}_without_timing": without for kind, (_, without) in costs.items()
    }


class _TimingCost:
    """CPU seconds that `rounds.measure` takes, while this is in its place: the reference's, the judge's, candidates'."""

    def __init__(self) -> None:
        self.spent = (0.0, 0.0, 0.0)
        self.own_s = 0.0
        """Of candidates' own calls in it, at the time that they took in blocks that count."""

    def __call__(self, reference: Reference, crew: Sequence[Entrant], calls: int, *arguments: Any) -> None:
        began = self._clocks(reference, crew)
        measure(reference, crew, calls, *arguments)
        ended = self._clocks(reference, crew)
        self.spent = tuple(s + e - b for s, b, e in zip(self.spent, began, ended, strict=True))
        for group in (entrant.group for entrant in crew):
            if group is not None:  # and a first block, which does not count
                counted = len(group.runtime_us) * group.calls
                self.own_s += (counted + calls) * statistics.fmean(group.runtime_us) / 1e6

    @staticmethod
    def _clocks(reference: Reference, crew: Sequence[Entrant]) -> tuple[float, float, float]:
        return reference.worker.clock(), time.process_time(), sum(entrant.worker.clock() for entrant in crew)


def _beyond(machine: Path, task: str, text: str, language: str = "python", count: int = SINGLE) -> tuple[float, float]:
    """CPU seconds a candidate costs beyond its own running, with what timing it costs and without; prints them.

    All processes there are, from the first verdict on a program of the task, which is left out with all that starts for
    it, to that on the last of `count` distinct ones more. Taken off is what a candidate's own calls took: on each input it
    is compared on, in the timed blocks, and in the first of each group, which does not count, at the time a call that its
    verdict has. What the reference takes beside it is counted as ours, and part of timing, as are settling, fresh inputs,
    and looking at what timed calls have written. `machine` as in `_measure`.
    """
    discard_zygote("cpu")
    zygote = shared_zygote("cpu").process.pid
    base = candidate_of(TASKS[task], text) if language == "python" else Candidate(task, text, "", language)
    store = machine / "single"
    shutil.rmtree(store, ignore_errors=True)
    shutil.copytree(machine, store, ignore=lambda folder, names: STORES)
    timing = _TimingCost()
    spent: dict[int, tuple[float, ...]] = {}

    def progress(done: int, total: int, text: str) -> None:
        if done in (1, total):
            spent[done] = (_all_cpu_s(zygote), time.process_time(), *timing.spent, timing.own_s)

    batch = [distinct(base, number) for number in range(1 + count)]
    with patch("vegflow.evaluation.judge.measure", timing):
        verdicts = evaluate_candidates(batch, TASKS, CONFIG, store=store, progress=progress)[1:]
    trials = _trials(store).get(task, CONFIG.resolved.correctness_trials)
    whole, judge, beside, judge_timing, timed, blocks = (
        (last - first) / count for first, last in zip(spent[1], spent[1 + count], strict=True)
    )
    checked = statistics.fmean(_checked_s(verdict, trials) for verdict in verdicts)
    own, timing_s = checked + blocks, beside + judge_timing + timed - blocks
    beyond = whole - own
    pairs = statistics.fmean(len(verdict.runtime_times_us or ()) for verdict in verdicts)
    build = statistics.fmean(verdict.build_cpu_s for verdict in verdicts)
    kind = "C" if language == "c" else "PyTorch"
    print(
        f"  {kind + ', ' + verdicts[-1].status + ', ' + task:32}{whole:8.3f}{own:8.3f}{beyond:8.3f}{pairs:7.1f}"
        f"{'':16}{beside:9.3f}{judge_timing:7.3f}{timed - blocks:7.3f}{'':21}{beyond - timing_s:7.3f}{build:7.3f}"
        f"{judge - judge_timing:7.3f}"
    )
    return beyond, beyond - timing_s


def _checked_s(verdict: Verdict, trials: int) -> float:
    """CPU seconds of a candidate's own calls on what it is compared on; nothing for a failure."""
    if not verdict.correct or not verdict.runtime_times_us:
        return 0.0
    groups = math.ceil(len(verdict.runtime_times_us) / CONFIG.resolved.most_pairs)
    return groups * trials * statistics.fmean(verdict.runtime_times_us) / 1e6


def _all_cpu_s(zygote: int) -> float:
    """CPU seconds of this process, the zygote, and all their descendants, alive or not."""
    own = os.times()
    return sum(own[:4]) + sum(map(_process_cpu_s, [zygote, *_descendants(zygote)]))


def _process_cpu_s(pid: int) -> float:
    """CPU seconds of a process and of its children that have ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def _descendants(pid: int) -> list[int]:
    found = []
    try:
        for thread in Path(f"/proc/{pid}/task").iterdir():
            found += [int(child) for child in (thread / "children").read_text().split()]
    except OSError:
        return found
    return found + [below for child in found for below in _descendants(child)]
