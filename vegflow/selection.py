"""Selection strategies: rules that pick one of a task's K samples once it is known which are correct.

Knows stored rollouts and verdicts; whether one rule beats another is the business of `vegflow.statistics`.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa

from vegflow.artifacts.io import to_table
from vegflow.artifacts.selections import SELECTIONS
from vegflow.config.selection import SelectionConfig
from vegflow.errors import ArtifactError, ConfigError
from vegflow.statistics.best_of import expected_best


@dataclass(frozen=True)
class Samples:
    """The correct samples of one task and seed, in order of `index`; arrays of equal length N."""

    rollout_ids: tuple[str, ...]
    index: np.ndarray
    nll: np.ndarray
    n_tokens: np.ndarray
    speedup: np.ndarray
    fast_1: np.ndarray


Order = Callable[[Samples], np.ndarray]
"""Samples -> positions [N], the most preferred first."""


@dataclass(frozen=True)
class Strategy:
    """A rule: order the correct samples, time the first `timed` of them, keep the fastest of those.

    `order` None is uniformly random order, for which expectations are computed instead of drawing. `timed` None
    times all; 1 times none, for the first is taken as it is. A `short_list` rule takes its length from its name.
    """

    order: Order | None
    timed: int | None = 1
    short_list: bool = False


def ascending(key: np.ndarray, samples: Samples) -> np.ndarray:
    """Positions by rising key; equal keys by index."""
    return np.lexsort((samples.index, key))


def by_speedup(samples: Samples) -> np.ndarray:
    """Fastest first."""
    return ascending(-samples.speedup, samples)


def by_confidence(samples: Samples) -> np.ndarray:
    """Highest summed log-probability first (paper section 4.5)."""
    return ascending(samples.nll, samples)


def by_surprisal(samples: Samples) -> np.ndarray:
    """Lowest summed log-probability first (paper section 4.5)."""
    return ascending(-samples.nll, samples)


STRATEGIES: dict[str, Strategy] = {
    "best-correct": Strategy(by_speedup, timed=None),
    "random-correct": Strategy(None),
    "confidence-guided": Strategy(by_confidence),
    "surprisal-guided": Strategy(by_surprisal),
    "surprisal-guided-top": Strategy(by_surprisal, short_list=True),
    "confidence-top": Strategy(by_confidence, short_list=True),
    "random-top": Strategy(None, short_list=True),
}
"""Name -> rule. A short-list rule is named with its length, such as `surprisal-guided-top3`."""


def resolve(name: str) -> Strategy:
    """The strategy called `name`. Raises ConfigError, listing what there is, if there is none."""
    listed = re.fullmatch(r"(.*-top)([1-9]\d*)", name)
    if listed and listed[1] in STRATEGIES:
        rule = STRATEGIES[listed[1]]
        return Strategy(rule.order, timed=int(listed[2]))
    if name in STRATEGIES and not STRATEGIES[name].short_list:
        return STRATEGIES[name]
    known = ", ".join(f"{n}M" if rule.short_list else n for n, rule in STRATEGIES.items())
    raise ConfigError(f"statistics.strategies: there is no strategy '{name}'; there are {known} (M a number)")


def pick(strategy: Strategy, samples: Samples) -> dict[str, Any]:
    """What the strategy yields on one task's correct samples: the columns of `selections` that depend on it."""
    n = len(samples.rollout_ids)
    if n == 0:
        return {
            "rollout_ids": [],
            "fast_1": 0.0,
            "speedup": 0.0,
            "log_speedup": None,
            "nll": None,
            "extra_evaluations": 0,
        }
    timed = n if strategy.timed is None else min(strategy.timed, n)
    extra = 0 if strategy.timed == 1 else timed
    if strategy.order is None:
        return {
            "rollout_ids": list(samples.rollout_ids),
            "fast_1": expected_best(samples.fast_1, timed),
            "speedup": expected_best(samples.speedup, timed),
            "log_speedup": expected_best(np.log(samples.speedup), timed),
            "nll": float(samples.nll.mean()),
            "extra_evaluations": extra,
        }
    short_list = strategy.order(samples)[:timed]
    # argmax takes the first of equals, so a tie in speedup goes to the one the order prefers.
    chosen = short_list[np.argmax(samples.speedup[short_list])]
    return {
        "rollout_ids": [samples.rollout_ids[chosen]],
        "fast_1": float(samples.fast_1[chosen]),
        "speedup": float(samples.speedup[chosen]),
        "log_speedup": float(np.log(samples.speedup[chosen])),
        "nll": float(samples.nll[chosen]),
        "extra_evaluations": extra,
    }


def groups(rollouts: pl.DataFrame, evaluations: pl.DataFrame) -> Iterator[tuple[tuple[str, str, int], Samples]]:
    """The correct samples of each (source, task, seed) of the sample sets, also where there is none, in that order.

    Raises ArtifactError if a rollout was not evaluated or a correct one has no positive speedup.
    """
    drawn = rollouts.filter(pl.col("step").is_null()).select(
        "rollout_id", "source", "task_id", "seed", "index", "n_tokens", nll=-pl.col("logprob")
    )
    joined = drawn.join(evaluations.select("rollout_id", "correct", "fast_1", "speedup"), on="rollout_id", how="left")
    missing = joined.filter(pl.col("correct").is_null())
    if missing.height:
        raise ArtifactError(
            f"evaluations: {missing.height} of {joined.height} rollouts of the sample sets have no verdict, "
            f"'{missing['rollout_id'][0]}' first; evaluate them before selecting"
        )
    broken = joined.filter(pl.col("correct") & ~(pl.col("speedup") > 0))
    if broken.height:
        raise ArtifactError(f"evaluations: '{broken['rollout_id'][0]}' is correct but its speedup is not above 0")
    for key, group in joined.sort("source", "task_id", "seed", "index").group_by(
        ["source", "task_id", "seed"], maintain_order=True
    ):
        good = group.filter("correct")
        yield (
            key,
            Samples(
                rollout_ids=tuple(good["rollout_id"]),
                index=good["index"].to_numpy(),
                nll=good["nll"].to_numpy(),
                n_tokens=good["n_tokens"].to_numpy(),
                speedup=good["speedup"].to_numpy(),
                fast_1=good["fast_1"].cast(pl.Float64).to_numpy(),
            ),
        )


def select(rollouts: pl.DataFrame, evaluations: pl.DataFrame, config: SelectionConfig) -> pa.Table:
    """Apply each strategy to each task and seed of the sample sets (rollouts without a step).

    Returns a table of `SELECTIONS`: one row per source, task, seed and strategy, in that order (strategies as
    configured). Raises ConfigError for an unknown strategy, ArtifactError for rollouts without verdicts.
    """
    strategies = {name: resolve(name) for name in config.strategies}
    rows = []
    for (source, task_id, seed), samples in groups(rollouts, evaluations):
        n = len(samples.rollout_ids)
        for name, strategy in strategies.items():
            head = {"source": source, "task_id": task_id, "seed": seed, "strategy": name}
            facts = {"expected": strategy.order is None, "n_correct": n, "correct": n > 0}
            rows.append(head | facts | pick(strategy, samples))
    return to_table(rows, SELECTIONS)
