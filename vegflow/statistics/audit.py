"""The paper's numbers against one another: what follows from its own printed inputs, recomputed.

Knows `resources/paper/results.yaml` and nothing of any study. Each check belongs to a finding of `caveats.yaml`; one
that only reading can make (what a sentence says of a table) states both sides in words.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from scipy import stats

from vegflow.statistics.adaptation import equivalent_k
from vegflow.statistics.best_of import pass_at_k
from vegflow.statistics.paired import cohens_h, sign_test
from vegflow.statistics.paper import PaperNumber

TASKS = ("L1/4", "L1/5", "L1/12", "L1/14", "L1/15")
GROUP, SAMPLES, STEPS = 32, 64, 6
DRAWS = 20_000

Numbers = Mapping[str, float]
Row = tuple[int, str, str, str, bool]
"""Finding, what is recomputed, what the paper prints, what follows, whether they agree."""


def audit(numbers: Sequence[PaperNumber]) -> list[dict]:
    """Rows of `AUDIT`, in the order of the findings; none if the paper's numbers are not all given."""
    known = {number.id: number.value for number in numbers if number.value is not None}
    names = ("finding", "check", "printed", "recomputed", "consistent")
    try:
        rows = [row for check in CHECKS for row in check(known)]
    except KeyError:
        return []
    return [dict(zip(names, row, strict=True)) for row in sorted(rows, key=lambda row: row[0])]


def cells(known: Numbers) -> np.ndarray:
    """Table 6 as counts of 32 [steps, tasks]."""
    return np.array([[round(known[f"table6.step{s}.{t}"] * GROUP) for t in TASKS] for s in range(STEPS)])


def two_proportions(a: int, n: int, b: int, m: int) -> float:
    """Two-sided p of equal shares a/n and b/m, pooled z-test."""
    pooled = (a + b) / (n + m)
    z = (a / n - b / m) / math.sqrt(pooled * (1 - pooled) * (1 / n + 1 / m))
    return float(2 * stats.norm.sf(abs(z)))


def spearman_p(rho: float, n: int) -> float:
    """Two-sided p of Spearman's rho over n independent samples."""
    return float(2 * stats.t.sf(abs(rho) * math.sqrt((n - 2) / (1 - rho**2)), n - 2))


def arms(known: Numbers) -> list[Row]:
    """Findings 1, 2, 3: the arms are measured differently."""
    table = cells(known)
    step0 = table[0]
    pass16 = float(np.mean([pass_at_k(GROUP, int(c), 16) for c in step0]))
    # pass@16 of 0.999 on average over five tasks leaves each task at least 1 - 5 * 0.001
    least = 1 - (5 * (1 - known["table2.k16.fast_1"])) ** (1 / 16)
    p1 = two_proportions(int(step0.sum()), 5 * GROUP, round(known["table2.k1.fast_1"] * 640), 640)
    p2 = two_proportions(round(known["table4.step0"] * 160), 160, round(known["table4.best_of_n"] * 320), 320)
    starts = sorted(known[i] for i in ("table2.k1.fast_1", "boa.baseline", "table6.step0", "table10.3e-7"))
    return [
        (1, "tasks with a fast_1 rollout among 32 at every TTT step (Table 6)", "30.6 % against any-of-64 of 100 %",
         f"{int((table > 0).all(axis=1).sum())} of {STEPS} steps solve 5 of 5 tasks", not bool((table > 0).all())),
        (1, "basis of Table 4's “Best-of-N (K=64)”", "36.9 %", "per-sample rate; any-of-64 is 100 % (section 5.5)", False),
        (2, "one policy, temperature and task set: per-sample rates", "one value", ", ".join(f"{v:.1%}" for v in starts), False),
        (2, "step 0 (60 of 160) against Best-of-N (341 of 640), equal rates", "same policy", f"p = {p1:.1g}", p1 > 0.01),
        (2, "the same on subset 2 (28 of 160 against 118 of 320)", "same policy", f"p = {p2:.1g}", p2 > 0.01),
        (2, "pass@16 from Table 6's step 0, unbiased", "99.9 % (Table 2)", f"{pass16:.1%}", abs(pass16 - 0.999) < 0.02),
        (2, "smallest task rate that pass@16 = 99.9 % allows", "task 5: 3.1 %, task 4: 9.4 %", f"{least:.0%}",
         min(step0) / GROUP >= least),
        (3, "how the released scripts time kernels", "identical evaluator", "four threads on one GPU, against one at a time", False),
    ]  # fmt: skip


