"""Our side of the paper's numbers about training, adaptation and the probe: one small function per kind of number."""

import math
from dataclasses import replace

import numpy as np
import polars as pl

from vegflow.statistics.bootstrap import resample
from vegflow.statistics.intervals import DIFFERENCE, SHARE, mean_interval
from vegflow.statistics.measure import (
    NO_COMPARISON,
    Ours,
    Study,
    adaptation_of,
    counted,
    first_of,
    of_rollouts,
    of_runs,
    over_tasks,
    rows_of,
    search_of,
)
from vegflow.statistics.samples import comparison_set
from vegflow.statistics.scaling import curve
from vegflow.statistics.trajectory import matrix


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
    drawn = rows_of(study, "tasks", source=source, step=None).filter(pl.col("task_id").is_in(shared))
    cells = cells.filter(pl.col("task_id").is_in(shared))
    if not cells.height or not drawn.height:
        return Ours(missing=NO_COMPARISON)
    line = curve(drawn, "fast_1", (int(drawn["n"].min()),))
    names, reached = cells["task_id"].to_numpy(), np.array(line.tasks)
    base = {t: line.values[0][reached == t].mean() for t in set(line.tasks)}
    known = np.array([t in base for t in names])
    differences = cells["fast_1"].to_numpy()[known] - np.array([base[t] for t in names[known]])
    runs = cells["seed"].to_numpy()[known]
    found = mean_interval(differences, names[known], runs, study.how, crossed=True, bounds=DIFFERENCE)
    return Ours(found.value, found.low, found.high, n_tasks=len(set(names[known])))


def step0_difference(study: Study) -> Ours:
    """Step 0 minus the sample set, per-sample rate."""
    return first_of(rows_of(study, "self_check", task_id="all"), "difference", NO_COMPARISON)  # over rollouts


def training(study: Study, step: int, column: str) -> Ours:
    """A column of the training trajectory at a step."""
    name = study.facts.comparison.training if study.facts.comparison else None
    rows = rows_of(study, "trajectory", trajectory=name or "", seed=None, step=step)
    ends = {"mean_speedup": ("speedup_low", "speedup_high"), "correct": ("correct_low", "correct_high")}.get(
        column, ("", "")
    )
    return first_of(rows, column, f"the study has no training trajectory with a step {step}", *ends)


def step(study: Study, step: int, column: str = "fast_1") -> Ours:
    """A column of the adaptation at a step (per-sample fast_1), first seed."""
    name = adaptation_of(study)
    seed = study.facts.trajectories[name].seeds[0] if name else 0
    found = first_of(
        rows_of(study, "trajectory", trajectory=name, seed=seed, step=step),
        column,
        f"no TTT step {step}",
        *(("low", "high") if column == "fast_1" else ("", "")),
    )
    return counted(found) if column == "cumulative_rollouts" else found


def step_task(study: Study, step: int, task: str) -> Ours:
    """Per-sample fast_1 of one task at a step of the adaptation, first seed; its interval is over rollouts."""
    name = adaptation_of(study)
    seed = study.facts.trajectories[name].seeds[0] if name else 0
    rows = rows_of(study, "tasks", source=name, seed=seed, step=step, task_id=task)
    return of_rollouts(rows, "fast_1", f"no TTT step {step} on task {task}")


def peak_gain(study: Study) -> Ours:
    """Rate at the BoA step minus step 0, mean over seeds; p is of such a peak if the rates never changed."""
    rows = rows_of(study, "boa", trajectory=adaptation_of(study), seed=None, rule="argmax")
    if not rows.height:
        return Ours(missing=NO_COMPARISON)
    gain_ = rows["fast_1"][0] - rows["start_fast_1"][0]
    name = adaptation_of(study)
    runs = rows_of(study, "boa", trajectory=name, rule="argmax").filter(pl.col("seed").is_not_null())
    found = _moved(study, name, dict(runs.select("seed", "step").rows()), dict.fromkeys(runs["seed"], 0), gain_)
    return replace(found, p_value=rows["null_p"][0])


