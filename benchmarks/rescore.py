"""Rescoring 160 rollouts under a policy: ours against a padded Hugging Face loop, which is written out here.

Both give the log-probability of each completion at temperature 1, on one thread; the loop gets the micro-batch that suits
it, 8 or 32, and keeps the completions' logits only. That both agree is checked.

`VEGFLOW_REPEATS` turns (3).
"""

import os
from typing import Any

import torch
import transformers

from benchmarks._rollouts import SHAPES, adapted, base_model, minima, rollouts
from vegflow.rescoring import rescore
from vegflow.sampling.engine import TransformersEngine

REPEATS = int(os.environ.get("VEGFLOW_REPEATS", "3"))
MICRO_BATCHES = (8, 32)


def run() -> dict[str, Any]:
    """Measure both, print a table, return the figures."""
    torch.set_num_threads(1)
    policy = adapted(base_model()).eval()
    engine = TransformersEngine(policy, None, frozenset())
    figures: dict[str, float] = {}
    print(f"{'CPU-seconds for 160 rollouts':30}{'vegflow':>10}{'padded':>10}{'ratio':>8}{'difference':>13}")
    for prompt, completion in SHAPES:
        rows = rollouts(prompt, completion)
        ours = torch.tensor([row["nll"] for row in rescore(engine, rows, "p")])
        difference = (ours - padded(policy, rows, MICRO_BATCHES[0])).abs().max().item() / completion
        runs: dict[str, Any] = {"ours": lambda rows=rows: rescore(engine, rows, "p")}
        runs |= {str(size): lambda rows=rows, size=size: padded(policy, rows, size) for size in MICRO_BATCHES}
        best = minima(runs, REPEATS)
        theirs = min(best[str(size)] for size in MICRO_BATCHES)
        name = f"{prompt}_{completion}"
        figures |= {
            f"cpu_s_{name}": best["ours"],
            f"padded_cpu_s_{name}": theirs,
            f"ratio_{name}": theirs / best["ours"],
        }
        figures[f"difference_{name}"] = difference
        label = f"prompt {prompt}, completion {completion}"
        print(f"{label:30}{best['ours']:10.3f}{theirs:10.3f}{theirs / best['ours']:8.1f}{difference:13.1e}")
    key = f"ratio_{SHAPES[0][0]}_{SHAPES[0][1]}"
    return {
        "figures": {name: float(f"{value:.4g}") for name, value in figures.items()},
        "peer": f"padded loop, transformers {transformers.__version__}, torch {torch.__version__}",
        "ratio": round(figures[key], 2),
    }


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
