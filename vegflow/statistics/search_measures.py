"""Our side of the paper's numbers about search and selection: one small function per kind of number."""

from dataclasses import replace

import polars as pl

from vegflow.statistics.intervals import DIFFERENCE, POSITIVE, SHARE, mean_interval
from vegflow.statistics.measure import (
    NO_COMPARISON,
    Ours,
    Study,
    counted,
    first_of,
    of_rollouts,
    of_runs,
    over_tasks,
    rows_of,
    search_of,
)
from vegflow.statistics.paired import task_permutation
from vegflow.statistics.samples import comparison_set, task_sets
from vegflow.statistics.scaling import curve


def scaling(study: Study, metric: str, k: int, tasks: str = "") -> Ours:
    """Value of the best-of-N curve at k."""
    source, task_set = search_of(study, tasks)
    rows = rows_of(study, "scaling", source=source, task_set=task_set, metric=metric, k=k)
    return first_of(rows, "value", f"the study has no K = {k} curve for the task set '{tasks or task_set}'")


def scaling_sd(study: Study, k: int) -> Ours:
    """Standard deviation over seeds of the best-of-N curve at k."""
    source, task_set = search_of(study)
    rows = rows_of(study, "scaling", source=source, task_set=task_set, metric="fast_1", k=k)
    found = first_of(rows, "sd_seeds", "fewer than two seeds, or no such K", low="", high="")
    return of_runs(found, int(rows["n_seeds"][0]) if rows.height else 0, study.how.confidence)


def gain(study: Study, k_from: int, k_to: int) -> Ours:
    """What more samples add: pass@k_to minus pass@k_from on fast_1, paired by task and seed."""
    source, task_set = search_of(study)
    tasks = dict(study.facts.sample_sets[source].tasks).get(task_set) if source else None
    shared = tasks or comparison_set(study.facts)[1]
    drawn = rows_of(study, "tasks", source=source, step=None).filter(pl.col("task_id").is_in(shared))
    line = curve(drawn, "fast_1", (k_from, k_to))
    if line.ks != (k_from, k_to):
        return Ours(missing=f"fewer than {k_to} samples a task")
    found = mean_interval(line.values[1] - line.values[0], line.tasks, line.seeds, study.how, bounds=DIFFERENCE)
    return Ours(found.value, found.low, found.high, n_tasks=len(set(line.tasks)))


INTERVALS = {
    "fast_1": ("low", "high"),
    "mean_speedup": ("mean_low", "mean_high"),
    "geometric_mean_speedup": ("geometric_low", "geometric_high"),
}
"""Columns of the strategies table with the ends of their intervals."""


def strategy(study: Study, strategy: str, column: str) -> Ours:
    """A column of the strategies table."""
    source, task_set = search_of(study)
    rows = rows_of(study, "strategies", source=source, task_set=task_set, strategy=strategy)
    missing = f"no value of {column} for the strategy {strategy}"
    own = study.facts.sample_sets.get(source)
    found = first_of(_sized(study, rows), column, missing, *INTERVALS.get(column, ("", "")))
    if column == "sd_seeds":
        return of_runs(found, len(own.seeds) if own else 0, study.how.confidence)
    if column == "extra_evaluations":
        whole = found.value is not None and float(found.value).is_integer()
        return counted(found) if whole else replace(found, bare="a mean of what these picks cost")
    return found


def _sized(study: Study, rows: pl.DataFrame) -> pl.DataFrame:
    """Rows about a task set with how many tasks it has."""
    if not rows.height:
        return rows.with_columns(n_tasks=pl.lit(0))
    return rows.with_columns(n_tasks=pl.lit(len(task_sets(study.facts, rows["source"][0])[rows["task_set"][0]])))


def paired(study: Study, first: str, second: str, metric: str, column: str, tasks: str = "") -> Ours:
    """A column of the paired comparisons."""
    source, task_set = search_of(study, tasks)
    rows = rows_of(study, "paired", source=source, task_set=task_set, first=first, second=second, metric=metric)
    ends = {"difference": ("low", "high", "permutation_p"), "cohens_h": ("h_low", "h_high")}.get(column, ("", ""))
    return first_of(rows, column, "undefined here: a strategy was not applied, or no pair differs", *ends)


def wins(study: Study, regime: str) -> Ours:
    """Share of head-to-heads that surprisal wins in a regime, a tie counting one half, over all tasks."""
    source, task_set = search_of(study, "all")
    rows = rows_of(study, "head_to_head", source=source, task_set=task_set, regime=regime)
    if not rows.height:
        return Ours(missing=f"no task of {regime} in this study")
    score = rows["winner"].replace_strict({"surprisal": 1.0, "tie": 0.5, "confidence": 0.0}).to_numpy()
    names = rows["task_id"].to_list()
    found = mean_interval(score, names, rows["seed"].to_list(), study.how, bounds=SHARE)
    p = task_permutation(score - 0.5, names, study.how.seed)
    return Ours(found.value, found.low, found.high, p, n_tasks=len(set(names)))


def correlation(study: Study, of: str, column: str = "rho") -> Ours:
    """A column of a Spearman correlation over the correct samples."""
    source, task_set = search_of(study)
    rows = rows_of(study, "correlations", source=source, task_set=task_set, measure=of)
    found = first_of(
        _sized(study, rows), column, "one side does not vary", *(("low", "high") if column == "rho" else ("", ""))
    )
    return counted(found) if column == "n" else found


