"""The scalar head of a reward model, Linear(D, 1), and its fit to the states of a frozen trunk.

The fit is convex and has one optimum, so it needs no learning rate, no schedule and no early stop.

Axes: N completions, M of a lesson, D width of the trunk.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vegflow.config.reward_model import LossName
from vegflow.learning.reward_examples import Lesson
from vegflow.learning.reward_losses import REWARD_LOSSES

MOST_STEPS = 500
CONSTANT = 1e-9


@dataclass(frozen=True)
class Head:
    """r = w . state + bias, in float64."""

    weight_D: Tensor
    bias: Tensor

    def __call__(self, states_ND: Tensor) -> Tensor:
        """Scores [N] of states."""
        return states_ND.to(self.weight_D) @ self.weight_D + self.bias


@dataclass(frozen=True)
class Fit:
    """What came of a training: mean loss, share of its terms in the right order or on the right side, and steps taken."""

    loss: float
    accuracy: float
    steps: int

    @classmethod
    def of(cls, terms: Tensor, steps: int) -> "Fit":
        """The summary of a loss's terms."""
        return cls(float(terms.mean()), float((terms < math.log(2)).double().mean()), steps)


def fit_head(states_ND: Tensor, lesson: Lesson, loss: LossName, l2: float) -> tuple[Head, Fit]:
    """The head that minimises mean(terms) + l2 / 2 |w|^2, w acting on states scaled to unit variance; by L-BFGS.

    Bradley-Terry says nothing about the bias; it is then such that the mean score of the lesson is 0.
    """
    own_MD = states_ND[torch.as_tensor(lesson.numbers_M)].double()
    mean_D, spread_D = own_MD.mean(0), own_MD.std(0, correction=0)
    spread_D = torch.where(spread_D > CONSTANT * own_MD.abs().max().clamp_min(1e-300), spread_D, torch.inf)
    scaled_MD = (own_MD - mean_D) / spread_D
    weight_D = torch.zeros_like(mean_D, requires_grad=True)
    bias = torch.zeros((), dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight_D, bias],
        max_iter=MOST_STEPS,
        max_eval=4 * MOST_STEPS,
        tolerance_grad=1e-9,
        tolerance_change=1e-14,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        value = REWARD_LOSSES[loss](scaled_MD @ weight_D + bias, lesson).mean() + l2 / 2 * weight_D @ weight_D
        value.backward()
        return value

    optimizer.step(closure)
    with torch.no_grad():
        terms = REWARD_LOSSES[loss](scaled_MD @ weight_D + bias, lesson)
        own_D = weight_D / spread_D
        head = Head(own_D.detach(), (bias - own_D @ mean_D).detach())
    return head, Fit.of(terms, int(optimizer.state[weight_D]["n_iter"]))
