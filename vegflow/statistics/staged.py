"""Every pipeline's value and cost on every task, and the tables that compare pipelines: frontier, pairs, rankers, domains.

Knows pools, outcome matrices and measured runs of one verification at a time; what tuning finds, and what is pruned and
wasted, are in `staged_tuning` and `staged_waste`.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from vegflow.config.verification import FULL, RANKERS, Stage, VerificationConfig
from vegflow.statistics.bootstrap import Resampling, percentile_interval
from vegflow.statistics.frontier import VALUE_MARGIN, beyond_noise, front, share_on_front
from vegflow.statistics.intervals import DIFFERENCE, POSITIVE, SHARE, interval_of_means
from vegflow.statistics.paired import task_permutation
from vegflow.statistics.staged_accuracy import pick_values
from vegflow.statistics.staged_costs import Costs, StageCost
from vegflow.verification.replay import Replay, TaskPool, draws, replay, steps, task_pools

COST_DRAWS = 16
"""Random subsets (at k = all samples: orders of ties) of a task over which a pipeline's cost is averaged."""
Stages = tuple[Stage, ...]


@dataclass
class Verification:
    """One entry of a study's `verification`, with all that was collected for it."""

    name: str
    config: VerificationConfig
    pools: list[TaskPool]
    costs: Costs
    runs: Sequence[Mapping[str, Any]]
    """Rows of RUNS."""
    scorer: str
    errors: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    """(task, candidate) -> why the full suite fails, and the text of its program."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """What picks are worth; functions are right or wrong and nothing more."""
        return ("correct", "fast_1", "speedup") if self.config.domain == "kernels" else ("correct",)

    @property
    def ks(self) -> tuple[int, ...]:
        """The configured k, those above the largest pool as that one."""
        most = max((pool.samples for pool in self.pools), default=1)
        return tuple(sorted({min(k, most) for k in self.config.ks}))

    @property
    def rankers(self) -> tuple[str, ...]:
        """Rankers for which there is something to rank by; the oracle is none of them."""
        lacking = set() if self.scorer else {"orm"}
        if all(np.isnan(pool.nll).all() for pool in self.pools):
            lacking |= {"surprisal", "confidence"}
        return tuple(name for name in RANKERS if name not in lacking | {"oracle"})


def verification(
    name: str,
    config: VerificationConfig,
    pool: Sequence[Mapping[str, Any]],
    checks: Sequence[Mapping[str, Any]],
    scores: Mapping[str, Mapping[tuple[str, str], float]],
    runs: Sequence[Mapping[str, Any]] = (),
    stage_costs: Sequence[Mapping[str, Any]] = (),
) -> Verification:
    """What one entry collected: rows of POOL, CHECKS, RUNS and STAGE_COSTS, and the scores that `orm` ranks by."""
    pools = list(task_pools(pool, checks, scores, config).values())
    errors = {
        (row["task_id"], row["completion_sha256"]): (row["error_kind"], row["program"] or row["completion"])
        for row in pool
    }
    return Verification(name, config, pools, Costs(pools, stage_costs), runs, next(iter(scores), ""), errors)


def worth(pool: TaskPool, metrics: Sequence[str]) -> np.ndarray:
    """What each candidate is worth by each metric [n, V]."""
    kinds = {"correct": pool.correct, "fast_1": pool.fast_1, "speedup": pool.reward}
    return np.stack([kinds[metric] for metric in metrics], axis=1).astype(float)


def named(stages: Sequence[Stage]) -> str:
    """A pipeline as the tables write it."""
    return ", ".join(stage.text for stage in stages)


# ---- one pipeline ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """A pipeline at one k on T tasks."""

    values: np.ndarray
    """What its pick is worth by each metric [T, V]."""
    exact: bool
    candidates: np.ndarray
    """Distinct candidates that enter [T]."""
    seconds: np.ndarray
    """Composed seconds [T]."""
    fixed: float
    """Composed seconds of the stages once a run, what comes before the first of them left out."""
    full_runs: np.ndarray
    """Candidates on which the full suite is run [T]."""


def measure(work: Verification, stages: Stages, k: int, *, exact: bool = True) -> Measured:
    """Value and composed cost of a pipeline on every task.

    Costs are means over `COST_DRAWS` random subsets; values are exact where there is a closed form, or those of the same
    subsets unless `exact`.
    """
    parts = work.costs.parts(stages)
    out = np.zeros((len(work.pools), 3))
    worths, all_exact = np.zeros((len(work.pools), len(work.metrics))), exact
    for t, pool in enumerate(work.pools):
        found = steps(pool, stages, work.config, work.scorer)
        rng = np.random.default_rng((work.config.seed, t, k))
        drawn = draws(pool, k, COST_DRAWS, rng)
        played = replay(pool, found, drawn, rng)
        out[t] = (drawn > 0).sum(axis=1).mean(), seconds_of(played, parts, t), _full_runs(played, stages)
        own = worth(pool, work.metrics)
        if exact:
            worths[t], closed = pick_values(pool, found, own, k, (work.config.seed, t, k))
            all_exact &= closed
        else:
            worths[t] = np.where(played.picks[:, None] >= 0, own[played.picks], 0).mean(axis=0)
    return Measured(worths, all_exact, out[:, 0], out[:, 1], sum(part.fixed for part in parts), out[:, 2])


def seconds_of(played: Replay, parts: Sequence[StageCost], t: int) -> float:
    """Composed seconds of replays of one task, mean over them: each stage's part for the task, and its candidates'."""
    run, reached = played.run.mean(axis=1), played.reached.any(axis=2).mean(axis=1)
    return sum(share * part.task[t] + row @ part.own[t] for share, row, part in zip(reached, run, parts, strict=True))


def _full_runs(played: Replay, stages: Stages) -> float:
    return sum(played.run[s].sum(axis=1).mean() for s, stage in enumerate(stages) if stage.name == FULL)


def composed_seconds(work: Verification, stages: Stages) -> float:
    """Composed seconds of one pass over all candidates, ties in the order of the pool, as a run takes them.

    What comes before the first stage is left out (`work.costs.start`).
    """
    parts = work.costs.parts(stages)
    return sum(part.fixed for part in parts) + sum(
        seconds_of(replay(pool, steps(pool, stages, work.config, work.scorer), pool.counts[None]), parts, t)
        for t, pool in enumerate(work.pools)
    )


@dataclass(frozen=True)
class Timing:
    """Repeats of really running a pipeline, what does not grow with the candidates left out."""

    factors: np.ndarray
    """Run / composed of each repeat [R]; a single 1 where it was not run."""
    loading: float
    """Seconds of a run that do not grow with the candidates."""
    source: str


def timings(work: Verification) -> dict[str, Timing]:
    """How each pipeline's composed cost on all candidates compares with its runs."""
    found = {}
    for name, stages in work.config.parsed().items():
        own = sorted((row for row in work.runs if row["pipeline"] == name), key=lambda row: row["repeat"])
        composed = composed_seconds(work, stages)
        if own and composed > 0:
            fixed = np.array([row["fixed_s"] for row in own], dtype=float)
            loading = 0.0 if np.isnan(fixed).any() else float(np.median(fixed))
            growing = np.array([row["wall_s"] for row in own]) - np.nan_to_num(fixed)
            found[name] = Timing(growing / composed, loading, "run")
        else:
            source = "stages" if work.costs.measured(stages) else "checks"
            found[name] = Timing(np.ones(1), work.costs.start, source)
    return found