QUARTILE_INTERVALS = {
    "fast_1": ("low", "high"),
    "mean_speedup": ("speedup_low", "speedup_high"),
    "mean_tokens": ("tokens_low", "tokens_high"),
}
"""Columns of the quartiles table with the ends of their intervals."""


def quartile(study: Study, quartile: int, column: str) -> Ours:
    """A column of the global surprisal quartiles."""
    source, task_set = search_of(study)
    rows = rows_of(study, "quartiles", source=source, task_set=task_set, ranking="global", quartile=quartile)
    ends = QUARTILE_INTERVALS.get(column, ("", ""))
    found = first_of(_sized(study, rows), column, "fewer than four correct samples", *ends)
    return (
        replace(found, bare="it describes which tasks these samples are of")
        if column not in QUARTILE_INTERVALS
        else found
    )


def quartile_halves(study: Study) -> Ours:
    """fast_1 of the high-surprisal half of the correct samples minus that of the low half."""
    return _of_halves(study, 0)


def quartile_half(study: Study, half: str) -> Ours:
    """fast_1 of the `high`- or `low`-surprisal half of the correct samples."""
    return _of_halves(study, 1 if half == "high" else 2)


def _of_halves(study: Study, which: int) -> Ours:
    source, task_set = search_of(study)
    rows = rows_of(study, "quartiles", source=source, task_set=task_set, ranking="halves", quartile=which)
    return first_of(_sized(study, rows), "fast_1", "fewer than four correct samples")


def base(study: Study, column: str) -> Ours:
    """A column of the tasks table, mean over the sample set of the comparison."""
    source, _ = search_of(study)
    rows = rows_of(study, "tasks", source=source)
    if not rows.height:
        return Ours(missing="the study has no sample set")
    values = rows[column].cast(pl.Float64).fill_null(float("nan")).to_numpy()
    bounds = POSITIVE if column == "mean_speedup" else None
    found = mean_interval(values, rows["task_id"].to_list(), rows["seed"].to_list(), study.how, bounds=bounds)
    return Ours(found.value, found.low, found.high, n_tasks=rows["task_id"].n_unique())


def one_sample(study: Study, column: str) -> Ours:
    """What one sample of each task costs: `rollouts`, `student_tokens`, `teacher_tokens` or `all_tokens`, first seed."""
    shared = comparison_set(study.facts)[1]
    rows = _first_seed(study).filter(pl.col("task_id").is_in(shared))
    if not rows.height:
        return Ours(missing=NO_COMPARISON)
    tokens = float((rows["mean_tokens"] + rows["mean_prompt_tokens"]).sum())
    cost = {"rollouts": float(rows.height), "student_tokens": tokens, "teacher_tokens": 0.0, "all_tokens": tokens}
    if column in ("rollouts", "teacher_tokens"):
        return counted(Ours(cost[column]))
    each = rows["mean_tokens"] + rows["mean_prompt_tokens"]
    return over_tasks(tokens, each, rows["task_id"], rows["seed"], study)


def oracle_speedup(study: Study, task: str) -> Ours:
    """Largest speedup among a task's correct samples, first seed; its interval is the evaluator's, of that program's timings."""
    source, _ = search_of(study)
    rows = rows_of(study, "tasks", source=source, task_id=task).sort("seed")
    found = first_of(rows, "best_speedup", f"no correct sample of {task}")
    programs = rows_of(study, "candidates", source=source, task_id=task, status="correct")
    same = programs.filter((pl.col("speedup") - (found.value or 0.0)).abs() < 1e-9)
    if not same.height:
        return replace(found, bare="the program was judged several times; no one interval is its own")
    return replace(found, low=same["speedup_low"][0], high=same["speedup_high"][0])


def _first_seed(study: Study) -> pl.DataFrame:
    """Rows of `TASKS` of the comparison's sample set, first seed of each task."""
    source, _ = search_of(study)
    return (
        rows_of(study, "tasks", source=source, step=None)
        .sort("task_id", "seed")
        .unique("task_id", maintain_order=True, keep="first")
    )


def task_rate(study: Study, task: str, column: str) -> Ours:
    """A column of one task's samples, first seed."""
    rows = _first_seed(study).filter(pl.col("task_id") == task)
    if column in ("correct", "fast_1"):
        return of_rollouts(rows, column, f"the study has no task {task}")
    return replace(
        first_of(rows, column, f"the study has no correct sample of {task}", "", ""),
        bare="a mean of one task's samples",
    )


def regime_tasks(study: Study, low: float = -1.0, high: float = 1e9) -> Ours:
    """Tasks whose surprisal has a standard deviation above `low` and at most `high` nats, first seed."""
    rows = _first_seed(study)
    if not rows.height:
        return Ours(missing="the study has no sample set")
    spread = rows["nll_std"].fill_null(0.0)
    return _tasks_that(study, rows, (spread > low) & (spread <= high))


def valid_tasks(study: Study) -> Ours:
    """Tasks with a correct sample, first seed."""
    rows = _first_seed(study)
    if not rows.height:
        return Ours(missing="the study has no sample set")
    return _tasks_that(study, rows, rows["correct"] > 0)


def _tasks_that(study: Study, rows: pl.DataFrame, do: pl.Series) -> Ours:
    """How many of as many tasks as these; the interval is that of their share."""
    found = mean_interval(do.cast(pl.Float64).to_numpy(), rows["task_id"], rows["seed"], study.how, bounds=SHARE)
    ends = [None if end is None else end * rows.height for end in (found.low, found.high)]
    return Ours(float(do.sum()), *ends, n_tasks=rows.height)
