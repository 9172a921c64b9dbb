"""Our side of each of the paper's numbers: one small function per kind of number, by name.

Knows the analysis tables; the paper's value and the verdict are not seen here.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import polars as pl

from vegflow.config.analysis import StudyFacts
from vegflow.statistics.bootstrap import (
    Resampling,
    base_weights,
    mean_interval,
    percentile_interval,
    resample,
    weighted_mean,
)
from vegflow.statistics.samples import comparison_set
from vegflow.statistics.scaling import curve


@dataclass(frozen=True)
class Study:
    """What a measure may look at."""

    facts: StudyFacts
    samples: pl.DataFrame
    tables: Mapping[str, pl.DataFrame]
    how: Resampling


@dataclass(frozen=True)
class Ours:
    """Our value, its interval, and how many tasks (independent units) it rests on; or `missing`, why there is none."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    p_value: float | None = None
    n_tasks: int = 0
    missing: str = ""


Measure = Callable[..., Ours]
MEASURES: dict[str, Measure] = {}
NO_COMPARISON = "the study names no comparison of a sample set with a trajectory"


def measure(function: Measure) -> Measure:
    """Register a measure under its own name."""
    MEASURES[function.__name__] = function
    return function


def _rows(study: Study, table: str, **where: object) -> pl.DataFrame:
    found = study.tables[table]
    for column, value in where.items():
        found = found.filter(pl.col(column).is_null() if value is None else pl.col(column) == value)
    return found


def _search(study: Study, tasks: str = "") -> tuple[str, str]:
    """Sample set and task set that a number is about: those of the comparison, `all`, or a set named outright."""
    facts = study.facts
    source = facts.comparison.search if facts.comparison else next(iter(facts.sample_sets), "")
    if not source:
        return "", ""
    own = facts.sample_sets[source].tasks
    if tasks == "all":
        return source, "all" if len(own) > 1 else next(iter(own), "")
    return source, tasks or comparison_set(facts)[0] or next(iter(own), "")


def _adaptation(study: Study) -> str:
    return study.facts.comparison.adaptation if study.facts.comparison else ""


def _first(rows: pl.DataFrame, column: str, missing: str, low: str = "low", high: str = "high") -> Ours:
    if not rows.height or rows[column][0] is None:
        return Ours(missing=missing)
    ends = [rows[end][0] if end in rows.columns else None for end in (low, high)]
    return Ours(rows[column][0], *ends, n_tasks=int(rows["n_tasks"][0]) if "n_tasks" in rows.columns else 0)


@measure
def scaling(study: Study, metric: str, k: int, tasks: str = "") -> Ours:
    """Value of the best-of-N curve at k."""
    source, task_set = _search(study, tasks)
    rows = _rows(study, "scaling", source=source, task_set=task_set, metric=metric, k=k)
    return _first(rows, "value", f"the study has no K = {k} curve for the task set '{tasks or task_set}'")


@measure
def scaling_sd(study: Study, k: int) -> Ours:
    """Standard deviation over seeds of the best-of-N curve at k."""
    source, task_set = _search(study)
    rows = _rows(study, "scaling", source=source, task_set=task_set, metric="fast_1", k=k)
    return _first(rows, "sd_seeds", "fewer than two seeds, or no such K", low="", high="")


@measure
def gain(study: Study, k_from: int, k_to: int) -> Ours:
    """What more samples add: pass@k_to minus pass@k_from on fast_1, paired by task and seed."""
    source, task_set = _search(study)
    tasks = dict(study.facts.sample_sets[source].tasks).get(task_set) if source else None
    shared = tasks or comparison_set(study.facts)[1]
    drawn = study.samples.filter((pl.col("source") == source) & pl.col("task_id").is_in(shared))
    line = curve(drawn, "fast_1", (k_from, k_to))
    if line.ks != (k_from, k_to):
        return Ours(missing=f"fewer than {k_to} samples a task")
    found = mean_interval(line.values[1] - line.values[0], line.tasks, line.seeds, study.how)
    return Ours(found.value, found.low, found.high, n_tasks=len(set(line.tasks)))


@measure
def strategy(study: Study, strategy: str, column: str) -> Ours:
    """A column of the strategies table."""
    source, task_set = _search(study)
    rows = _rows(study, "strategies", source=source, task_set=task_set, strategy=strategy)
    missing = f"no value of {column} for the strategy {strategy}"
    ends = ("low", "high") if column == "fast_1" else ("", "")
    return _first(rows, column, missing, *ends)


@measure
def paired(study: Study, first: str, second: str, metric: str, column: str, tasks: str = "") -> Ours:
    """A column of the paired comparisons."""
    source, task_set = _search(study, tasks)
    rows = _rows(study, "paired", source=source, task_set=task_set, first=first, second=second, metric=metric)
    ends = ("low", "high") if column == "difference" else ("", "")
    return _first(rows, column, "undefined here: a strategy was not applied, or no pair differs", *ends)


