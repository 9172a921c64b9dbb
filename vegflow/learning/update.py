"""The third verb, update: a policy and its scored rollouts in, the next policy out, by one step of gradient descent.

A pure function: the same adapter, optimizer state, rollouts and configuration give the same bytes on one machine. On the CPU
it takes one thread, whatever it is given, because products that are split among threads are added up in another order.
Rollouts whose evaluation broke (`evaluator_error`) teach nothing.
"""

import math
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from itertools import groupby
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vegflow.config.learning import DISTILLATION, UpdateConfig
from vegflow.errors import VegflowError
from vegflow.learning.advantages import ADVANTAGES
from vegflow.learning.distillation import divergence, on_support, support
from vegflow.learning.learner import Learner
from vegflow.learning.losses import AGGREGATIONS, Tokens, clip_stops, token_losses
from vegflow.learning.mismatch import Mismatch, columns, mismatches
from vegflow.learning.parallel import ALONE, Team
from vegflow.learning.rewards import reward_of
from vegflow.learning.teacher import Lectures, lectures
from vegflow.models.packing import Pass, passes, score
from vegflow.models.token_scores import token_scores
from vegflow.threads import one_thread

Row = Mapping[str, Any]
STEP_TASKS, STEP_ROLLOUTS = 3, 4
"""Tasks, spread evenly over the batch's, and rollouts of each on which the size of the step is measured."""
UNDRAWN = dict.fromkeys(("kl_start", "kl_step", "ratio_mean", "mismatch_mean", "mismatch_max")) | {"mismatch": []}
"""What is said of demonstrations: these are means over tokens that the policy drew, and it drew none."""


@dataclass(frozen=True)
class Batch:
    """Rollouts sorted by task and index, with their verdicts and what these make of them (N each)."""

    rows: list[Row]
    verdicts: list[Row]
    rewards_N: NDArray[np.float64]
    advantages_N: NDArray[np.float64]
    temperature: float
    """That all of them were drawn at."""

    @property
    def tasks(self) -> list[str]:
        """Task of each rollout."""
        return [row["task_id"] for row in self.rows]

    @property
    def drawn(self) -> bool:
        """Whether a policy drew them; demonstrations have no log-probabilities."""
        return bool(self.rows[0]["token_logprobs_tempered"])

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Completion tokens of each rollout."""
        return np.array([len(row["token_ids"]) for row in self.rows])

    def groups(self) -> list[list[int]]:
        """Numbers of the rollouts that share a prompt."""
        numbers = groupby(
            range(len(self.rows)), key=lambda i: (self.rows[i]["task_id"], tuple(self.rows[i]["prompt_ids"]))
        )
        return [list(group) for _, group in numbers]


def make_batch(rollouts: Sequence[Row], evaluations: Sequence[Row], config: UpdateConfig) -> Batch:
    """Join rollouts with their evaluations and compute rewards and advantages.

    Raises VegflowError if a rollout has no evaluation, none of them could be evaluated, or they were drawn at several
    temperatures.
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
    temperatures = sorted({row["temperature"] for row in rows})
    if len(temperatures) > 1:
        listed = ", ".join(f"{t:g}" for t in temperatures)
        raise VegflowError(f"the rollouts were drawn at several temperatures ({listed}); learn from those of one")
    rows.sort(key=lambda row: (row["task_id"], row["index"]))
    parts, tasks = config.parts, [row["task_id"] for row in rows]
    judged = [verdicts[row["rollout_id"]] for row in rows]
    speedups = np.array([verdict["speedup"] for verdict in judged], dtype=np.float64)
    rewards = reward_of(parts.reward, config.fast_threshold)(speedups, tasks)
    return Batch(rows, judged, rewards, ADVANTAGES[parts.advantage](rewards, tasks), temperatures[0])


@dataclass
class Sums:
    """What the passes of an update add up to, over all tokens; and each rollout's signal."""

    signal_N: NDArray[np.float64]
    """The advantage; with a sampled-token teacher, the sum of the tokens' log p_teacher - log p_sampler."""
    loss: float = 0.0
    entropy: float = 0.0
    kl_start: float = 0.0
    ratio: float = 0.0
    clipped: float = 0.0
    capped: float = 0.0
    mismatch: dict[int, Mismatch] = field(default_factory=dict)
    """Of each rollout, at the sampling temperature and before the step."""
    logprobs: dict[int, Tensor] = field(default_factory=dict)
    """Of the first rollouts of each task, before the step."""


