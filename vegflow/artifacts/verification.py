"""Schemas of staged verification: the pool of candidates, what every check said of each, and what running it cost.

The outcome matrix (`outcomes`) is collected once, with no early stop, so that the accuracy of any pipeline is an exact
replay of it; costs are measured by running (`runs`, `stage_runs`).
"""

import pyarrow as pa

from vegflow.artifacts.io import column

OUTCOMES = ("pass", "fail", "error", "timeout")
"""What a check can say: passed, gave a wrong answer, raised or died, or took longer than it may."""

POOL = pa.schema(
    [
        column("task_id", pa.string(), "task"),
        column("completion_sha256", pa.string(), "SHA-256 of the completion's text (UTF-8): the candidate's identity"),
        column("program", pa.string(), "the program that is checked, assembled from the completion", nullable=True),
        column("completion", pa.string(), "the completion as the model wrote it"),
        column("count", pa.int32(), "samples of the task that wrote it"),
        column("first_index", pa.int32(), "index of the first of them"),
        column("n_tokens", pa.int32(), "tokens of the first of them", nullable=True),
        column("nll", pa.float64(), "its surprisal, nats, temperature 1; null where none was recorded", nullable=True),
        column("truncated", pa.bool_(), "the first of them was cut at the most tokens allowed"),
        column("correct", pa.bool_(), "the full suite passes: what verification is meant to find"),
        column("reward", pa.float64(), "1 or 0 for a function; the speedup for a kernel, 0 unless correct"),
        column("fast_1", pa.bool_(), "for a kernel: correct and faster than the reference; for a function: correct"),
        column("error_kind", pa.string(), "why the full suite fails, in a word; empty if it passes"),
    ]
)

CHECKS = pa.schema(
    [
        column("task_id", pa.string(), "task"),
        column("completion_sha256", pa.string(), "candidate"),
        column(
            "check",
            pa.string(),
            "syntax, lint, import, test/N for the task's test number N, or full: a kernel's whole evaluation",
        ),
        column("outcome", pa.string(), "one of: " + ", ".join(OUTCOMES)),
        column("error_kind", pa.string(), "exception or reason, in a word; empty if it passes"),
        column("answer_sha256", pa.string(), "digest of what it answered, for agreement; null if none", nullable=True),
        column("wall_s", pa.float64(), "wall time of this check alone, start of a process left out, seconds"),
        column("cpu_s", pa.float64(), "CPU time of this check, seconds"),
    ]
)

RUNS = pa.schema(
    [
        column("pipeline", pa.string(), "name of the pipeline; `noop` checks nothing and shows the cost of isolation"),
        column("repeat", pa.int32(), "number of the interleaved repeat"),
        column("n_samples", pa.int64(), "samples that entered"),
        column("n_candidates", pa.int64(), "distinct candidates that entered"),
        column(
            "wall_s",
            pa.float64(),
            "wall time of the whole run, process starts included, and of scoring, though it be by scores stored before, seconds",
        ),
        column("cpu_s", pa.float64(), "CPU time of all its processes, seconds"),
        column("fixed_s", pa.float64(), "part of wall_s that does not grow with the candidates (loading a model)"),
        column("workers", pa.int32(), "processes side by side"),
        column("picked_correct", pa.float64(), "share of the tasks whose pick passes the full suite"),
        column("picked_reward", pa.float64(), "mean reward of the picks"),
    ]
)

STAGE_RUNS = pa.schema(
    [
        column("pipeline", pa.string(), "pipeline that was run"),
        column("repeat", pa.int32(), "number of the interleaved repeat"),
        column("place", pa.int32(), "place of the stage in the pipeline, from 0"),
        column("stage", pa.string(), "stage as the configuration writes it, such as `tests: 3`"),
        column("n_in", pa.int64(), "candidates that reached it"),
        column("n_kept", pa.int64(), "candidates that it kept"),
        column("n_run", pa.int64(), "executions or model passes that it made"),
        column("wall_s", pa.float64(), "wall time, seconds"),
        column("cpu_s", pa.float64(), "CPU time of all its processes, seconds"),
    ]
)

STAGE_COSTS = pa.schema(
    [
        column("stage", pa.string(), "stage as the configuration writes it, run by itself on the whole pool"),
        column("task_id", pa.string(), "task; empty for the part that does not grow with tasks or candidates"),
        column("completion_sha256", pa.string(), "candidate; empty for the part that every task costs once"),
        column("wall_s", pa.float64(), "mean wall time over the even repeats, seconds"),
        column("cpu_s", pa.float64(), "mean CPU time of all processes over the even repeats, seconds"),
    ]
)
"""What the cost of any pipeline is composed from; the odd repeats of RUNS are left to test it on."""
