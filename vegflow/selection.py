"""Selection strategies: rules that pick one of a task's K samples once it is known which are correct.

An order says which sample comes first, from what is known before anything is evaluated; a strategy applies an order to
the correct samples and says how many of them are timed. Knows stored rollouts and verdicts; whether one rule beats
another is the business of `vegflow.statistics`.
"""

import ast
import functools
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from vegflow.artifacts.evaluations import EVALUATIONS
from vegflow.artifacts.frames import scan_frame, task_blocks
from vegflow.artifacts.io import check
from vegflow.artifacts.rollouts import ROLLOUTS
from vegflow.artifacts.selections import SELECTIONS
from vegflow.config.selection import SelectionConfig
from vegflow.errors import ArtifactError, ConfigError
from vegflow.statistics.best_of import expected_bests, kept_while_small

NLL_CHOICES: dict[str, tuple[pl.Expr, tuple[str, ...]]] = {
    "sum": (-pl.col("logprob"), ("logprob",)),
    "mean": (-pl.col("logprob") / pl.col("n_tokens"), ("logprob",)),
    "tempered": (-pl.col("logprob_tempered"), ("logprob_tempered",)),
    "tempered-mean": (-pl.col("logprob_tempered") / pl.col("n_tokens"), ("logprob_tempered",)),
    "entropy": (pl.col("entropy"), ("entropy",)),
    "self-certainty": (-pl.col("self_certainty"), ("self_certainty",)),
}
"""Name -> (surprisal of a rollout in nats, columns it needs). Sum or mean over tokens, at temperature 1 or at the
sampling temperature; the paper does not say which it takes, `sum` is the default. The last two are of the whole next-token
distribution, expected surprisal and minus self-certainty (Kang et al. 2025, arXiv 2502.18581), where rollouts have them."""
MIDDLE = 0.625
"""Quantile of the surprisal that `middle-surprisal` looks for: the middle of the paper's best quartile (Table 11, Q2)."""
UNRECORDED = {
    "self-certainty": "it is an NLL choice: confidence-guided@self-certainty",
    "entropy": "it is an NLL choice: confidence-guided@entropy; surprisal-guided@mean is its one-sample estimate",
    "majority-output": "a candidate's outputs are checked and not stored",
}
"""Rules of the field by the name it gives them, and where they are or why they are not."""


ROLLOUTS_READ = (
    "rollout_id", "source", "step", "task_id", "seed", "index", "n_tokens", "logprob", "logprob_tempered", "completion",
)  # fmt: skip
EVALUATIONS_READ = ("rollout_id", "correct", "fast_1", "speedup", "candidate_sha256", "evaluate_wall_s")
"""Columns that selection looks at."""
BLOCK = 1_000_000
"""Rollouts that selection of stored tables holds at a time."""


@dataclass(frozen=True)
class Samples:
    """Samples of one task and seed in order of `index`; arrays of equal length N.

    `place` [N] are their rows in the table they come from, `nlls` maps an NLL choice to surprisals [N], `programs` [N]
    numbers equal programs equally, `sources` the same by syntax tree, `seconds` [N] is what evaluating each took.
    """

    place: np.ndarray
    nlls: Mapping[str, np.ndarray]
    n_tokens: np.ndarray
    programs: np.ndarray
    sources: np.ndarray
    correct: np.ndarray
    fast_1: np.ndarray
    speedup: np.ndarray
    seconds: np.ndarray

    def __len__(self) -> int:
        return len(self.place)

    @functools.cached_property
    def repeats(self) -> tuple[np.ndarray, np.ndarray]:
        """How many samples of the same program come before each [N], and how many there are of it [N]."""
        return occurrence(self.programs), _counts(self.programs)

    @functools.cached_property
    def gain(self) -> np.ndarray:
        """Speedup of each sample [N], 0 unless correct."""
        return np.where(self.correct, self.speedup, 0.0)

    @functools.cached_property
    def success(self) -> np.ndarray:
        """Whether each sample [N] is correct and fast_1."""
        return (self.fast_1 > 0) & self.correct

    def only(self, keep: np.ndarray) -> "Samples":
        """The samples where `keep` [N] is true, or at these positions."""
        arrays = {name: getattr(self, name)[keep] for name in self.__dataclass_fields__ if name != "nlls"}
        return Samples(nlls={name: values[keep] for name, values in self.nlls.items()}, **arrays)


