"""Tiny models with random weights, one of each kind of architecture that packed rows must be exact for."""

import torch
from torch import nn

SIZES = {
    "vocab_size": 97,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "pad_token_id": 1,
    "eos_token_id": 0,
    "bos_token_id": None,
}
FAMILIES = ("llama", "qwen2", "qwen3", "qwen3_sliding", "mistral_sliding", "gpt_oss")
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj"]
EXPERTS = ["mlp.experts.gate_up_proj", "mlp.experts.down_proj"]


def tiny_model(family: str, head_dim: int = 8) -> nn.Module:
    """A model of two to four layers; windows of four positions, eight experts of which two are taken."""
    import transformers as hf

    makers = {
        "llama": lambda: hf.LlamaForCausalLM(hf.LlamaConfig(**SIZES, num_hidden_layers=2, head_dim=head_dim)),
        "qwen2": lambda: hf.Qwen2ForCausalLM(hf.Qwen2Config(**SIZES, num_hidden_layers=2)),
        "qwen3": lambda: hf.Qwen3ForCausalLM(hf.Qwen3Config(**SIZES, num_hidden_layers=2, head_dim=head_dim)),
        "qwen3_sliding": lambda: hf.Qwen3ForCausalLM(
            hf.Qwen3Config(
                **SIZES,
                num_hidden_layers=2,
                head_dim=head_dim,
                use_sliding_window=True,
                sliding_window=4,
                layer_types=["sliding_attention", "full_attention"],
            )
        ),
        "mistral_sliding": lambda: hf.MistralForCausalLM(
            hf.MistralConfig(**SIZES, num_hidden_layers=2, head_dim=head_dim, sliding_window=4)
        ),
        "gpt_oss": lambda: hf.GptOssForCausalLM(
            hf.GptOssConfig(
                **SIZES,
                num_hidden_layers=4,
                head_dim=head_dim,
                num_local_experts=8,
                num_experts_per_tok=2,
                sliding_window=4,
                max_position_embeddings=256,
                initial_context_length=64,
                attn_implementation="eager",
            )
        ),
    }
    torch.manual_seed(1)
    model = makers[family]().eval()
    for name, parameter in model.named_parameters():
        if not name.endswith("norm.weight"):
            nn.init.normal_(parameter, std=0.2)
    return model.requires_grad_(False)


def with_lora(model: nn.Module) -> nn.Module:
    """The model with an adapter that changes it, on its experts too if it has any."""
    from peft import LoraConfig, get_peft_model

    experts = EXPERTS if hasattr(model.config, "num_local_experts") else None
    config = LoraConfig(r=2, lora_alpha=4, target_modules=TARGETS, target_parameters=experts, task_type="CAUSAL_LM")
    torch.manual_seed(2)
    policy = get_peft_model(model, config)
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.05)
    return policy.eval()
