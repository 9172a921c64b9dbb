"""Schema of `evaluations`: one row a rollout, with the evaluator's verdict on its candidate."""

import pyarrow as pa

from vegflow.artifacts.io import column

STATUSES = (
    "correct",
    "parse_error",
    "compile_error",
    "runtime_error",
    "timeout",
    "out_of_memory",
    "wrong_output",
    "low_precision",
    "rejected_hack",
    "implausible",
    "evaluator_error",
)

EVALUATIONS = pa.schema(
    [
        column("rollout_id", pa.string(), "rollout judged"),
        column("task_id", pa.string(), "its task"),
        column("task_revision", pa.string(), "digest of the task's reference program"),
        column("candidate_sha256", pa.string(), "digest of the assembled program", nullable=True),
        column("status", pa.string(), "one of: " + ", ".join(STATUSES)),
        column("reason", pa.string(), "why, in words; empty if correct"),
        column("correct", pa.bool_(), "passed every correctness trial"),
        column("fast_1", pa.bool_(), "correct and point estimate of the speedup > 1 (as the paper counts)"),
        column("fast", pa.bool_(), "correct and lower bound of the speedup > 1 + delta"),
        column("speedup", pa.float64(), "reference time / candidate time, 0 unless correct"),
        column("speedup_low", pa.float64(), "lower end of its interval (95 % over all looks)", nullable=True),
        column("speedup_high", pa.float64(), "upper end of its interval", nullable=True),
        column("headroom", pa.float64(), "reference time / least time that the device allows", nullable=True),
        column(
            "paper_speedup",
            pa.float64(),
            "ratio of the medians of the first five times, as the paper has it",
            nullable=True,
        ),
        column("runtime_us", pa.float64(), "median time of one call of the candidate, microseconds", nullable=True),
        column("reference_us", pa.float64(), "median time of one call of the reference, microseconds", nullable=True),
        column(
            "runtime_times_us",
            pa.list_(pa.float64()),
            "times of one call of the candidate, pair by pair",
            nullable=True,
        ),
        column("reference_times_us", pa.list_(pa.float64()), "the reference's times in the same pairs", nullable=True),
        column(
            "reference_first",
            pa.list_(pa.bool_()),
            "whether the reference came first in each pair, which the speedup allows for; empty if that was not kept",
            nullable=True,
        ),
        column("max_abs_err", pa.float64(), "largest absolute difference to the reference seen", nullable=True),
        column(
            "kernelbench_correct", pa.bool_(), "KernelBench's own check of the same outputs would pass", nullable=True
        ),
        column("language", pa.string(), "what the candidate is written in"),
        column("trust", pa.string(), "compiled or interpreted: a compiled candidate cannot touch the worker's loop"),
        column("reference_fallback", pa.bool_(), "the program falls back to the task's own forward (by its text)"),
        column("evaluate_wall_s", pa.float64(), "wall time spent on this candidate, seconds"),
        column("evaluate_cpu_s", pa.float64(), "CPU time spent on this candidate by its worker, seconds"),
        column("build_cpu_s", pa.float64(), "CPU time its build took, seconds; 0 if there was none"),
        column("device", pa.string(), "device the candidate ran on"),
        column(
            "clock",
            pa.string(),
            "what its times count by: cpu (processor time), cupti (spans on the GPU), events (CUDA events, where CUPTI "
            "does not start), wall (where a GPU's spans say less than the judge's clock); empty if it was not timed",
            nullable=True,
        ),
        column(
            "sm_clocks_mhz",
            pa.list_(pa.int64()),
            "the GPU's multiprocessor clock before and after each group of timings, MHz; empty without NVML",
            nullable=True,
        ),
        column("memory_clocks_mhz", pa.list_(pa.int64()), "the GPU's memory clock at the same times", nullable=True),
        column(
            "throttling",
            pa.string(),
            "why the GPU held its clocks down at one of these times, no text if it did not; empty without NVML",
            nullable=True,
        ),
    ]
)
