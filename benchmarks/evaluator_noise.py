"""How far the speedup of a candidate is from the truth, and how often a verdict is, while another core is busy.

Four questions, asked in turns so that a part of the time gives a part of each answer:

- candidate = reference at the protocol `fast`: how often is it `fast`, how do its log-ratios spread;
- the same at the protocol `full`;
- real candidates judged twice, by workers of different parents: how often does `fast` flip;
- the peer, under the same load: KernelBench's sequential means (all calls of the reference, then all of the candidate),
  in one process, pinned to the core that ours is timed on, which is kinder than what KernelBench does.

Environment (default): `VEGFLOW_NOISE_FAST` (1000), `VEGFLOW_NOISE_FULL` (60), `VEGFLOW_NOISE_FLIPS` (200) and
`VEGFLOW_NOISE_PEER` (400) are numbers of evaluations, candidates and repeats; `VEGFLOW_NOISE_TASKS` names of tasks with
commas between; `VEGFLOW_NOISE_TURNS` (5); `VEGFLOW_NOISE_MINUTES` (no limit): begin no turn after so many;
`VEGFLOW_NOISE_LOAD` (1): 0 for a quiet machine; `VEGFLOW_NOISE_KEEP`: a file that keeps what was measured, from which a
later run with the same evaluator goes on. Tables of what there is so far go to the standard error.
"""

import contextlib
import json
import math
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks._programs import TASKS, candidate_of, distinct, forms_of, reference_as_candidate
from tests.hacks.honest import HONEST
from vegflow.candidates.scaffold import assemble
from vegflow.config.evaluation import EvaluationConfig
from vegflow.evaluation import timing
from vegflow.evaluation.candidate import Candidate
from vegflow.evaluation.intervals import centre
from vegflow.evaluation.judge import evaluate_candidates
from vegflow.evaluation.nursery import discard_zygote
from vegflow.evaluation.store import code_identity

SPREAD = (1, 4, 5, 12, 19, 23, 26, 30, 33, 40, 42, 47, 51, 57, 63, 67, 82, 89, 95, 99)
"""Problems of all kinds of operations, with calls of 0.05 to 5 ms."""
NAMES = os.environ.get("VEGFLOW_NOISE_TASKS", ",".join(f"L1/{number}" for number in SPREAD)).split(",")
FAST, FULL, FLIPS, PEER = (
    int(os.environ.get(f"VEGFLOW_NOISE_{name}", default))
    for name, default in (("FAST", "1000"), ("FULL", "60"), ("FLIPS", "200"), ("PEER", "400"))
)
TURNS = int(os.environ.get("VEGFLOW_NOISE_TURNS", "5"))
MINUTES = float(os.environ.get("VEGFLOW_NOISE_MINUTES", "inf"))
LOADED = os.environ.get("VEGFLOW_NOISE_LOAD", "1") != "0"
KEEP = os.environ.get("VEGFLOW_NOISE_KEEP")
FAST_CONFIG = EvaluationConfig(device="cpu")
FULL_CONFIG = EvaluationConfig(device="cpu", protocol="full")
FEW, MANY = 5, 100
"""Calls of a sequential mean: the paper's proxy, and KernelBench's."""
COLUMNS = ("status", "reason", "fast", "fast_1", "speedup", "paper_speedup", "runtime_times_us", "reference_times_us")

LOAD = """
import os, sys, torch
parent, core = int(sys.argv[1]), int(sys.argv[2])
os.sched_setaffinity(0, {core})
torch.set_num_threads(1)
a, far, back = torch.randn(512, 512), torch.ones(1 << 24), torch.ones(1 << 24)
print("ready", flush=True)
while os.getppid() == parent:
    for _ in range(5):
        a = torch.tanh(a @ a)
    far.copy_(back)
    back.add_(far, alpha=1e-9)
"""

SEQUENTIAL = """
import json, os, sys, time, torch
core, few, many, jobs = json.loads(sys.stdin.read())
os.sched_setaffinity(0, {core})
torch.set_num_threads(1)

def mean(model, inputs, calls):
    for _ in range(3):
        model(*inputs)
    total = 0.0
    for _ in range(calls):
        start = time.perf_counter()
        model(*inputs)
        total += time.perf_counter() - start
    return total / calls

for name, source, repeats in jobs:
    space = {}
    exec(source, space)
    models = []
    for _ in range(2):
        torch.manual_seed(42)
        models.append(space["Model"](*space["get_init_inputs"]()))
    with torch.no_grad():
        for _ in range(repeats):
            inputs = space["get_inputs"]()
            times = {calls: [mean(model, inputs, calls) for model in models] for calls in (few, many)}
            print(json.dumps({"task": name, "times": times}), flush=True)
"""

