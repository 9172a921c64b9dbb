"""Tables of adaptation and its comparison with search, with the paper's number in a column of its own.

Knows how analysis tables are read, not what the page looks like.
"""

import polars as pl

from vegflow.config.analysis import StudyFacts
from vegflow.report.text import MISSING, natural, number, p_value, rho, share, with_interval
from vegflow.report.view import Frames, View, paper_number, size
from vegflow.statistics.samples import comparison_set


def self_check(tables: Frames, facts: StudyFacts) -> View:
    """Do both arms start equal? (audit finding 2)."""
    rows = [
        [
            r["task_id"], "yes" if r["same_policy"] else "no", f"{share(r['search_fast_1'])} of {number(r['n_search'])}",
            f"{share(r['step0_fast_1'])} of {number(r['n_step0'])}",
            with_interval(r["difference"], r["low"], r["high"], "points"), p_value(r["p_value"]),
            "yes" if r["agrees"] else "no",
        ]
        for r in sorted(tables["self_check"].to_dicts(), key=lambda row: (row["task_id"] == "all", natural(row["task_id"])))
    ]  # fmt: skip
    return View(
        "self_check", "Self-check: step 0 against the sample set",
        "Samples of one policy, drawn and judged along both paths, may differ by chance only. Intervals are over rollouts, of these tasks. In the paper they do not "
        "agree: 37.5 % at step 0, 53.3 % or 39.8 % for Best-of-N.",
        ["task", "same policy", "sample set, per sample", "step 0, per sample", "difference", "p", "agrees"], rows, 1,
        "This study compares no sample set with a trajectory.",
    )  # fmt: skip


def trajectory(tables: Frames, facts: StudyFacts) -> View:
    """Trajectories step by step (paper Tables 5 and 6)."""
    adapted = facts.comparison.adaptation if facts.comparison else ""
    training = facts.comparison.training if facts.comparison else ""
    series = {adapted: "ttt"} if adapted else {}
    rows = []
    for r in tables["trajectory"].filter(pl.col("seed").is_null()).to_dicts():
        paper = paper_number(tables, series[r["trajectory"]], r["step"]) if r["trajectory"] in series else None
        good = paper_number(tables, "rlvr correct", r["step"]) if r["trajectory"] == training else None
        rows.append(
            [
                r["trajectory"], str(r["step"]), number(r["cumulative_rollouts"]),
                with_interval(r["fast_1"], r["low"], r["high"], "share", r["n_tasks"]), share(paper),
                with_interval(r["any_fast_1"], r["any_low"], r["any_high"], "share", r["n_tasks"]), share(r["fast"]),
                with_interval(r["correct"], r["correct_low"], r["correct_high"], "share", r["n_tasks"]), share(good),
                with_interval(r["mean_speedup"], r["speedup_low"], r["speedup_high"], "ratio", r["n_tasks"]), number(r["nll_mean"]),
                number(r["distinct_candidates"]),
            ]
        )  # fmt: skip
    return View(
        "trajectory", "Trajectories, mean over seeds",
        "Step s is sampled from policy s, after s updates. Rollouts are cumulative, per seed. Any-of-K counts tasks with "
        "a fast_1 sample among the step's group. A trajectory that draws new tasks at each step (training) is not "
        "comparable from step to step. The column fast asks the whole interval of a speedup, where fast_1 asks its point estimate: one "
        "program has one verdict, so a policy can learn a lucky one. Paper: Table 6 (seed 42) and Table 5.",
        ["trajectory", "step", "rollouts", "fast_1 per sample", "paper", "any of K", "fast", "correct", "paper", "mean speedup",
         "NLL", "distinct programs"], rows,
    )  # fmt: skip


def same_budget(tables: Frames, facts: StudyFacts) -> View:
    """Adaptation and best-of-N under one budget of rollouts, and of tokens (paper Table 7 beside its results)."""
    rows = [
        [
            r["trajectory"], r["search"], str(r["step"]), number(r["rollouts"]), number(r["student_tokens"]),
            number(r["teacher_tokens"]), share(r["fast_1"]), with_interval(r["found"], r["found_low"], r["found_high"], "share", r["n_tasks"]),
            f"{share(r['search_rollouts'])} at {number(r['k_rollouts'])}",
            with_interval(r["difference"], r["low"], r["high"], "points", r["n_tasks"]), p_value(r["permutation_p"]),
            f"{share(r['search_tokens'])} at {number(r['k_tokens'])}",
            with_interval(r["token_difference"], r["token_low"], r["token_high"], "points", r["n_tasks"]),
            with_interval(r["speedup_ratio"], r["ratio_low"], r["ratio_high"], "ratio", r["n_tasks"]), "yes" if r["bounded"] else "no",
        ]
        for r in tables["same_budget"].to_dicts()
    ]  # fmt: skip
    return View(
        "same_budget", "Adaptation and best-of-N under one budget",
        "Rollouts and tokens are those of a task and seed, everything up to the step counted: what was drawn, and what a "
        "teacher scored. Found: tasks with a fast_1 program among all of it. Best-of-N gets as many rollouts, or as many "
        "samples as the same tokens pay for (unbiased pass@k at that k). Best speedup: the fastest program found over the expected "
        "fastest of as many samples, geometric mean over tasks. Where the sample set has fewer samples than that "
        "(last column), best-of-N stands with all it has, and the comparison flatters adaptation.",
        ["trajectory", "sample set", "step", "rollouts", "student tokens", "teacher tokens", "per sample", "found",
         "best-of-N, same rollouts", "difference", "p", "best-of-N, same tokens", "difference", "best speedup over best-of-N’s", "samples short"], rows, 2,
        "No trajectory starts from the policy of a sample set and samples the same tasks at every step.",
    )  # fmt: skip