def update(
    learner: Learner,
    batch: Batch,
    teachers: Sequence[Sequence[int] | None] | None = None,
    team: Team = ALONE,
) -> dict[str, Any]:
    """Take one AdamW step in place and return the measured columns of UPDATES.

    `teachers` are the prompts that SDPO's teacher reads (`vegflow.learning.teacher`), None for a rollout without one.
    With a `team` its processes share the prompts; each is given the whole batch, takes the step and returns the record.
    Raises VegflowError, and nothing has been written then, if the loss or the gradient is not finite or nothing is to
    be learnt and `on_collapse` says stop (the policy is as it was), or if the step went further than `kl_limit`, which
    rollouts tell and demonstrations do not.
    """
    on_cpu = all(parameter.device.type == "cpu" for parameter in learner.parameters)
    with one_thread() if on_cpu else nullcontext():
        return _update(learner, batch, teachers, team)


def _update(
    learner: Learner, batch: Batch, teachers: Sequence[Sequence[int] | None] | None, team: Team
) -> dict[str, Any]:
    """`update`, on the threads that there are."""
    began = time.perf_counter()
    config = learner.config
    collapsed = _collapsed(batch, config)
    if collapsed and config.on_collapse == "stop":
        raise VegflowError(
            "no rollout has an advantage: within what it is compared with, every reward is the same, so there is nothing "
            "to learn; the policy before is kept; draw at a higher temperature, or set on_collapse: skip"
        )
    sums = _merged(team.gather(_backward(learner, batch, teachers, team)), batch)
    team.add_gradients(learner.parameters)
    norm = float(nn.utils.clip_grad_norm_(learner.parameters, config.max_gradient_norm))
    if not math.isfinite(sums.loss) or not math.isfinite(norm):
        learner.optimizer.zero_grad()
        raise VegflowError(
            f"the update is not finite (loss {sums.loss}, gradient norm {norm}); "
            "the policy before it is kept; try a smaller learning_rate"
        )
    if not collapsed:
        learner.step()
    learner.optimizer.zero_grad()
    kl_step = _step_size(learner, batch, sums) if batch.drawn and not collapsed else 0.0
    if not kl_step <= config.kl_limit:
        raise VegflowError(
            f"the step moved the policy {kl_step:.3g} nats per token, more than kl_limit ({config.kl_limit:g}); "
            "the policy before it is kept; try a smaller learning_rate"
        )
    tokens = int(batch.lengths.sum())
    return {
        **_batch_columns(batch, sums, teachers),
        "stepped": not collapsed,
        "temperature": _temperature(batch, config),
        "loss": sums.loss,
        "gradient_norm": norm,
        "entropy": sums.entropy / tokens,
        "kl_start": sums.kl_start / tokens,
        "kl_step": kl_step,
        "ratio_mean": sums.ratio / tokens,
        "clipped_share": sums.clipped / tokens,
        "capped_share": sums.capped / tokens,
        **columns(sums.mismatch, [row["rollout_id"] for row in batch.rows], batch.lengths),
        **({} if batch.drawn else UNDRAWN),
        "seconds": time.perf_counter() - began,
    }


def _temperature(batch: Batch, config: UpdateConfig) -> float:
    return config.train_temperature or batch.temperature


def _collapsed(batch: Batch, config: UpdateConfig) -> bool:
    """Whether nothing but noise could come of a step: no advantage, no teacher, and no other term in the loss."""
    teaches = config.parts.loss in DISTILLATION or config.entropy_bonus or config.kl_weight
    return not teaches and not batch.advantages_N.any()


def _merged(parts: list[Sums], batch: Batch) -> Sums:
    """What the processes of an update have added up, together; each has changed its own rollouts' signal alone."""
    if len(parts) == 1:
        return parts[0]
    changes = sum(part.signal_N - batch.advantages_N for part in parts)
    names = ("loss", "entropy", "kl_start", "ratio", "clipped", "capped")
    return Sums(
        batch.advantages_N + changes,
        **{name: sum(getattr(part, name) for part in parts) for name in names},
        mismatch={number: found for part in parts for number, found in part.mismatch.items()},
        logprobs={number: logp for part in parts for number, logp in part.logprobs.items()},
    )