Record = dict[str, Any]


def run() -> dict[str, Any]:
    """Measure in turns, print tables, return the figures."""
    began = time.monotonic()
    kept = _Kept(Path(KEEP) if KEEP else None)
    with _load(), tempfile.TemporaryDirectory(prefix="vegflow-benchmark-") as folder:
        store = Path(folder)
        for turn in range(TURNS):
            if turn and time.monotonic() - began > 60 * MINUTES:
                _say(f"{MINUTES:g} minutes are over: {turn} of {TURNS} turns")
                break
            _equal(kept, "fast", FAST_CONFIG, _share(FAST, turn), NAMES, turn, store)
            _equal(kept, "full", FULL_CONFIG, _share(FULL, turn), _part(NAMES[::2], turn), turn, store)
            _twice(kept, _part(_real_candidates(), turn), turn, store)
            _sequential(kept, _share(PEER, turn), turn)
            print(*_tables(kept.records)[0], sep="\n", file=sys.stderr, flush=True)
    discard_zygote("cpu")
    lines, figures = _tables(kept.records)
    print(*lines, sep="\n")
    ratio = figures.get("kernelbench_sd", math.nan) / figures.get("sd_log_ratio_fast", math.nan)
    return {
        "figures": {name: round(value, 5) for name, value in figures.items()},
        "peer": f"KernelBench's sequential mean of {MANY} calls, written out here; torch {torch.__version__}",
        "ratio": round(ratio, 2) if math.isfinite(ratio) else None,
    }


class _Kept:
    """What was measured, in memory and, if there is a file, on disk."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.records: list[Record] = []
        if path is not None and path.exists():
            rows = [json.loads(line) for line in path.read_text().splitlines()]
            self.records = [row for row in rows if row["code"] == code_identity() and row["load"] == LOADED]
            _say(f"{len(self.records)} of {len(rows)} records in {path} are of this evaluator")

    def add(self, **record: Any) -> None:
        self.records.append(record)
        if self._path is not None:
            with self._path.open("a") as file:
                file.write(json.dumps(record | {"code": code_identity(), "load": LOADED}) + "\n")

    def count(self, part: str, turn: int) -> int:
        """Records of one part of one turn."""
        return sum(record["part"] == part and record["turn"] == turn for record in self.records)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _share(total: int, turn: int) -> int:
    """What one turn has of a total."""
    return total * (turn + 1) // TURNS - total * turn // TURNS


def _part(items: Sequence[Any], turn: int) -> list[Any]:
    """As `_share`, of a list."""
    return list(items[len(items) * turn // TURNS : len(items) * (turn + 1) // TURNS])


@contextlib.contextmanager
def _load() -> Iterator[None]:
    """Keep a core busy on which nothing is timed; on a machine of one core, or if not wanted, do nothing."""
    cores = os.sched_getaffinity(0)
    if not LOADED or len(cores) < 2:
        _say("no load")
        yield
        return
    command = [sys.executable, "-c", LOAD, str(os.getpid()), str(min(cores))]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield
    finally:
        process.kill()
        process.wait()


def _judge(candidates: Sequence[Candidate], config: EvaluationConfig, store: Path, what: str) -> list[Record]:
    """The columns of the verdicts that count here."""

    def progress(done: int, total: int, text: str) -> None:
        print(f"\r  {what}: {done} of {total} {text[:40]:40}", end="", file=sys.stderr, flush=True)

    verdicts = evaluate_candidates(candidates, TASKS, config, store=store, progress=progress)
    print(file=sys.stderr)
    return [{column: getattr(verdict, column) for column in COLUMNS} for verdict in verdicts]


def _equal(
    kept: _Kept, part: str, config: EvaluationConfig, count: int, names: Sequence[str], turn: int, store: Path
) -> None:
    """Judge `count` copies of the reference, spread over tasks, unless that was done."""
    count -= kept.count(part, turn)
    if count <= 0 or not names:
        return
    numbers = random.sample(range(10**9), count)
    chosen = sorted(names[index % len(names)] for index in range(count))
    candidates = [
        distinct(reference_as_candidate(TASKS[name]), number) for name, number in zip(chosen, numbers, strict=True)
    ]
    for name, row in zip(chosen, _judge(candidates, config, store, f"turn {turn} {part}"), strict=True):
        kept.add(part=part, turn=turn, task=name, **row)


def _real_candidates() -> list[Candidate]:
    """Honest programs, those of a task together: the corpus's forms and the honest ones of the tests."""
    found: dict[str, list[Candidate]] = {}
    for name in [*NAMES, *(name for name in TASKS if name not in NAMES)]:
        own = [candidate_of(TASKS[name], form.body) for form in forms_of(name) if form.kind == "honest"]
        honest = [assemble(p.text, TASKS[name], p.scaffold) for p in HONEST if p.task_id == name]
        own += [Candidate(name, e.code, e.reason, e.language) for e in honest]
        found[name] = list({c.program: c for c in own}.values())
        if sum(map(len, found.values())) >= FLIPS and len(found) >= len(NAMES):
            break
    most = 1  # so many of a task at most, that all tasks have a share
    while sum(min(most, len(own)) for own in found.values()) < FLIPS and most < max(map(len, found.values())):
        most += 1
    return [candidate for own in found.values() for candidate in own[:most]][:FLIPS]


