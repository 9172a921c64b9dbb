"""A model and rollouts for the benchmarks of learning: 160 completions of five prompts, as the paper's step has them."""

import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch

PROMPTS, GROUP = 5, 32
SHAPES = ((500, 15), (64, 36))
"""Tokens of a prompt and of a completion; the first is the paper's kind, whose completions are bodies of a few tokens."""
VOCABULARY, TEMPERATURE = 2048, 0.25
TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def base_model() -> Any:
    """A Llama of 1.3 million parameters with random weights."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=128,
            intermediate_size=512,
            num_hidden_layers=4,
            num_attention_heads=4,
            num_key_value_heads=4,
            tie_word_embeddings=True,
            bos_token_id=None,
            eos_token_id=0,
            pad_token_id=1,
        )
    ).eval()


def adapted(model: Any) -> Any:
    """The model with a LoRA adapter of rank 16 on all its matrices."""
    from peft import LoraConfig, get_peft_model

    lora = LoraConfig(r=16, lora_alpha=32, target_modules=list(TARGETS), task_type="CAUSAL_LM")
    return get_peft_model(model, lora)


def rollouts(prompt: int, completion: int, group: int = GROUP) -> list[dict[str, Any]]:
    """Rows as an update and a rescoring read them; no two completions are equal."""
    draws = np.random.RandomState(0)
    rows = []
    for task in range(PROMPTS):
        prompt_ids = draws.randint(2, VOCABULARY, size=prompt).tolist()
        for index in range(group):
            rows.append(
                {
                    "rollout_id": f"r:L1/{task}:{index}",
                    "task_id": f"L1/{task}",
                    "index": index,
                    "prompt_sha256": str(task),
                    "prompt_ids": prompt_ids,
                    "token_ids": draws.randint(2, VOCABULARY, size=completion).tolist(),
                    "token_logprobs_tempered": [-np.log(VOCABULARY)] * completion,
                    "temperature": TEMPERATURE,
                    "n_tokens": completion,
                    "n_prompt_tokens": prompt,
                }
            )
    return rows


def minima(runs: Mapping[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """CPU-seconds of this process that each takes, the least of `repeats` turns in which all have one go."""
    best = dict.fromkeys(runs, float("inf"))
    for _ in range(repeats):
        for name, call in runs.items():
            began = time.process_time()
            call()
            best[name] = min(best[name], time.process_time() - began)
    return best
