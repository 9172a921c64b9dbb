"""Adapters computed in fewer passes are PEFT's own, and step aside where those are something else."""

import pytest
import torch
from peft import LoraConfig, get_peft_model

from vegflow.models.lora import fused


def adapted(model, **changes):
    import copy

    settings = {"r": 4, "lora_alpha": 12, "target_modules": ["q_proj", "down_proj"], "task_type": "CAUSAL_LM"}
    policy = get_peft_model(copy.deepcopy(model), LoraConfig(**settings | changes))
    torch.manual_seed(1)
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    return policy.eval()


def result(policy):
    """Logits, and the gradient of their weighted sum."""
    logits = policy(input_ids=torch.arange(2, 14).view(2, 6)).logits
    (logits * torch.linspace(-1, 1, logits.numel()).view_as(logits)).sum().backward()
    gradients = [p.grad.clone() for p in policy.parameters() if p.requires_grad]
    policy.zero_grad()
    return [logits.detach(), *gradients]


def test_values_and_gradients_are_pefts(tiny_llama):
    policy = adapted(tiny_llama)
    own = result(policy)
    with fused(policy):
        layers = [m for m in policy.modules() if "forward" in vars(m)]
        ours = result(policy)
    assert len(layers) == 4
    assert not any("forward" in vars(m) for m in policy.modules())
    for a, b in zip(own, ours, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5 * b.abs().max().item())


@pytest.mark.parametrize("changes", [{"use_dora": True}, {"lora_dropout": 0.1}, {"lora_bias": True}])
def test_special_adapters_are_left_to_peft(tiny_llama, changes):
    policy = adapted(tiny_llama, **changes)
    with fused(policy):
        assert not any("forward" in vars(m) for m in policy.modules())


def test_an_adapter_that_is_off_is_off(tiny_llama):
    policy = adapted(tiny_llama)
    ids = torch.arange(2, 8)[None]
    with torch.no_grad(), policy.disable_adapter(), fused(policy):
        off = policy(input_ids=ids).logits
    with torch.no_grad():
        assert torch.equal(off, tiny_llama(input_ids=ids).logits)