def _twice(kept: _Kept, candidates: Sequence[Candidate], turn: int, store: Path) -> None:
    """Judge each candidate twice, with new parents of the workers in between, unless that was done."""
    candidates = candidates[kept.count("flips", turn) :]
    if not candidates:
        return
    rounds = []
    for again in range(2):
        rounds.append(_judge(_numbered(candidates, again), FAST_CONFIG, store, f"turn {turn} flips {again + 1}"))
        discard_zygote("cpu")
    for candidate, one, other in zip(candidates, *rounds, strict=True):
        kept.add(part="flips", turn=turn, task=candidate.task_id, one=one, other=other)


def _numbered(candidates: Sequence[Candidate], again: int) -> list[Candidate]:
    """Programs of their own for each round, so that the store knows none of them."""
    return [distinct(candidate, 10**9 + 10**6 * again + index) for index, candidate in enumerate(candidates)]


def _sequential(kept: _Kept, count: int, turn: int) -> None:
    """Have KernelBench's way of timing compare the reference with itself, `count` times over the tasks."""
    count -= kept.count("kernelbench", turn)
    if count <= 0:
        return
    jobs = [
        [name, TASKS[name].source, count * (index + 1) // len(NAMES) - count * index // len(NAMES)]
        for index, name in enumerate(NAMES)
    ]
    _say(f"  turn {turn} sequential means: {count} on {len(NAMES)} tasks")
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SEQUENTIAL],
        input=json.dumps([max(os.sched_getaffinity(0)), FEW, MANY, jobs]),
        text=True,
        capture_output=True,
        check=True,
        env=environment,
    )
    for line in done.stdout.splitlines():
        row = json.loads(line)
        times = {f"log_ratio_{calls}": math.log(ours / theirs) for calls, (ours, theirs) in row["times"].items()}
        kept.add(part="kernelbench", turn=turn, task=row["task"], **times)


def _tables(records: Sequence[Record]) -> tuple[list[str], dict[str, float]]:
    """What all records say: lines for a person, and figures."""
    parts: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        parts[record["part"]].append(record)
    lines: list[str] = []
    figures: dict[str, float] = {}
    for tell, part in (
        (_tell_fast, "fast"),
        (_tell_sequential, "kernelbench"),
        (_tell_components, "fast"),
        (_tell_full, "full"),
        (_tell_flips, "flips"),
    ):
        if parts[part]:
            more, found = tell(parts[part])
            lines += more
            figures |= found
    return lines, figures


def _right(rows: Sequence[Record], lines: list[str]) -> list[Record]:
    """The correct ones; a line about the others."""
    right = [row for row in rows if row["status"] == "correct"]
    others: dict[str, int] = defaultdict(int)
    for row in rows:
        if row["status"] != "correct":
            others[f"{row['task']} {row['status']}"] += 1
    if others:
        lines.append(f"  not correct, left out: {dict(others)}")
    return right


