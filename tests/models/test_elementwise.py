"""Norms and rotary positions in fewer passes are Llama's own, and step aside where the model's are something else."""

import copy
import sys

import pytest
import torch
from transformers.models.llama.modeling_llama import LlamaRMSNorm, apply_rotary_pos_emb

from tests.models.families import tiny_model
from vegflow.models.elementwise import ROTARY, in_few_passes, rotated


def gradient_of(outputs, inputs):
    """Gradients of a weighted sum of some outputs."""
    total = sum((y * torch.linspace(-1, 2, y.numel()).view_as(y)).sum() for y in outputs)
    return torch.autograd.grad(total, inputs)


def draw(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0), requires_grad=True)


def test_a_norm_is_llamas_own(tiny_llama):
    norm = copy.deepcopy(tiny_llama.model.norm)
    assert isinstance(norm, LlamaRMSNorm)
    x = draw(2, 5, 32)
    own = norm(x)
    with in_few_passes(tiny_llama):
        forward = tiny_llama.model.norm.forward
        ours = forward(x)
    torch.testing.assert_close(ours, own, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(gradient_of([ours], [x]), gradient_of([own], [x]), rtol=1e-5, atol=1e-5)


def test_rotary_positions_are_llamas_own():
    query, key = draw(2, 4, 5, 8), draw(2, 2, 5, 8)
    angle = torch.linspace(0, 9, 2 * 5 * 8).view(2, 5, 8)
    own = apply_rotary_pos_emb(query, key, angle.cos(), angle.sin())
    ours = rotated(query, key, angle.cos(), angle.sin())
    torch.testing.assert_close(ours, own, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(gradient_of(ours, [query, key]), gradient_of(own, [query, key]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("family", "norms"), [("llama", 5), ("qwen2", 5), ("qwen3", 9), ("mistral_sliding", 5), ("gpt_oss", 0)]
)
def test_only_models_with_llamas_code_are_changed_and_only_meanwhile(family, norms):
    model = tiny_model(family)
    code = sys.modules[type(model).__module__]
    own = getattr(code, ROTARY)

    def changed():
        return sum("forward" in vars(module) for module in model.modules()), getattr(code, ROTARY) is not own

    with in_few_passes(model):
        assert changed() == (norms, norms > 0)
    assert changed() == (0, False)


def test_norms_that_are_trained_or_in_half_precision_keep_their_own(tiny_llama):
    for model in (copy.deepcopy(tiny_llama).requires_grad_(True), copy.deepcopy(tiny_llama).bfloat16()):
        with in_few_passes(model):
            assert not any("forward" in vars(module) for module in model.modules())
