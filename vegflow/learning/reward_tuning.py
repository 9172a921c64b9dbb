"""Training the trunk of a reward model: a low-rank adapter and the head together, by AdamW, from a head that fits already.

Fitting the head first and then both (LP-FT, Kumar et al. 2022, arXiv 2202.10054) spares the trunk the large gradients of a
random head. Completions of a task share one reading of their prompt, as everywhere.

Axes: N completions, M of a lesson, D width of the trunk.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn

from vegflow.config.reward_model import LossName, RewardTraining
from vegflow.errors import VegflowError
from vegflow.learning.learner import fresh_adapter
from vegflow.learning.reward_examples import Completion, Lesson
from vegflow.learning.reward_head import Fit, Head
from vegflow.learning.reward_losses import REWARD_LOSSES
from vegflow.models.packing import completion_states
from vegflow.randomness import stream

WARM_UP = 0.1
"""Share of the steps over which the learning rate rises."""
MOST_NORM = 1.0
"""The gradient is scaled down to this 2-norm."""


class Tuner:
    """A trunk with an adapter that is trained anew for each model; the trunk's own weights never change."""

    def __init__(self, trunk: Any, config: RewardTraining, targets: Sequence[str]) -> None:
        """Put an adapter on the trunk; one that is there already (a policy's) is merged into its weights."""
        trunk = trunk.merge_and_unload() if hasattr(trunk, "merge_and_unload") else trunk
        self.config = config
        self.policy = fresh_adapter(trunk, config.lora, targets, ("reward model", config.seed)).eval()
        self._initial = self.adapter()

    def adapter(self) -> dict[str, Tensor]:
        """The adapter's weights by PEFT's names, copied to the CPU."""
        from peft import get_peft_model_state_dict

        found = get_peft_model_state_dict(self.policy)
        return {name: value.detach().cpu().clone().contiguous() for name, value in found.items()}

    def take(self, adapter: Mapping[str, Tensor]) -> None:
        """Make these the adapter's weights."""
        from peft import set_peft_model_state_dict

        set_peft_model_state_dict(self.policy, dict(adapter))

    def train(
        self, completions: Sequence[Completion], lessons: Mapping[str, Lesson], loss: LossName, head: Head
    ) -> tuple[Head, Fit]:
        """Train a fresh adapter, and the head from `head` on; the adapter stays on the trunk.

        Raises VegflowError if the loss or the gradient is not finite.
        """
        self.take(self._initial)
        device = next(self.policy.parameters()).device
        head = Head(*(value.float().to(device).requires_grad_() for value in (head.weight_D, head.bias)))
        parameters = [p for p in self.policy.parameters() if p.requires_grad] + [head.weight_D, head.bias]
        optimizer = torch.optim.AdamW(parameters, lr=self.config.learning_rate, weight_decay=0.0)
        steps = [step for epoch in range(self.config.epochs) for step in self._steps(lessons, epoch)]
        for number, tasks in enumerate(steps):
            for group in optimizer.param_groups:
                group["lr"] = self.config.learning_rate * schedule(number, len(steps))
            terms = self._backward(completions, [lessons[task] for task in tasks], loss, head)
            norm = float(nn.utils.clip_grad_norm_(parameters, MOST_NORM))
            _check(terms, norm, f"training with {loss} at step {number + 1}")
            optimizer.step()
            optimizer.zero_grad()
        head = Head(head.weight_D.detach().cpu().double(), head.bias.detach().cpu().double())
        terms = [
            REWARD_LOSSES[loss](self.scores([completions[number] for number in lesson.numbers_M], head), lesson)
            for lesson in lessons.values()
        ]
        _check(torch.cat(terms), 0.0, f"training with {loss} after its last step")
        return head, Fit.of(torch.cat(terms), len(steps))

    @torch.no_grad()
    def scores(self, completions: Sequence[Completion], head: Head) -> Tensor:
        """Scores [N] under the adapter that is on the trunk."""
        states = (self._states(list(group)) for _, group in groupby(completions, key=lambda c: c.prompt_ids))
        return torch.cat([head(part_ND.cpu()) for part_ND in states])

    def _steps(self, lessons: Mapping[str, Lesson], epoch: int) -> Iterator[list[str]]:
        """Tasks of each step, in an order of the epoch's own; a step is full when it has `batch_pairs` pairs."""
        order = stream("reward model, order", self.config.seed, epoch).permutation(sorted(lessons)).tolist()
        step, pairs = [], 0
        for task in order:
            step.append(task)
            pairs += len(lessons[task].better_P)
            if pairs >= self.config.batch_pairs:
                yield step
                step, pairs = [], 0
        if step:
            yield step

    def _backward(
        self, completions: Sequence[Completion], lessons: Sequence[Lesson], loss: LossName, head: Head
    ) -> Tensor:
        """Add the gradient of the mean term, a task at a time; the terms."""
        count = sum(len(lesson.better_P if loss == "bradley_terry" else lesson.numbers_M) for lesson in lessons)
        found = []
        for lesson in lessons:
            states_MD = self._states([completions[number] for number in lesson.numbers_M])
            terms = REWARD_LOSSES[loss](head(states_MD), lesson)
            (terms.sum() / count).backward()
            found.append(terms.detach())
        return torch.cat(found)

    def _states(self, completions: Sequence[Completion]) -> Tensor:
        """States [M, D] of completions of one prompt, with gradients if they are enabled."""
        tokens = [completion.token_ids for completion in completions]
        prompt, config = completions[0].prompt_ids, self.config
        return completion_states(self.policy, prompt, tokens, config.pooling, config.token_budget)


def _check(terms: Tensor, norm: float, when: str) -> None:
    """Raise VegflowError unless the loss and the gradient's norm are finite."""
    if not math.isfinite(norm) or not terms.isfinite().all():
        raise VegflowError(
            f"{when} is not finite (loss {float(terms.mean())}, gradient norm {norm}); nothing is written; "
            "try a smaller learning_rate"
        )


def schedule(step: int, steps: int) -> float:
    """Factor of the learning rate: up over the first tenth of the steps, then down along half a cosine, never 0."""
    warm_up = max(1, round(WARM_UP * steps))
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.5 * (1 + math.cos(math.pi * (step + 1 - warm_up) / (steps + 1 - warm_up)))