def the_probe(known: Numbers) -> list[Row]:
    """Findings 4 and 5: the probe's sign and p-values."""
    first, last, deep = known["probe.all.first"], known["probe.all.last"], known["probe.bottom.step3"]
    return [
        (4, "sign of rho(NLL, speedup) < 0", "confident about its worst solutions", "low NLL (confident) goes with fast", False),
        (5, "p of rho = -0.198, n = 320", "3.6e-04", f"{spearman_p(first, 320):.1e}", _near(spearman_p(first, 320), known["probe.all.first_p"])),
        (5, "p of rho = -0.275, n = 320", "5.7e-07", f"{spearman_p(last, 320):.1e}", _near(spearman_p(last, 320), known["probe.all.last_p"])),
        (5, "p of rho = -0.442 in a quartile, n = 80", "9.8e-17", f"{spearman_p(deep, 80):.1g}; 9.8e-17 takes n = 320",
         _near(spearman_p(deep, 80), known["probe.bottom.step3_p"])),
    ]  # fmt: skip


def _near(a: float, b: float) -> bool:
    return abs(math.log(a / b)) < 0.05


def the_tests(known: Numbers) -> list[Row]:
    """Findings 6, 7, 15, 17: selection."""
    h, sign = cohens_h(0.8, 0.5), sign_test([1] * 3, "greater")
    whole, high = sign_test([1] * 9 + [-1] * 10), sign_test([1] * 6 + [-1] * 2)
    groups = float(stats.fisher_exact([[6, 2], [3, 8]]).pvalue)
    fails = round((1 - known["table3.surprisal-guided.fast_1"]) * 5)
    return [
        (6, "Cohen's h of 80 and 50 %", "0.64", f"{h:.4f}", abs(h - known["selection.cohens_h"]) < 0.005),
        (6, "sign test, 3 of 3, one-sided", "0.125", f"{sign:.3f}", abs(sign - known["selection.sign_p"]) < 1e-9),
        (6, "wins over all 19 tasks: 6 of 8 and 3 of 11", "surprisal beats confidence", f"9 of 19, two-sided p = {whole:.2f}", False),
        (6, "6 of 8 alone; the two groups against each other", "a regime boundary", f"p = {high:.2f}; Fisher p = {groups:.2f}", groups < 0.05),
        (7, "high-variance tasks (9) that include subsets 1 and 2 (10 tasks)", "9", "at least 10", False),
        (7, "valid tasks 8 + 11, so Task 95 is one of the 9", "9 include both subsets", "8 places for 10 tasks", False),
        (15, "tasks of five that fail at 80 %", "consistent success across all tasks", f"{fails} in each seed", fails == 0),
        (17, "Table 2's “95% CI” at K = 1", "[20%, 100%]", "quantiles of a five-task average, not of the mean 53.3 %", False),
        (17, "learning rates 1e-5 to 3e-7", "three orders of magnitude", f"{math.log10(1e-5 / 3e-7):.1f}", False),
        (17, "80 % minus 50 %", "30 % improvement", "30 points, a ratio of 1.6", False),
        (17, "sidedness of the two tests beside each other", "p = 0.125 and p = 0.084",
         f"one- and two-sided; both two-sided: {2 * sign:.2f} and 0.084", False),
    ]  # fmt: skip


def adaptation(known: Numbers) -> list[Row]:
    """Findings 8 to 12 and 20: the trajectory."""
    ks = [2**i for i in range(7)]
    rates = [known[f"table2.k{k}.fast_1"] for k in ks]
    _, side = equivalent_k(ks, rates, known["table10.1e-6"])
    table = cells(known)
    shares = table.sum(axis=1) / (len(TASKS) * GROUP)
    printed = np.array([known[f"table6.step{s}"] for s in range(STEPS)])
    peak, expected, likely, spread = no_change(table)
    fisher = float(stats.fisher_exact([[68, 92], [58, 102]]).pvalue)
    return [
        (8, "equivalent K of 55.0 % (lr 1e-6, Table 10)", "K < 1, persists at all rates", "K ≥ 1" if side >= 0 else "K < 1", side < 0),
        (9, "Table 6's aggregates as means of its task rates", ", ".join(f"{p:.1%}" for p in printed), ", ".join(f"{s:.1%}" for s in shares),
         bool(np.abs(shares - printed).max() < 6e-4)),
        (9, "largest of six equal rates, expected", f"peak {peak:.1%} shows improvement", f"{expected:.1%}, P(≥ {peak:.1%}) = {likely:.2f}", likely < 0.05),
        (9, "expected range of six equal rates", f"{np.ptp(shares):.1%}", f"{spread:.1%}", bool(np.ptp(shares) > spread)),
        (9, "42.5 % against 36.3 % (68 and 58 of 160)", "regresses", f"Fisher p = {fisher:.2f}", fisher < 0.05),
        (10, "rollouts until BoA's step 2 is scored", "320, matched", f"{known['table6.step2.rollouts']:.0f}; the whole trajectory 960", False),
        (11, "BoA (argmax) on subset 2", "-20.6 %", f"step 0: {known['table4.step0'] - known['table4.best_of_n']:.1%}", False),
        (12, "Algorithm 1's scores[s]", "of θ_s", "of rollouts of θ_{s-1}; the released code samples after the update", False),
        (20, "Task 5 at steps 0 and 3", "collapses to 3.1 %", f"{known['table6.step0.L1/5']:.1%} and {known['table6.step3.L1/5']:.1%}", False),
        (20, "Task 4 at step 0: Table 12 and Table 6, one policy", "one rate",
         f"{known['table12.L1/4.step0'] * GROUP:.0f} and {known['table6.step0.L1/4'] * GROUP:.0f} of 32", False),
        (20, "BoA of SDPO (prompt) and of TTT", "succeeds; fails", f"{known['table9.prompt']:.1%}; {known['boa.mean']:.1%}", False),
    ]  # fmt: skip