def _backward(learner: Learner, batch: Batch, teachers: Sequence[Sequence[int] | None] | None, team: Team) -> Sums:
    """Add the gradient of the whole batch, or of this process's share of it, a pass at a time."""
    config, distils = learner.config, learner.config.parts.loss in DISTILLATION
    active_N = np.ones(len(batch.rows), dtype=bool)
    if distils:
        if teachers is None:
            raise VegflowError(f"loss '{config.parts.loss}' needs the teacher's prompts")
        active_N = np.array([prompt is not None for prompt in teachers])
    elif config.parts.loss == "sft":
        active_N = batch.advantages_N > 0
    weights_N = AGGREGATIONS[config.parts.aggregation](batch.lengths, active_N, config)
    sums = Sums(batch.advantages_N.copy())
    for group in team.share(batch.groups()):
        lecture = lectures(batch.rows, teachers, group) if distils else None
        silent = not (distils or config.entropy_bonus or config.kl_weight or batch.advantages_N[group].any())
        with torch.no_grad() if team.agree(silent) else nullcontext():
            _backward_group(learner, batch, group, weights_N, lecture, sums, team)
    return sums


def _backward_group(
    learner: Learner,
    batch: Batch,
    group: list[int],
    weights_N: NDArray[np.float64],
    lecture: Lectures | None,
    sums: Sums,
    team: Team,
) -> None:
    """Add the gradient of the rollouts of one prompt, and what is measured on the way; an empty group has idle passes."""
    config, temperature = learner.config, _temperature(batch, learner.config)
    prompt = batch.rows[group[0]]["prompt_ids"] if group else []
    completions = [batch.rows[i]["token_ids"] for i in group]
    options = {"token_budget": config.token_budget, "pace": team.pace}
    with torch.no_grad(), learner.as_start() as differs:
        start = (
            score(learner.policy, prompt, completions, temperature=temperature, **options).logprobs if differs else None
        )
    all_tokens = int(batch.lengths.sum())
    for part in passes(learner.policy, prompt, completions, **options):
        numbers = [group[i] for i in part.members]
        logp_U, entropy_U = token_scores(part.logits_UV, part.targets_U, temperature)
        logp_R, entropy_R = logp_U.index_select(0, part.place_R), entropy_U.index_select(0, part.place_R)
        old_R = _recorded([batch.rows[i] for i in numbers], logp_R)
        tokens = Tokens(logp_R, old_R, _repeated(batch.advantages_N[numbers], part, logp_R))
        if lecture is not None:
            tokens = _taught(learner, tokens, part, lecture, temperature, options)
        if start is not None:
            tokens = replace(tokens, start_R=torch.cat([logp_R[:0].detach(), *(start[i] for i in part.members)]))
        loss = (_repeated(weights_N[numbers], part, logp_R) * token_losses(tokens, config)).sum()
        if config.entropy_bonus:
            loss = loss - config.entropy_bonus * entropy_R.sum() / all_tokens
        if team.sharded and torch.is_grad_enabled():
            loss = loss + 0.0 * logp_U.sum()  # a backward pass like the others', whatever this process has to learn
        if loss.requires_grad:
            loss.backward()
        _measure(sums, tokens, entropy_R.detach(), part, numbers, config)
        if temperature != batch.temperature:
            with torch.no_grad():
                logp_U, _ = token_scores(part.logits_UV, part.targets_U, batch.temperature)
        sums.mismatch |= zip(numbers, mismatches(logp_U[part.place_R] - old_R, part.lengths), strict=True)
        sums.loss += loss.item()
        first = [place for place, i in enumerate(part.members) if i < STEP_ROLLOUTS]
        pieces = logp_R.detach().cpu().split(part.lengths)
        sums.logprobs |= {numbers[place]: pieces[place] for place in first}


def _recorded(rows: Sequence[Row], logp_R: Tensor) -> Tensor:
    """Log-probabilities as they were when the tokens were drawn (R); of demonstrations, which nobody drew, the policy's own."""
    recorded = [p for row in rows for p in row["token_logprobs_tempered"]]
    return logp_R.new_tensor(recorded) if recorded else logp_R.detach()


def _repeated(values_M: NDArray[np.float64], part: Pass, like: Tensor) -> Tensor:
    """Each member's value for each of its tokens (R)."""
    return torch.tensor(np.repeat(values_M, np.array(part.lengths, dtype=int))).to(like)


