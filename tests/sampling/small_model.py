"""A small Llama with its tokenizer and two adapters, saved to disk as Hugging Face and PEFT save them."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from vegflow.models.tiny import Lesson, train_tokenizer

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
PROMPT = "def forward(self, x):\n    return "


def save_model(folder: Path) -> Path:
    """Two layers with random weights, drawn so wide that the next token is neither sure nor anything at all.

    Heads are 32 wide, the least that vLLM's attention on the CPU takes.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = train_tokenizer([Lesson(PROMPT, ("return x",), (1.0,))], 300)
    torch.manual_seed(1)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=512,
            bos_token_id=None,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    for name, parameter in model.named_parameters():
        if not name.endswith("norm.weight"):
            nn.init.normal_(parameter, std=0.15)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_adapter(model: Path, folder: Path, seed: int, rank: int = 4, scale: float = 0.1) -> Path:
    """An adapter of all matrices that changes the model."""
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=list(TARGETS), task_type="CAUSAL_LM")
    policy: Any = get_peft_model(load(model), config)
    torch.manual_seed(seed)
    for name, parameter in policy.named_parameters():
        if "lora_" in name:
            nn.init.normal_(parameter, std=scale)
    policy.save_pretrained(folder)
    return folder


def load(folder: Path) -> Any:
    """The model as transformers loads it, in float32."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
