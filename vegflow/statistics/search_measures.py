"""Our side of the paper's numbers about search and selection: one small function per kind of number."""

import polars as pl

from vegflow.statistics.intervals import DIFFERENCE, POSITIVE, SHARE, mean_interval
from vegflow.statistics.measure import NO_COMPARISON, Ours, Study, first_of, of_rollouts, rows_of, search_of
from vegflow.statistics.paired import task_permutation
from vegflow.statistics.samples import comparison_set
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
    return first_of(rows, "sd_seeds", "fewer than two seeds, or no such K", low="", high="")


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
    return first_of(rows, column, missing, *INTERVALS.get(column, ("", "")))


def paired(study: Study, first: str, second: str, metric: str, column: str, tasks: str = "") -> Ours:
    """A column of the paired comparisons."""
    source, task_set = search_of(study, tasks)
    rows = rows_of(study, "paired", source=source, task_set=task_set, first=first, second=second, metric=metric)
    ends = ("low", "high", "permutation_p") if column == "difference" else ("", "")
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
    return first_of(rows, column, "one side does not vary", *(("low", "high") if column == "rho" else ("", "")))


def quartile(study: Study, quartile: int, column: str) -> Ours:
    """A column of the global surprisal quartiles."""
    source, task_set = search_of(study)
    rows = rows_of(study, "quartiles", source=source, task_set=task_set, ranking="global", quartile=quartile)
    ends = ("speedup_low", "speedup_high") if column == "mean_speedup" else ("", "")
    return first_of(rows, column, "fewer than four correct samples", *ends)


def quartile_halves(study: Study) -> Ours:
    """fast_1 of the high-surprisal half of the correct samples minus that of the low half."""
    source, task_set = search_of(study)
    rows = rows_of(study, "quartiles", source=source, task_set=task_set, ranking="global").sort("quartile")
    if rows.height < 4:
        return Ours(missing="fewer than four correct samples")
    fast = rows["fast_1"].to_numpy()
    return Ours(float(fast[:2].mean() - fast[2:].mean()))


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
    return Ours(cost[column])


def oracle_speedup(study: Study, task: str) -> Ours:
    """Largest speedup among a task's correct samples, first seed."""
    source, _ = search_of(study)
    rows = rows_of(study, "tasks", source=source, task_id=task).sort("seed")
    return first_of(rows, "best_speedup", f"no correct sample of {task}")


def quartile_half(study: Study, half: str) -> Ours:
    """fast_1 of the `high`- or `low`-surprisal half of the correct samples."""
    source, task_set = search_of(study)
    rows = rows_of(study, "quartiles", source=source, task_set=task_set, ranking="global").sort("quartile")
    if rows.height < 4:
        return Ours(missing="fewer than four correct samples")
    fast = rows["fast_1"].to_numpy()
    return Ours(float((fast[:2] if half == "high" else fast[2:]).mean()))


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
    return first_of(rows, column, f"the study has no correct sample of {task}", "", "")


def regime_tasks(study: Study, low: float = -1.0, high: float = 1e9) -> Ours:
    """Tasks whose surprisal has a standard deviation above `low` and at most `high` nats, first seed."""
    rows = _first_seed(study)
    if not rows.height:
        return Ours(missing="the study has no sample set")
    spread = rows["nll_std"].fill_null(0.0)
    return Ours(float(((spread > low) & (spread <= high)).sum()))


def valid_tasks(study: Study) -> Ours:
    """Tasks with a correct sample, first seed."""
    rows = _first_seed(study)
    return Ours(float((rows["correct"] > 0).sum())) if rows.height else Ours(missing="the study has no sample set")
