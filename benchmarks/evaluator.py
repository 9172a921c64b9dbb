"""Candidates per second and CPU-seconds each: our evaluator against a fresh interpreter for every candidate.

The peer is how KernelBench's batch script isolates (a new process that imports torch, seeds, compares on as many inputs,
times reference and candidate as often), written out here so that both do the same checks in one run.
"""

import json
import os
import platform
import resource
import subprocess
import sys
import time

import torch

from vegflow.config.evaluation import EvaluationConfig
from vegflow.evaluation.candidate import Candidate
from vegflow.evaluation.device import device_identity
from vegflow.evaluation.judge import evaluate_candidates
from vegflow.evaluation.nursery import discard_zygote
from vegflow.tasks.task import Task

DISTINCT = 30
PEERS = 4
CONFIG = EvaluationConfig(device="cpu")

SOURCE = """
import torch
import torch.nn as nn

class Model(nn.Module):
    def forward(self, x):
        return x / (1 + torch.abs(x))

def get_inputs():
    return [torch.rand(512, 1024)]

def get_init_inputs():
    return []
"""
TASK = Task("L1/30", "Softsign", "softsign", ("x",), SOURCE)

PEER = """
import json, statistics, sys, time
import torch
task, program, trials, timings, block_s = json.loads(sys.stdin.read())
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
        assert torch.allclose(expected, other(*inputs), atol=1e-4, rtol=1e-4)
    calls = max(1, round(block_s / seconds))
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


def programs(count: int) -> list[str]:
    """Distinct honest programs for softsign: the forms differ, and a constant that changes nothing."""
    forms = ["x / (1 + torch.abs(x))", "nn.functional.softsign(x)", "x / x.abs().add_(1)"]
    return [
        "import torch\nimport torch.nn as nn\n\nclass ModelNew(nn.Module):\n    def forward(self, x):\n"
        f"        form = {index}\n        return {forms[index % len(forms)]}\n"
        for index in range(count)
    ]


def run() -> dict:
    """Measure both, print a table, return the figures."""
    texts = programs(DISTINCT + 1)
    _measure(texts[-1:])  # the page cache is warm for all that follow
    one_wall, one_cpu = _measure(texts[-1:])
    wall, cpu = _measure(texts)
    wall, cpu = (wall - one_wall) / DISTINCT, (cpu - one_cpu) / DISTINCT
    peer_wall, before = time.perf_counter(), _cpu()
    for text in texts[:PEERS]:
        _peer(text)
    peer_wall, peer_cpu = (time.perf_counter() - peer_wall) / PEERS, (_cpu() - before) / PEERS
    figures = {
        "candidates": DISTINCT,
        "candidates_per_s": 1 / wall,
        "cpu_s_per_candidate": cpu,
        "first_verdict_s": one_wall,
        "first_verdict_cpu_s": one_cpu,
        "peer_candidates_per_s": 1 / peer_wall,
        "peer_cpu_s_per_candidate": peer_cpu,
    }
    print(f"{'':24}{'vegflow':>12}{'fresh python':>14}")
    print(f"{'candidates per second':24}{1 / wall:12.2f}{1 / peer_wall:14.2f}")
    print(f"{'CPU-seconds each':24}{cpu:12.3f}{peer_cpu:14.3f}")
    print(f"{'first verdict, seconds':24}{one_wall:12.2f}{peer_wall:14.2f}")
    return {
        "name": "evaluator",
        "figures": {name: round(value, 4) for name, value in figures.items()},
        "peer": f"a fresh Python interpreter a candidate; torch {torch.__version__}",
        "ratio": round(peer_wall / wall, 2),
        "machine": f"{os.cpu_count()} x {platform.machine()}; {device_identity('cpu')}",
        "command": "python -m benchmarks evaluator",
    }


def _peer(text: str) -> None:
    request = [SOURCE, text, CONFIG.correctness_trials, CONFIG.timing_trials, CONFIG.block_ms / 1e3]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PEER]
    subprocess.run(command, input=json.dumps(request), text=True, check=True, capture_output=True, env=environment)


def _cpu() -> float:
    """CPU seconds of this process and of all descendants that have been waited for."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def _measure(texts: list[str]) -> tuple[float, float]:
    """Wall and CPU seconds to judge `texts`, the start and end of every process included."""
    wall, cpu = time.perf_counter(), _cpu()
    verdicts = evaluate_candidates([Candidate(TASK.id, text) for text in texts], {TASK.id: TASK}, CONFIG)
    discard_zygote("cpu")
    assert all(verdict.correct for verdict in verdicts), [v for v in verdicts if not v.correct]
    return time.perf_counter() - wall, _cpu() - cpu
