"""How a policy learns: one entry of the `trajectories` block, and the presets that name the papers' objectives.

An objective is four names (reward, advantage, loss, aggregation; the functions are in `vegflow.learning`) and what they
need. A preset gives all four; each can be replaced by itself, so that a grid of objectives is a few lines of a study.
"""

from typing import Literal, Self, get_args

from pydantic import Field, field_validator, model_validator

from vegflow.config.block import Block

RewardName = Literal["speedup", "paper_running_median", "log", "clipped", "rank", "binary", "fast"]
AdvantageName = Literal["group_z", "global_z", "centred", "leave_one_out", "entropic", "success", "none"]
LossName = Literal["clipped", "importance_sampling", "sft", "sdpo_paper", "sdpo_sampled_token", "sdpo_divergence"]
AggregationName = Literal["token_sum", "token_mean", "seq_mean", "constant"]
TeacherName = Literal["feedback", "prompt", "solution"]
DISTILLATION = ("sdpo_paper", "sdpo_sampled_token", "sdpo_divergence")
"""Losses whose signal is a teacher's, token by token, and not an advantage."""


class Parts(Block):
    """What an objective is made of."""

    reward: RewardName
    advantage: AdvantageName
    loss: LossName
    aggregation: AggregationName
    teacher: TeacherName | None = None
    epsilon_low: float = 0.2
    epsilon_high: float = 0.2
    importance_cap: float | None = None
    note: str
    """Equation and source, in a line."""


PRESETS: dict[str, Parts] = {
    "grpo": Parts(
        reward="speedup",
        advantage="group_z",
        loss="clipped",
        aggregation="seq_mean",
        note="GRPO (Shao et al. 2024, eq. 3), which the paper's text names: A = (r - mean) / sd within the task, "
        "PPO's clip at 0.2, mean over a completion's tokens and then over completions.",
    ),
    "dr_grpo": Parts(
        reward="speedup",
        advantage="centred",
        loss="clipped",
        aggregation="constant",
        note="Dr. GRPO (Liu et al. 2025): A = r - mean, sum over tokens divided by a constant; GRPO without the two "
        "normalisations, which a reward with timing noise needs.",
    ),
    "dapo": Parts(
        reward="speedup",
        advantage="group_z",
        loss="clipped",
        aggregation="token_mean",
        epsilon_high=0.28,
        note="DAPO (Yu et al. 2025): GRPO's advantage, the upper clip at 0.28, mean over all tokens of the batch; its "
        "dynamic sampling (groups of one reward are drawn again) is left out: they teach nothing here.",
    ),
    "paper_ttt": Parts(
        reward="paper_running_median",
        advantage="global_z",
        loss="importance_sampling",
        aggregation="token_sum",
        note="What the paper's released code does (Barnes 2026, scripts/batch_ttt.py): speedup over a running median, "
        "z-score over all tasks, -rho A without a clip, sum over all tokens.",
    ),
    "trloo": Parts(
        reward="clipped",
        advantage="leave_one_out",
        loss="clipped",
        aggregation="constant",
        epsilon_high=0.28,
        importance_cap=2.0,
        note="Dr. Kernel's TRLOO: A = r - mean of the others, speedup clipped to [0, 3], clip 0.2 and 0.28, importance "
        "cap 2, sum over a completion's tokens, mean over completions. With a single turn A is K / (K - 1) times dr_grpo's, one factor for all rollouts: Adam does not see it, "
        "so against centred advantages this is no arm of its own. Its rejection of sequences whose engine and trainer "
        "disagree is left out; with the engine transformers both are one program.",
    ),
    "ttt_discover": Parts(
        reward="speedup",
        advantage="entropic",
        loss="importance_sampling",
        aggregation="token_sum",
        note="TTT-Discover (its code, tinker_cookbook/rl/train.py): entropic weights e^(beta r) relative to the others' "
        "mean, beta such that the tilted group is ln 2 nats from uniform; -rho A, token sum. Its reuse of earlier "
        "solutions (PUCT) is a way of sampling and not here.",
    ),
    "sft": Parts(
        reward="binary",
        advantage="success",
        loss="sft",
        aggregation="token_mean",
        note="Maximum likelihood on the rollouts with a positive reward (rejection sampling, then fine-tuning).",
    ),
    "sdpo_paper_feedback": Parts(
        reward="speedup",
        advantage="none",
        loss="sdpo_paper",
        aggregation="token_sum",
        teacher="feedback",
        note="The paper's SDPO (eq. 1; scripts/sdpo_train.py): A_t = log p_teacher - log p_sampled, -rho A_t, token sum; "
        "the teacher also reads what came of the rollout it scores.",
    ),
    "sdpo_paper_prompt": Parts(
        reward="speedup",
        advantage="none",
        loss="sdpo_paper",
        aggregation="token_sum",
        teacher="prompt",
        note="As sdpo_paper_feedback, but the teacher reads the task's prompt and one more sentence.",
    ),
    "sdpo_official": Parts(
        reward="speedup",
        advantage="none",
        loss="sdpo_divergence",
        aggregation="token_mean",
        teacher="solution",
        importance_cap=2.0,
        note="SDPO as released (Huebotter et al. 2026, lasgroup/SDPO): generalised Jensen-Shannon divergence on the "
        "student's 100 likeliest tokens and a bucket for the rest, importance cap 2, mean over the tokens that have a "
        "teacher; the teacher reads another success of the group, or feedback if there is none. Its moving average of "
        "the teacher's weights is `distillation: {teacher_rate: 0.05}`.",
    ),
}


