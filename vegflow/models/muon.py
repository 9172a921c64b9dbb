"""Muon (Jordan et al. 2024) in float32: descent along the orthogonal factor of a matrix's momentum.

torch's own makes that factor in bfloat16. On a CPU without instructions for it (none before AVX-512 has them) it takes 13
to 27 times as long as in float32, and most of the training of a tiny model.
"""

from collections import defaultdict
from collections.abc import Iterable

import torch

MOMENTUM = 0.95
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of X, (X Xᵀ) X and (X Xᵀ)² X in a step: a quintic as steep at zero as leaves a singular value between 0.7 and 1.2."""
STEPS = 5
RMS = 0.2
"""Root mean square of an update of learning rate 1, as AdamW's: sqrt(larger side) times this (Liu et al. 2025)."""


class Muon(torch.optim.Optimizer):
    """For matrices [m, n] inside a network; embeddings and vectors are for another optimizer."""

    def __init__(self, params: Iterable[torch.Tensor], lr: float, weight_decay: float = 0.0) -> None:
        """`weight_decay` is decoupled, as AdamW's. Raises ValueError for what is no matrix."""
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})
        for group in self.param_groups:
            for param in group["params"]:
                if param.ndim != 2:
                    raise ValueError(f"Muon is for matrices, not for a tensor of shape {list(param.shape)}")

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step along Nesterov's momentum; matrices of one shape are made orthogonal together."""
        for group in self.param_groups:
            updates = defaultdict(list)
            for param in group["params"]:
                if param.grad is None:
                    continue
                state = self.state[param]
                if not state:
                    state["momentum"] = torch.zeros_like(param.grad)
                momentum = state["momentum"]
                momentum.lerp_(param.grad, 1 - MOMENTUM)
                updates[param.shape].append((param, param.grad.lerp(momentum, MOMENTUM)))
            for shape, pairs in updates.items():
                params, directions = zip(*pairs, strict=True)
                factors = orthogonal(torch.stack(directions))
                rate = group["lr"] * RMS * max(shape) ** 0.5
                for param, factor in zip(params, factors, strict=True):
                    param.mul_(1 - group["lr"] * group["weight_decay"]).add_(factor, alpha=-rate)


def orthogonal(matrices: torch.Tensor) -> torch.Tensor:
    """[..., m, n] -> U Vᵀ of each matrix U S Vᵀ, roughly, by the Newton–Schulz iteration: singular values near 1."""
    a, b, c = COEFFICIENTS
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp_min(1e-7)
    for _ in range(STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x
