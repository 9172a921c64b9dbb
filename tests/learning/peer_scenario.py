"""One small batch that a peer's trainer and ours are both given: ragged, off policy, a third of its tokens clipped.

Everything comes from NumPy's frozen generator, so that values recorded once mean the same model on any machine.
"""

import numpy as np
import torch
from torch import nn

VOCABULARY, GROUP, LONGEST = 37, 4, 9
PROMPTS = [[5, 9, 33, 2, 7], [8, 8, 2]]
LOSSES = ("grpo", "bnpo", "dr_grpo", "dapo")
TEMPERATURES = (1.0, 0.25)
ALPHAS = (0.0, 0.3, 0.5, 1.0)
TOP_K, CAP = 4, 2.0
TARGETS = ["q_proj", "v_proj"]


def model() -> nn.Module:
    """A Llama with grouped-query attention and a LoRA adapter, every weight drawn."""
    from peft import LoraConfig, get_peft_model
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=1,
    )
    policy = get_peft_model(
        LlamaForCausalLM(config).eval(), LoraConfig(r=2, lora_alpha=4, target_modules=TARGETS, task_type="CAUSAL_LM")
    )
    draws = np.random.RandomState(0)
    for name, parameter in sorted(policy.named_parameters()):
        scale = 0.1 if "lora" in name else 0.3
        parameter.data = torch.tensor(draws.standard_normal(tuple(parameter.shape)) * scale, dtype=torch.float32)
    return policy


def completions() -> list[list[list[int]]]:
    """Token ids, by prompt, of ragged length."""
    draws = np.random.RandomState(1)
    return [
        [draws.randint(2, VOCABULARY, size=draws.randint(1, LONGEST + 1)).tolist() for _ in range(GROUP)]
        for _ in PROMPTS
    ]


def advantages() -> np.ndarray:
    """One for each of the eight rollouts."""
    return np.random.RandomState(2).standard_normal(len(PROMPTS) * GROUP)


def shifts() -> list[np.ndarray]:
    """How far the recorded log-probability of each token is from the policy's: enough that the clip stops a third."""
    draws = np.random.RandomState(3)
    return [draws.standard_normal(len(c)) * 0.6 for group in completions() for c in group]


def gradient(policy: nn.Module) -> torch.Tensor:
    """The adapter's gradient as one vector, by name."""
    named = sorted((name, p) for name, p in policy.named_parameters() if p.requires_grad)
    return torch.cat([p.grad.flatten() for _, p in named])


def logits() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """A student's and a teacher's logits (6, 11), the tokens drawn and the sampler's log-probability of each (6)."""
    draws = np.random.RandomState(4)
    student, teacher = (torch.tensor(draws.standard_normal((6, 11)) * 2, dtype=torch.float32) for _ in range(2))
    tokens = torch.tensor(draws.randint(0, 11, size=6))
    old = student.log_softmax(-1).gather(1, tokens[:, None])[:, 0] + torch.tensor(draws.standard_normal(6)).float()
    return student, teacher, tokens, old
