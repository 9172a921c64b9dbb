"""Memory of an update whose base model is shared by processes (FSDP), against one process that holds it whole.

A Llama of 54 million parameters with random weights and adapters on all its matrices, in float32 on the CPU, eight short
rollouts. Each figure is of a fresh process: what loading adds to its resident memory (a whole model's file is mapped, and
counts where it has been read), and what an update adds to that at most: activations, and with two processes the layer that
is put together, and the embeddings.

`VEGFLOW_PROCESSES` processes share the model (2).
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from benchmarks._rollouts import TARGETS, rollouts
from vegflow.config.learning import UpdateConfig
from vegflow.learning.advantages import group_z
from vegflow.learning.learner import Learner
from vegflow.learning.parallel import team
from vegflow.learning.update import Batch, update

PROCESSES = int(os.environ.get("VEGFLOW_PROCESSES", "2"))
PROMPT, COMPLETION, ROLLOUTS = 32, 8, 8
SIZES = {"vocab_size": 8192, "hidden_size": 512, "intermediate_size": 2048, "num_hidden_layers": 12}


def run() -> dict[str, Any]:
    """Measure, print a table, return the figures."""
    figures: dict[str, float] = {}
    print(f"{'MB of a process':24}{'loaded':>10}{'update':>10}{'CPU-s':>10}")
    with tempfile.TemporaryDirectory() as folder:
        whole = _write_model(Path(folder)) / 1e6
        for count in (1, PROCESSES):
            found = _measure(folder, count)
            name = f"{count}_processes"
            figures |= {f"{key}_{name}": value for key, value in found.items()}
            print(f"{name:24}{found['loaded_mb']:10.0f}{found['most_mb']:10.0f}{found['cpu_s']:10.2f}")
    figures |= {"weights_mb": whole}
    print(f"weights: {whole:.0f} MB")
    return {
        "figures": {name: round(value, 3) for name, value in figures.items()},
        "peer": "one process",
        "ratio": round(figures["loaded_mb_1_processes"] / figures[f"loaded_mb_{PROCESSES}_processes"], 2),
    }


def _write_model(folder: Path) -> int:
    """A model's files; bytes of its weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(**SIZES, num_attention_heads=8, tie_word_embeddings=True, eos_token_id=0, pad_token_id=1)
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    return sum(weight.nbytes for weight in model.parameters())


def _measure(folder: str, count: int) -> dict[str, float]:
    """Figures of the process that has the most."""
    launch = ["torch.distributed.run", "--standalone", "--nproc-per-node", str(count), "-m", "--"] if count > 1 else []
    command = [sys.executable, "-m", *launch, "benchmarks.sharded", folder]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    every = json.loads(done.stdout.splitlines()[-1])
    return {key: max(found[key] for found in every) for key in every[0]}


def _status_mb(key: str) -> float:
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(key)) / 1024


def learn(folder: str) -> None:
    """One process's part: print what each process measures."""
    with team("cpu", shard=True) as (processes, device):
        config = UpdateConfig(objective="grpo")
        options = {"location": folder, "revision": None, "dtype": "float32", "lora_targets": TARGETS}
        import peft  # noqa: F401  (imports are not the model's memory)
        import transformers.models.llama.modeling_llama  # noqa: F401

        before = _status_mb("VmRSS")
        learner = Learner.load(options, config, None, None, ("sharded",), device, sharded=processes.sharded)
        for weight in learner.policy.parameters():  # so that mapped weights are there
            (weight.to_local() if processes.sharded and not weight.requires_grad else weight).detach().sum()
        loaded = _status_mb("VmRSS") - before
        rows = [row for row in rollouts(PROMPT, COMPLETION, ROLLOUTS // 2) if row["task_id"] in ("L1/0", "L1/1")]
        rewards = torch.rand(len(rows), generator=torch.Generator().manual_seed(0)).double().numpy()
        verdicts = [{"fast_1": True, "candidate_sha256": str(i)} for i in range(len(rows))]
        advantages = group_z(rewards, [row["task_id"] for row in rows])
        with open("/proc/self/clear_refs", "w") as peak:
            peak.write("5")
        began = time.process_time()
        update(learner, Batch(rows, verdicts, rewards, advantages, rows[0]["temperature"]), team=processes)
        mine = {
            "loaded_mb": loaded,
            "most_mb": _status_mb("VmHWM") - before - loaded,
            "cpu_s": time.process_time() - began,
        }
        everyone = processes.gather(mine)
        if processes.first:
            print(json.dumps(everyone), flush=True)


if __name__ == "__main__":
    learn(sys.argv[1])
