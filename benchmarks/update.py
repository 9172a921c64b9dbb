"""One update of 160 rollouts: ours against a padded peft loop and, where it is installed, against TRL's loss.

All three descend GRPO's loss on the same rollouts with the same adapter on one thread, an AdamW step included. The padded
loop (written out here) and TRL (`GRPOTrainer._compute_loss`, called directly) get the micro-batch that suits them, 8 or
32. A second figure is a whole step of TRL's trainer without generation (`_trl_step`). Ours measures its record too, the
step's size included. Memory is what a forward and backward pass over one group of 32 adds to the resident set, each in a
process of its own.

`VEGFLOW_REPEATS` turns (3).
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib import metadata, util
from typing import Any

import numpy as np
import torch

from benchmarks._rollouts import (
    GROUP,
    PROMPTS,
    SHAPES,
    TEMPERATURE,
    VOCABULARY,
    adapted,
    base_model,
    minima,
    rollouts,
)
from vegflow.config.learning import UpdateConfig
from vegflow.learning.advantages import group_z
from vegflow.learning.learner import Learner
from vegflow.learning.update import Batch, update

REPEATS = int(os.environ.get("VEGFLOW_REPEATS", "3"))
MICRO_BATCHES = (8, 32)
CONFIG = UpdateConfig(objective="grpo", learning_rate=1e-5)


def run() -> dict[str, Any]:
    """Measure, print a table, return the figures."""
    torch.set_num_threads(1)
    with_trl = util.find_spec("trl") is not None
    figures: dict[str, float] = {}
    print(f"{'CPU-seconds an update':28}{'vegflow':>10}{'padded':>10}{'TRL':>10}{'/ padded':>10}{'/ TRL':>10}")
    for prompt, completion in SHAPES:
        rows = rollouts(prompt, completion)
        runs: dict[str, Callable[[], object]] = {"ours": _ours(rows)}
        runs |= {f"padded {size}": _padded(rows, size) for size in MICRO_BATCHES}
        if with_trl:
            runs |= {f"trl {size}": _trl(rows, size) for size in MICRO_BATCHES}
        best = minima(runs, REPEATS)
        name = f"{prompt}_{completion}"
        ours, padded = best["ours"], min(best[f"padded {size}"] for size in MICRO_BATCHES)
        trl = min((best[f"trl {size}"] for size in MICRO_BATCHES), default=float("nan")) if with_trl else float("nan")
        figures |= {f"cpu_s_{name}": ours, f"padded_cpu_s_{name}": padded, f"ratio_padded_{name}": padded / ours}
        if with_trl:
            figures |= {f"trl_{size}_cpu_s_{name}": best[f"trl {size}"] for size in MICRO_BATCHES}
            figures |= {f"trl_cpu_s_{name}": trl, f"ratio_trl_{name}": trl / ours}
            steps = {size: _trl_step(rows, size, REPEATS) for size in MICRO_BATCHES}
            figures |= {f"trl_step_{size}_cpu_s_{name}": seconds for size, seconds in steps.items()}
            figures |= {f"ratio_trl_step_{name}": min(steps.values()) / ours}
        label = f"prompt {prompt}, completion {completion}"
        print(f"{label:28}{ours:10.3f}{padded:10.3f}{trl:10.3f}{padded / ours:10.1f}{trl / ours:10.1f}")
        if with_trl:
            listed = ", ".join(f"{seconds:.3f} at micro-batch {size}" for size, seconds in steps.items())
            print(f"  TRL's whole trainer step: {listed}, {figures[f'ratio_trl_step_{name}']:.1f} times ours")
    figures |= {f"extra_mb_{what}": _extra_mb(what) for what in ("ours", "padded")}
    print(f"extra memory of a group of {GROUP} at prompt {SHAPES[0][0]}: ", end="")
    print(f"{figures['extra_mb_ours']:.0f} MB, padded {figures['extra_mb_padded']:.0f} MB")
    peer = f"TRL {metadata.version('trl')}" if with_trl else f"padded loop, peft {metadata.version('peft')}"
    key = f"ratio_{'trl' if with_trl else 'padded'}_{SHAPES[0][0]}_{SHAPES[0][1]}"
    return {
        "figures": {name: round(value, 4) for name, value in figures.items()},
        "peer": f"{peer}, torch {torch.__version__}",
        "ratio": round(figures[key], 2),
    }


def _advantages() -> np.ndarray:
    rewards = np.random.RandomState(1).rand(PROMPTS * GROUP)
    return group_z(rewards, [str(i // GROUP) for i in range(len(rewards))])


def _ours(rows: list[dict[str, Any]]) -> Callable[[], object]:
    verdicts = [{"fast_1": True, "candidate_sha256": str(i)} for i in range(len(rows))]
    batch = Batch(rows, verdicts, _advantages(), _advantages(), TEMPERATURE)
    learner = Learner(adapted(base_model()), CONFIG, None)
    return lambda: update(learner, batch)


def _tensors(rows: list[dict[str, Any]], size: int) -> Iterator[dict[str, torch.Tensor]]:
    """Micro-batches in TRL's form; all prompts and all completions have one length."""
    advantages = _advantages()
    for first in range(0, len(rows), size):
        part = rows[first : first + size]
        ids = {name: torch.tensor([row[name] for row in part]) for name in ("prompt_ids", "token_ids")}
        yield {
            "prompt_ids": ids["prompt_ids"],
            "prompt_mask": torch.ones_like(ids["prompt_ids"]),
            "completion_ids": ids["token_ids"],
            "completion_mask": torch.ones_like(ids["token_ids"]),
            "advantages": torch.tensor(advantages[first : first + size], dtype=torch.float32),
            "old_per_token_logps": torch.tensor([row["token_logprobs_tempered"] for row in part]),
        }