def _moved(study: Study, name: str, to: dict[int, int], since: dict[int, int], value: float) -> Ours:
    """A trajectory's rate at one step minus that at another, each by seed; the steps are taken as given."""
    cells = rows_of(study, "tasks", source=name).select("seed", "step", "task_id", "fast_1")
    later, earlier = (
        cells.filter(pl.col("step") == pl.col("seed").replace_strict(steps, default=None, return_dtype=pl.Int32))
        for steps in (to, since)
    )
    both = later.join(earlier, on=["seed", "task_id"], suffix="_before", maintain_order="left")
    change = both["fast_1"] - both["fast_1_before"]
    found = mean_interval(change, both["task_id"], both["seed"], study.how, crossed=True, bounds=DIFFERENCE)
    return Ours(value, found.low, found.high, n_tasks=both["task_id"].n_unique())


def _first_run(study: Study, rule: str = "argmax") -> pl.DataFrame:
    rows = rows_of(study, "boa", trajectory=adaptation_of(study), rule=rule)
    return rows.filter(pl.col("seed").is_not_null()).head(1)


def peak_step(study: Study) -> Ours:
    """The step that BoA picks, first seed; its interval is the cluster bootstrap's, of the choice over tasks."""
    run = _first_run(study)
    found = first_of(run, "step", NO_COMPARISON, "", "")
    if found.value is None:
        return found
    cells = rows_of(study, "tasks", source=adaptation_of(study), seed=run["seed"][0])
    rates = matrix(cells, "fast_1")
    weights = resample(sorted(cells["task_id"].unique()), [0] * rates.shape[1], study.how)
    if weights is None:
        return found
    ends = np.quantile((weights @ rates.T).argmax(axis=1), [0.025, 0.975], method="nearest")
    return replace(found, low=float(ends[0]), high=float(ends[1]), n_tasks=rates.shape[1])


def regression(study: Study) -> Ours:
    """Last step minus peak, first seed."""
    rows, name = _first_run(study), adaptation_of(study)
    if not rows.height:
        return Ours(missing=NO_COMPARISON)
    seed, last = rows["seed"][0], rows_of(study, "tasks", source=name)["step"].max()
    fall = rows["last_fast_1"][0] - rows["fast_1"][0]
    return _moved(study, name, {seed: last}, {seed: rows["step"][0]}, fall)


def boa(study: Study, column: str) -> Ours:
    """A column of BoA (argmax), mean over seeds."""
    ends = ("low", "high") if column == "fast_1" else ("", "")
    missing = "fewer than two seeds" if column == "sd_seeds" else NO_COMPARISON
    name = adaptation_of(study)
    found = first_of(rows_of(study, "boa", trajectory=name, seed=None, rule="argmax"), column, missing, *ends)
    if column == "sd_seeds":
        return of_runs(found, len(study.facts.trajectories[name].seeds) if name else 0, study.how.confidence)
    return found


def same_step(study: Study) -> Ours:
    """Share of seeds in which both BoA rules pick the same step."""
    rows = rows_of(study, "boa", trajectory=adaptation_of(study)).filter(
        pl.col("seed").is_not_null() & (pl.col("patience").is_null() | (pl.col("patience") == 1))
    )
    if not rows.height:
        return Ours(missing=NO_COMPARISON)
    same = (rows.group_by("seed", maintain_order=True).agg(pl.col("step").n_unique())["step"] == 1).cast(pl.Float64)
    found = mean_interval(same, range(len(same)), [0] * len(same), study.how, bounds=SHARE)  # runs, not tasks
    return Ours(found.value, found.low, found.high, bare="one run")


def probe(study: Study, step: int | str, subset: str, column: str) -> Ours:
    """A column of the probe (all samples, mean over seeds) at a step, `first` or `last`."""
    rows = rows_of(study, "probe", trajectory=adaptation_of(study), seed=None, samples="all", subset=subset)
    if not rows.height:
        return Ours(missing="the study has no probe of this trajectory")
    wanted = {"first": rows["step"].min(), "last": rows["step"].max()}.get(str(step), step)
    ends = {"rho": ("low", "high"), "change": ("change_low", "change_high"), "nll_mean": ("nll_low", "nll_high")}.get(
        column, ("", "")
    )
    tasks = len(study.facts.trajectories[adaptation_of(study)].tasks)
    found = rows.filter(pl.col("step") == wanted).with_columns(n_tasks=pl.lit(tasks))
    ours = first_of(found, column, f"no step {step}, or NLL or speedup do not vary", *ends)
    return counted(ours) if column == "n" else ours