@measure
def wins(study: Study, regime: str) -> Ours:
    """Share of head-to-heads that surprisal wins in a regime, a tie counting one half, over all tasks."""
    source, task_set = _search(study, "all")
    rows = _rows(study, "head_to_head", source=source, task_set=task_set, regime=regime)
    if not rows.height:
        return Ours(missing=f"no task of {regime} in this study")
    score = rows["winner"].replace_strict({"surprisal": 1.0, "tie": 0.5, "confidence": 0.0}).to_numpy()
    found = mean_interval(score, rows["task_id"].to_list(), rows["seed"].to_list(), study.how)
    return Ours(found.value, found.low, found.high, n_tasks=rows["task_id"].n_unique())


@measure
def correlation(study: Study, of: str) -> Ours:
    """A Spearman correlation over the correct samples."""
    source, task_set = _search(study)
    return _first(
        _rows(study, "correlations", source=source, task_set=task_set, measure=of), "rho", "one side does not vary"
    )


@measure
def quartile(study: Study, quartile: int, column: str) -> Ours:
    """A column of the global surprisal quartiles."""
    source, task_set = _search(study)
    rows = _rows(study, "quartiles", source=source, task_set=task_set, ranking="global", quartile=quartile)
    return _first(rows, column, "fewer than four correct samples")


@measure
def quartile_halves(study: Study) -> Ours:
    """fast_1 of the high-surprisal half of the correct samples minus that of the low half."""
    source, task_set = _search(study)
    rows = _rows(study, "quartiles", source=source, task_set=task_set, ranking="global").sort("quartile")
    if rows.height < 4:
        return Ours(missing="fewer than four correct samples")
    fast = rows["fast_1"].to_numpy()
    return Ours(float(fast[:2].mean() - fast[2:].mean()))


@measure
def difference(study: Study, basis: str) -> Ours:
    """BoA minus search on one basis, on the same tasks."""
    rows = _rows(study, "equivalent_k", rule="argmax", basis=basis)
    n_tasks = len(comparison_set(study.facts)[1])
    return _first(rows.with_columns(n_tasks=pl.lit(n_tasks)), "difference", NO_COMPARISON)


@measure
def mixed_difference(study: Study) -> Ours:
    """BoA's per-sample rate minus search's any-of-K at its largest K: the paper's comparison of a mean with a maximum."""
    source, _ = _search(study)
    shared = comparison_set(study.facts)[1]
    chosen = _rows(study, "boa", trajectory=_adaptation(study), rule="argmax").select("seed", "step").drop_nulls()
    cells = _rows(study, "tasks", source=_adaptation(study)).join(chosen, on=["seed", "step"])
    drawn = study.samples.filter((pl.col("source") == source) & pl.col("task_id").is_in(shared))
    cells = cells.filter(pl.col("task_id").is_in(shared))
    if not cells.height or not drawn.height:
        return Ours(missing=NO_COMPARISON)
    line = curve(drawn, "fast_1", (int(drawn.group_by("task_id", "seed").len()["len"].min()),))
    names, runs = cells["task_id"].to_list(), cells["seed"].to_list()
    sides = [(cells["fast_1"].to_numpy(), names, runs, True), (line.values[0], line.tasks, line.seeds, False)]
    means, clouds = [], []
    for values, tasks, seeds, crossed in sides:
        weights = resample(tasks, seeds, study.how, crossed=crossed)
        means.append(weighted_mean(values, base_weights(tasks)[None])[0])
        clouds.append(None if weights is None else weighted_mean(values, weights))
    cloud = None if clouds[0] is None or clouds[1] is None else clouds[0] - clouds[1]
    found = percentile_interval(means[0] - means[1], cloud, study.how.confidence)
    return Ours(found.value, found.low, found.high, n_tasks=len(set(names)))


@measure
def step0_difference(study: Study) -> Ours:
    """Step 0 minus the sample set, per-sample rate."""
    return _first(_rows(study, "self_check", task_id="all"), "difference", NO_COMPARISON)


@measure
def training(study: Study, step: int, column: str) -> Ours:
    """A column of the training trajectory at a step."""
    name = study.facts.comparison.training if study.facts.comparison else None
    rows = _rows(study, "trajectory", trajectory=name or "", seed=None, step=step)
    return _first(rows, column, f"the study has no training trajectory with a step {step}", "", "")


@measure
def base(study: Study, column: str) -> Ours:
    """A column of the tasks table, mean over the sample set of the comparison."""
    source, _ = _search(study)
    rows = _rows(study, "tasks", source=source)
    if not rows.height:
        return Ours(missing="the study has no sample set")
    found = mean_interval(rows[column].to_numpy(), rows["task_id"].to_list(), rows["seed"].to_list(), study.how)
    return Ours(found.value, found.low, found.high, n_tasks=rows["task_id"].n_unique())


