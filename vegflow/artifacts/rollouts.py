"""Schema of `rollouts`: one row a completion sampled from a policy."""

import pyarrow as pa

from vegflow.artifacts.io import column

ROLLOUTS = pa.schema(
    [
        column("rollout_id", pa.string(), "source/seedN[/stepNNN]:task_id:index, unique in a study"),
        column("source", pa.string(), "sample set or trajectory it was drawn for"),
        column("step", pa.int32(), "step of the trajectory; null for a sample set", nullable=True),
        column("task_id", pa.string(), "task the completion answers, such as L1/12"),
        column("policy_id", pa.string(), "policy that wrote it: trajectory/seedN/stepNNN where it was made, or base"),
        column("seed", pa.int64(), "seed of the sample set or trajectory"),
        column("index", pa.int32(), "number of the sample among the task's K, from 0"),
        column("prompt_sha256", pa.string(), "digest of the prompt's token ids"),
        column("prompt_ids", pa.list_(pa.int32()), "token ids of the prompt"),
        column("token_ids", pa.list_(pa.int32()), "token ids of the completion, the stop token included"),
        column(
            "token_logprobs",
            pa.list_(pa.float32()),
            "log-probability of each token at temperature 1, nats; empty for demonstrations",
        ),
        column(
            "token_logprobs_tempered",
            pa.list_(pa.float32()),
            "log-probability of each token at the sampling temperature, nats",
        ),
        column("logprob", pa.float64(), "sum of token_logprobs; the surprisal (NLL) is minus this"),
        column("logprob_tempered", pa.float64(), "sum of token_logprobs_tempered"),
        column("temperature", pa.float64(), "sampling temperature"),
        column("n_tokens", pa.int32(), "tokens in the completion"),
        column("n_prompt_tokens", pa.int32(), "tokens in the prompt"),
        column("finish_reason", pa.string(), "stop, or length for a completion cut at max_tokens"),
        column("completion", pa.string(), "text of the completion"),
    ]
)

FURTHER = pa.schema(
    [
        column("entropy", pa.float64(), "mean over tokens of the next-token distribution's entropy, nats"),
        column("self_certainty", pa.float64(), "mean over tokens of KL(uniform || next-token distribution), nats"),
    ]
)
"""Columns that rollouts from elsewhere may have beside those of `ROLLOUTS`; the sampler here keeps no whole distributions."""
