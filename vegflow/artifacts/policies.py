"""Schemas of what learning leaves: `updates`, one row a gradient step, and `nll`, one row a rollout and policy."""

import pyarrow as pa

from vegflow.artifacts.io import column

UPDATES = pa.schema(
    [
        column("trajectory", pa.string(), "trajectory the step belongs to"),
        column("seed", pa.int64(), "its seed"),
        column("step", pa.int32(), "number of the policy this update made (1 is the first)"),
        column("n_rollouts", pa.int32(), "rollouts learnt from"),
        column("student_tokens", pa.int64(), "prompt and completion tokens sampled for this update"),
        column("teacher_tokens", pa.int64(), "tokens scored by a teacher"),
        column("loss", pa.float64(), "loss before the step"),
        column("gradient_norm", pa.float64(), "2-norm of the gradient over the adapter's parameters"),
        column("entropy", pa.float64(), "mean entropy of the policy per token before the step, nats"),
        column("kl_start", pa.float64(), "estimated KL(policy || trajectory's start) per token before the step, nats"),
        column("reward_mean", pa.float64(), "mean reward"),
        column("reward_std", pa.float64(), "standard deviation of the reward"),
        column("advantage_abs_mean", pa.float64(), "mean absolute advantage"),
        column("advantage_max", pa.float64(), "largest advantage"),
        column("zero_variance_groups", pa.int32(), "groups whose rewards are all equal, which teach nothing"),
        column(
            "fast_negative_share", pa.float64(), "share of the fast_1 rollouts with a negative advantage", nullable=True
        ),
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