# ---- all pipelines -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Points:
    """All pipelines at one k: as measured, and in B replicates of the bootstrap over tasks and repeats."""

    names: tuple[str, ...]
    stages: tuple[Stages, ...]
    measured: tuple[Measured, ...]
    timing: tuple[Timing, ...]
    seconds: np.ndarray
    """Wall seconds a task, fixed cost left out [P]."""
    speeds: np.ndarray
    """Candidates a second [P]."""
    values_b: np.ndarray
    """[B, P, V]."""
    speeds_b: np.ndarray
    """[B, P]."""

    def means(self, metric: int) -> np.ndarray:
        """Value by one metric, mean over tasks [P]; rounding errors are no difference."""
        return np.array([one.values[:, metric].mean() for one in self.measured]).round(12)


def points(work: Verification, k: int, whole: Mapping[str, Timing], how: Resampling) -> Points:
    """Every configured pipeline at k. Tasks are drawn once for all pipelines and both axes, as are interleaved repeats."""
    pipelines = work.config.parsed()
    rng = np.random.default_rng((how.seed, work.config.seed))
    n = len(work.pools)
    drawn = rng.multinomial(n, np.full(n, 1 / n), size=how.replicates) if n > 1 else np.ones((0, n))
    repeats = max(len(timing.factors) for timing in whole.values())
    chosen = rng.integers(0, repeats, size=(len(drawn), repeats))
    measured = [measure(work, stages, k) for stages in pipelines.values()]
    seconds, speeds, values_b, speeds_b = [], [], [], []
    for name, one in zip(pipelines, measured, strict=True):
        timing = whole[name]
        factor, factors = np.median(timing.factors), np.ones(len(drawn))
        if len(timing.factors) == repeats:
            factors = np.median(timing.factors[chosen], axis=1)
        total = factor * (one.fixed + one.seconds.sum())
        totals = factors * (one.fixed + drawn @ one.seconds)
        seconds.append(total / n)
        speeds.append(_ratio(one.candidates.sum(), total))
        speeds_b.append(_ratio(drawn @ one.candidates, totals))
        values_b.append(drawn @ one.values / n)
    return Points(
        tuple(pipelines), tuple(pipelines.values()), tuple(measured), tuple(whole[name] for name in pipelines),
        np.array(seconds), np.array(speeds), np.stack(values_b, axis=1), np.stack(speeds_b, axis=1),
    )  # fmt: skip


