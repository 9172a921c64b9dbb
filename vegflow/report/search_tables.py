"""Tables of search and selection, with the paper's number in a column of its own.

Knows how analysis tables are read, not what the page looks like.
"""

import polars as pl

from vegflow.config.analysis import StudyFacts
from vegflow.report.text import MISSING, number, p_value, ratio, rho, share, with_interval
from vegflow.report.view import Frames, View, paper_number, same_set, size


def scaling(tables: Frames, facts: StudyFacts) -> View:
    """Best-of-N scaling (paper Table 2)."""
    rows = []
    own = tables["scaling"]
    for key in own.select("source", "task_set").unique(maintain_order=True).rows():
        part = own.filter((pl.col("source") == key[0]) & (pl.col("task_set") == key[1]))
        by = {(r["metric"], r["k"]): r for r in part.to_dicts()}
        for k in part["k"].unique().sort():
            fast, sure, good, speed = (by.get((metric, k)) for metric in ("fast_1", "fast", "correct", "speedup"))
            if fast is None:
                continue
            rows.append(
                [
                    key[0], key[1], str(k), with_interval(fast["value"], fast["low"], fast["high"], "share", fast["n_tasks"]),
                    share(paper_number(tables, "scaling", k) if key[1] == same_set(facts) else None), share(fast["sd_seeds"]),
                    share(sure["value"]) if sure else MISSING, share(good["value"]) if good else MISSING,
                    with_interval(speed["value"], speed["low"], speed["high"], "ratio", speed["n_tasks"]) if speed else MISSING,
                ]
            )  # fmt: skip
    return View(
        "scaling", "Best-of-N scaling",
        "Unbiased pass@k on fast_1 (Chen et al. 2021), on fast (the whole interval above 1 + δ) and on correctness; expected best speedup of k samples, an "
        "incorrect one counting 0. The paper's column is its Table 2 (subset 1). K = 1 is the per-sample rate.",
        ["sample set", "tasks", "K", "fast_1", "paper", "sd over seeds", "fast", "correct", "best speedup"], rows, 2,
    )  # fmt: skip


def strategies(tables: Frames, facts: StudyFacts) -> View:
    """Selection strategies (paper Table 3)."""
    rows = []
    for r in tables["strategies"].to_dicts():
        name, paper = r["strategy"], r["task_set"] == same_set(facts) or None
        tasks = size(facts, r["source"], r["task_set"])
        rows.append(
            [
                r["source"], r["task_set"], name, with_interval(r["fast_1"], r["low"], r["high"], "share", tasks),
                share(paper and paper_number(tables, f"strategy fast_1:{name}")), share(r["sd_seeds"]),
                with_interval(r["geometric_mean_speedup"], r["geometric_low"], r["geometric_high"], "ratio", tasks),
                with_interval(r["mean_speedup"], r["mean_low"], r["mean_high"], "ratio", tasks),
                ratio(paper and paper_number(tables, f"strategy speedup:{name}")),
                number(r["extra_evaluations"]), f"{r['n_valid']} of {r['n_pairs']}",
            ]
        )  # fmt: skip
    return View(
        "strategies", "Selection strategies",
        "Random rules are exact expectations. The random-top and confidence-top controls are ours. Extra timings come on "
        "top of checking all K samples for correctness. Intervals of speedups are made on the logarithm. The paper's columns are its Table 3 (subset 1).",
        ["sample set", "tasks", "strategy", "fast_1", "paper", "sd over seeds", "geometric mean", "mean", "paper's mean",
         "extra timings", "with a correct sample"], rows, 3,
    )  # fmt: skip


def paired(tables: Frames, facts: StudyFacts) -> View:
    """Paired tests (paper section 5.2)."""
    rows = [
        [
            r["task_set"], f"{r['first']} − {r['second']}", r["metric"],
            with_interval(r["difference"], r["low"], r["high"], "points" if r["metric"] == "fast_1" else "log ratio", r["n_tasks"]),
            f"{r['wins']} / {r['ties']} / {r['losses']}", f"{r['n_pairs']} in {r['n_tasks']}", p_value(r["permutation_p"]),
            p_value(r["holm_p"]), share(r["posterior"]), p_value(r["sign_p"]), p_value(r["wilcoxon_p"]), number(r["cohens_h"], 2),
        ]
        for r in tables["paired"].to_dicts()
    ]  # fmt: skip
    return View(
        "paired", "Paired comparisons of strategies",
        "Differences of shares in percentage points, of speedups in natural logarithms. The primary test flips the signs "
        "of task means (two-sided, exact up to 14 tasks) and is Holm-corrected within task set and metric; sign (exact, "
        "two-sided) and Wilcoxon (zero differences dropped) treat pairs of one task as independent. With fewer than six "
        "tasks no permutation p can fall below 0.05. P(> 0) is the posterior probability that the tasks' mean difference is "
        "positive (Jeffreys prior); it is corrected for nothing.",
        ["tasks", "comparison", "of", "difference", "won / tied / lost", "pairs in tasks", "permutation p", "Holm p",
         "P(> 0)", "sign p", "Wilcoxon p", "Cohen's h"], rows, 3,
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
            f"{r['surprisal']} / {r['tie']} / {r['confidence']}", paper.get(r["regime"], MISSING) if r["task_set"] == "all" else MISSING,
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
        like = r["ranking"] == "global" and r["task_set"] == same_set(facts)
        known = paper.get(f"table11.q{r['quartile']}.fast_1") if like else None
        tasks, gap = size(facts, r["source"], r["task_set"]), r["quartile"] == 0
        half = {0: "high − low", 1: "high", 2: "low"}.get(r["quartile"], "")
        rows.append(
            [
                r["source"], r["task_set"], r["ranking"], half if r["ranking"] == "halves" else f"Q{r['quartile']}", number(r["n"]),
                with_interval(r["fast_1"], r["low"], r["high"], "points" if gap else "share", tasks), share(known),
                with_interval(r["mean_speedup"], r["speedup_low"], r["speedup_high"], "number" if gap else "ratio", tasks),
                with_interval(r["mean_tokens"], r["tokens_low"], r["tokens_high"], "tokens", tasks), number(r["nll_mean"]),
                share(r["largest_task_share"]),
            ]
        )  # fmt: skip
    return View(
        "quartiles", "Surprisal quartiles of the correct samples",
        "Q1 has the highest surprisal. Global quartiles mix tasks (last column: the share of the most frequent task); "
        "within-task quartiles do not. Halves are of the global ranking; their difference is in points. The paper's column is its Table 11.",
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
            r["source"], r["task_set"], r["measure"], number(r["n"]), with_interval(r["rho"], r["low"], r["high"], "rho", size(facts, r["source"], r["task_set"])),
            rho(paper.get(ids.get(r["measure"], "")) if r["task_set"] == same_set(facts) else None), p_value(r["p_value"]),
        ]
        for r in tables["correlations"].to_dicts()
    ]  # fmt: skip
    return View(
        "correlations", "Surprisal, length and speedup of the correct samples",
        "Spearman's rho; intervals are over tasks. The p-values take samples as independent, as the paper does, except "
        "within tasks, where they permute inside each task.",
        ["sample set", "tasks", "of", "samples", "rho", "paper", "p"], rows, 3,
    )  # fmt: skip