def _tell_fast(rows: Sequence[Record]) -> tuple[list[str], dict[str, float]]:
    lines = [f"candidate = reference, protocol fast, {len(rows)} evaluations"]
    rows = _right(rows, lines)
    figures = {"evaluations_fast": float(len(rows))}
    if len(rows) > 1:
        ratios = [math.log(row["speedup"]) for row in rows]
        paper = [math.log(row["paper_speedup"]) for row in rows]
        figures |= {
            "false_fast": _mean(row["fast"] for row in rows),
            "fast_1": _mean(row["fast_1"] for row in rows),
            "mean_log_ratio": statistics.fmean(ratios),
            "median_log_ratio": statistics.median(ratios),
            "sd_log_ratio_fast": statistics.stdev(ratios),
            "paper_sd": statistics.stdev(paper),
            "paper_fast_1": _mean(ratio > 0 for ratio in paper),
            "paper_above_1_02": _mean(ratio > math.log(1.02) for ratio in paper),
        }
        lines += _named(figures)
        lines.append(f"  {'task':8}{'µs':>8}{'n':>6}{'mean':>9}{'sd':>8}{'fast_1':>8}{'fast':>6}{'pairs':>7}")
        for name, own in _by_task(rows).items():
            ratios = [math.log(row["speedup"]) for row in own]
            spread = statistics.stdev(ratios) if len(own) > 1 else math.nan
            microseconds = statistics.median(us for row in own for us in row["reference_times_us"])
            lines.append(
                f"  {name:8}{microseconds:8.0f}{len(own):6}{statistics.fmean(ratios):+9.4f}{spread:8.4f}"
                f"{_mean(row['fast_1'] for row in own):8.2f}{sum(row['fast'] for row in own):6}"
                f"{_mean(len(row['runtime_times_us']) for row in own):7.1f}"
            )
    return lines, figures


def _tell_sequential(rows: Sequence[Record]) -> tuple[list[str], dict[str, float]]:
    figures: dict[str, float] = {"kernelbench_repeats": float(len(rows))}
    for calls, name in ((MANY, "kernelbench"), (FEW, f"kernelbench_mean{FEW}")):
        ratios = [row[f"log_ratio_{calls}"] for row in rows]
        figures[f"{name}_sd"] = statistics.stdev(ratios) if len(ratios) > 1 else math.nan
        figures[f"{name}_fast_1"] = _mean(ratio > 0 for ratio in ratios)
        figures[f"{name}_above_1_02"] = _mean(ratio > math.log(1.02) for ratio in ratios)
    head = f"candidate = reference, KernelBench's sequential means of {MANY} and of {FEW} calls, {len(rows)} repeats"
    return [head, *_named(figures)], figures


def _tell_components(rows: Sequence[Record]) -> tuple[list[str], dict[str, float]]:
    """Where the spread comes from: tasks, turns, pairs of workers, single timings.

    Pairs of workers: the first group's pairs of timings are dealt to two halves, whose centres have in common what the
    two workers keep; their covariance over evaluations of a task in one turn is the variance between workers, whatever
    the noise is like. Turns and tasks: the true log-ratio is 0, so the mean product of the log-ratios of two evaluations
    of a task is the variance of what they share: in different turns the task's bias, in one turn that and what a start
    of the reference brings.
    """
    least = FAST_CONFIG.resolved.least_pairs
    rows = [row for row in rows if row["status"] == "correct"]
    common, noise = [], []
    for turn in {row["turn"] for row in rows}:
        for own in _by_task([row for row in rows if row["turn"] == turn]).values():
            halves = [_halves(row, least) for row in own if len(row["runtime_times_us"]) >= least >= 4]
            if len(halves) > 1:
                left, right = zip(*halves, strict=True)
                common.append((statistics.covariance(left, right), len(halves) - 1))
                noise.append((statistics.variance([a - b for a, b in halves]) / 4, len(halves) - 1))
    if not common:
        return [], {}
    between, within = (sum(v * n for v, n in found) / sum(n for _, n in found) for found in (common, noise))
    same, other = [0.0, 0], [0.0, 0]
    for own in _by_task(rows).values():
        turns: dict[int, list[float]] = defaultdict(list)
        for row in own:
            turns[row["turn"]].append(math.log(row["speedup"]))
        everything = [ratio for ratios in turns.values() for ratio in ratios]
        for found, all_, parts in (
            (other, everything, turns.values()),
            *((same, t, [[r] for r in t]) for t in turns.values()),
        ):
            found[0] += sum(all_) ** 2 - sum(sum(part) ** 2 for part in parts)
            found[1] += len(all_) ** 2 - sum(len(part) ** 2 for part in parts)
    figures = {
        "sd_task_bias": _root(other[0] / other[1]) if other[1] else math.nan,
        "sd_turn": _root(same[0] / same[1] - (other[0] / other[1] if other[1] else 0.0)) if same[1] else math.nan,
        "sd_between_workers": _root(between),
        "sd_within": _root(within),
    }
    shared = same[0] / same[1] if same[1] else 0.0
    figures["luck"] = math.sqrt(max(0.0, shared) + max(0.0, between))
    luck = getattr(timing, "LUCK", math.nan)
    return [
        "variance components of the log-ratio (sd; minus: the estimate of the variance is below 0)",
        f"  a task's bias, in all turns             {figures['sd_task_bias']:10.4f}",
        f"  common to a task's evaluations in a turn{figures['sd_turn']:10.4f}"
        + ("" if other[1] else " (with the bias)"),
        f"  between pairs of workers in a turn      {figures['sd_between_workers']:10.4f}",
        f"  these three together                    {figures['luck']:10.4f} (timing.LUCK is {luck})",
        f"  noise of the centre of {least:2} pairs         {figures['sd_within']:10.4f}",
    ], {name: value for name, value in figures.items() if math.isfinite(value)}