def diagnostics(tables: Frames, facts: StudyFacts) -> View:
    """What each update did (is over-sharpening an artefact of rewards and advantages?)."""
    rows = [
        [
            r["trajectory"], str(r["step"]), number(r["n_rollouts"]), share(r["fast_negative_share"]),
            number(r["effective_rollouts"]), share(r["effective_share"]), share(r["distinct_share"]),
            share(r["zero_variance_share"]), number(r["temperature"]), number(r["ratio_mean"]),
            number(r["kl_step"]), number(r["kl_start"]), number(r["entropy"]),
            number(r["gradient_norm"]), number(r["student_tokens"]), number(r["teacher_tokens"]), number(r["seconds"]),
        ]
        for r in tables["diagnostics"].filter(pl.col("seed").is_null()).to_dicts()
    ]  # fmt: skip
    return View(
        "diagnostics", "What the updates did, mean over seeds",
        "Update s makes policy s from the rollouts of policy s − 1. Fast with A < 0: share of the fast_1 rollouts that the "
        "update makes less likely; where it is large, reward and advantage alone push towards slower programs. "
        "Effective rollouts: how many the signal comes from, "
        "(Σ|A|)² / ΣA². Groups of equal rewards teach nothing. Ratio to the sampler: of a token’s probability where the update learns "
        "(at this temperature) to where it was drawn, mean over tokens; 1 unless the two temperatures differ. KL and entropy are estimates per token, in nats: of the step, "
        "and of the policy from the trajectory's start.",
        ["trajectory", "update", "rollouts", "fast with A < 0", "effective rollouts", "of all", "distinct programs",
         "groups of equal rewards", "temperature", "ratio to the sampler", "KL of the step", "KL from the start", "entropy", "gradient norm", "student tokens",
         "teacher tokens", "seconds"], rows, 1, "This study made no update.",
    )  # fmt: skip


def boa(tables: Frames, facts: StudyFacts) -> View:
    """Best-of-Adaptation (paper sections 3.5 and 5.1)."""
    rows = [
        [
            r["trajectory"], "mean" if r["seed"] is None else f"seed {r['seed']}", r["rule"].replace("_", " "),
            MISSING if r["patience"] is None else str(r["patience"]),
            MISSING if r["step"] is None else str(r["step"]), with_interval(r["fast_1"], r["low"], r["high"], "share", size(facts, r["trajectory"], "")),
            share(r["sd_seeds"]), share(r["any_fast_1"]), share(r["fast_1_cross"]), share(r["start_fast_1"]),
            share(r["repeat_fast_1"]), share(r["last_fast_1"]), share(r["null_peak"]), share(r["null_inflation"]),
            p_value(r["null_p"]), number(r["rollouts"]),
        ]
        for r in tables["boa"].to_dicts()
    ]  # fmt: skip
    return View(
        "boa", "Best-of-Adaptation",
        "The step is chosen on the rollouts whose rate is then read, so the rate is too high (winner's curse). "
        "Cross-fitted: chosen on one half of the samples, read on the other. Step 0 again: a second sample of the policy that the "
        "trajectory starts from (A/A), where a sample set has one; two samples of one policy differ by chance alone. Peak by "
        "chance: what the highest step would show on average if no task's rate ever changed (verdicts permuted over steps "
        "within each task), by how much that is above the mean, and the probability of a peak this high. Patience: falls in a "
        "row after which the rule stops. The paper prints "
        "30.6 % (sd 11.3 % over three seeds).",
        ["trajectory", "run", "rule", "patience", "step", "fast_1 per sample", "sd over seeds", "any of K", "cross-fitted",
         "step 0", "step 0 again", "last", "peak by chance", "inflation by chance", "p", "rollouts"], rows, 3,
        "No trajectory samples the same tasks at every step.",
    )  # fmt: skip


def equivalent_k(tables: Frames, facts: StudyFacts) -> View:
    """Equivalent K on both bases (paper section 5.1)."""
    rows, shared = [], len(comparison_set(facts)[1])
    for r in tables["equivalent_k"].to_dicts():
        k = f"{r['label']} [{number(r['k_low'])}, {number(r['k_high'])}]" if r["k_low"] is not None else r["label"]
        rows.append(
            [
                r["trajectory"], r["rule"].replace("_", " "), r["basis"], share(r["adaptation"]),
                share(r["search_same_basis"]), with_interval(r["difference"], r["low"], r["high"], "points", shared), k,
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


def probe(tables: Frames, facts: StudyFacts) -> View:
    """Over-sharpening probe (paper section 5.4)."""
    rows = []
    for r in tables["probe"].filter(pl.col("seed").is_null()).to_dicts():
        paper = paper_number(tables, f"probe:{r['subset']}", r["step"]) if r["samples"] == "all" else None
        tasks = size(facts, r["trajectory"], "")
        rows.append(
            [
                r["probe"], r["samples"], r["subset"], str(r["step"]), number(r["n"]),
                with_interval(r["rho"], r["low"], r["high"], "rho", tasks), rho(paper),
                with_interval(r["change"], r["change_low"], r["change_high"], "rho", tasks), rho(r["rho_within"]),
                with_interval(r["nll_mean"], r["nll_low"], r["nll_high"], "nats", tasks),
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
