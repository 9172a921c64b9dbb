"""Log-probabilities and entropies of logits, a block at a time, with gradients of their own.

Axes: R predicting positions, V vocabulary.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

BLOCK, CPU_BLOCK = 1 << 24, 1 << 18
"""Numbers of a block of logits that is turned into float32 at a time: 64 MB, and on a CPU what its caches hold (1 MB)."""


def token_scores(logits_RV: Tensor, targets_R: Tensor, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """Log-probability of each target and entropy of each distribution (R each, nats), of logits / temperature.

    In float32 whatever the logits' type, a block of rows at a time, forward and backward, so that a large vocabulary costs
    no second copy of the logits.
    """
    return _TokenScores.apply(logits_RV, targets_R, temperature)


class _TokenScores(torch.autograd.Function):
    """z = logits / T; log p = z_target - log sum e^z; H = log sum e^z - sum p z.

    d log p / dz_j = 1[j = target] - p_j and d H / dz_j = -p_j (log p_j + H).
    """

    @staticmethod
    def forward(ctx: Any, logits_RV: Tensor, targets_R: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
        logp_R = torch.empty(len(targets_R), device=logits_RV.device)
        normaliser_R, entropy_R = torch.empty_like(logp_R), torch.empty_like(logp_R)
        for block in _blocks(logits_RV):
            z_RV = logits_RV[block].float() / temperature
            most_R1 = z_RV.amax(-1, keepdim=True)
            z_RV -= most_R1
            chosen_R = z_RV.gather(1, targets_R[block, None])[:, 0]
            weights_RV = z_RV.exp()
            sum_R = weights_RV.sum(-1)
            log_R = sum_R.log()
            logp_R[block] = chosen_R - log_R
            entropy_R[block] = log_R - weights_RV.mul_(z_RV).sum(-1) / sum_R
            normaliser_R[block] = log_R + most_R1[:, 0]
        ctx.save_for_backward(logits_RV, targets_R, normaliser_R, entropy_R)
        ctx.temperature = temperature
        ctx.set_materialize_grads(False)
        return logp_R, entropy_R

    @staticmethod
    def backward(ctx: Any, dlogp_R: Tensor | None, dentropy_R: Tensor | None) -> tuple[Tensor, None, None]:
        logits_RV, targets_R, normaliser_R, entropy_R = ctx.saved_tensors
        gradient_RV = torch.empty_like(logits_RV)
        for block in _blocks(logits_RV):
            slope_RV = gradient_RV[block] if gradient_RV.dtype == torch.float32 else gradient_RV[block].float()
            torch.div(logits_RV[block].float(), ctx.temperature, out=slope_RV).sub_(normaliser_R[block, None])
            factor_RX = torch.zeros(1, 1, device=slope_RV.device)
            if dentropy_R is not None:
                factor_RX = (slope_RV + entropy_R[block, None]) * dentropy_R[block, None]
            if dlogp_R is not None:
                factor_RX = factor_RX + dlogp_R[block, None]
            slope_RV.exp_().mul_(factor_RX.div_(-ctx.temperature))
            if dlogp_R is not None:
                slope_RV.scatter_add_(1, targets_R[block, None], dlogp_R[block, None] / ctx.temperature)
            if gradient_RV.dtype != torch.float32:
                gradient_RV[block] = slope_RV
        return gradient_RV, None, None


def _blocks(logits_RV: Tensor) -> Iterator[slice]:
    size = max(1, (CPU_BLOCK if logits_RV.device.type == "cpu" else BLOCK) // logits_RV.shape[1])
    for start in range(0, len(logits_RV), size):
        yield slice(start, min(start + size, len(logits_RV)))