def _taught(
    learner: Learner, tokens: Tokens, part: Pass, lecture: Lectures, temperature: float, options: dict[str, Any]
) -> Tokens:
    """The tokens with what the teacher says of them; of a rollout without a teacher, that it agrees."""
    config = learner.config
    whole = config.parts.loss == "sdpo_divergence"
    index_UK, student_US = (
        support(part.logits_UV.float() / temperature, config.distillation.top_k) if whole else (None, None)
    )
    slices = dict(zip(part.members, torch.arange(len(part.place_R)).split(part.lengths), strict=True))
    teacher_R = tokens.old_R.clone()
    divergence_R = torch.zeros_like(tokens.logp_R)
    branches = [i for i in part.members if lecture.branches[i] is not None]
    with torch.no_grad(), learner.as_teacher():
        read = [lecture.read[i] for i in branches]
        texts = [lecture.branches[i] for i in branches]
        for said in passes(learner.policy, lecture.common, texts, read=read, **options):
            if not said.members:
                continue
            place_Q = torch.cat([slices[branches[i]] for i in said.members]).to(said.place_R.device)
            if index_UK is None:
                logp_U, _ = token_scores(said.logits_UV, said.targets_U, temperature)
                teacher_R[place_Q] = logp_U[said.place_R]
                continue
            rows_Q = part.place_R[place_Q]
            teacher_QS = on_support(said.logits_UV.float() / temperature, index_UK[rows_Q], said.place_R)
            with torch.enable_grad():
                terms_Q = divergence(student_US[rows_Q], teacher_QS, config.distillation.alpha)
                divergence_R = divergence_R.index_add(0, place_Q, terms_Q)
    return replace(tokens, teacher_R=teacher_R, divergence_R=divergence_R)


def _measure(
    sums: Sums, tokens: Tokens, entropy_R: Tensor, part: Pass, numbers: list[int], config: UpdateConfig
) -> None:
    logp_R = tokens.logp_R.detach()
    sums.entropy += entropy_R.sum().item()
    sums.ratio += (logp_R - tokens.old_R).exp().sum().item()
    sums.clipped += clip_stops(tokens, config).sum().item()
    if (cap := config.parts.importance_cap) is not None:
        sums.capped += ((logp_R - tokens.old_R).exp() > cap).sum().item()
    if tokens.start_R is not None:
        sums.kl_start += (logp_R - tokens.start_R).sum().item()
    if tokens.teacher_R is not None and config.parts.loss != "sdpo_divergence":
        pieces = (tokens.teacher_R - tokens.old_R).split(part.lengths)
        sums.signal_N[numbers] = [piece.sum().item() for piece in pieces]


def _step_size(learner: Learner, batch: Batch, sums: Sums) -> float:
    """KL(policy after || before) per token, on the first rollouts of some tasks, which the policy before drew (nats).

    Each token's term is rho log rho - rho + 1 with rho = p_after / p_before: never negative, and on average over tokens
    from the policy before the divergence of the two next-token distributions (k3 of Schulman 2020, the other way round).
    """
    terms = []
    groups = batch.groups()
    for group in groups[:: math.ceil(len(groups) / STEP_TASKS)]:
        first = group[:STEP_ROLLOUTS]
        completions = [batch.rows[i]["token_ids"] for i in first]
        with torch.no_grad():
            after = score(
                learner.policy,
                batch.rows[group[0]]["prompt_ids"],
                completions,
                temperature=_temperature(batch, learner.config),
                token_budget=learner.config.token_budget,
            ).logprobs
        difference = torch.cat(after).cpu().double() - torch.cat([sums.logprobs[i] for i in first]).double()
        terms.append(difference.exp() * difference - difference.expm1())
    return torch.cat(terms).mean().item()


def _batch_columns(batch: Batch, sums: Sums, teachers: Sequence[Sequence[int] | None] | None) -> dict[str, Any]:
    rewards, signal = batch.rewards_N, sums.signal_N
    tasks = np.array(batch.tasks)
    fast = np.array([verdict["fast_1"] for verdict in batch.verdicts])
    squares = float((signal**2).sum())
    programs = {(task, v["candidate_sha256"]) for task, v in zip(batch.tasks, batch.verdicts, strict=True)}
    pairs = zip(teachers or (), batch.rows, strict=False)
    return {
        "n_rollouts": len(rewards),
        "distinct_candidates": sum(sha is not None for _, sha in programs),
        "student_tokens": sum(row["n_prompt_tokens"] + row["n_tokens"] for row in batch.rows),
        "teacher_tokens": sum(len(prompt) + row["n_tokens"] for prompt, row in pairs if prompt is not None),
        "reward_mean": float(rewards.mean()),
        "reward_std": float(rewards.std()),
        "advantage_abs_mean": float(np.abs(signal).mean()),
        "advantage_max": float(signal.max()),
        "effective_rollouts": float(np.abs(signal).sum()) ** 2 / squares if squares > 0 else 0.0,
        "zero_variance_groups": sum(bool(np.ptp(rewards[tasks == task]) == 0) for task in np.unique(tasks)),
        "fast_negative_share": float((signal[fast] < 0).mean()) if fast.any() and signal.any() else None,
    }