Order = Callable[[Samples, np.ndarray], np.ndarray]
"""(samples, their surprisals [N] under the NLL choice) -> positions [N], the most preferred first."""


def ascending(*keys: np.ndarray) -> np.ndarray:
    """Positions by rising first key, equal ones by the next, at last by index."""
    return np.argsort(keys[0], kind="stable") if len(keys) == 1 else np.lexsort(keys[::-1])


def by_speedup(samples: Samples, nll: np.ndarray) -> np.ndarray:
    """Fastest first: the oracle."""
    return ascending(-samples.speedup)


def by_confidence(samples: Samples, nll: np.ndarray) -> np.ndarray:
    """Lowest surprisal first (paper section 4.5)."""
    return ascending(nll)


def by_surprisal(samples: Samples, nll: np.ndarray) -> np.ndarray:
    """Highest surprisal first (paper section 4.5)."""
    return ascending(-nll)


def by_middle(samples: Samples, nll: np.ndarray) -> np.ndarray:
    """Nearest to the surprisals' quantile `MIDDLE` first."""
    if not len(nll):
        return np.arange(0)
    ordered, at = np.sort(nll), MIDDLE * (len(nll) - 1)
    low = ordered[int(at)]
    return ascending(np.abs(nll - (low + (at - int(at)) * (ordered[min(int(at) + 1, len(nll) - 1)] - low))))


def by_diversity(samples: Samples, nll: np.ndarray) -> np.ndarray:
    """Surprisals spread as evenly as they come: distinct values in van der Corput's order of their ranks, repeats last.

    The first is the most surprising; every short list covers the range of the surprisals.
    """
    _, rank = np.unique(-nll, return_inverse=True)
    spread = van_der_corput(int(rank.max()) + 1) if len(rank) else np.arange(0)
    return ascending(occurrence(rank) * (len(spread) + 1) + spread[rank])


def by_shortness(samples: Samples, nll: np.ndarray) -> np.ndarray:
    """Fewest tokens first."""
    return ascending(samples.n_tokens)


def by_length(samples: Samples, nll: np.ndarray) -> np.ndarray:
    """Most tokens first."""
    return ascending(-samples.n_tokens)


def by_majority(samples: Samples, nll: np.ndarray) -> np.ndarray:
    """One sample of each distinct program, the commonest program first, repeats last (self-consistency)."""
    repeat, count = samples.repeats
    return ascending(repeat * (len(count) + 1) - count)


def by_rarity(samples: Samples, nll: np.ndarray) -> np.ndarray:
    """One sample of each distinct program, the rarest first, repeats last: surprisal without a model."""
    repeat, count = samples.repeats
    return ascending(repeat * (len(count) + 1) + count)


def by_majority_of_sources(samples: Samples, nll: np.ndarray) -> np.ndarray:
    """As `by_majority` with programs of one syntax tree taken as one."""
    return ascending(occurrence(samples.sources), -_counts(samples.sources))


ORDERS: dict[str, Order | None] = {
    "surprisal": by_surprisal,
    "confidence": by_confidence,
    "random": None,
    "random-program": None,
    "middle-surprisal": by_middle,
    "surprisal-diverse": by_diversity,
    "shortest": by_shortness,
    "longest": by_length,
    "majority-program": by_majority,
    "majority-ast": by_majority_of_sources,
    "rarest-program": by_rarity,
}
"""Orders that need no verdict, by name; None is uniformly random, for which expectations are computed, not drawn: over all
samples, or over one of each distinct program (the control for orders that put repeats last)."""
OF_NLL = ("surprisal", "confidence", "middle-surprisal", "surprisal-diverse")
"""Orders that look at the surprisal, which may be named with an NLL choice, such as `surprisal@mean`."""