def budget(study: Study, arm: str, column: str) -> Ours:
    """A column of the budget of the `search` or `adaptation` arm, per seed."""
    source = search_of(study)[0] if arm == "search" else adaptation_of(study)
    return _budget_of(study, source, column)


def step_budget(study: Study, step: int, column: str) -> Ours:
    """`student_tokens`, `teacher_tokens` or `all_tokens` of the adaptation up to a step, over all tasks, mean over seeds."""
    search, _ = search_of(study)
    rows = rows_of(study, "same_budget", search=search, trajectory=adaptation_of(study), step=step).with_columns(
        all_tokens=pl.col("student_tokens") + pl.col("teacher_tokens")
    )
    if not rows.height:
        return Ours(missing=f"no TTT step {step} from the policy of the sample set")
    value = float(rows[column][0] * rows["n_tasks"][0])
    teacher = float(rows["teacher_tokens"][0] * rows["n_tasks"][0])
    return _tokens(study, adaptation_of(study), column, value, teacher, upto=step)


def learning_rate(study: Study, rate: float, column: str = "fast_1") -> Ours:
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
            return first_of(rows, column, "", *(("low", "high") if column == "fast_1" else ("", "")))
    return Ours(missing=f"no trajectory has learning rate {rate:g}")


def probe_p(study: Study, step: int | str, subset: str) -> Ours:
    """P of the probe's rho at a step, `first` or `last`, as if samples were independent; first seed, all samples."""
    rows = rows_of(study, "probe", trajectory=adaptation_of(study), samples="all", subset=subset)
    rows = rows.filter(pl.col("seed").is_not_null()).sort("seed", "step")
    if not rows.height:
        return Ours(missing="the study has no probe of this trajectory")
    rows = rows.filter(pl.col("seed") == rows["seed"][0])
    wanted = {"first": rows["step"].min(), "last": rows["step"].max()}.get(str(step), step)
    return first_of(rows.filter(pl.col("step") == wanted), "p_value", f"no step {step}", "", "")


def _adapted(study: Study, tasks: set[str]) -> str:
    """A trajectory on exactly these tasks, with the objective of the comparison's where there are several; or empty."""
    compared = study.facts.trajectories.get(adaptation_of(study))
    found = [name for name, facts in study.facts.trajectories.items() if set(facts.tasks) == tasks]
    alike = [n for n in found if compared and study.facts.trajectories[n].objective == compared.objective]
    return next(iter([*alike, *found]), "")


def _subset(study: Study, tasks: str) -> set[str]:
    return set(study.facts.sample_sets[search_of(study)[0]].tasks.get(tasks, ())) if study.facts.sample_sets else set()


def elsewhere(study: Study, tasks: str, step: int, column: str) -> Ours:
    """A column at a step of a trajectory on another task set, first seed."""
    name = _adapted(study, _subset(study, tasks) or {""})
    if not name:
        return Ours(missing=f"the study adapts on no {tasks}")
    seed = study.facts.trajectories[name].seeds[0]
    ends = ("low", "high") if column == "fast_1" else ("", "")
    found = first_of(
        rows_of(study, "trajectory", trajectory=name, seed=seed, step=step), column, f"no step {step}", *ends
    )
    return counted(found) if column == "cumulative_rollouts" else found


def elsewhere_delta(study: Study, tasks: str, step: int) -> Ours:
    """Per-sample rate at a step of a trajectory on another task set, minus the search's on the same tasks."""
    here = elsewhere(study, tasks, step, "fast_1")
    rows = rows_of(study, "scaling", source=search_of(study)[0], task_set=tasks, metric="fast_1", k=1)
    if here.value is None or not rows.height:
        return Ours(missing=here.missing or f"no sample set on {tasks}")
    name, source = _adapted(study, _subset(study, tasks)), search_of(study)[0]
    seed = study.facts.trajectories[name].seeds[0]
    drawn = rows_of(study, "tasks", source=source, step=None).group_by("task_id").agg(drawn=pl.col("fast_1").mean())
    both = rows_of(study, "tasks", source=name, seed=seed, step=step).join(drawn, on="task_id", maintain_order="left")
    gap = both["fast_1"] - both["drawn"]
    found = mean_interval(gap, both["task_id"], both["seed"], study.how, bounds=DIFFERENCE)
    return Ours(here.value - rows["value"][0], found.low, found.high, n_tasks=both.height)