class LoraConfig(Block):
    """The low-rank adapter (Hu et al. 2021)."""

    rank: int = Field(16, ge=1)
    """Rank of the update to each matrix."""
    alpha: int = Field(32, ge=1)
    """The update is scaled by alpha / rank."""
    targets: tuple[str, ...] | None = None
    """Modules that get an adapter; by default those that the model's file names."""
    expert_parameters: tuple[str, ...] = ()
    """Weights of a mixture of experts that are no modules, such as `mlp.experts.gate_up_proj` (PEFT's target_parameters)."""

    @field_validator("targets", "expert_parameters")
    @classmethod
    def _no_head(cls, names: tuple[str, ...] | None) -> tuple[str, ...] | None:
        if problem := head_problem(names or ()):
            raise ValueError(problem)
        return names


class DistillationConfig(Block):
    """What SDPO's losses need beside a teacher's context."""

    policy: Literal["student", "start", "base"] = "student"
    """Who teaches: the policy itself, what the trajectory started from (the paper's `base`), or the model without adapter."""
    teacher_rate: float = Field(1.0, gt=0, le=1)
    """Of policy `student`: after each step the teacher's adapter becomes (1 - this) of itself and this much of the
    student's (lasgroup/SDPO: 0.05). 1: the teacher is the student. The average goes with the optimizer's state."""
    weight: float = Field(1.0, gt=0)
    """The paper's beta: factor of `sdpo_paper`'s advantage."""
    alpha: float = Field(0.5, ge=0, le=1)
    """Of `sdpo_divergence`: 0 is KL(teacher || student), 1 is KL(student || teacher), between them Jensen-Shannon."""
    top_k: int = Field(100, ge=1)
    """Of `sdpo_divergence`: the student's likeliest tokens that are told apart; the others share a bucket."""