@dataclass(frozen=True)
class Strategy:
    """A rule: order the correct samples, time the first `timed` of them, keep the fastest of those.

    `order` None is uniformly random order, for which expectations are computed instead of drawing. `timed` None
    times all; 1 times none, for the first is taken as it is. A `short_list` rule takes its length from its name.
    `nll` is the NLL choice the order looks at, empty if it looks at none.
    """

    order: Order | None
    timed: int | None = 1
    short_list: bool = False
    nll: str = ""


STRATEGIES: dict[str, Strategy] = {
    "best-correct": Strategy(by_speedup, timed=None),
    "random-correct": Strategy(None),
    "confidence-guided": Strategy(by_confidence, nll="sum"),
    "surprisal-guided": Strategy(by_surprisal, nll="sum"),
    "surprisal-guided-top": Strategy(by_surprisal, short_list=True, nll="sum"),
    "confidence-top": Strategy(by_confidence, short_list=True, nll="sum"),
    "random-top": Strategy(None, short_list=True),
    "surprisal-diverse-top": Strategy(by_diversity, short_list=True, nll="sum"),
    "middle-surprisal": Strategy(by_middle, nll="sum"),
    "shortest": Strategy(by_shortness),
    "longest": Strategy(by_length),
    "majority-program": Strategy(by_majority),
    "majority-ast": Strategy(by_majority_of_sources),
    "rarest-program": Strategy(by_rarity),
}
"""Name -> rule. A short-list rule is named with its length, such as `surprisal-guided-top3`; a rule that looks at the
surprisal may name another NLL choice, such as `surprisal-guided@mean`."""


def resolve(name: str) -> Strategy:
    """The strategy called `name`. Raises ConfigError, listing what there is, if there is none."""
    stem, nll = nll_choice(name)
    listed = re.fullmatch(r"(.*-top)([1-9]\d*)", stem)
    rule = STRATEGIES.get(listed[1] if listed else stem)
    if rule and rule.short_list == bool(listed) and (rule.nll or "@" not in name):
        return Strategy(rule.order, int(listed[2]) if listed else rule.timed, nll=rule.nll and nll)
    if stem in UNRECORDED:
        raise ConfigError(f"there is no strategy '{name}': {UNRECORDED[stem]}")
    known = ", ".join(f"{n}M" if rule.short_list else n for n, rule in STRATEGIES.items())
    raise ConfigError(
        f"there is no strategy '{name}'; there are {known} (M a number), and those of the "
        f"surprisal with {', '.join('@' + choice for choice in NLL_CHOICES)} after the name"
    )


def resolve_order(name: str) -> tuple[Order | None, str]:
    """The order called `name` and its NLL choice (empty if it has none). Raises ConfigError if there is none."""
    stem, nll = nll_choice(name)
    if stem not in ORDERS or ("@" in name and stem not in OF_NLL):
        raise ConfigError(f"there is no order '{name}'; there are {', '.join(ORDERS)}")
    return ORDERS[stem], nll if stem in OF_NLL else ""


def nll_choice(name: str) -> tuple[str, str]:
    """`surprisal-guided@mean` as (`surprisal-guided`, `mean`); `sum` without one. Raises ConfigError if unknown."""
    stem, _, nll = name.partition("@")
    if "@" in name and nll not in NLL_CHOICES:
        raise ConfigError(f"there is no strategy '{name}'; after @ stands one of {', '.join(NLL_CHOICES)}")
    return stem, nll or "sum"


Head = tuple[str, str, int, int]
"""Source, task, seed and number of correct samples."""


@dataclass(frozen=True)
class Pick:
    """What a strategy yields on one task's samples; `place` is -1 where no single sample is picked."""

    place: int
    fast_1: float
    speedup: float
    log_speedup: float | None
    nll: float | None
    extra: int