@measure
def step(study: Study, step: int) -> Ours:
    """Per-sample fast_1 of the adaptation at a step, first seed."""
    name = _adaptation(study)
    seed = study.facts.trajectories[name].seeds[0] if name else 0
    return _first(_rows(study, "trajectory", trajectory=name, seed=seed, step=step), "fast_1", f"no TTT step {step}")


@measure
def step_task(study: Study, step: int, task: str) -> Ours:
    """Per-sample fast_1 of one task at a step of the adaptation, first seed."""
    name = _adaptation(study)
    seed = study.facts.trajectories[name].seeds[0] if name else 0
    rows = _rows(study, "tasks", source=name, seed=seed, step=step, task_id=task)
    return _first(rows, "fast_1", f"no TTT step {step} on task {task}")


@measure
def peak_gain(study: Study) -> Ours:
    """Rate at the BoA step minus step 0, mean over seeds; p is of such a peak if the rates never changed."""
    rows = _rows(study, "boa", trajectory=_adaptation(study), seed=None, rule="argmax")
    if not rows.height:
        return Ours(missing=NO_COMPARISON)
    gain_ = rows["fast_1"][0] - rows["start_fast_1"][0]
    tasks = len(study.facts.trajectories[_adaptation(study)].tasks)
    return Ours(gain_, p_value=rows["null_p"][0], n_tasks=tasks)


def _first_run(study: Study, rule: str = "argmax") -> pl.DataFrame:
    rows = _rows(study, "boa", trajectory=_adaptation(study), rule=rule)
    return rows.filter(pl.col("seed").is_not_null()).head(1)


@measure
def peak_step(study: Study) -> Ours:
    """The step that BoA picks, first seed."""
    return _first(_first_run(study), "step", NO_COMPARISON, "", "")


@measure
def regression(study: Study) -> Ours:
    """Last step minus peak, first seed."""
    rows = _first_run(study)
    return Ours(rows["last_fast_1"][0] - rows["fast_1"][0]) if rows.height else Ours(missing=NO_COMPARISON)


@measure
def boa(study: Study, column: str) -> Ours:
    """A column of BoA (argmax), mean over seeds."""
    ends = ("low", "high") if column == "fast_1" else ("", "")
    missing = "fewer than two seeds" if column == "sd_seeds" else NO_COMPARISON
    return _first(_rows(study, "boa", trajectory=_adaptation(study), seed=None, rule="argmax"), column, missing, *ends)


@measure
def same_step(study: Study) -> Ours:
    """Share of seeds in which both BoA rules pick the same step."""
    rows = _rows(study, "boa", trajectory=_adaptation(study)).filter(pl.col("seed").is_not_null())
    if not rows.height:
        return Ours(missing=NO_COMPARISON)
    return Ours(float((rows.group_by("seed").agg(pl.col("step").n_unique())["step"] == 1).mean()))


@measure
def probe(study: Study, step: int | str, subset: str, column: str) -> Ours:
    """A column of the probe (all samples, mean over seeds) at a step, `first` or `last`."""
    rows = _rows(study, "probe", trajectory=_adaptation(study), seed=None, samples="all", subset=subset)
    if not rows.height:
        return Ours(missing="the study has no probe of this trajectory")
    wanted = {"first": rows["step"].min(), "last": rows["step"].max()}.get(str(step), step)
    ends = {"rho": ("low", "high"), "change": ("change_low", "change_high")}.get(column, ("", ""))
    tasks = len(study.facts.trajectories[_adaptation(study)].tasks)
    found = rows.filter(pl.col("step") == wanted).with_columns(n_tasks=pl.lit(tasks))
    return _first(found, column, f"no step {step}, or NLL or speedup do not vary", *ends)


@measure
def budget(study: Study, arm: str, column: str) -> Ours:
    """A column of the budget of the `search` or `adaptation` arm, per seed."""
    source = _search(study)[0] if arm == "search" else _adaptation(study)
    return _first(_rows(study, "budget", source=source), column, NO_COMPARISON)


@measure
def oracle_speedup(study: Study, task: str) -> Ours:
    """Largest speedup among a task's correct samples, first seed."""
    source, _ = _search(study)
    rows = _rows(study, "tasks", source=source, task_id=task).sort("seed")
    return _first(rows, "best_speedup", f"no correct sample of {task}")


@measure
def learning_rate(study: Study, rate: float) -> Ours:
    """BoA (argmax) of a trajectory like the adaptation with this learning rate, first seed."""
    for name, facts in study.facts.trajectories.items():
        rows = _rows(study, "boa", trajectory=name, rule="argmax").filter(pl.col("seed").is_not_null())
        adapted = study.facts.comparison and name != study.facts.comparison.training
        if (
            adapted
            and facts.learning_rate is not None
            and math.isclose(facts.learning_rate, rate, rel_tol=1e-6)
            and rows.height
        ):
            return _first(rows, "fast_1", "")
    return Ours(missing=f"no trajectory has learning rate {rate:g}")
