"""Our side of the paper's numbers about training, adaptation and the probe: one small function per kind of number."""

import math

import polars as pl

from vegflow.statistics.bootstrap import base_weights, percentile_interval, resample, weighted_mean
from vegflow.statistics.measure import NO_COMPARISON, Ours, Study, adaptation_of, first_of, rows_of, search_of
from vegflow.statistics.samples import comparison_set
from vegflow.statistics.scaling import curve


def difference(study: Study, basis: str) -> Ours:
    """BoA minus search on one basis, on the same tasks."""
    rows = rows_of(study, "equivalent_k", rule="argmax", basis=basis)
    n_tasks = len(comparison_set(study.facts)[1])
    return first_of(rows.with_columns(n_tasks=pl.lit(n_tasks)), "difference", NO_COMPARISON, p="permutation_p")


def mixed_difference(study: Study) -> Ours:
    """BoA's per-sample rate minus search's any-of-K at its largest K: the paper's comparison of a mean with a maximum."""
    source, _ = search_of(study)
    shared = comparison_set(study.facts)[1]
    chosen = rows_of(study, "boa", trajectory=adaptation_of(study), rule="argmax").select("seed", "step").drop_nulls()
    cells = rows_of(study, "tasks", source=adaptation_of(study)).join(chosen, on=["seed", "step"])
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


def step0_difference(study: Study) -> Ours:
    """Step 0 minus the sample set, per-sample rate."""
    return first_of(rows_of(study, "self_check", task_id="all"), "difference", NO_COMPARISON)


def training(study: Study, step: int, column: str) -> Ours:
    """A column of the training trajectory at a step."""
    name = study.facts.comparison.training if study.facts.comparison else None
    rows = rows_of(study, "trajectory", trajectory=name or "", seed=None, step=step)
    return first_of(rows, column, f"the study has no training trajectory with a step {step}", "", "")


def step(study: Study, step: int) -> Ours:
    """Per-sample fast_1 of the adaptation at a step, first seed."""
    name = adaptation_of(study)
    seed = study.facts.trajectories[name].seeds[0] if name else 0
    return first_of(
        rows_of(study, "trajectory", trajectory=name, seed=seed, step=step), "fast_1", f"no TTT step {step}"
    )


def step_task(study: Study, step: int, task: str) -> Ours:
    """Per-sample fast_1 of one task at a step of the adaptation, first seed."""
    name = adaptation_of(study)
    seed = study.facts.trajectories[name].seeds[0] if name else 0
    rows = rows_of(study, "tasks", source=name, seed=seed, step=step, task_id=task)
    return first_of(rows, "fast_1", f"no TTT step {step} on task {task}")


def peak_gain(study: Study) -> Ours:
    """Rate at the BoA step minus step 0, mean over seeds; p is of such a peak if the rates never changed."""
    rows = rows_of(study, "boa", trajectory=adaptation_of(study), seed=None, rule="argmax")
    if not rows.height:
        return Ours(missing=NO_COMPARISON)
    gain_ = rows["fast_1"][0] - rows["start_fast_1"][0]
    tasks = len(study.facts.trajectories[adaptation_of(study)].tasks)
    return Ours(gain_, p_value=rows["null_p"][0], n_tasks=tasks)


def _first_run(study: Study, rule: str = "argmax") -> pl.DataFrame:
    rows = rows_of(study, "boa", trajectory=adaptation_of(study), rule=rule)
    return rows.filter(pl.col("seed").is_not_null()).head(1)


def peak_step(study: Study) -> Ours:
    """The step that BoA picks, first seed."""
    return first_of(_first_run(study), "step", NO_COMPARISON, "", "")


def regression(study: Study) -> Ours:
    """Last step minus peak, first seed."""
    rows = _first_run(study)
    return Ours(rows["last_fast_1"][0] - rows["fast_1"][0]) if rows.height else Ours(missing=NO_COMPARISON)


def boa(study: Study, column: str) -> Ours:
    """A column of BoA (argmax), mean over seeds."""
    ends = ("low", "high") if column == "fast_1" else ("", "")
    missing = "fewer than two seeds" if column == "sd_seeds" else NO_COMPARISON
    return first_of(
        rows_of(study, "boa", trajectory=adaptation_of(study), seed=None, rule="argmax"), column, missing, *ends
    )


def same_step(study: Study) -> Ours:
    """Share of seeds in which both BoA rules pick the same step."""
    rows = rows_of(study, "boa", trajectory=adaptation_of(study)).filter(pl.col("seed").is_not_null())
    if not rows.height:
        return Ours(missing=NO_COMPARISON)
    return Ours(float((rows.group_by("seed").agg(pl.col("step").n_unique())["step"] == 1).mean()))


def probe(study: Study, step: int | str, subset: str, column: str) -> Ours:
    """A column of the probe (all samples, mean over seeds) at a step, `first` or `last`."""
    rows = rows_of(study, "probe", trajectory=adaptation_of(study), seed=None, samples="all", subset=subset)
    if not rows.height:
        return Ours(missing="the study has no probe of this trajectory")
    wanted = {"first": rows["step"].min(), "last": rows["step"].max()}.get(str(step), step)
    ends = {"rho": ("low", "high"), "change": ("change_low", "change_high")}.get(column, ("", ""))
    tasks = len(study.facts.trajectories[adaptation_of(study)].tasks)
    found = rows.filter(pl.col("step") == wanted).with_columns(n_tasks=pl.lit(tasks))
    return first_of(found, column, f"no step {step}, or NLL or speedup do not vary", *ends)


def budget(study: Study, arm: str, column: str) -> Ours:
    """A column of the budget of the `search` or `adaptation` arm, per seed."""
    source = search_of(study)[0] if arm == "search" else adaptation_of(study)
    return first_of(rows_of(study, "budget", source=source), column, NO_COMPARISON)


def learning_rate(study: Study, rate: float) -> Ours:
    """BoA (argmax) of a trajectory like the adaptation with this learning rate, first seed."""
    for name, facts in study.facts.trajectories.items():
        rows = rows_of(study, "boa", trajectory=name, rule="argmax").filter(pl.col("seed").is_not_null())
        adapted = study.facts.comparison and name != study.facts.comparison.training
        if (
            adapted
            and facts.learning_rate is not None
            and math.isclose(facts.learning_rate, rate, rel_tol=1e-6)
            and rows.height
        ):
            return first_of(rows, "fast_1", "")
    return Ours(missing=f"no trajectory has learning rate {rate:g}")