def alone(study: Study, task: str, step: int) -> Ours:
    """Per-sample fast_1 at a step of a trajectory on this task alone, first seed."""
    name = _adapted(study, {task})
    if not name:
        return Ours(missing="the study adapts on no task alone")
    seed = study.facts.trajectories[name].seeds[0]
    return of_rollouts(
        rows_of(study, "tasks", source=name, seed=seed, step=step, task_id=task), "fast_1", f"no step {step}"
    )


def alone_step(study: Study, task: str) -> Ours:
    """The step that BoA picks on this task alone, first seed."""
    name = _adapted(study, {task})
    if not name:
        return Ours(missing="the study adapts on no task alone")
    rows = rows_of(study, "boa", trajectory=name, rule="argmax").filter(pl.col("seed").is_not_null())
    return replace(first_of(rows, "step", "no step to pick", "", ""), bare="a choice on one task in one run")


def alone_early(study: Study) -> Ours:
    """Tasks adapted alone whose peak lies within the first two steps."""
    tasks = study.facts.trajectories[adaptation_of(study)].tasks if adaptation_of(study) else ()
    steps = [alone_step(study, task).value for task in tasks]
    if not steps or None in steps:
        return Ours(missing="the study does not adapt on each task alone")
    early = [float(step <= 2) for step in steps if step is not None]
    found = mean_interval(early, tasks, [0] * len(early), study.how, bounds=SHARE)
    ends = [None if end is None else end * len(early) for end in (found.low, found.high)]
    return Ours(sum(early), *ends, n_tasks=len(early))


def objective_boa(study: Study, objective: str, column: str, run: int | None = None) -> Ours:
    """BoA (argmax) of a trajectory with this objective on the comparison's tasks: mean over seeds, or its run-th seed."""
    tasks = set(study.facts.trajectories[adaptation_of(study)].tasks) if adaptation_of(study) else set()
    for name, facts in study.facts.trajectories.items():
        if facts.objective == objective and set(facts.tasks) == tasks:
            if run is not None and run >= len(facts.seeds):
                return Ours(missing=f"fewer than {run + 1} seeds")
            seed = None if run is None else sorted(facts.seeds)[run]
            ends = ("low", "high") if column == "fast_1" else ("", "")
            found = first_of(
                rows_of(study, "boa", trajectory=name, rule="argmax", seed=seed), column, "fewer than two seeds", *ends
            )
            return of_runs(found, len(facts.seeds), study.how.confidence) if column == "sd_seeds" else found
    return Ours(missing=f"no trajectory has the objective {objective} on these tasks")


def objective_budget(study: Study, objective: str, column: str) -> Ours:
    """A column of the budget of a trajectory with this objective, per seed."""
    for name, facts in study.facts.trajectories.items():
        if facts.objective == objective:
            return _budget_of(study, name, column)
    return Ours(missing=f"no trajectory has the objective {objective}")


def _budget_of(study: Study, source: str, column: str) -> Ours:
    rows = rows_of(study, "budget", source=source)
    rows = rows.with_columns(all_tokens=pl.col("student_tokens") + pl.col("teacher_tokens"))
    found = first_of(rows, column, NO_COMPARISON)
    if found.value is None or column not in ("student_tokens", "all_tokens"):
        return counted(found)
    return _tokens(study, source, column, float(found.value), float(rows["teacher_tokens"][0]))


def _tokens(study: Study, source: str, column: str, value: float, teacher: float, upto: int | None = None) -> Ours:
    """Tokens of a source with the interval of the student's over tasks; what a teacher scored is counted."""
    if column == "teacher_tokens":
        return counted(Ours(value))
    cells = rows_of(study, "tasks", source=source)
    cells = cells if upto is None else cells.filter(pl.col("step") <= upto)
    spent = cells.group_by("task_id", "seed").agg(
        tokens=(pl.col("n") * (pl.col("mean_tokens") + pl.col("mean_prompt_tokens"))).sum()
    ).sort("task_id", "seed")  # fmt: skip
    fixed = teacher if column == "all_tokens" else 0.0
    found = over_tasks(value - fixed, spent["tokens"], spent["task_id"], spent["seed"], study, crossed=True)
    ends = [None if end is None else end + fixed for end in (found.low, found.high)]
    return Ours(value, *ends, n_tasks=found.n_tasks)