class UpdateConfig(Block):
    """All that one `update` depends on beside its input files."""

    objective: Literal[
        "grpo",
        "dr_grpo",
        "dapo",
        "paper_ttt",
        "trloo",
        "ttt_discover",
        "sft",
        "sdpo_paper_feedback",
        "sdpo_paper_prompt",
        "sdpo_official",
    ] = "grpo"
    """A preset (docs/learning.md): reward, advantage, loss and aggregation, each of which the next keys replace."""
    reward: RewardName | None = None
    """What is learnt from: the speedup, or a transform of it; the preset's by default."""
    advantage: AdvantageName | None = None
    """How rewards are compared; the preset's by default."""
    loss: LossName | None = None
    """What is descended, token by token; the preset's by default."""
    aggregation: AggregationName | None = None
    """How the losses of tokens become one number; the preset's by default."""
    teacher: TeacherName | None = None
    """What SDPO's teacher reads beside the prompt; the preset's by default."""
    epsilon_low: float | None = Field(None, gt=0, lt=1)
    """Of loss `clipped`: ratios below 1 - this are clipped; the preset's by default."""
    epsilon_high: float | None = Field(None, gt=0)
    """Of loss `clipped`: ratios above 1 + this are clipped; the preset's by default."""
    importance_cap: float | None = Field(None, gt=0)
    """Truncated importance sampling: a token weighs min(p_trainer / p_sampler, this); the preset's by default."""
    fast_threshold: float | None = Field(None, ge=0)
    """Of reward `fast`: 1 if the speedup is above this; 1.0 by default."""
    token_constant: float = Field(1.0, gt=0)
    """Of aggregation `constant`: a completion's sum is divided by this (TRL: the most tokens of a completion)."""
    entropy_bonus: float = Field(0.0, ge=0)
    """The mean entropy per token, times this, is taken off the loss."""
    kl_weight: float = Field(0.0, ge=0)
    """Weight of the KL to the trajectory's start (k3 estimate, Schulman 2020) in each token's loss."""
    distillation: DistillationConfig = DistillationConfig()
    learning_rate: float = Field(1e-5, gt=0)
    """Of AdamW, without decay, without schedule."""
    lora: LoraConfig = LoraConfig()
    train_temperature: float | None = Field(None, gt=0)
    """Logits are divided by this when learning; by default the temperature the rollouts were drawn at."""
    max_gradient_norm: float = Field(1.0, gt=0)
    """The gradient is scaled down to this 2-norm."""
    kl_limit: float = Field(10.0, gt=0)
    """A step that moves the policy further than this (`kl_step`, nats per token) ends the job; the policy before is kept. Not
    told of demonstrations, which the policy did not draw."""
    on_collapse: Literal["skip", "stop"] = "skip"
    """When no rollout has an advantage (all rewards alike): hand the policy on as it is, or end the job."""
    token_budget: int = Field(16384, ge=256)
    """Tokens in one forward pass; bounds the memory of an update, not its result."""

    @property
    def parts(self) -> Parts:
        """The preset with what replaces it."""
        names = (
            "reward",
            "advantage",
            "loss",
            "aggregation",
            "teacher",
            "epsilon_low",
            "epsilon_high",
            "importance_cap",
        )
        own = {name: getattr(self, name) for name in names if getattr(self, name) is not None}
        return PRESETS[self.objective].model_copy(update=own)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if problem := _misfit(self):
            raise ValueError(problem)
        return self


def head_problem(names: tuple[str, ...]) -> str | None:
    """Why the output head cannot have an adapter, if one of the names is it."""
    heads = [name for name in names if name.split(".")[-1] in ("lm_head", "embed_out", "output_layer")]
    if heads:
        return (
            f"'{heads[0]}' cannot have an adapter: engines leave it out when they score (vLLM 51594); name inner layers"
        )
    return None


def _misfit(config: UpdateConfig) -> str | None:
    """What does not go together, as a sentence."""
    parts = config.parts
    distils = parts.loss in DISTILLATION
    if distils and parts.teacher is None:
        return f"loss '{parts.loss}' needs teacher: one of {', '.join(get_args(TeacherName))}"
    if distils and parts.advantage != "none":
        return f"loss '{parts.loss}' takes its signal from a teacher; advantage must be 'none', not '{parts.advantage}'"
    if not distils and parts.teacher is not None:
        return f"loss '{parts.loss}' has no teacher; leave teacher out or take one of {', '.join(DISTILLATION)}"
    if not distils and parts.advantage == "none":
        return f"loss '{parts.loss}' needs an advantage; 'none' is for the sdpo losses"
    if (parts.loss == "sft") and parts.advantage != "success":
        return f"loss 'sft' learns from successes; advantage must be 'success', not '{parts.advantage}'"
    if parts.loss != "clipped" and (config.epsilon_low or config.epsilon_high):
        return f"loss '{parts.loss}' has no clip; leave epsilon_low and epsilon_high out"
    if parts.loss in ("sft", "sdpo_paper") and parts.importance_cap is not None:
        return f"importance_cap does not go with loss '{parts.loss}'; leave it out"
    if config.distillation.teacher_rate < 1 and config.distillation.policy != "student":
        return f"teacher_rate is for a teacher that follows the student, not for policy '{config.distillation.policy}'"
    if config.fast_threshold is not None and parts.reward != "fast":
        return f"fast_threshold is for reward 'fast', not '{parts.reward}'"
    if config.token_constant != 1.0 and parts.aggregation != "constant":
        return f"token_constant is for aggregation 'constant', not '{parts.aggregation}'"
    return None