def _ratio(first: Any, second: Any) -> Any:
    """First / second, NaN where the second is 0."""
    first, second = np.broadcast_arrays(np.asarray(first, dtype=float), np.asarray(second, dtype=float))
    out = np.full(first.shape, np.nan)
    np.divide(first, second, out=out, where=second > 0)
    return out if out.ndim else float(out)


def _less(first: Any, second: Any) -> Any:
    """How much less the first is than the second, as a share of it; rounding errors are none."""
    loss = 1 - _ratio(first, second)
    return np.where(np.abs(loss) < 1e-12, 0.0, loss)


def frontier_rows(work: Verification, k: int, found: Points, how: Resampling) -> list[dict]:
    """Rows of FRONTIER at one k: every pipeline by every metric, relative to the full suite."""
    n, base = len(work.pools), found.names.index(FULL)
    rows = []
    for v, metric in enumerate(work.metrics):
        values = found.means(v)
        replicates = found.values_b[:, :, v].round(12)
        on = front(values, found.speeds)
        share = share_on_front(replicates, found.speeds_b) if len(replicates) else [None] * len(on)
        margin = VALUE_MARGIN * (max(1.0, values.max()) if metric == "speedup" else 1.0)
        clear = beyond_noise(values, found.speeds, margin)
        for p, (name, one, timing) in enumerate(zip(found.names, found.measured, found.timing, strict=True)):
            rows.append(
                {"verification": work.name, "domain": work.config.domain, "metric": metric, "k": k, "pipeline": name}
                | {"stages": named(found.stages[p]), "n_tasks": n, "candidates": float(one.candidates.mean())}
                | interval_of_means(one.values[:, v], how, POSITIVE if metric == "speedup" else SHARE).columns()
                | {"exact": one.exact, "full_runs": float(one.full_runs.mean()), "task_s": float(found.seconds[p])}
                | {"fixed_s": timing.loading, "cost": timing.source}
                | _columns("throughput", found.speeds[p], found.speeds_b[:, p], how, n)
                | _columns("relative_throughput", _ratio(found.speeds[p], found.speeds[base]),
                           _ratio(found.speeds_b[:, p], found.speeds_b[:, base]), how, n)
                | _columns("relative_loss", _less(values[p], values[base]),
                           _less(replicates[:, p], replicates[:, base]), how, n)
                | {"value_per_second": _known(_ratio(values[p], found.seconds[p]))}
                | {"on_front": bool(on[p]), "p_front": _known(share[p]), "beyond_noise": bool(clear[p])}
            )  # fmt: skip
    return rows


