"""What a reward model descends: one term a pair, or a completion, by name.

A function here takes the scores of a lesson's completions and the lesson and gives the terms, of which the mean is the
loss. A term below ln 2 is a pair in the right order (beyond its margin), or a completion on the right side of 0.

Axes: M completions, P pairs.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid

from vegflow.config.reward_model import LossName
from vegflow.learning.reward_examples import Lesson


def bradley_terry(scores_M: Tensor, lesson: Lesson) -> Tensor:
    """-log sigmoid(r_better - r_worse - margin) of each pair.

    Bradley and Terry (1952) as reward models are trained (Ouyang et al. 2022, eq. 1; seed 2506.10056); the margin as in
    Llama 2 (Touvron et al. 2023, eq. 2). Blind to what is added to all scores of a task.
    """
    better, worse = (torch.as_tensor(places, device=scores_M.device) for places in (lesson.better_P, lesson.worse_P))
    return -logsigmoid(scores_M[better] - scores_M[worse] - torch.as_tensor(lesson.margin_P).to(scores_M))


def cross_entropy(scores_M: Tensor, lesson: Lesson) -> Tensor:
    """-y log sigmoid(r) - (1 - y) log(1 - sigmoid(r)) of each completion, y = 1 if it passes (Cobbe et al. 2021, 2110.14168)."""
    passes_M = torch.as_tensor(lesson.passes_M).to(scores_M)
    return binary_cross_entropy_with_logits(scores_M, passes_M, reduction="none")


REWARD_LOSSES: dict[LossName, Callable[[Tensor, Lesson], Tensor]] = {
    "bradley_terry": bradley_terry,
    "cross_entropy": cross_entropy,
}
