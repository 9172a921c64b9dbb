"""Losses of tokens, and how they become one number.

A loss is a pure function of what is known of R tokens (`Tokens`), element by element; rho = p / p_sampler is the ratio of
the policy to the one that drew the token. An aggregation gives each rollout's tokens their weight in the sum.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vegflow.config.learning import UpdateConfig


@dataclass(frozen=True)
class Tokens:
    """What losses see of R tokens, of one or several rollouts (log-probabilities in nats, at the learning temperature)."""

    logp_R: Tensor
    """Under the policy, with gradient."""
    old_R: Tensor
    """Under the policy that drew them, as recorded when they were drawn."""
    advantage_R: Tensor
    """Their rollout's advantage."""
    teacher_R: Tensor | None = None
    """Under the teacher, without gradient."""
    divergence_R: Tensor | None = None
    """Between the student's and the teacher's distributions, with the student's gradient."""
    start_R: Tensor | None = None
    """Under the policy that the trajectory started from."""


TokenLoss = Callable[[Tokens, UpdateConfig], Tensor]
Aggregation = Callable[[NDArray[np.int64], NDArray[np.bool_], UpdateConfig], NDArray[np.float64]]


def clipped(tokens: Tokens, config: UpdateConfig) -> Tensor:
    """-min(rho A, clip(rho, 1 - eps_low, 1 + eps_high) A) (PPO: Schulman et al. 2017, eq. 7; GRPO; DAPO: eps_high 0.28)."""
    parts, ratio_R = config.parts, (tokens.logp_R - tokens.old_R).exp()
    bounded_R = ratio_R.clamp(1 - parts.epsilon_low, 1 + parts.epsilon_high)
    return -(ratio_R * tokens.advantage_R).minimum(bounded_R * tokens.advantage_R)


def importance_sampling(tokens: Tokens, config: UpdateConfig) -> Tensor:
    """-rho A, without a clip: the loss of the service that the paper trains with (`importance_sampling`)."""
    return -(tokens.logp_R - tokens.old_R).exp() * tokens.advantage_R


def sft(tokens: Tokens, config: UpdateConfig) -> Tensor:
    """-A log p, with A = 1 for a success and 0 else: maximum likelihood on the successes."""
    return -tokens.advantage_R * tokens.logp_R


def sdpo_paper(tokens: Tokens, config: UpdateConfig) -> Tensor:
    """-rho A_t with A_t = beta (log p_teacher - log p_sampler), a number (Barnes 2026, eq. 1, and its code)."""
    advantage_R = config.distillation.weight * (tokens.teacher_R - tokens.old_R)
    return -(tokens.logp_R - tokens.old_R).exp() * advantage_R


def sdpo_sampled_token(tokens: Tokens, config: UpdateConfig) -> Tensor:
    """(log p - log p_teacher) log p, the first factor a number (SDPO's sampled-token form, `compute_self_distillation_loss`).

    On the rollouts' own policy its gradient is `sdpo_paper`'s.
    """
    return (tokens.logp_R - tokens.teacher_R).detach() * tokens.logp_R


def sdpo_divergence(tokens: Tokens, config: UpdateConfig) -> Tensor:
    """The divergence between student and teacher at each token (`vegflow.learning.distillation`; SDPO, its default form)."""
    return tokens.divergence_R


LOSSES: dict[str, TokenLoss] = {
    "clipped": clipped,
    "importance_sampling": importance_sampling,
    "sft": sft,
    "sdpo_paper": sdpo_paper,
    "sdpo_sampled_token": sdpo_sampled_token,
    "sdpo_divergence": sdpo_divergence,
}


def token_losses(tokens: Tokens, config: UpdateConfig) -> Tensor:
    """Each token's loss (R): the objective's, weighted if importance sampling is truncated, plus the KL to the start.

    With a cap C the weight is min(p_now / p_sampler, C), a number, and rho is then against p_now: the sampler's and the
    trainer's account of one policy may differ (another engine, another type of numbers), and the cap bounds what one
    token can do (TRL, SDPO: `is_clip`). The KL is k3 = e^d - d - 1, d = log p_start - log p (Schulman 2020).
    """
    parts = config.parts
    weight_R = None
    if parts.importance_cap is not None:
        now_R = tokens.logp_R.detach()
        weight_R = (now_R - tokens.old_R).clamp(-20, 20).exp().clamp(max=parts.importance_cap)
        tokens = replace(tokens, old_R=now_R) if parts.loss != "sdpo_paper" else tokens
    loss_R = LOSSES[parts.loss](tokens, config)
    if weight_R is not None:
        loss_R = loss_R * weight_R
    if config.kl_weight:
        start_R = tokens.logp_R.detach() if tokens.start_R is None else tokens.start_R
        difference_R = start_R - tokens.logp_R
        loss_R = loss_R + config.kl_weight * (difference_R.exp() - difference_R - 1)
    return loss_R


def token_sum(lengths_N: NDArray[np.int64], active_N: NDArray[np.bool_], config: UpdateConfig) -> NDArray[np.float64]:
    """Sum over all tokens of the batch (the paper's service)."""
    return active_N.astype(np.float64)


def token_mean(lengths_N: NDArray[np.int64], active_N: NDArray[np.bool_], config: UpdateConfig) -> NDArray[np.float64]:
    """Mean over all tokens of the batch (DAPO; SDPO: over the tokens that have a teacher)."""
    return active_N / max(1, int(lengths_N[active_N].sum()))


def seq_mean(lengths_N: NDArray[np.int64], active_N: NDArray[np.bool_], config: UpdateConfig) -> NDArray[np.float64]:
    """Mean over a completion's tokens, then over rollouts (GRPO, eq. 3)."""
    return active_N / (np.maximum(lengths_N, 1) * max(1, int(active_N.sum())))


def constant(lengths_N: NDArray[np.int64], active_N: NDArray[np.bool_], config: UpdateConfig) -> NDArray[np.float64]:
    """Sum over a completion's tokens over `token_constant`, mean over rollouts (Dr. GRPO): long completions weigh more."""
    return active_N / (config.token_constant * max(1, int(active_N.sum())))


AGGREGATIONS: dict[str, Aggregation] = {
    "token_sum": token_sum,
    "token_mean": token_mean,
    "seq_mean": seq_mean,
    "constant": constant,
}


def clip_stops(tokens: Tokens, config: UpdateConfig) -> Tensor:
    """Whether the clip stops the gradient of each token (R)."""
    parts, ratio_R = config.parts, (tokens.logp_R - tokens.old_R).exp()
    low_R = (ratio_R < 1 - parts.epsilon_low) & (tokens.advantage_R < 0)
    high_R = (ratio_R > 1 + parts.epsilon_high) & (tokens.advantage_R > 0)
    stops = parts.loss == "clipped" and parts.importance_cap is None
    return low_R | high_R if stops else torch.zeros_like(low_R)
