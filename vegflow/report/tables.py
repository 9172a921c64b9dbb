"""The report's tables: analysis tables as rows of text, with the paper's number in a column of its own.

Knows how a table is read, not what the page looks like.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from vegflow.config.analysis import StudyFacts
from vegflow.report.text import MISSING, natural, number, p_value, points, ratio, share, with_interval

Frames = Mapping[str, pl.DataFrame]


@dataclass(frozen=True)
class View:
    """One table of the page. The first `labels` columns are text, the others numbers."""

    name: str
    title: str
    note: str
    head: list[str]
    rows: list[list[str]] = field(default_factory=list)
    labels: int = 1
    missing: str = "This study has no data for it."


def views(tables: Frames, facts: StudyFacts) -> list[View]:
    """Every table of the report, in its order; one without rows says why."""
    return [make(tables, facts) for make in VIEWS]


def _paper(tables: Frames, series: str, x: float | None = None) -> float | None:
    rows = tables["paper"].filter(pl.col("series") == series)
    rows = rows if x is None else rows.filter(pl.col("x") == x)
    return rows["value"][0] if rows.height else None


def scaling(tables: Frames, facts: StudyFacts) -> View:
    """Best-of-N scaling (paper Table 2)."""
    rows = []
    own = tables["scaling"]
    for key in own.select("source", "task_set").unique(maintain_order=True).rows():
        part = own.filter((pl.col("source") == key[0]) & (pl.col("task_set") == key[1]))
        by = {(r["metric"], r["k"]): r for r in part.to_dicts()}
        for k in part["k"].unique().sort():
            fast, good, speed = (by.get((metric, k)) for metric in ("fast_1", "correct", "speedup"))
            if fast is None:
                continue
            rows.append(
                [
                    key[0], key[1], str(k), with_interval(fast["value"], fast["low"], fast["high"], "share"),
                    share(_paper(tables, "scaling", k)), share(fast["sd_seeds"]),
                    share(good["value"]) if good else MISSING,
                    with_interval(speed["value"], speed["low"], speed["high"], "ratio") if speed else MISSING,
                ]
            )  # fmt: skip
    return View(
        "scaling", "Best-of-N scaling",
        "Unbiased pass@k on fast_1 (Chen et al. 2021) and on correctness; expected best speedup of k samples, an "
        "incorrect one counting 0. The paper's column is its Table 2 (subset 1). K = 1 is the per-sample rate.",
        ["sample set", "tasks", "K", "fast_1", "paper", "sd over seeds", "correct", "best speedup"], rows, 2,
    )  # fmt: skip


def strategies(tables: Frames, facts: StudyFacts) -> View:
    """Selection strategies (paper Table 3)."""
    rows = []
    for r in tables["strategies"].to_dicts():
        name = r["strategy"]
        rows.append(
            [
                r["source"], r["task_set"], name, with_interval(r["fast_1"], r["low"], r["high"], "share"),
                share(_paper(tables, f"strategy fast_1:{name}")), share(r["sd_seeds"]),
                with_interval(r["geometric_mean_speedup"], r["geometric_low"], r["geometric_high"], "ratio"),
                ratio(r["mean_speedup"]), ratio(_paper(tables, f"strategy speedup:{name}")),
                number(r["extra_evaluations"]), f"{r['n_valid']} of {r['n_pairs']}",
            ]
        )  # fmt: skip
    return View(
        "strategies", "Selection strategies",
        "Random rules are exact expectations. The random-top and confidence-top controls are ours. Extra timings come on "
        "top of checking all K samples for correctness. The paper's columns are its Table 3 (subset 1).",
        ["sample set", "tasks", "strategy", "fast_1", "paper", "sd over seeds", "geometric mean", "mean", "paper's mean",
         "extra timings", "with a correct sample"], rows, 3,
    )  # fmt: skip


def paired(tables: Frames, facts: StudyFacts) -> View:
    """Paired tests (paper section 5.2)."""
    rows = [
        [
            r["task_set"], f"{r['first']} − {r['second']}", r["metric"],
            with_interval(r["difference"], r["low"], r["high"], "points" if r["metric"] == "fast_1" else "log"),
            f"{r['wins']} / {r['ties']} / {r['losses']}", f"{r['n_pairs']} in {r['n_tasks']}", p_value(r["permutation_p"]),
            p_value(r["holm_p"]), p_value(r["sign_p"]), p_value(r["wilcoxon_p"]), number(r["cohens_h"], 2),
        ]
        for r in tables["paired"].to_dicts()
    ]  # fmt: skip
    return View(
        "paired", "Paired comparisons of strategies",
        "Differences of shares in percentage points, of speedups in natural logarithms. The primary test flips the signs "
        "of task means (two-sided, exact up to 14 tasks) and is Holm-corrected within task set and metric; sign (exact, "
        "two-sided) and Wilcoxon (zero differences dropped) treat pairs of one task as independent. With fewer than six "
        "tasks no permutation p can fall below 0.05.",
        ["tasks", "comparison", "of", "difference", "won / tied / lost", "pairs in tasks", "permutation p", "Holm p",
         "sign p", "Wilcoxon p", "Cohen's h"], rows, 3,
    )  # fmt: skip


def regimes(tables: Frames, facts: StudyFacts) -> View:
    """Wins by spread of surprisal (paper section 5.2)."""
    counted = (
        tables["head_to_head"]
        .group_by("source", "task_set", "regime", maintain_order=True)
        .agg(
            pl.len().alias("n"), pl.col("task_id").n_unique().alias("tasks"),
            *((pl.col("winner") == who).sum().alias(who) for who in ("surprisal", "tie", "confidence")),
        )
        .sort("source", "task_set", "regime")
    )  # fmt: skip
    paper = {"high variance": "6 of 8", "low variance": "3 of 11"}
    rows = [
        [
            r["source"], r["task_set"], r["regime"], str(r["n"]), str(r["tasks"]),
            f"{r['surprisal']} / {r['tie']} / {r['confidence']}", paper.get(r["regime"], MISSING),
        ]
        for r in counted.to_dicts()
    ]  # fmt: skip
    return View(
        "regimes", "Surprisal against confidence, by spread of the surprisal",
        "A task and seed is of high variance if the surprisal's standard deviation over all its samples exceeds 1.0 nats "
        "(the paper's threshold). Equal speedups, mostly one program chosen twice, are ties. Paper: wins of 19 tasks.",
        ["sample set", "tasks", "regime", "pairs", "tasks in it", "surprisal / tie / confidence", "paper"], rows, 3,
    )  # fmt: skip


def quartiles(tables: Frames, facts: StudyFacts) -> View:
    """Surprisal quartiles (paper Table 11)."""
    printed = tables["claims"].filter(pl.col("id").str.starts_with("table11.q"))
    paper = dict(printed.select("id", "paper").rows())
    rows = []
    for r in tables["quartiles"].to_dicts():
        known = paper.get(f"table11.q{r['quartile']}.fast_1") if r["ranking"] == "global" else None
        rows.append(
            [
                r["source"], r["task_set"], r["ranking"], f"Q{r['quartile']}", number(r["n"]), share(r["fast_1"]),
                share(known), ratio(r["mean_speedup"]), number(r["mean_tokens"]), number(r["nll_mean"]),
                share(r["largest_task_share"]),
            ]
        )  # fmt: skip
    return View(
        "quartiles", "Surprisal quartiles of the correct samples",
        "Q1 has the highest surprisal. Global quartiles mix tasks (last column: the share of the most frequent task); "
        "within-task quartiles do not. The paper's column is its Table 11.",
        ["sample set", "tasks", "ranked", "quartile", "samples", "fast_1", "paper", "mean speedup", "tokens", "NLL",
         "largest task"], rows, 3,
    )  # fmt: skip


def correlations(tables: Frames, facts: StudyFacts) -> View:
    """Length control (paper section 5.2)."""
    claims = tables["claims"]
    paper = dict(claims.filter(pl.col("id").str.starts_with("length.")).select("id", "paper").rows())
    ids = {
        "logprob and speedup": "length.raw",
        "logprob and speedup, length held fixed": "length.partial",
        "length and speedup": "length.length",
    }
    rows = [
        [
            r["source"], r["task_set"], r["measure"], number(r["n"]), with_interval(r["rho"], r["low"], r["high"], "rho"),
            number(paper.get(ids.get(r["measure"], ""))), p_value(r["p_value"]),
        ]
        for r in tables["correlations"].to_dicts()
    ]  # fmt: skip
    return View(
        "correlations", "Surprisal, length and speedup of the correct samples",
        "Spearman's rho; intervals resample tasks. The p-values take samples as independent, as the paper does, except "
        "within tasks, where they permute inside each task.",
        ["sample set", "tasks", "of", "samples", "rho", "paper", "p"], rows, 3,
    )  # fmt: skip


def trajectory(tables: Frames, facts: StudyFacts) -> View:
    """Trajectories step by step (paper Tables 5 and 6)."""
    adapted = facts.comparison.adaptation if facts.comparison else ""
    training = facts.comparison.training if facts.comparison else ""
    series = {adapted: "ttt"} if adapted else {}
    rows = []
    for r in tables["trajectory"].filter(pl.col("seed").is_null()).to_dicts():
        paper = _paper(tables, series[r["trajectory"]], r["step"]) if r["trajectory"] in series else None
        good = _paper(tables, "rlvr correct", r["step"]) if r["trajectory"] == training else None
        rows.append(
            [
                r["trajectory"], str(r["step"]), number(r["cumulative_rollouts"]),
                with_interval(r["fast_1"], r["low"], r["high"], "share"), share(paper),
                with_interval(r["any_fast_1"], r["any_low"], r["any_high"], "share"), share(r["correct"]), share(good),
                ratio(r["mean_speedup"]), number(r["nll_mean"]), number(r["distinct_candidates"]),
            ]
        )  # fmt: skip
    return View(
        "trajectory", "Trajectories, mean over seeds",
        "Step s is sampled from policy s, after s updates. Rollouts are cumulative, per seed. Any-of-K counts tasks with "
        "a fast_1 sample among the step's group. A trajectory that draws new tasks at each step (training) is not "
        "comparable from step to step. Paper: Table 6 (seed 42) and Table 5.",
        ["trajectory", "step", "rollouts", "fast_1 per sample", "paper", "any of K", "correct", "paper", "mean speedup",
         "NLL", "distinct programs"], rows,
    )  # fmt: skip


def boa(tables: Frames, facts: StudyFacts) -> View:
    """Best-of-Adaptation (paper sections 3.5 and 5.1)."""
    rows = [
        [
            r["trajectory"], "mean" if r["seed"] is None else f"seed {r['seed']}", r["rule"].replace("_", " "),
            MISSING if r["step"] is None else str(r["step"]), with_interval(r["fast_1"], r["low"], r["high"], "share"),
            share(r["sd_seeds"]), share(r["any_fast_1"]), share(r["fast_1_cross"]), share(r["start_fast_1"]),
            share(r["last_fast_1"]), share(r["null_peak"]), p_value(r["null_p"]), number(r["rollouts"]),
        ]
        for r in tables["boa"].to_dicts()
    ]  # fmt: skip
    return View(
        "boa", "Best-of-Adaptation",
        "The step is chosen on the rollouts whose rate is then read, so the rate is too high (winner's curse). "
        "Cross-fitted: chosen on one half of the samples, read on the other. Peak by chance: what the highest step would "
        "show on average if no task's rate ever changed, and the probability of a peak this high. The paper prints "
        "30.6 % (sd 11.3 % over three seeds).",
        ["trajectory", "run", "rule", "step", "fast_1 per sample", "sd over seeds", "any of K", "cross-fitted", "step 0",
         "last", "peak by chance", "p", "rollouts"], rows, 3,
        "No trajectory samples the same tasks at every step.",
    )  # fmt: skip


def equivalent_k(tables: Frames, facts: StudyFacts) -> View:
    """Equivalent K on both bases (paper section 5.1)."""
    rows = []
    for r in tables["equivalent_k"].to_dicts():
        k = f"{r['label']} [{number(r['k_low'])}, {number(r['k_high'])}]" if r["k_low"] is not None else r["label"]
        rows.append(
            [
                r["trajectory"], r["rule"].replace("_", " "), r["basis"], share(r["adaptation"]),
                share(r["search_same_basis"]), with_interval(r["difference"], r["low"], r["high"], "points"), k,
                "< 1" if r["basis"].startswith("per") else "not computed",
            ]
        )  # fmt: skip
    return View(
        "equivalent_k", "Equivalent K, like for like",
        "The number of samples at which the best-of-N curve reaches the adapted policy's value, on the tasks that both "
        "arms share: once with its per-sample rate (as the paper does), once with its any-of-K rate. Equal footing: the "
        "curve at K = 1, or at the trajectory's group size.",
        ["trajectory", "rule", "basis", "adaptation", "best-of-N, same basis", "difference", "equivalent K", "paper"],
        rows, 3, "This study compares no sample set with a trajectory.",
    )  # fmt: skip


def self_check(tables: Frames, facts: StudyFacts) -> View:
    """Do both arms start equal? (audit finding 2)."""
    rows = [
        [
            r["task_id"], "yes" if r["same_policy"] else "no", f"{share(r['search_fast_1'])} of {number(r['n_search'])}",
            f"{share(r['step0_fast_1'])} of {number(r['n_step0'])}", points(r["difference"]), p_value(r["p_value"]),
            "yes" if r["agrees"] else "no",
        ]
        for r in sorted(tables["self_check"].to_dicts(), key=lambda row: (row["task_id"] == "all", natural(row["task_id"])))
    ]  # fmt: skip
    return View(
        "self_check", "Self-check: step 0 against the sample set",
        "Samples of one policy, drawn and judged along both paths, may differ by chance only. In the paper they do not "
        "agree: 37.5 % at step 0, 53.3 % or 39.8 % for Best-of-N.",
        ["task", "same policy", "sample set, per sample", "step 0, per sample", "difference", "p", "agrees"], rows, 1,
        "This study compares no sample set with a trajectory.",
    )  # fmt: skip


def probe(tables: Frames, facts: StudyFacts) -> View:
    """Over-sharpening probe (paper section 5.4)."""
    rows = []
    for r in tables["probe"].filter(pl.col("seed").is_null()).to_dicts():
        paper = _paper(tables, f"probe:{r['subset']}", r["step"]) if r["samples"] == "all" else None
        rows.append(
            [
                r["probe"], r["samples"], r["subset"], str(r["step"]), number(r["n"]),
                with_interval(r["rho"], r["low"], r["high"], "rho"), number(paper),
                with_interval(r["change"], r["change_low"], r["change_high"], "rho"), number(r["rho_within"]),
                number(r["nll_mean"]),
            ]
        )  # fmt: skip
    return View(
        "probe", "Over-sharpening probe",
        "Spearman's rho of surprisal (NLL) under each policy and speedup over fixed samples, mean over seeds. Negative: "
        "likelier samples are faster (the paper's text reads the sign the other way round). Bottom quartile: the quarter "
        "with the lowest log-probability at step 0, fixed over the steps. Ranks within task remove differences between "
        "tasks.",
        ["probe", "samples", "subset", "step", "n", "rho", "paper", "change since step 0", "rho within task", "mean NLL"],
        rows, 3, "This study has no probe.",
    )  # fmt: skip


def task_rates(tables: Frames, facts: StudyFacts) -> View:
    """Per-sample summary of each task of the sample sets, pooled over seeds."""
    pooled = (
        tables["tasks"]
        .filter(pl.col("step").is_null())
        .group_by("source", "task_id")
        .agg(
            pl.col("n").sum(), pl.col("correct", "fast_1", "any_fast_1", "mean_speedup", "nll_mean", "nll_std", "mean_tokens").mean(),
            pl.col("best_speedup").max(), pl.col("distinct_candidates").mean(),
        )
    )  # fmt: skip
    rows = [
        [
            r["source"], r["task_id"], number(r["n"]), share(r["correct"]), share(r["fast_1"]), share(r["any_fast_1"]),
            ratio(r["mean_speedup"]), ratio(r["best_speedup"]), number(r["distinct_candidates"]), number(r["nll_mean"]),
            number(r["nll_std"]), number(r["mean_tokens"]),
        ]
        for r in sorted(pooled.to_dicts(), key=lambda row: (row["source"], natural(row["task_id"])))
    ]  # fmt: skip
    return View(
        "tasks", "Samples of each task",
        "Means over seeds. Any-of-K: share of seeds with a fast_1 sample. Speedups are of correct samples.",
        ["sample set", "task", "samples", "correct", "fast_1", "any of K", "mean speedup", "best", "distinct programs",
         "NLL", "sd of NLL", "tokens"], rows, 2,
    )  # fmt: skip


def statuses(tables: Frames, facts: StudyFacts) -> View:
    """Verdicts per source."""
    own = tables["statuses"]
    names = (
        own.group_by("status")
        .agg(pl.col("n").sum())
        .sort(["n", "status"], descending=[True, False])["status"]
        .to_list()
    )
    rows = []
    for (source,), part in own.group_by("source", maintain_order=True):
        counts = dict(part.group_by("status").agg(pl.col("n").sum()).rows())
        total = sum(counts.values())
        rows.append([source, number(total), *(share(counts.get(name, 0) / total) for name in names)])
    return View(
        "statuses", "What became of the rollouts",
        "Share of each verdict among all rollouts of a source. Those on which the evaluator itself broke "
        "(evaluator_error) enter no other number.",
        ["source", "rollouts", *(name.replace("_", " ") for name in names)], rows,
    )  # fmt: skip


def budget(tables: Frames, facts: StudyFacts) -> View:
    """Budget per arm (paper Table 7)."""
    printed = dict(tables["claims"].filter(pl.col("id").str.starts_with("table7.")).select("id", "paper").rows())
    arms = {facts.comparison.search: "search", facts.comparison.adaptation: "adaptation"} if facts.comparison else {}
    rows = [
        [
            r["source"], r["kind"], str(r["seeds"]), number(r["updates"]), number(r["rollouts"]),
            number(printed.get(f"table7.{arms.get(r['source'])}.rollouts")), number(r["student_tokens"]),
            number(r["completion_tokens"]), number(r["teacher_tokens"]), number(r["student_tokens"] + r["teacher_tokens"]),
            number(r["evaluate_wall_s"]), number(r["evaluate_cpu_s"]),
        ]
        for r in tables["budget"].to_dicts()
    ]  # fmt: skip
    return View(
        "budget", "Budget of each arm, per seed",
        "Student tokens count prompt and completion of every rollout; teacher tokens those that a teacher scored. "
        "Evaluation times sum over all rollouts, a program judged once counting with each of its rollouts as stored.",
        ["source", "kind", "seeds", "updates", "rollouts", "paper", "student tokens", "of them completions",
         "teacher tokens", "all tokens", "evaluation, s", "CPU, s"], rows, 2,
    )  # fmt: skip


VIEWS: tuple[Callable[[Frames, StudyFacts], View], ...] = (
    budget, self_check, scaling, strategies, paired, regimes, quartiles, correlations, trajectory, boa, equivalent_k, probe,
    task_rates, statuses,
)  # fmt: skip


def differences(tables: Frames, facts: StudyFacts, about: Any) -> list[list[str]]:
    """What differs from the paper: aspect, the paper, this study."""
    compared = facts.comparison
    own = facts.sample_sets.get(compared.search) if compared else next(iter(facts.sample_sets.values()), None)
    adapted = facts.trajectories.get(compared.adaptation) if compared else None
    trained = facts.trajectories.get(compared.training or "") if compared else None
    rows = [
        ["model", "gpt-oss-120b, rank-16 LoRA", about.model],
        ["tasks", "KernelBench L1, full-size inputs, 20 for Best-of-N, 5 for adaptation", about.tasks],
        ["hardware", "one H100 (stated for validation), hosted training", about.hardware],
        ["sampling", "temperature 0.25, at most 1024 tokens", about.sampling],
        ["evaluation", "KernelBench, 5 timing trials; the arms' scripts time differently", about.evaluation],
        [
            "statistics",
            "5 tasks × 2 seeds taken as 10 pairs",
            "intervals resample tasks, then seeds; tests flip whole tasks",
        ],
    ]
    if own:
        ours = f"K = {own.k} on {len(own.all_tasks())} tasks, seeds {', '.join(map(str, own.seeds))}"
        rows.insert(3, ["search", "K = 64 on 20 tasks (5 with 2 seeds)", ours])
    if adapted:
        ours = (
            f"{adapted.steps} steps, K = {adapted.group_size} on {len(adapted.tasks)} tasks, "
            f"seeds {', '.join(map(str, adapted.seeds))}, {adapted.objective or 'objective not stated'}, "
            f"learning rate {number(adapted.learning_rate)}"
        )
        rows.insert(4, ["adaptation", "5 to 8 steps, K = 32 on 5 tasks, 3 seeds, GRPO, learning rate 1e-5", ours])
    if trained:
        ours = f"{trained.steps} steps, group {trained.group_size}, {len(trained.tasks)} tasks, {trained.objective}"
        rows.insert(4, ["training before", "RLVR, 40 steps of 8 tasks × 8 samples, 80 tasks, GRPO", ours])
    return rows
