"""Schemas of the tables of staged verification: what `vegflow.statistics` makes of the pool, its checks and the runs.

Shares are between 0 and 1; `low` and `high` bound the confidence interval of the value before them and are null where
there are fewer than two tasks. A throughput counts distinct candidates entering a pipeline, a second of wall time.
"""

import pyarrow as pa

from vegflow.artifacts.io import column

TEXT, REAL, COUNT, PLACE, TRUTH = pa.string(), pa.float64(), pa.int64(), pa.int32(), pa.bool_()
METRICS = ("correct", "fast_1", "speedup")
"""What a pick is worth: 1 if it passes the full suite; 1 if it is also faster than the reference; its speedup, 0 unless it
is correct. Functions have the first alone."""


def _interval(of: str, prefix: str = "") -> list[pa.Field]:
    return [
        column(f"{prefix}low", REAL, f"lower end of the interval of {of}", nullable=True),
        column(f"{prefix}high", REAL, f"upper end of the interval of {of}", nullable=True),
    ]


def _where(*, k: bool = True) -> list[pa.Field]:
    found = [
        column("verification", TEXT, "entry of the study's `verification`"),
        column("domain", TEXT, "kernels or functions"),
    ]
    if k:
        found += [
            column("metric", TEXT, "what a pick is worth: " + ", ".join(METRICS)),
            column("k", COUNT, "samples of a task that enter, drawn from its pool; all of them where there are fewer"),
        ]
    return found


FRONTIER = pa.schema(
    [
        *_where(),
        column("pipeline", TEXT, "its name"),
        column("stages", TEXT, "its stages"),
        column("n_tasks", COUNT, "tasks"),
        column("candidates", REAL, "distinct candidates of a task that enter, expected"),
        column("value", REAL, "mean over tasks of what the pick among k samples is worth, expected over subsets"),
        *_interval("value"),
        column("exact", TRUTH, "value is exact; else from seeded random subsets"),
        column("full_runs", REAL, "candidates of a task on which the full suite is run, expected"),
        column("task_s", REAL, "wall seconds a task, fixed cost left out"),
        column("fixed_s", REAL, "wall seconds that do not grow with the candidates (loading a model)"),
        column("cost", TEXT, "where seconds come from: run, stages (each measured by itself) or checks (no process starts)"),
        column("throughput", REAL, "candidates a second, fixed cost left out", nullable=True),
        *_interval("throughput", "throughput_"),
        column("relative_throughput", REAL, "throughput / that of the full suite on all candidates", nullable=True),
        *_interval("relative_throughput", "relative_throughput_"),
        column("relative_loss", REAL, "1 - value / that of the full suite", nullable=True),
        *_interval("relative_loss", "relative_loss_"),
        column("value_per_second", REAL, "value / task_s: of speedups, what a second of verification finds", nullable=True),
        column("on_front", TRUTH, "no other pipeline is as good in value and throughput and better in one"),
        column("p_front", REAL, "share of the bootstrap's replicates in which it is on the front", nullable=True),
        column("beyond_noise", TRUTH, "no other is clearly better in one and not clearly worse in the other"),
    ]
)  # fmt: skip

FRONTIER_PAIRS = pa.schema(
    [
        *_where(),
        column("kind", TEXT, "adjacent (on the front), control (the same stages, a control ranks) or addition (a stage more)"),
        column("first", TEXT, "stages"),
        column("second", TEXT, "stages it is compared with"),
        column("n_tasks", COUNT, "tasks"),
        column("difference", REAL, "value of the first less that of the second, mean over tasks"),
        *_interval("difference"),
        column("permutation_p", REAL, "two-sided p of sign-flipped task means", nullable=True),
        column("throughput_ratio", REAL, "throughput of the first / of the second; null where it was not configured", nullable=True),
        *_interval("throughput_ratio", "throughput_"),
    ]
)  # fmt: skip

RANKERS = pa.schema(
    [
        *_where(),
        column("filters", TEXT, "filters before it"),
        column("prune", TEXT, "ranker that cuts half of k before it; empty for none"),
        column("ranker", TEXT, "what ranks the rest; its first is picked"),
        column("n_tasks", COUNT, "tasks"),
        column("value", REAL, "mean over tasks of what the pick among k samples is worth"),
        *_interval("value"),
        column("exact", TRUTH, "value is exact; else from seeded random subsets"),
    ]
)