def _step(policy: Any, losses: Iterator[torch.Tensor], optimizer: torch.optim.Optimizer) -> None:
    for loss in losses:
        loss.backward()
    torch.nn.utils.clip_grad_norm_([p for p in policy.parameters() if p.requires_grad], 1.0)
    optimizer.step()
    optimizer.zero_grad()


def _adamw(policy: Any) -> torch.optim.Optimizer:
    return torch.optim.AdamW([p for p in policy.parameters() if p.requires_grad], lr=1e-5, weight_decay=0.0)


def padded_loss(policy: Any, part: dict[str, torch.Tensor], total: int) -> torch.Tensor:
    """GRPO's loss of a micro-batch, the usual way: each row reads its prompt, logits of the completion alone."""
    T = part["completion_ids"].shape[1]
    ids = torch.cat([part["prompt_ids"], part["completion_ids"]], dim=1)
    mask = torch.cat([part["prompt_mask"], part["completion_mask"]], dim=1)
    logits = policy(input_ids=ids, attention_mask=mask, logits_to_keep=T + 1, use_cache=False).logits[:, :-1]
    logp = (logits / TEMPERATURE).log_softmax(-1).gather(2, part["completion_ids"][..., None])[..., 0]
    ratio = (logp - part["old_per_token_logps"]).exp()
    advantage = part["advantages"][:, None]
    return -torch.min(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage).mean(1).sum() / total


def _padded(rows: list[dict[str, Any]], size: int) -> Callable[[], object]:
    policy = adapted(base_model())
    optimizer, parts = _adamw(policy), list(_tensors(rows, size))
    return lambda: _step(policy, (padded_loss(policy, part, len(rows)) for part in parts), optimizer)


def _trl(rows: list[dict[str, Any]], size: int) -> Callable[[], object]:
    trainer = _trl_trainer(
        rows,
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        per_device_train_batch_size=size,
        num_generations=size,
        gradient_accumulation_steps=1,
        steps_per_generation=1,
    )
    trainer.current_gradient_accumulation_steps = len(rows) // size
    trainer.model.train()
    optimizer, parts = _adamw(trainer.model), list(_tensors(rows, size))
    for part in parts:
        part["num_items_in_batch"] = part["completion_mask"].sum() * len(parts)
    return lambda: _step(trainer.model, (trainer._compute_loss(trainer.model, part) for part in parts), optimizer)


