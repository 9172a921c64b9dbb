"""Policy-gradient losses: how a token's log-probability and its rollout's advantage make something to descend.

rho = exp(logp - old) is the ratio of the policy to the one that sampled the token; T is the length of a completion.
"""

from collections.abc import Callable

from torch import Tensor

TokenLoss = Callable[[Tensor, Tensor, float], Tensor]
Aggregation = Callable[[Tensor, int], Tensor]


def clipped(logp_T: Tensor, old_T: Tensor, advantage: float, epsilon: float = 0.2) -> Tensor:
    """-min(rho A, clip(rho, 1 - eps, 1 + eps) A) per token (PPO: Schulman et al. 2017, eq. 7; GRPO, eq. 3)."""
    ratio_T = (logp_T - old_T).exp()
    return -(ratio_T * advantage).minimum(ratio_T.clamp(1 - epsilon, 1 + epsilon) * advantage)


def importance_sampling(logp_T: Tensor, old_T: Tensor, advantage: float) -> Tensor:
    """-rho A per token, without a clip: the loss of the service that the paper trains with."""
    return -(logp_T - old_T).exp() * advantage


def seq_mean(loss_T: Tensor, rollouts: int) -> Tensor:
    """Mean over a completion's tokens, then over the batch's rollouts (GRPO, eq. 3)."""
    return loss_T.mean() / rollouts


def token_sum(loss_T: Tensor, rollouts: int) -> Tensor:
    """Sum over all tokens of the batch (the paper's service)."""
    return loss_T.sum()


def constant(loss_T: Tensor, rollouts: int) -> Tensor:
    """Sum over a completion's tokens, mean over rollouts: long completions weigh more (Dr. GRPO, up to a constant)."""
    return loss_T.sum() / rollouts


LOSSES: dict[str, TokenLoss] = {"clipped": clipped, "importance_sampling": importance_sampling}
AGGREGATIONS: dict[str, Aggregation] = {"seq_mean": seq_mean, "constant": constant, "token_sum": token_sum}