TUNING = pa.schema(
    [
        *_where(),
        column("budget", REAL, "most that a pipeline may cost, as a share of the full suite on all candidates"),
        column("half", TEXT, "tasks tested on: second (found on the first), first, or both"),
        column("stages", TEXT, "the pipeline found; empty for both"),
        column("n_pipelines", COUNT, "pipelines of the grammar that were tried"),
        column("n_tasks", COUNT, "tasks tested on"),
        column("found_value", REAL, "its value on the tasks that it was found on", nullable=True),
        column("value", REAL, "its value on the tasks tested on"),
        *_interval("value"),
        column("share_of_cost", REAL, "its cost there, as a share of the full suite's"),
        column("full_value", REAL, "value of the full suite there"),
        column("best_value", REAL, "largest value there of any pipeline within the budget: what no tuning can beat"),
    ]
)

PRUNED = pa.schema(
    [
        *_where(k=False),
        column("pipeline", TEXT, "its name"),
        column("place", PLACE, "place of the stage, from 0; one more than the last for those left at the end"),
        column("stage", TEXT, "stage that drops them; `left` for those left at the end"),
        column(
            "kind", TEXT, "correct, or why the full suite fails; character-level if few edits from a correct program"
        ),
        column("n_candidates", COUNT, "distinct candidates, all tasks together"),
        column("n_samples", COUNT, "samples that wrote them"),
    ]
)

WASTED = pa.schema(
    [
        *_where(k=False),
        column("filters", TEXT, "filters before the ranker"),
        column("ranker", TEXT, "what ranks"),
        column("top", COUNT, "candidates of each task ranked first that are looked at"),
        column("kind", TEXT, "why the full suite fails; character-level if few edits from a correct program"),
        column("n_wrong", COUNT, "wrong candidates among them, all tasks together"),
        column("share", REAL, "their share of the candidates looked at"),
        column("seconds", REAL, "what the full suite costs on them, seconds"),
        column("share_of_seconds", REAL, "their share of what it costs on all that are looked at"),
    ]
)

COMPOSED = pa.schema(
    [
        *_where(k=False),
        column("pipeline", TEXT, "its name; noop checks nothing"),
        column("n_repeats", COUNT, "repeats tested on: the odd ones, which the composition did not see"),
        column("run_s", REAL, "median wall time of really running it, seconds"),
        column("run_low", REAL, "least of them"),
        column("run_high", REAL, "most of them"),
        column("composed_s", REAL, "sum of its stages' costs, each measured by itself; null if one was not", nullable=True),
        column("ratio", REAL, "composed / run", nullable=True),
        column("times_full", REAL, "wall time of running the full suite / of running it, everything included: median over all repeats", nullable=True),
        column("times_full_low", REAL, "least of the repeats' ratios", nullable=True),
        column("times_full_high", REAL, "most of them", nullable=True),
        column("cpu_s", REAL, "median CPU time of all its processes, seconds"),
        column("fixed_s", REAL, "median part that does not grow with the candidates", nullable=True),
        column("n_candidates", COUNT, "distinct candidates that enter"),
    ]
)  # fmt: skip

DOMAINS = pa.schema(
    [
        column("metric", TEXT, "what a pick is worth"),
        column("k", COUNT, "samples of a task that enter"),
        column("stages", TEXT, "the pipeline"),
        column("verifications", pa.list_(TEXT), "entries of `verification` that have it"),
        column("geometric_mean", REAL, "geometric mean over them of the throughput relative to the full suite"),
        column("arithmetic_mean", REAL, "arithmetic mean of the same ratios, as the paper averages"),
        column("relative_loss", REAL, "mean over them of the relative loss", nullable=True),
    ]
)

STAGED_PAPER = pa.schema(
    [
        column("benchmark", TEXT, "benchmark of the paper"),
        column("filter", TEXT, "its filter"),
        column("ranker", TEXT, "its ranker: majority, or a reward model of so many parameters"),
        column("accuracy", REAL, "best of 64 of 128 samples"),
        column("throughput", REAL, "distinct programs a second"),
        column("relative_throughput", REAL, "throughput / that of all tests"),
        column("relative_loss", REAL, "1 - accuracy / that of all tests"),
        column("on_front", TRUTH, "no other of its row group is as good in both and better in one"),
        column("verification", TEXT, "ours with the same stages, the largest k", nullable=True),
        column("pipeline", TEXT, "its name", nullable=True),
        column("ours", REAL, "our value (correct)", nullable=True),
        *_interval("ours", "ours_"),
        column("ours_relative_throughput", REAL, "our throughput / that of our full suite", nullable=True),
        column("ours_relative_loss", REAL, "1 - our value / that of our full suite", nullable=True),
    ]
)

FRONTIER_TABLES: dict[str, pa.Schema] = {
    "frontier": FRONTIER,
    "frontier_pairs": FRONTIER_PAIRS,
    "rankers": RANKERS,
    "tuning": TUNING,
    "pruned": PRUNED,
    "wasted": WASTED,
    "composed": COMPOSED,
    "domains": DOMAINS,
    "staged_paper": STAGED_PAPER,
}
"""Tables of `results/STUDY/frontier/` by name."""
