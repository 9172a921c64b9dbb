"""Sampling: our engine in this process against `transformers.generate` and, where it is installed, vLLM on the CPU.

Same model, prompts, K = 64, T = 0.25 and number of tokens; each contender in a process of its own, in turns, on the same
threads; the rate of the best turn counts. Ours records log-probabilities at both temperatures, vLLM at one, generate none.
All in float32, vLLM in bfloat16 as well.

`VEGFLOW_TINY_MODEL` folder of the model `tiny` (results/models/tiny); `VEGFLOW_SMALL_MODEL` folder of SmolLM2-135M, drawn with
a LoRA adapter of rank 16 (left out without it); `VEGFLOW_VLLM_PYTHON` interpreter that has vLLM (left out without it);
`VEGFLOW_THREADS` threads (2), `VEGFLOW_REPEATS` turns (2).
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks._rollouts import TARGETS

ROOT = Path(__file__).resolve().parent.parent
TINY = os.environ.get("VEGFLOW_TINY_MODEL", "results/models/tiny")
SMALL = os.environ.get("VEGFLOW_SMALL_MODEL")
VLLM = os.environ.get("VEGFLOW_VLLM_PYTHON")
THREADS = int(os.environ.get("VEGFLOW_THREADS", "2"))
REPEATS = int(os.environ.get("VEGFLOW_REPEATS", "2"))
JOB = {"k": 64, "temperature": 0.25, "threads": THREADS, "adapter": None, "stop": False}


def run() -> dict[str, Any]:
    """Measure all, print a table, return the figures."""
    figures: dict[str, float] = {}
    print(f"{'':34}{'':10}{'tokens/s':>10}{'per CPU-s':>11}{'peak MB':>9}{'ratio':>7}")
    for prompt in (256, 512):
        job = {"model": TINY, "prompt": prompt, "tasks": 2, "tokens": 64}
        figures |= _compare(f"tiny_{prompt}", job, ("ours", "generate"))
    if SMALL:
        with tempfile.TemporaryDirectory() as adapter:
            _adapter(SMALL, adapter)
            job = {"model": SMALL, "prompt": 256, "tasks": 1, "tokens": 24, "adapter": adapter}
            figures |= _compare("small_lora_256", job, ("ours", *(["vllm", "vllm_bf16"] if VLLM else [])))
    return {
        "figures": {name: float(f"{value:.4g}") for name, value in figures.items()},
        "peer": f"transformers.generate {transformers.__version__}, torch {torch.__version__}",
        "ratio": round(min(figures["ratio_generate_tiny_256"], figures["ratio_generate_tiny_512"]), 2),
    }


def _compare(name: str, job: dict[str, Any], contenders: tuple[str, ...]) -> dict[str, float]:
    """Rates (tokens a second, tokens a CPU-second), peak memory, and ours over each other's rate."""
    found: dict[str, list[dict[str, float]]] = {contender: [] for contender in contenders}
    for _ in range(REPEATS):
        for contender in contenders:
            found[contender].append(_child(JOB | job | {"contender": contender}))
    rates = {contender: max(turn["tokens"] / turn["wall"] for turn in turns) for contender, turns in found.items()}
    figures = {}
    for contender, turns in found.items():
        per_cpu = max(turn["tokens"] / turn["cpu"] for turn in turns)
        peak = min(turn["peak_mb"] for turn in turns)
        ratio = rates["ours"] / rates[contender]
        print(f"{name:34}{contender:10}{rates[contender]:10.0f}{per_cpu:11.0f}{peak:9.0f}{ratio:7.2f}", flush=True)
        figures |= {f"rate_{contender}_{name}": rates[contender], f"per_cpu_{contender}_{name}": per_cpu}
        figures |= {f"peak_mb_{contender}_{name}": peak}
        if contender == "ours":
            figures[f"difference_{name}"] = max(turn["difference"] for turn in turns)
        else:
            figures[f"ratio_{contender}_{name}"] = ratio
    return figures


def _child(job: dict[str, Any]) -> dict[str, float]:
    """Run one contender. Raises RuntimeError with the end of what it wrote if it fails."""
    python = VLLM if job["contender"].startswith("vllm") else sys.executable
    environment = os.environ | {"OMP_NUM_THREADS": str(THREADS), "PYTHONPATH": str(ROOT)}
    command = [str(python), "-m", "benchmarks._sampling", json.dumps(job)]
    done = subprocess.run(command, cwd=Path.cwd(), env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{job['contender']} failed: {done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def _adapter(model: str, folder: str) -> None:
    """A LoRA adapter of rank 16 on all matrices, not zero, in PEFT's format."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    lora = LoraConfig(r=16, lora_alpha=32, target_modules=list(TARGETS), task_type="CAUSAL_LM")
    policy = get_peft_model(AutoModelForCausalLM.from_pretrained(model), lora)
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.01)
    policy.save_pretrained(folder)