def pick(strategy: Strategy, good: Samples) -> Pick:
    """Apply a strategy to the correct samples of one task."""
    n = len(good)
    if n == 0:
        return Pick(-1, 0.0, 0.0, None, None, 0)
    timed = n if strategy.timed is None else min(strategy.timed, n)
    extra = 0 if strategy.timed == 1 else timed
    nll = good.nlls[strategy.nll or "sum"]
    if strategy.order is None:
        fast, speed, log = (
            float(expected_bests(v, (timed,))[0]) for v in (good.fast_1, good.speedup, np.log(good.speedup))
        )
        return Pick(-1, fast, speed, log, float(nll.mean()), extra)
    short_list = strategy.order(good, nll)[:timed]
    # argmax takes the first of equals, so a tie in speedup goes to the one the order prefers.
    chosen = short_list[np.argmax(good.speedup[short_list])]
    speed = float(good.speedup[chosen])
    return Pick(
        int(good.place[chosen]), float(good.fast_1[chosen]), speed, float(np.log(speed)), float(nll[chosen]), extra
    )


def join_for_selection(rollouts: pl.DataFrame, evaluations: pl.DataFrame) -> pl.DataFrame:
    """The sample sets' rollouts with their verdicts, by source, task, seed and index.

    Columns that tables from elsewhere may lack (`logprob_tempered`, `completion`, `candidate_sha256`,
    `evaluate_wall_s`) are left out. Raises ArtifactError if a rollout was not evaluated or a correct one has no
    positive speedup.
    """
    wanted = [name for name in ROLLOUTS_READ if name in rollouts.columns and name != "step"]
    verdict = [name for name in EVALUATIONS_READ if name in evaluations.columns]
    drawn = rollouts.filter(pl.col("step").is_null()).select(wanted)
    joined = drawn.join(evaluations.select(verdict), on="rollout_id", how="left")
    missing = joined.filter(pl.col("correct").is_null())
    if missing.height:
        raise ArtifactError(
            f"evaluations: {missing.height} of {joined.height} rollouts of the sample sets have no verdict, "
            f"'{missing['rollout_id'][0]}' first; evaluate them before selecting"
        )
    broken = joined.filter(pl.col("correct") & ~(pl.col("speedup") > 0))
    if broken.height:
        raise ArtifactError(f"evaluations: '{broken['rollout_id'][0]}' is correct but its speedup is not above 0")
    return joined.sort("source", "task_id", "seed", "index")


def units(
    joined: pl.DataFrame, choices: Iterable[str] = NLL_CHOICES, syntax: bool = False
) -> Iterator[tuple[tuple[str, str, int], Samples]]:
    """Samples of each (source, task, seed) of a table as `join_for_selection` leaves it, in its order.

    `syntax` compares programs by syntax tree for `sources`, which parses each distinct program.
    """
    if not joined.height:
        return
    program = pl.coalesce(
        [c for c in ("candidate_sha256", "completion") if c in joined.columns] or [pl.col("rollout_id")]
    )
    source = pl.lit(0, pl.UInt64)
    if syntax and "completion" in joined.columns:
        texts = joined["completion"].unique()
        trees = pl.Series([syntax_tree(text) for text in texts], dtype=pl.String)
        source = pl.col("completion").replace_strict(texts, trees).hash()
    known = {
        name: nll
        for name, (nll, needs) in NLL_CHOICES.items()
        if set(needs) <= set(joined.columns) and name in {"sum", *choices}
    }
    table = joined.select(
        "n_tokens", "correct", "speedup",
        pl.col("fast_1").cast(pl.Float64),
        program=program.hash(),
        source_=source,
        seconds=pl.col("evaluate_wall_s") if "evaluate_wall_s" in joined.columns else pl.lit(0.0),
        **{f"nll:{name}": nll for name, nll in known.items()},
    )  # fmt: skip
    arrays = {name: table[name].to_numpy() for name in table.columns}
    key = joined.select(pl.struct("source", "task_id", "seed").rle_id().alias("unit"))["unit"].to_numpy()
    starts = np.flatnonzero(np.r_[True, key[1:] != key[:-1]])
    heads = joined.select("source", "task_id", "seed")[starts.tolist()].rows()
    for head, start, end in zip(heads, starts, [*starts[1:], len(key)], strict=True):
        cut = slice(start, end)
        yield (
            head,
            Samples(
                place=np.arange(start, end),
                nlls={name: arrays[f"nll:{name}"][cut] for name in known},
                n_tokens=arrays["n_tokens"][cut],
                programs=arrays["program"][cut],
                sources=arrays["source_"][cut],
                correct=arrays["correct"][cut],
                fast_1=arrays["fast_1"][cut],
                speedup=arrays["speedup"][cut],
                seconds=arrays["seconds"][cut],
            ),
        )


