"""How far a student's next-token distribution is from a teacher's, on the tokens that the student finds likely.

R positions, V vocabulary, S = top_k + 1 outcomes: the student's likeliest tokens and one bucket for all others.
"""

import math

import torch
from torch import Tensor


def support(logits_RV: Tensor, top_k: int) -> tuple[Tensor, Tensor]:
    """The student's likeliest tokens (R, k) and the log-probabilities (R, k + 1) of each and of all the others together."""
    index_RK = logits_RV.detach().topk(min(top_k, logits_RV.shape[1]), dim=-1).indices
    return index_RK, on_support(logits_RV, index_RK)


def on_support(logits_UV: Tensor, index_RK: Tensor, place_R: Tensor | None = None) -> Tensor:
    """Log-probabilities (R, k + 1) of the tokens `index_RK`, and of all the others together.

    `place_R` is each position's row of `logits_UV`; by default they are the same. The bucket is log(1 - P), P the tokens'
    mass, which is kept below 1 - 1e-7 as in SDPO's code.
    """
    chosen_RK = logits_UV.gather(1, index_RK) if place_R is None else logits_UV[place_R[:, None], index_RK]
    normaliser_U = logits_UV.logsumexp(-1)
    logp_RK = chosen_RK - (normaliser_U if place_R is None else normaliser_U[place_R])[:, None]
    mass_R1 = logp_RK.logsumexp(-1, keepdim=True).clamp(max=-1e-7)
    return torch.cat([logp_RK, torch.log(-torch.expm1(mass_R1))], dim=-1)


def divergence(student_RS: Tensor, teacher_RS: Tensor, alpha: float) -> Tensor:
    """Divergence (R, nats) between two tables of log-probabilities; S is the student's, T the teacher's.

    alpha 0: KL(T || S). alpha 1: KL(S || T). Between: the generalised Jensen-Shannon divergence
    (1 - alpha) KL(S || M) + alpha KL(T || M) with M = (1 - alpha) S + alpha T (Huebotter et al. 2026; the formula and its
    three cases are those of lasgroup/SDPO `compute_self_distillation_loss`).
    """
    if alpha == 0:
        return _kl(teacher_RS, student_RS)
    if alpha == 1:
        return _kl(student_RS, teacher_RS)
    mixture_RS = torch.logaddexp(student_RS + math.log1p(-alpha), teacher_RS + math.log(alpha))
    return (1 - alpha) * _kl(student_RS, mixture_RS) + alpha * _kl(teacher_RS, mixture_RS)


def _kl(p_RS: Tensor, q_RS: Tensor) -> Tensor:
    return (p_RS.exp() * (p_RS - q_RS)).sum(-1)