def _columns(name: str, value: float, replicates: np.ndarray, how: Resampling, n: int) -> dict:
    """A value with its percentile interval, as columns."""
    found = percentile_interval(value, replicates if len(replicates) else None, how.confidence, n)
    return found.columns(name, f"{name}_")


def _known(value: float | None) -> float | None:
    return None if value is None or np.isnan(value) else float(value)


def compare(work: Verification, k: int, first: np.ndarray, second: np.ndarray, metric: str, how: Resampling) -> dict:
    """Columns of a paired difference of task means [T]."""
    d = first - second
    d = np.where(np.abs(d) < 1e-12, 0.0, d)
    bounds = None if metric == "speedup" else DIFFERENCE
    where = {"verification": work.name, "domain": work.config.domain, "metric": metric, "k": k, "n_tasks": len(d)}
    found = interval_of_means(d, how, bounds).columns("difference")
    return where | found | {"permutation_p": task_permutation(d, np.arange(len(d)), how.seed)}


def adjacent_rows(work: Verification, k: int, found: Points, how: Resampling) -> list[dict]:
    """Rows of FRONTIER_PAIRS: each point of the front against the next more accurate one."""
    rows = []
    for v, metric in enumerate(work.metrics):
        values = found.means(v)
        on = [int(p) for p in np.flatnonzero(front(values, found.speeds))]
        on.sort(key=lambda p: -found.speeds[p])
        for fast, slow in itertools.pairwise(on):
            own = compare(work, k, found.measured[slow].values[:, v], found.measured[fast].values[:, v], metric, how)
            ratio = _ratio(found.speeds[slow], found.speeds[fast])
            replicates = _ratio(found.speeds_b[:, slow], found.speeds_b[:, fast])
            ends = percentile_interval(ratio, replicates if len(replicates) else None, how.confidence, len(work.pools))
            rows.append(
                {"kind": "adjacent", "first": named(found.stages[slow]), "second": named(found.stages[fast])}
                | own
                | ends.columns("throughput_ratio", "throughput_")
            )
    return rows


def domain_rows(frontier: Sequence[Mapping[str, Any]]) -> list[dict]:
    """Rows of DOMAINS: each pipeline that several entries have, at the largest k of each; alone where only one has it.

    Ratios are averaged on the logarithm: the arithmetic mean of ratios is ruled by the largest of them.
    """
    largest: dict[str, int] = {}
    for row in frontier:
        largest[row["verification"]] = max(row["k"], largest.get(row["verification"], 0))
    groups: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
    for row in frontier:
        if row["k"] == largest[row["verification"]] and row["relative_throughput"]:
            groups.setdefault((row["metric"], row["stages"]), []).append(row)
    rows = []
    for (metric, stages), own in groups.items():
        ratios = np.array([row["relative_throughput"] for row in own])
        losses = [row["relative_loss"] for row in own if row["relative_loss"] is not None]
        rows.append(
            {
                "metric": metric,
                "k": max(row["k"] for row in own),
                "stages": stages,
                "verifications": [row["verification"] for row in own],
                "geometric_mean": float(np.exp(np.log(ratios).mean())),
                "arithmetic_mean": float(ratios.mean()),
                "relative_loss": float(np.mean(losses)) if losses else None,
            }
        )
    return rows