def _trl_step(rows: list[dict[str, Any]], size: int, repeats: int) -> float:
    """CPU-seconds of a whole step of TRL's trainer, the least of `repeats`, with nothing generated.

    Its `rollout_func` returns the stored completions and its reward function stored numbers, so what is left is what a user
    of the trainer pays beside generation: collating, decoding, rewards and advantages, loss, backward pass, optimizer.
    """
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            began.append(time.process_time())

        def on_step_end(self, *_: Any, **__: Any) -> None:
            took.append(time.process_time() - began[-1])

    began: list[float] = []
    took: list[float] = []
    stored = [rows[first : first + GROUP] for first in range(0, len(rows), GROUP)]

    def roll_out(prompts: list[str], _: Any) -> dict[str, Any]:
        left = [iter(group) for group in stored]
        drawn = [next(left[int(prompt[1:])]) for prompt in prompts]
        return {
            "prompt_ids": [row["prompt_ids"] for row in drawn],
            "completion_ids": [row["token_ids"] for row in drawn],
            "logprobs": None,
        }

    rewards = np.random.RandomState(1).rand(len(rows)).tolist()
    trainer = _trl_trainer(
        rows,
        reward_funcs=lambda completions, **_: rewards[: len(completions)],
        rollout_func=roll_out,
        callbacks=[Clock()],
        per_device_train_batch_size=size,
        num_generations=GROUP,
        gradient_accumulation_steps=len(rows) // size,
        steps_per_generation=len(rows) // size,
        max_steps=repeats,
    )
    trainer.train()
    return min(took)


def _trl_trainer(rows: list[dict[str, Any]], reward_funcs: Any, **settings: Any) -> Any:
    """TRL's trainer of the adapted model on a prompt a task; `rollout_func` and `callbacks` are its own, the rest its settings."""
    from datasets import Dataset
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast
    from trl import GRPOConfig, GRPOTrainer

    words = {f"w{i}": i for i in range(VOCABULARY)}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="w2")), eos_token="w0", pad_token="w1"
    )
    own = {key: settings.pop(key) for key in ("rollout_func", "callbacks") if key in settings}
    with tempfile.TemporaryDirectory() as folder:
        arguments = GRPOConfig(
            output_dir=folder,
            loss_type="grpo",
            temperature=TEMPERATURE,
            beta=0.0,
            max_completion_length=len(rows[0]["token_ids"]),
            bf16=False,
            use_cpu=True,
            gradient_checkpointing=False,
            report_to=[],
            disable_tqdm=True,
            save_strategy="no",
            **settings,
        )
        return GRPOTrainer(
            model=adapted(base_model()),
            reward_funcs=reward_funcs,
            args=arguments,
            train_dataset=Dataset.from_list([{"prompt": f"w{task}"} for task in range(len(rows) // GROUP)]),
            processing_class=tokenizer,
            **own,
        )


def _extra_mb(what: str) -> float:
    """Megabytes that one group's forward and backward pass adds to a fresh process; `what` is ours or padded."""
    code = f"from benchmarks.update import group_memory; print(group_memory({what!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def group_memory(what: str) -> float:
    """As `_extra_mb`, in this process: the peak of the resident set over what it was before."""
    torch.set_num_threads(1)
    prompt, completion = SHAPES[0]
    rows = rollouts(prompt, completion)[:GROUP]
    policy = adapted(base_model())
    small = rollouts(8, 2)[:GROUP]

    def once(of: list[dict[str, Any]]) -> None:
        if what == "padded":
            padded_loss(policy, next(_tensors(of, GROUP)), GROUP).backward()
        else:
            verdicts = [{"fast_1": True, "candidate_sha256": None}] * GROUP
            batch = Batch(of, verdicts, _advantages()[:GROUP], _advantages()[:GROUP], TEMPERATURE)
            update(Learner(policy, CONFIG, None), batch)

    once(small)
    before = _status_kb("VmRSS")
    with open("/proc/self/clear_refs", "w") as peak:
        peak.write("5")
    once(rows)
    return (_status_kb("VmHWM") - before) / 1024


def _status_kb(key: str) -> int:
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(key))