def no_change(table: np.ndarray) -> tuple[float, float, float, float]:
    """Peak of the printed rates; expected peak, P(at least the printed) and expected range of binomial draws at each
    task's pooled rate.
    """
    pooled = table.mean(axis=0) / GROUP
    draws = np.random.default_rng(0).binomial(GROUP, pooled, size=(DRAWS, STEPS, len(TASKS))).mean(axis=2) / GROUP
    peak = table.mean(axis=1).max() / GROUP
    top = draws.max(axis=1)
    return float(peak), float(top.mean()), float((top >= peak - 1e-12).mean()), float(np.ptp(draws, axis=1).mean())


def tables(known: Numbers) -> list[Row]:
    """Findings 13, 14, 16, 18, 19, 21: quartiles, controls, accounts."""
    q = [known[f"table11.q{i}.fast_1"] for i in range(1, 5)]
    speeds = np.array([known[f"table8.{t}"] for t in TASKS])
    best3 = interpolated(known)
    student, rolls = known["table7.search.tokens"], known["table7.search.rollouts"]
    sdpo = [known[f"table9.feedback.seed{s}"] for s in (42, 43, 44)]
    prompt = [known[f"table9.prompt.seed{s}"] for s in (42, 43, 44)]
    mean = speeds.mean()
    return [
        (13, "mean of the quartiles' fast_1", "Q1 (most surprising) 47.4 %", f"{np.mean(q):.1%} overall", q[0] > float(np.mean(q))),
        (13, "halves of Table 11", "64.2 and 58.1 %", f"{np.mean(q[:2]):.1%} and {np.mean(q[2:]):.1%}",
         abs(np.mean(q[:2]) - 0.642) < 6e-4 and abs(np.mean(q[2:]) - 0.581) < 6e-4),
        (13, "tokens of a sample", "7 to 15 (Table 11)", f"{student / rolls:.0f} a rollout (Table 7)", False),
        (14, "best of 3 random samples, interpolated in Table 2", "top-3 matches the oracle", f"{best3:.0%} without looking at surprisal", best3 < 0.5),
        (14, "mean speedup of top-3 and oracle", "matches oracle", "139.0 and 226.9", False),
        (16, "tasks in the abstract's comparison", "90 % against 30.6 %", "20 against 5 tasks", False),
        (18, "tokens per rollout at K = 1 and K = 64", "one policy", f"{known['table7.one.student'] / 5:.0f} and {student / rolls:.0f}", False),
        (18, "SDPO (prompt): student + teacher", "625K", f"{(known['table7.sdpo_prompt.student'] + known['table7.sdpo_prompt.teacher']) / 1e3:.0f}K", False),
        (18, "SDPO (feedback): student + teacher", "652K", f"{(known['table7.sdpo_feedback.student'] + known['table7.sdpo_feedback.teacher']) / 1e3:.0f}K", True),
        (18, "Table 9, SDPO (feedback) mean and sd", "26.3 ± 8.6", f"{100 * np.mean(sdpo):.1f} ± {100 * np.std(sdpo, ddof=1):.1f}", True),
        (18, "Table 9, SDPO (prompt) mean and sd", "30.4 ± 7.6", f"{100 * np.mean(prompt):.1f} ± {100 * np.std(prompt, ddof=1):.1f}", True),
        (19, "share of task 4 in the oracle's mean speedup (Table 8)", f"mean {mean:.1f}×", f"{speeds[0] / speeds.sum():.0%}; geometric mean "
         f"{np.exp(np.log(speeds).mean()):.1f}×, median {np.median(speeds):.1f}×", False),
        (19, "859.8× on a bandwidth-bound product", "0x to 10x+", "a baseline 860 times over the memory bound", False),
        (21, "log-probabilities, runs and selection code", "validated", "not released: nothing here can be recomputed from files", False),
    ]  # fmt: skip


def interpolated(known: Numbers) -> float:
    """fast_1 at K = 3, linear in log K between Table 2's K = 2 and 4."""
    share = math.log(3 / 2) / math.log(2)
    return known["table2.k2.fast_1"] + share * (known["table2.k4.fast_1"] - known["table2.k2.fast_1"])


CHECKS: tuple[Callable[[Numbers], list[Row]], ...] = (arms, the_probe, the_tests, adaptation, tables)
"""What is recomputed, by subject."""
