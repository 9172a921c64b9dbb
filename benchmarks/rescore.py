"""Rescoring 320 rollouts under nine policies: ours against a padded Hugging Face loop, which is written out here.

Both take one adapter after the other from files and give the log-probability of each completion at temperature 1, on one
thread. The loop gets the micro-batch, 8 or 32, that was faster, keeps the completions' logits only, and is timed on the 64
rollouts of one prompt: it does the same for each of the five, and its time is taken five times. That both agree is checked.

`VEGFLOW_REPEATS` turns (1).
"""

import os
import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers

from benchmarks._rollouts import PROMPTS, SHAPES, adapted, base_model, minima, rollouts
from vegflow.models.load import with_adapter
from vegflow.rescoring import rescore
from vegflow.sampling.engine import TransformersEngine

REPEATS = int(os.environ.get("VEGFLOW_REPEATS", "1"))
MICRO_BATCHES = (8, 32)
POLICIES, GROUP = 9, 64


def run() -> dict[str, Any]:
    """Measure both, print a table, return the figures."""
    torch.set_num_threads(1)
    figures: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        adapters = _adapters(Path(folder))
        print(f"{'CPU-s, 320 rollouts, 9 policies':34}{'vegflow':>10}{'padded':>10}{'ratio':>8}{'difference':>13}")
        for prompt, completion in SHAPES:
            figures |= _compare(adapters, prompt, completion)
    key = f"ratio_{SHAPES[0][0]}_{SHAPES[0][1]}"
    return {
        "figures": {name: float(f"{value:.4g}") for name, value in figures.items()},
        "peer": f"padded loop, transformers {transformers.__version__}, torch {torch.__version__}",
        "ratio": round(figures[key], 2),
    }


def _compare(adapters: list[Path], prompt: int, completion: int) -> dict[str, float]:
    """CPU-seconds of both, their ratio, and the largest difference of a token's log-probability."""
    rows = rollouts(prompt, completion, GROUP)
    first = torch.tensor(_ours(adapters[:1], rows)[0])
    difference = (
        first[:GROUP] - _loop(adapters[:1], rows[:GROUP], MICRO_BATCHES[0])[0]
    ).abs().max().item() / completion
    trial = minima({size: lambda size=size: _loop(adapters[:1], rows[:GROUP], size) for size in MICRO_BATCHES}, 1)
    size = min(trial, key=trial.get)
    best = minima(
        {"ours": lambda: _ours(adapters, rows), "padded": lambda: _loop(adapters, rows[:GROUP], size)}, REPEATS
    )
    best["padded"] *= PROMPTS
    label, ratio = f"prompt {prompt}, completion {completion}", best["padded"] / best["ours"]
    print(f"{label:34}{best['ours']:10.3f}{best['padded']:10.3f}{ratio:8.1f}{difference:13.1e}", flush=True)
    name = f"{prompt}_{completion}"
    return {
        f"cpu_s_{name}": best["ours"],
        f"padded_cpu_s_{name}": best["padded"],
        f"ratio_{name}": ratio,
        f"difference_{name}": difference,
    }


def _ours(adapters: list[Path], rows: list[dict[str, Any]]) -> list[list[float]]:
    with TransformersEngine(base_model(), None, frozenset()) as engine:
        found = []
        for adapter in adapters:
            engine.use(adapter)
            found.append([row["nll"] for row in rescore(engine, rows, "p")])
        return found


def _loop(adapters: list[Path], rows: list[dict[str, Any]], size: int) -> list[torch.Tensor]:
    base, found = base_model(), []
    for adapter in adapters:
        policy = with_adapter(base, adapter).eval()
        found.append(padded(policy, rows, size))
        base = policy.unload()
    return found


def _adapters(folder: Path) -> list[Path]:
    """Nine different adapters in PEFT's format."""
    for number in range(POLICIES):
        policy = adapted(base_model())
        torch.manual_seed(number + 1)
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:
                torch.nn.init.normal_(parameter, std=0.01)
        policy.save_pretrained(folder / str(number))
    return [folder / str(number) for number in range(POLICIES)]


@torch.inference_mode()
def padded(model: Any, rows: list[dict[str, Any]], size: int) -> torch.Tensor:
    """Surprisals (N, nats) the usual way: each row reads its prompt."""
    found = []
    for first in range(0, len(rows), size):
        part = rows[first : first + size]
        T = len(part[0]["token_ids"])
        ids = torch.tensor([row["prompt_ids"] + row["token_ids"] for row in part])
        mask = torch.ones_like(ids)
        logits = model(input_ids=ids, attention_mask=mask, logits_to_keep=T + 1, use_cache=False).logits[:, :-1]
        logp = logits.float().log_softmax(-1).gather(2, ids[:, -T:, None])[..., 0]
        found.append(-logp.double().sum(1))
    return torch.cat(found)
