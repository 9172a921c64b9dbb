"""Schema of `selections`: which of a task's K samples each strategy picks, and what that yields."""

import pyarrow as pa

from vegflow.artifacts.io import column

SELECTIONS = pa.schema(
    [
        column("source", pa.string(), "sample set picked from"),
        column("task_id", pa.string(), "task"),
        column("seed", pa.int64(), "seed of the sample set"),
        column("strategy", pa.string(), "name of the rule"),
        column(
            "nll_choice",
            pa.string(),
            "surprisal it looks at: sum or mean over tokens, at temperature 1 or tempered (at the sampling temperature), under the policy that wrote the samples; empty if none",
        ),
        column("expected", pa.bool_(), "the numbers are exact expectations over a random rule's draws"),
        column(
            "rollout_ids",
            pa.list_(pa.string()),
            "the rollout picked; none for a random rule, which draws from all correct ones",
        ),
        column("n_correct", pa.int32(), "correct samples there were to pick from"),
        column("correct", pa.bool_(), "there was one"),
        column("fast_1", pa.float64(), "probability that the pick is correct and faster than the reference"),
        column("speedup", pa.float64(), "(expected) speedup of the pick, 0 if none is correct"),
        column("log_speedup", pa.float64(), "(expected) natural logarithm of that speedup", nullable=True),
        column(
            "nll",
            pa.float64(),
            "(mean) surprisal of the pick under nll_choice (else the sum at temperature 1), nats",
            nullable=True,
        ),
        column("extra_evaluations", pa.int32(), "timings needed beyond checking all K for correctness"),
    ]
)
