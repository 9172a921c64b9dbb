"""A policy in training: base model, adapter, what the trajectory started from, and the optimizer, from and to files."""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from vegflow.artifacts.io import atomic, digest
from vegflow.config.learning import LoraConfig, UpdateConfig, head_problem
from vegflow.errors import ConfigError
from vegflow.models.load import ADAPTER, ADAPTER_CONFIG, load_model, with_adapter
from vegflow.models.sharded import load_sharded

START, BASE = "start", "base"
OPTIMIZER = "optimizer.safetensors"
MOMENTS = ("step", "exp_avg", "exp_avg_sq")
TEACHER = "teacher"


class Learner:
    """A policy to train, what it started from, and its optimizer."""

    def __init__(self, policy: Any, config: UpdateConfig, start: str | None) -> None:
        self.policy = policy
        self.config = config
        self._start = start
        named = [(name, p) for name, p in policy.named_parameters() if p.requires_grad]
        self.names = [name for name, _ in named]
        self.parameters = [p for _, p in named]
        self.optimizer = torch.optim.AdamW(self.parameters, lr=config.learning_rate, weight_decay=0.0)
        self._teacher: list[Tensor] | None = None
        """The moving average of the parameters, where a teacher of its own follows the student."""
        if config.distillation.teacher_rate < 1:
            self._teacher = [p.detach().clone() for p in self.parameters]

    @classmethod
    def load(
        cls,
        options: Mapping[str, Any],
        config: UpdateConfig,
        adapter: Path | None,
        start: Path | None,
        init_key: Sequence[object],
        device: str = "cpu",
        sharded: bool = False,
    ) -> "Learner":
        """Base model and adapter from files (`options` as `vegflow.models.load` takes them).

        Without `adapter` a fresh one is made, which changes nothing until it is trained (B = 0); its other half is
        drawn from a seed named by `init_key`. `start` is the adapter that the trajectory began with, None for base.
        A model that `options` spreads over devices (`device_map`) stays where it is; `sharded`, it is spread over the
        processes there are. Raises ConfigError if the output head is to have an adapter.
        """
        model = load_sharded(options, device) if sharded else load_model(dict(options), device)
        if adapter is None:
            return cls(fresh_adapter(model, config.lora, options["lora_targets"], init_key), config, None)
        policy = with_adapter(model, adapter, trainable=True)
        if start is None:
            return cls(policy, config, BASE)
        if start == adapter:
            return cls(policy, config, None)
        policy.load_adapter(str(start.parent), adapter_name=START)
        policy.set_adapter("default")
        return cls(policy, config, START)

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over the state of the optimizer, and of the teacher, from an earlier step (see `optimizer_state`).

        An empty state, of a policy that has not taken a step yet, leaves the optimizer fresh.
        """
        for name, average in zip(self.names, self._teacher or (), strict=False):
            if f"{name}.{TEACHER}" in state:
                average.copy_(state[f"{name}.{TEACHER}"])
        for name, parameter in zip(self.names, self.parameters, strict=True):
            if f"{name}.step" in state:
                moments = {key: state[f"{name}.{key}"] for key in MOMENTS}
                self.optimizer.state[parameter] = {
                    key: value if key == "step" else value.to(parameter.device) for key, value in moments.items()
                }

    def optimizer_state(self) -> dict[str, Tensor]:
        """AdamW's step count and moments by parameter name, and the teacher's parameter where it has its own."""
        state = {
            f"{name}.{key}": value.cpu().contiguous()
            for name, parameter in zip(self.names, self.parameters, strict=True)
            for key, value in self.optimizer.state.get(parameter, {}).items()
        }
        averages = zip(self.names, self._teacher or (), strict=False)
        return state | {f"{name}.{TEACHER}": average.cpu() for name, average in averages}

    def step(self) -> None:
        """Have the optimizer take a step, and the teacher follow."""
        self.optimizer.step()
        for average, parameter in zip(self._teacher or (), self.parameters, strict=False):
            average.lerp_(parameter.detach(), self.config.distillation.teacher_rate)

    def save(self, folder: Path) -> None:
        """Write the adapter in PEFT's format and the optimizer's state to `folder`, each file whole or not at all."""
        with tempfile.TemporaryDirectory() as scratch:
            self.policy.save_pretrained(scratch, selected_adapters=["default"])
            save_file(self.optimizer_state(), Path(scratch) / OPTIMIZER)
            for name in (ADAPTER, ADAPTER_CONFIG, OPTIMIZER):
                with atomic(folder / name) as temporary:
                    temporary.write_bytes((Path(scratch) / name).read_bytes())

    @contextmanager
    def as_start(self) -> Iterator[bool]:
        """Make the policy what the trajectory started from; yields False if it is that anyway."""
        if self._start is None:
            yield False
        elif self._start == BASE:
            with self.policy.disable_adapter():
                yield True
        else:
            self.policy.set_adapter(START)
            try:
                yield True
            finally:
                self.policy.set_adapter("default")

    @contextmanager
    def as_teacher(self) -> Iterator[None]:
        """Make the policy what the configuration names as the teacher."""
        who = self.config.distillation.policy
        if self._teacher is not None:
            with self._exchanged(self._teacher):
                yield
        elif who == "student":
            yield
        elif who == BASE:
            with self.policy.disable_adapter():
                yield
        else:
            with self.as_start():
                yield

    @contextmanager
    def _exchanged(self, values: Sequence[Tensor]) -> Iterator[None]:
        """Have the parameters hold other values; what autograd has kept of their own is theirs again afterwards."""
        own = [p.data for p in self.parameters]
        try:
            for parameter, value in zip(self.parameters, values, strict=True):
                parameter.data = value
            yield
        finally:
            for parameter, value in zip(self.parameters, own, strict=True):
                parameter.data = value


def fresh_adapter(model: Any, lora: LoraConfig, targets: Sequence[str], key: Sequence[object]) -> Any:
    """The model with a new adapter, drawn on the CPU so that it is the same whatever runs the model.

    On the modules that `lora` names, else on `targets`. Raises ConfigError if the output head is among them.
    """
    from peft import LoraConfig as PeftConfig
    from peft import get_peft_model

    targets = tuple(lora.targets or targets)
    if problem := head_problem((*targets, *lora.expert_parameters)):
        raise ConfigError(f"lora_targets: {problem}")
    made = PeftConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        target_modules=list(targets),
        target_parameters=list(lora.expert_parameters) or None,
        task_type="CAUSAL_LM",
    )
    torch.manual_seed(int(digest("adapter", *key)[:15], 16))
    return get_peft_model(model, made)
