"""An outcome reward model: the models trained on one set of rollouts, which tasks each has seen, and their one file.

Knows that no task may be scored by a model that has seen it; how models are trained and used is said in the modules
beside this one.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from vegflow.artifacts.io import atomic
from vegflow.config.reward_model import LossName, RewardTraining
from vegflow.errors import ArtifactError
from vegflow.learning.calibration import Platt
from vegflow.learning.reward_head import Head

FORMAT = "vegflow reward model 1"


@dataclass(frozen=True)
class Member:
    """One trained model: with which loss, which fold it did not see (None: it saw all tasks), and its parameters."""

    loss: LossName
    fold: int | None
    head: Head
    adapter: Mapping[str, Tensor] | None = None
    """The adapter's weights, if the trunk was trained."""
    platt: Platt | None = None
    """Score to probability, fitted on scores of tasks that their model did not see, and none of this fold's."""


@dataclass(frozen=True)
class RewardModel:
    """All models trained on one set of rollouts."""

    config: RewardTraining
    folds: Mapping[str, int]
    """Fold of each task trained on; empty if there were too few tasks to hold some out."""
    members: tuple[Member, ...]
    targets: tuple[str, ...] = ()
    """Modules that have an adapter, if the configuration names none."""

    def member(self, loss: LossName, task: str) -> Member:
        """The model with this loss that has not seen the task."""
        fold = self.folds.get(task)
        return next(member for member in self.members if (member.loss, member.fold) == (loss, fold))

    def save(self, path: Path) -> None:
        """Write heads, adapters and all else to one safetensors file, whole or not at all."""
        tensors, facts = {}, []
        for number, member in enumerate(self.members):
            tensors |= {f"{number}.weight": member.head.weight_D, f"{number}.bias": member.head.bias}
            tensors |= {f"{number}.adapter.{name}": value for name, value in (member.adapter or {}).items()}
            platt = member.platt and [member.platt.slope, member.platt.intercept]
            facts.append({"loss": member.loss, "fold": member.fold, "platt": platt})
        about = {"config": self.config.model_dump(), "folds": dict(self.folds), "members": facts}
        about |= {"format": FORMAT, "targets": self.targets}
        with atomic(path) as temporary:  # one key: safetensors writes several in an order of chance
            save_file(tensors, temporary, metadata={"reward_model": json.dumps(about, sort_keys=True)})

    @classmethod
    def load(cls, path: Path) -> "RewardModel":
        """Read what `save` wrote. Raises ArtifactError, naming the file, if it is something else."""
        try:
            with safe_open(path, framework="pt") as file:
                about = json.loads((file.metadata() or {}).get("reward_model", "{}"))
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dictionary)
        except (OSError, SafetensorError) as error:
            raise ArtifactError(f"{path}: not a readable reward model ({error}); train it again") from error
        if about.get("format") != FORMAT:
            raise ArtifactError(f"{path}: no reward model of this version; train it again")
        members = tuple(_member(number, one, tensors) for number, one in enumerate(about["members"]))
        return cls(RewardTraining(**about["config"]), about["folds"], members, tuple(about["targets"]))


def _member(number: int, facts: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Member:
    prefix = f"{number}.adapter."
    adapter = {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
    head = Head(tensors[f"{number}.weight"], tensors[f"{number}.bias"])
    return Member(facts["loss"], facts["fold"], head, adapter or None, facts["platt"] and Platt(*facts["platt"]))