def select(rollouts: pl.DataFrame, evaluations: pl.DataFrame, config: SelectionConfig) -> pa.Table:
    """Apply each strategy to each task and seed of the sample sets (rollouts without a step).

    Returns a table of `SELECTIONS`: one row per source, task, seed and strategy, in that order (strategies as
    configured). Raises ConfigError for an unknown strategy, ArtifactError for rollouts without verdicts.
    """
    return select_joined(join_for_selection(rollouts, evaluations), config)


def select_stored(
    rollouts: Sequence[str | Path], evaluations: Sequence[str | Path], config: SelectionConfig, *, most: int = BLOCK
) -> pa.Table:
    """As `select`, of stored tables, holding at most some `most` rollouts (or one task's) at a time; the same rows."""
    drawn = scan_frame(rollouts, ROLLOUTS, ROLLOUTS_READ).filter(pl.col("step").is_null())
    verdicts = scan_frame(evaluations, EVALUATIONS, ("task_id", *EVALUATIONS_READ))
    sources = drawn.group_by("source").len().collect(engine="streaming").sort("source").rows()
    if sum(count for _, count in sources) <= most:
        return select(*pl.collect_all([drawn, verdicts]), config)
    parts = []
    for source, _ in sources:
        own = drawn.filter(pl.col("source") == source)
        for tasks in task_blocks(own, most):  # in order of source and task, as the rows of `SELECTIONS` are
            inside = pl.col("task_id").is_in(tasks)
            block = own.filter(inside)
            judged = verdicts.filter(inside).join(block.select("rollout_id"), on="rollout_id", how="semi")
            parts.append(select(*pl.collect_all([block, judged]), config))
    return pa.concat_tables(parts).combine_chunks()


def select_joined(joined: pl.DataFrame, config: SelectionConfig) -> pa.Table:
    """As `select`, of a table as `join_for_selection` leaves it; rules whose columns it lacks are left out."""
    rules = usable(config, joined.columns)
    heads: list[Head] = []
    picks: list[Pick] = []
    for head, samples in units(joined, *needs(rules)):
        apply(rules, head, samples, heads, picks)
    return table_of(joined, rules, heads, picks)


def usable(config: SelectionConfig, columns: Iterable[str]) -> dict[str, Strategy]:
    """The configured strategies that a table with these columns can serve. Raises ConfigError for one that is none."""
    return {name: resolve(name) for name in config.strategies if not lacking(name, columns)}


def needs(rules: Mapping[str, Strategy]) -> tuple[set[str], bool]:
    """NLL choices that strategies look at, and whether one compares syntax trees: what `units` has to compute."""
    return {rule.nll for rule in rules.values()}, any(r.order is by_majority_of_sources for r in rules.values())


def apply(rules: Mapping[str, Strategy], head: tuple, samples: Samples, heads: list[Head], picks: list[Pick]) -> None:
    """Apply every strategy to one task's samples: one more entry of `heads`, one more of `picks` a strategy."""
    good = samples.only(samples.correct)
    heads.append((*head, len(good)))
    picks.extend(pick(rule, good) for rule in rules.values())


def lacking(name: str, columns: Iterable[str]) -> str:
    """Why a strategy cannot be applied to a table with these columns; empty if it can."""
    rule, has = resolve(name), set(columns)
    needs = NLL_CHOICES[rule.nll][1] if rule.nll else ()
    needs += ("completion",) if rule.order is by_majority_of_sources else ()
    gone = [column for column in needs if column not in has]
    if rule.order in (by_majority, by_rarity) and not has & {"candidate_sha256", "completion"}:
        gone = ["candidate_sha256"]
    return f"the tables have no column {', '.join(gone)}" if gone else ""


