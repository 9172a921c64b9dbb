"""Scores of completions by a reward model: from the same forward pass that gives their surprisal, if the trunk is frozen.

Knows trunks, heads and adapters; what is done with the scores is for others.

Axes: N distinct completions, D width of the trunk.
"""

import time
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vegflow.config.reward_model import RewardTraining
from vegflow.errors import VegflowError
from vegflow.learning.calibration import Platt
from vegflow.learning.reward_examples import Completion, Row, distinct
from vegflow.learning.reward_model import Member, RewardModel
from vegflow.learning.reward_tuning import Tuner
from vegflow.models.packing import score
from vegflow.threads import one_thread


@dataclass(frozen=True)
class Reading:
    """What the trunk says of completions: states (N, D), surprisals (N, nats), and the wall time it took, seconds."""

    states_ND: Tensor
    nll_N: list[float]
    seconds_N: list[float]
    """A prompt's time shared equally among its completions."""


@torch.no_grad()
def read(trunk: nn.Module, completions: Sequence[Completion], config: RewardTraining) -> Reading:
    """One forward pass over each prompt with its completions, for states and log-probabilities together.

    Raises VegflowError if a state is not finite.
    """
    states, nll, seconds = [], [], []
    for prompt, group in groupby(completions, key=lambda completion: completion.prompt_ids):
        began = time.perf_counter()
        tokens = [completion.token_ids for completion in group]
        found = score(trunk, prompt, tokens, token_budget=config.token_budget, states=config.pooling)
        states.append(torch.stack(found.states).cpu())
        if not states[-1].isfinite().all():
            raise VegflowError(
                "the base model's states are not finite, so nothing can be read off them; does it need dtype bfloat16 or "
                "float32 (in the model's file)?"
            )
        nll += [-float(logprobs.double().sum()) for logprobs in found.logprobs]
        seconds += [(time.perf_counter() - began) / len(tokens)] * len(tokens)
    return Reading(torch.cat(states), nll, seconds)


def score_rollouts(trunk: nn.Module, model: RewardModel, name: str, rollouts: Iterable[Row]) -> list[dict[str, Any]]:
    """Rows of `SCORES`: every distinct completion by a model of each loss that has not seen its task.

    A trunk whose adapter is the reward model's own says nothing about the policy's surprisal: then `nll` is null.
    """
    on_cpu = all(parameter.device.type == "cpu" for parameter in trunk.parameters())
    completions = distinct(rollouts)
    with one_thread() if on_cpu else nullcontext():
        if model.config.adapter == "none":
            return _frozen_rows(trunk, model, name, completions)
        return _tuned_rows(Tuner(trunk, model.config, model.targets), model, name, completions)


def _frozen_rows(
    trunk: nn.Module, model: RewardModel, name: str, completions: Sequence[Completion]
) -> list[dict[str, Any]]:
    reading = read(trunk, completions, model.config)
    rows = []
    for loss in model.config.losses:
        for number, completion in enumerate(completions):
            member = model.member(loss, completion.task_id)
            value = float(member.head(reading.states_ND[number]))
            place = (member.platt, member.fold, reading.nll_N[number], reading.seconds_N[number])
            rows.append(score_row(completion, f"{name}.{loss}", value, *place))
    return rows


def _tuned_rows(tuner: Tuner, model: RewardModel, name: str, completions: Sequence[Completion]) -> list[dict[str, Any]]:
    rows = []
    for loss in model.config.losses:
        folds = [model.folds.get(completion.task_id) for completion in completions]
        for member in (member for member in model.members if member.loss == loss and member.fold in folds):
            own = [c for c, fold in zip(completions, folds, strict=True) if fold == member.fold]
            began = time.perf_counter()
            values = tuned_scores(member, own, tuner)
            seconds = (time.perf_counter() - began) / len(own)
            for completion, value in zip(own, values, strict=True):
                place = (member.platt, member.fold, None, seconds)
                rows.append(score_row(completion, f"{name}.{loss}", float(value), *place))
    return rows


def tuned_scores(member: Member, completions: Sequence[Completion], tuner: Tuner) -> NDArray[np.float64]:
    """Scores of some completions by a model whose trunk was trained."""
    tuner.take(member.adapter or {})
    return tuner.scores(completions, member.head).numpy()


def score_row(
    completion: Completion,
    scorer: str,
    value: float,
    platt: Platt | None,
    fold: int | None,
    nll: float | None,
    seconds: float,
) -> dict[str, Any]:
    """A row of `SCORES`."""
    return {
        "task_id": completion.task_id,
        "completion_sha256": completion.sha256,
        "scorer": scorer,
        "score": value,
        "probability": None if platt is None else float(platt(value)),
        "fold": fold,
        "nll": nll,
        "n_tokens": len(completion.token_ids),
        "seconds": seconds,
    }
