"""The third verb, update: a policy and its scored rollouts in, the next policy out, by one step of gradient descent.

A pure function: the same adapter, optimizer state, rollouts and configuration give the same bytes (on one machine and
thread count). Rollouts whose evaluation broke (`evaluator_error`) teach nothing.
"""

import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn

from vegflow.artifacts.io import atomic, digest
from vegflow.config.learning import UpdateConfig
from vegflow.errors import VegflowError
from vegflow.learning.objectives import PRESETS
from vegflow.models.load import ADAPTER, ADAPTER_CONFIG, load_model, with_adapter
from vegflow.models.packing import score

START, BASE = "start", "base"
OPTIMIZER = "optimizer.safetensors"
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Batch:
    """Rollouts sorted by task and index, with what their evaluations make of them (N each)."""

    rows: list[Row]
    rewards_N: NDArray[np.float64]
    advantages_N: NDArray[np.float64]
    fast_N: NDArray[np.bool_]

    @property
    def tasks(self) -> list[str]:
        """Task of each rollout."""
        return [row["task_id"] for row in self.rows]


def make_batch(rollouts: Sequence[Row], evaluations: Sequence[Row], objective: str) -> Batch:
    """Join rollouts with their evaluations and compute rewards and advantages.

    Raises VegflowError if a rollout has no evaluation or none of them could be evaluated.
    """
    verdicts = {row["rollout_id"]: row for row in evaluations}
    missing = [row["rollout_id"] for row in rollouts if row["rollout_id"] not in verdicts]
    if missing:
        raise VegflowError(
            f"{len(missing)} rollouts have no evaluation, the first is {missing[0]}; evaluate them first"
        )
    rows = [row for row in rollouts if verdicts[row["rollout_id"]]["status"] != "evaluator_error"]
    if not rows:
        raise VegflowError(
            "the evaluator failed on every rollout, so there is nothing to learn from; see their reasons"
        )
    rows.sort(key=lambda row: (row["task_id"], row["index"]))
    chosen = PRESETS[objective]
    tasks = [row["task_id"] for row in rows]
    speedups = np.array([verdicts[row["rollout_id"]]["speedup"] for row in rows])
    rewards = chosen.reward(speedups, tasks)
    fast = np.array([verdicts[row["rollout_id"]]["fast_1"] for row in rows])
    return Batch(rows, rewards, chosen.advantage(rewards, tasks), fast)


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

    @classmethod
    def load(
        cls,
        options: Mapping[str, Any],
        config: UpdateConfig,
        adapter: Path | None,
        start: Path | None,
        init_key: Sequence[object],
        device: str = "cpu",
    ) -> "Learner":
        """Base model and adapter from files (`options` as `vegflow.models.load` takes them).

        Without `adapter` a fresh one is made, which changes nothing until it is trained (B = 0); its other half is
        drawn from a seed named by `init_key`. `start` is the adapter that the trajectory began with, None for base.
        """
        from peft import LoraConfig, get_peft_model

        model = load_model(dict(options))
        if adapter is None:
            torch.manual_seed(int(digest("adapter", *init_key)[:15], 16))
            targets = list(options["lora_targets"])
            lora = LoraConfig(
                r=config.lora.rank, lora_alpha=config.lora.alpha, target_modules=targets, task_type="CAUSAL_LM"
            )
            return cls(get_peft_model(model, lora).to(device), config, None)
        policy = with_adapter(model, adapter, trainable=True).to(device)
        if start is None:
            return cls(policy, config, BASE)
        if start == adapter:
            return cls(policy, config, None)
        policy.load_adapter(str(start.parent), adapter_name=START)
        policy.set_adapter("default")
        return cls(policy, config, START)

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take over the optimizer's state from an earlier step (`state` as `optimizer_state` gives it)."""
        for name, parameter in zip(self.names, self.parameters, strict=True):
            keys = ("step", "exp_avg", "exp_avg_sq")
            self.optimizer.state[parameter] = {key: state[f"{name}.{key}"].to(parameter.device) for key in keys}

    def optimizer_state(self) -> dict[str, Tensor]:
        """AdamW's step count and moments by parameter name."""
        return {
            f"{name}.{key}": value.cpu().contiguous()
            for name, parameter in zip(self.names, self.parameters, strict=True)
            for key, value in self.optimizer.state[parameter].items()
        }

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


