"""Studies with planted effects: a population of tasks whose true values are known, and studies drawn from it.

Knows how samples would look; no model, no evaluator. What the estimators must find, and what their intervals must hold,
is known here exactly (rates) or from a large draw (picks, correlations).
"""

from dataclasses import dataclass

import numpy as np

from vegflow.selection import STRATEGIES, Samples, pick
from vegflow.statistics.best_of import passes_at_k
from vegflow.statistics.correlation import spearman, within_spearman

PROGRAMS = 8
"""Ways to write a task."""
STEPS = 5
MANY = 20_000
"""Tasks drawn for the true value of what has no closed form."""


@dataclass(frozen=True)
class Population:
    """Tasks with `PROGRAMS` programs each, of random probability, correctness and speedup.

    `tail` > 0 makes rare programs fast; 0 makes speedup independent of probability, so no order beats another.
    `drift` multiplies the logits of the adapted policy by 1 + drift a step, in each run times a lognormal factor of
    its own; 0 is a policy that never changes. `correct` is the share of programs that are; log speedups have the mean
    `speed`, the standard deviation `between` between tasks and `within` inside them; logits that of `logits`.
    """

    tail: float = 1.0
    drift: float = 0.15
    correct: float = 0.8
    speed: float = -0.05
    between: float = 0.2
    within: float = 0.2
    logits: float = 1.5


POPULATIONS = {
    "planted": Population(),
    "hard tasks": Population(correct=0.35, speed=-0.25),
    "tasks alike": Population(between=0.03, logits=0.7),
    "heavy tail": Population(between=1.2, within=0.4),
}
"""The population that the tests know, and three that differ where intervals of few tasks go wrong: most tasks without a
fast program, tasks that hardly differ, and speedups of two orders of magnitude, as the paper's."""


@dataclass(frozen=True)
class Task:
    """Programs of one task: logits, correctness, speedups, lengths, all [PROGRAMS]."""

    logits: np.ndarray
    correct: np.ndarray
    speedup: np.ndarray
    n_tokens: np.ndarray

    def probabilities(self, sharpen: float = 1.0) -> np.ndarray:
        """Probabilities of the programs when logits are multiplied by `sharpen`."""
        e = np.exp(sharpen * (self.logits - self.logits.max()))
        return e / e.sum()

    @property
    def fast(self) -> np.ndarray:
        """Whether each program is fast_1."""
        return self.correct & (self.speedup > 1)

    def rate(self, sharpen: float = 1.0) -> float:
        """True per-sample fast_1."""
        return min(1.0, float(self.probabilities(sharpen) @ self.fast))


def draw_task(population: Population, rng: np.random.Generator) -> Task:
    """A task of the population."""
    logits = rng.normal(0, population.logits, PROGRAMS)
    rarity = (logits.max() - logits) / 3
    level = rng.normal(0, population.between)
    noise = rng.normal(population.speed, population.within, PROGRAMS)
    speedup = np.exp(level + noise + 0.3 * population.tail * (rarity - 0.7))
    return Task(logits, rng.random(PROGRAMS) < population.correct, speedup, rng.integers(5, 30, PROGRAMS))


def draw_samples(task: Task, k: int, rng: np.random.Generator, sharpen: float = 1.0) -> Samples:
    """`k` samples of a task, as the strategies see them."""
    p = task.probabilities(sharpen)
    chosen = rng.choice(PROGRAMS, size=k, p=p)
    correct, speedup = task.correct[chosen], task.speedup[chosen]
    return Samples(
        place=np.arange(k),
        nlls={"sum": -np.log(p)[chosen]},
        n_tokens=task.n_tokens[chosen],
        programs=chosen,
        sources=chosen,
        correct=correct,
        fast_1=(correct & (speedup > 1)).astype(float),
        speedup=np.where(correct, speedup, 0.0),
        seconds=np.ones(k),
    )


@dataclass(frozen=True)
class Drawn:
    """A study: values of its units (task, seed), its correct samples, and its trajectory's rates (task, run)."""

    tasks: np.ndarray
    seeds: np.ndarray
    values: dict[str, np.ndarray]
    sample_tasks: np.ndarray
    logprob: np.ndarray
    speedup: np.ndarray
    run_tasks: np.ndarray
    runs: np.ndarray
    drift: np.ndarray


def draw_study(
    population: Population,
    n_tasks: int,
    rng: np.random.Generator,
    *,
    k: int = 64,
    seeds: int = 2,
    runs: int = 3,
    group: int = 32,
) -> Drawn:
    """A study of `n_tasks` tasks: a sample set of `seeds` seeds, and `runs` runs of adaptation to their last step."""
    names = (
        "per-sample fast_1",
        "pass@16",
        "surprisal-guided fast_1",
        "confidence-guided fast_1",
        "log speedup of surprisal / confidence",
        "mean speedup, surprisal-guided",
    )
    values: dict[str, list[float]] = {name: [] for name in names}
    units, of_unit, logprobs, speeds, owners, drifts = [], [], [], [], [], []
    factors = np.exp(rng.normal(0, 0.5, runs))
    for number in range(n_tasks):
        task = draw_task(population, rng)
        own = []
        for seed in range(seeds):
            samples = draw_samples(task, k, rng)
            good = samples.only(samples.correct)
            high, low = (pick(STRATEGIES[name], good) for name in ("surprisal-guided", "confidence-guided"))
            both = high.log_speedup is not None and low.log_speedup is not None
            own.append(samples.fast_1.mean())
            row = (
                own[-1],
                passes_at_k(k, int(samples.fast_1.sum()), 16),
                high.fast_1,
                low.fast_1,
                high.log_speedup - low.log_speedup if both else np.nan,
                high.speedup if len(good) else np.nan,
            )
            for name, value in zip(names, row, strict=True):
                values[name].append(float(value))
            units.append(number)
            of_unit.append(seed)
            logprobs.append(-good.nlls["sum"])
            speeds.append(good.speedup)
            owners.append(np.full(len(good), number))
        for factor in factors:
            rate = task.rate(1 + population.drift * STEPS * factor)
            drifts.append(rng.binomial(group, rate) / group - np.mean(own))
    arrays = {name: np.array(found) for name, found in values.items()}
    arrays["fast_1, surprisal - confidence"] = arrays[names[2]] - arrays[names[3]]
    arrays["the same of speedups to the 4th power"] = arrays[names[5]] ** 4
    return Drawn(
        np.array(units), np.array(of_unit), arrays, np.concatenate(owners), np.concatenate(logprobs), np.concatenate(speeds),
        np.repeat(np.arange(n_tasks), runs), np.tile(np.arange(runs), n_tasks), np.array(drifts),
    )  # fmt: skip


def truth(population: Population, rng: np.random.Generator, n_tasks: int = MANY) -> dict[str, float]:
    """The population's values, each a mean over `n_tasks` tasks (standard error below 0.004 for shares)."""
    study = draw_study(population, n_tasks, rng, seeds=1, runs=1)
    found = {name: float(np.nanmean(values)) for name, values in study.values.items()}
    tasks = [draw_task(population, rng) for _ in range(n_tasks)]
    factors = np.exp(rng.normal(0, 0.5, n_tasks))
    moved = [t.rate(1 + population.drift * STEPS * f) - t.rate() for t, f in zip(tasks, factors, strict=True)]
    found["drift of fast_1, last step - sample set"] = float(np.mean(moved))
    found["rho of logprob and speedup"] = float(spearman(study.logprob, study.speedup).rho or 0.0)
    found["rho within tasks"] = float(within_spearman(study.logprob, study.speedup, study.sample_tasks).rho or 0.0)
    return found