def lacking_order(name: str, columns: Iterable[str]) -> str:
    """Why an order cannot be had of a table with these columns; empty if it can."""
    _, nll = resolve_order(name)
    gone = [column for column in (NLL_CHOICES[nll][1] if nll else ()) if column not in set(columns)]
    return f"the tables have no column {', '.join(gone)}" if gone else ""


def table_of(joined: pl.DataFrame, rules: Mapping[str, Strategy], heads: list[Head], picks: list[Pick]) -> pa.Table:
    """Picks as rows of `SELECTIONS`."""
    rows = pl.DataFrame(heads, schema=["source", "task_id", "seed", "n_correct"], orient="row") if heads else None
    if rows is None or not rules:
        return SELECTIONS.empty_table()
    names = pl.DataFrame(
        {
            "strategy": list(rules),
            "nll_choice": [rule.nll for rule in rules.values()],
            "expected": [rule.order is None for rule in rules.values()],
        }
    )
    place = np.array([one.place for one in picks])
    ids = joined["rollout_id"].gather(np.maximum(place, 0))
    values = pl.DataFrame(
        {
            "rollout_id": ids,
            "picked": place >= 0,
            **{
                name: pl.Series([getattr(one, name) for one in picks], dtype=pl.Float64)
                for name in ("fast_1", "speedup", "log_speedup", "nll")
            },
            "extra_evaluations": pl.Series([one.extra for one in picks], dtype=pl.Int32),
        }
    )
    whole = pl.concat([rows.join(names, how="cross", maintain_order="left_right"), values], how="horizontal")
    made = (
        whole.with_columns(
            pl.col("n_correct").cast(pl.Int32),
            correct=pl.col("n_correct") > 0,
            rollout_ids=pl.when("picked").then(pl.concat_list("rollout_id")).otherwise(pl.lit([], pl.List(pl.String))),
        )
        .select(SELECTIONS.names)
        .to_arrow(compat_level=pl.CompatLevel.oldest())
        .cast(SELECTIONS)
    )
    return check(made, SELECTIONS)


def occurrence(codes: np.ndarray) -> np.ndarray:
    """How many equal codes [N] come before each."""
    n = len(codes)
    order = np.argsort(codes, kind="stable")
    ordered = codes[order]
    new = np.ones(n, dtype=bool)
    np.not_equal(ordered[1:], ordered[:-1], out=new[1:])
    position = np.arange(n)
    out = np.empty(n, dtype=np.int64)
    out[order] = position - np.maximum.accumulate(np.where(new, position, 0))
    return out


def _counts(codes: np.ndarray) -> np.ndarray:
    _, group, counts = np.unique(codes, return_inverse=True, return_counts=True)
    return counts[group]


@kept_while_small
def van_der_corput(n: int) -> np.ndarray:
    """Position [n] of each rank when ranks are visited as 0, n - 1, the middle, the quarters, and so on."""
    seen: dict[int, None] = dict.fromkeys([0, n - 1])
    parts = 2
    while len(seen) < n:
        seen |= dict.fromkeys(round(i * (n - 1) / parts) for i in range(1, parts, 2))
        parts *= 2
    position = np.empty(n, dtype=np.int64)
    position[list(seen)] = np.arange(n)
    return position


def syntax_tree(text: str) -> str:
    """A program's syntax tree as text, without comments and layout; its words where it is not Python.

    A completion may be the body of a function, so it is also tried as one; code fences are dropped.
    """
    code = re.sub(r"^```.*$", "", text, flags=re.MULTILINE).strip("\n")
    for program in (code, "def forward():\n" + textwrap.indent(textwrap.dedent(code), " ")):
        try:
            return ast.dump(ast.parse(textwrap.dedent(program)))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
    return " ".join(code.split())