def update(learner: Learner, batch: Batch) -> dict[str, Any]:
    """Take one AdamW step in place and return the measured columns of UPDATES.

    Raises VegflowError if the loss or the gradient is not finite; the policy is then as it was.
    """
    sums = {"loss": 0.0, "entropy": 0.0, "kl": 0.0, "tokens": 0.0}
    first = 0
    for _, group in groupby(batch.rows, key=lambda row: row["task_id"]):
        rows = list(group)
        advantages = batch.advantages_N[first : first + len(rows)]
        first += len(rows)
        for key, value in _backward(learner, rows, advantages, len(batch.rows)).items():
            sums[key] += value
    norm = float(nn.utils.clip_grad_norm_(learner.parameters, learner.config.max_gradient_norm))
    if not math.isfinite(sums["loss"]) or not math.isfinite(norm):
        raise VegflowError(
            f"the update is not finite (loss {sums['loss']}, gradient norm {norm}); "
            "the policy before it is kept; try a smaller learning_rate"
        )
    learner.optimizer.step()
    learner.optimizer.zero_grad()
    return {
        **_batch_columns(batch),
        "loss": sums["loss"],
        "gradient_norm": norm,
        "entropy": sums["entropy"] / sums["tokens"],
        "kl_start": sums["kl"] / sums["tokens"],
    }


def _backward(learner: Learner, rows: list[Row], advantages: NDArray[np.float64], rollouts: int) -> dict[str, float]:
    """Add one task's gradient; return its part of the loss, and its sums of entropy, log-ratio to the start and tokens."""
    config, objective = learner.config, PRESETS[learner.config.objective]
    prompt, completions = rows[0]["prompt_ids"], [row["token_ids"] for row in rows]
    options = {
        "temperature": config.train_temperature or rows[0]["temperature"],
        "token_budget": config.token_budget,
    }
    with torch.no_grad(), learner.as_start() as differs:
        start = score(learner.policy, prompt, completions, **options).logprobs if differs else None
    scores = score(learner.policy, prompt, completions, **options)
    losses = [
        objective.aggregation(
            objective.loss(logp_T, logp_T.new_tensor(row["token_logprobs_tempered"]), float(advantage)), rollouts
        )
        for row, advantage, logp_T in zip(rows, advantages, scores.logprobs, strict=True)
    ]
    loss = torch.stack(losses).sum()
    loss.backward()
    chosen = torch.cat(scores.logprobs).detach()
    return {
        "loss": loss.item(),
        "entropy": torch.cat(scores.entropies).detach().sum().item(),
        "kl": (chosen - torch.cat(start)).sum().item() if start else 0.0,
        "tokens": len(chosen),
    }


def _batch_columns(batch: Batch) -> dict[str, Any]:
    rewards, advantages = batch.rewards_N, batch.advantages_N
    tasks = np.array(batch.tasks)
    fast = batch.fast_N
    return {
        "n_rollouts": len(rewards),
        "student_tokens": sum(row["n_prompt_tokens"] + row["n_tokens"] for row in batch.rows),
        "teacher_tokens": 0,
        "reward_mean": float(rewards.mean()),
        "reward_std": float(rewards.std()),
        "advantage_abs_mean": float(np.abs(advantages).mean()),
        "advantage_max": float(advantages.max()),
        "zero_variance_groups": sum(bool(np.ptp(rewards[tasks == task]) == 0) for task in np.unique(tasks)),
        "fast_negative_share": float((advantages[fast] < 0).mean()) if fast.any() else None,
    }