def _halves(row: Record, count: int) -> tuple[float, float]:
    """Centres of the log-ratios of two halves of the first `count` pairs; pairs come in twos, whose order differs."""
    times = zip(row["reference_times_us"][:count], row["runtime_times_us"][:count], strict=True)
    ratios = [math.log(ours / theirs) for ours, theirs in times]
    one, other = ([ratio for place, ratio in enumerate(ratios) if place // 2 % 2 == half] for half in (0, 1))
    return centre(one), centre(other)


def _root(variance: float) -> float:
    """The standard deviation; with a minus where an estimate of the variance is below 0."""
    return math.copysign(math.sqrt(abs(variance)), variance)


def _tell_full(rows: Sequence[Record]) -> tuple[list[str], dict[str, float]]:
    lines = [f"candidate = reference, protocol full, {len(rows)} evaluations"]
    rows = _right(rows, lines)
    figures = {"evaluations_full": float(len(rows))}
    if len(rows) > 1:
        ratios = [math.log(row["speedup"]) for row in rows]
        tasks = {name: [math.log(row["speedup"]) for row in own] for name, own in _by_task(rows).items()}
        several = [own for own in tasks.values() if len(own) > 1]
        figures |= {
            "sd_log_ratio": statistics.stdev(ratios),
            "mean_log_ratio_full": statistics.fmean(ratios),
            "false_fast_full": _mean(row["fast"] for row in rows),
        }
        if several:
            weights = [len(own) - 1 for own in several]
            pooled = sum(statistics.variance(own) * n for own, n in zip(several, weights, strict=True)) / sum(weights)
            figures["sd_log_ratio_within_task"] = math.sqrt(pooled)
        lines += _named(figures)
        for name, own in tasks.items():
            spread = statistics.stdev(own) if len(own) > 1 else math.nan
            lines.append(f"  {name:8} n {len(own):3}  mean {statistics.fmean(own):+.4f}  sd {spread:.4f}")
    return lines, figures


def _tell_flips(rows: Sequence[Record]) -> tuple[list[str], dict[str, float]]:
    lines = [f"real candidates judged twice, {len(rows)}"]
    both = [row for row in rows if row["one"]["status"] == row["other"]["status"] == "correct"]
    if len(both) < len(rows):
        for row in [row for row in rows if row not in both][:10]:
            found = [" ".join((row[side]["status"], row[side]["reason"])).strip() for side in ("one", "other")]
            lines.append(f"  not correct twice, left out: {row['task']} {' / '.join(found)}")
    if not both:
        return lines, {}
    pairs = [(row["one"], row["other"]) for row in both]
    apart = [math.log(one["speedup"] / other["speedup"]) for one, other in pairs]
    figures = {
        "judged_twice": float(len(both)),
        "share_fast": _mean(verdict["fast"] for pair in pairs for verdict in pair),
        "flip_rate": _mean(one["fast"] != other["fast"] for one, other in pairs),
        "flip_rate_fast_1": _mean(one["fast_1"] != other["fast_1"] for one, other in pairs),
        "flip_rate_paper": _mean((one["paper_speedup"] > 1) != (other["paper_speedup"] > 1) for one, other in pairs),
        "sd_between_verdicts": math.sqrt(statistics.fmean(d * d for d in apart) / 2),
    }
    lines += _named(figures)
    for row in both:
        one, other = row["one"], row["other"]
        if one["fast"] != other["fast"]:
            lines.append(f"  flips: {row['task']} {one['speedup']:.3f} and {other['speedup']:.3f}")
    return lines, figures


def _by_task(rows: Sequence[Record]) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = {}
    for row in rows:
        found.setdefault(row["task"], []).append(row)
    return dict(sorted(found.items(), key=lambda item: int(item[0].rpartition("/")[2])))


def _mean(values: Any) -> float:
    return statistics.fmean(float(value) for value in values)


def _named(figures: dict[str, float]) -> list[str]:
    return [f"  {name:28}{value:10.4f}" for name, value in figures.items()]
