"""Schemas of what learning leaves: `updates`, one row a gradient step, and `nll`, one row a rollout and policy."""

import pyarrow as pa

from vegflow.artifacts.io import column

MISMATCH = pa.struct(
    [
        pa.field("rollout_id", pa.string(), nullable=False),
        pa.field("log_ratio", pa.float64(), nullable=False),
        pa.field("mean", pa.float64(), nullable=False),
        pa.field("max", pa.float64(), nullable=False),
    ]
)
"""Of one rollout: sum over its tokens of log p_trainer - log p_sampler, and the mean and largest absolute difference of a token."""

UPDATES = pa.schema(
    [
        column("trajectory", pa.string(), "trajectory the step belongs to"),
        column("seed", pa.int64(), "its seed"),
        column("step", pa.int32(), "number of the policy this update made (1 is the first)"),
        column("n_rollouts", pa.int32(), "rollouts learnt from"),
        column("distinct_candidates", pa.int32(), "different programs among their candidates, task by task"),
        column("student_tokens", pa.int64(), "prompt and completion tokens sampled, or shown, for this update"),
        column("teacher_tokens", pa.int64(), "prompt and completion tokens scored by a teacher"),
        column("stepped", pa.bool_(), "a step was taken; false if no rollout had an advantage and it was skipped"),
        column("temperature", pa.float64(), "logits were divided by this when learning"),
        column("loss", pa.float64(), "loss before the step"),
        column("gradient_norm", pa.float64(), "2-norm of the gradient over the adapter's parameters"),
        column("entropy", pa.float64(), "mean entropy of the policy per token before the step, nats"),
        column(
            "kl_start",
            pa.float64(),
            "estimated KL(policy || trajectory's start) per token before the step, nats; null for demonstrations, as are kl_step, "
            "ratio_mean and mismatch: they are means over tokens that the policy drew",
            nullable=True,
        ),
        column(
            "kl_step",
            pa.float64(),
            "estimated KL(policy after || before the step) per token, on the first four rollouts of up to three tasks, nats",
            nullable=True,
        ),
        column(
            "ratio_mean",
            pa.float64(),
            "mean ratio of a token's probability, policy to sampler; 1 if both agree",
            nullable=True,
        ),
        column("clipped_share", pa.float64(), "share of the tokens whose gradient the clip stopped"),
        column("capped_share", pa.float64(), "share of the tokens whose weight importance_cap bounded; 0 without one"),
        column(
            "mismatch_mean",
            pa.float64(),
            "mean absolute difference of a token's log-probability, trainer before the step and sampler, at the sampling temperature, nats",
            nullable=True,
        ),
        column("mismatch_max", pa.float64(), "the largest such difference, nats", nullable=True),
        column(
            "mismatch",
            pa.list_(MISMATCH),
            "of each rollout: log_ratio, the sum over tokens of log p_trainer - log p_sampler; mean and max, absolute, of a token",
        ),
        column("reward_mean", pa.float64(), "mean reward"),
        column("reward_std", pa.float64(), "standard deviation of the reward"),
        column(
            "advantage_abs_mean",
            pa.float64(),
            "mean absolute advantage (with a sampled-token teacher: of the tokens' sum)",
        ),
        column("advantage_max", pa.float64(), "largest advantage"),
        column("effective_rollouts", pa.float64(), "(sum of |A|)^2 / sum of A^2: rollouts that the signal comes from"),
        column("zero_variance_groups", pa.int32(), "groups whose rewards are all equal, which teach nothing"),
        column(
            "fast_negative_share",
            pa.float64(),
            "share of the fast_1 rollouts with a negative advantage; null if there are none, or no advantages",
            nullable=True,
        ),
        column("seconds", pa.float64(), "wall time of the update, loading apart, seconds"),
    ]
)

NLL = pa.schema(
    [
        column("rollout_id", pa.string(), "rollout scored"),
        column("policy_id", pa.string(), "policy that scored it"),
        column("nll", pa.float64(), "surprisal: minus the summed log-probability at temperature 1, nats"),
        column("n_tokens", pa.int32(), "completion tokens summed over"),
    ]
)
