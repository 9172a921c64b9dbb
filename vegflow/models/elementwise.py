"""Norms and rotary positions of Llama's kind in fewer passes over memory, for models whose weights are frozen.

On a CPU a small model spends more time in such steps than in products of matrices. Equal to Transformers' own up to
rounding; takes their place while `in_few_passes` is in force, in float32, for models whose code for them is Llama's (Qwen and
Mistral have copies of it). All others keep their own.
"""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from vegflow.models.states import decoder

ROTARY = "apply_rotary_pos_emb"


@contextmanager
def in_few_passes(model: nn.Module) -> Iterator[None]:
    """Have a model's norms and rotary positions computed here, if they are Llama's."""
    from transformers.models.llama import modeling_llama as llama

    code = sys.modules[type(decoder(model)).__module__]
    norms = [module for module in decoder(model).modules() if _is_norm(module, llama.LlamaRMSNorm)]
    with ExitStack() as stack:
        if norms and _same(getattr(code, ROTARY, None), llama.apply_rotary_pos_emb):
            stack.enter_context(patch.object(code, ROTARY, rotated))
        for norm in norms:
            norm.forward = partial(_normed, norm)
        try:
            yield
        finally:
            for norm in norms:
                del norm.forward  # the class's own


def _is_norm(module: nn.Module, like: type) -> bool:
    weight = getattr(module, "weight", None)
    return (
        _same(type(module).forward, like.forward)
        and "forward" not in vars(module)  # accelerate's, which moves what goes in and out
        and weight.dtype == torch.float32
        and weight.device.type == "cpu"
        and not weight.requires_grad
    )


def _same(one: Any, other: Any) -> bool:
    """Whether two functions have the same code."""
    codes = [getattr(function, "__code__", None) for function in (one, other)]
    return None not in codes and codes[0].co_code == codes[1].co_code and codes[0].co_names == codes[1].co_names


def _normed(norm: Any, x: Tensor) -> Tensor:
    return _Norm.apply(x, norm.weight, norm.variance_epsilon)


def rotated(query: Tensor, key: Tensor, cos: Tensor, sin: Tensor, unsqueeze_dim: int = 1) -> tuple[Tensor, Tensor]:
    """Queries and keys (B, H, L, D) turned by their positions' angles (B, L, D), as Llama's `apply_rotary_pos_emb`."""
    cos, sin = cos.unsqueeze(unsqueeze_dim), sin.unsqueeze(unsqueeze_dim)
    return _Rotated.apply(query, cos, sin), _Rotated.apply(key, cos, sin)


class _Norm(torch.autograd.Function):
    """y = w x r with r = (mean x^2 + eps)^(-1/2); dx = r (g - x r^2 mean(g x)) with g = w dy."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        r = torch.linalg.vector_norm(x, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(epsilon).rsqrt_()
        ctx.save_for_backward(x, weight, r)
        return (x * r).mul_(weight)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None]:
        x, weight, r = ctx.saved_tensors
        g = dy * weight
        slope = torch.linalg.vecdot(g, x)[..., None].mul_(r.pow(3)).div_(-x.shape[-1])
        return g.mul_(r).addcmul_(x, slope), None, None


class _Rotated(torch.autograd.Function):
    """(a, b) -> (a cos - b sin, b cos + a sin) for the halves a, b of each head's numbers; backward by the opposite angle."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        half = x.shape[-1] // 2
        y = x * cos
        y[..., :half].addcmul_(x[..., half:], sin[..., :half], value=-1)
        y[..., half:].addcmul_(x[..., :half], sin[..., half:])
        return y

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        half = dy.shape[-1] // 2
        dx = dy * cos
        dx[..., :half].addcmul_(dy[..., half:], sin[..., half:])
        dx[..., half:].addcmul_(dy[..., :half], sin[..., :half], value=-1)
        return dx, None, None
