"""Tables of the paper's open questions and of its own numbers: pipeline, sharpening, power, audit.

Knows how analysis tables are read, not what the page looks like.
"""

import polars as pl

from vegflow.config.analysis import StudyFacts
from vegflow.report.text import number, p_value, ratio, share, with_interval
from vegflow.report.view import Frames, View

BUDGETS = (1, 3, 8, 16)


def pipeline(tables: Frames, facts: StudyFacts) -> View:
    """The deployable pipeline at a few budgets and at m = K."""
    own = tables["pipeline"]
    sets = ["all"] if "all" in own["task_set"].to_list() else own["task_set"].unique(maintain_order=True).to_list()[:1]
    own = own.filter(pl.col("task_set").is_in(sets) & pl.col("stop").is_in(["first correct", "first fast_1"]))
    most = own["m"].max() if own.height else 0
    rows = [
        [
            r["source"], r["task_set"], r["order"], r["stop"], str(r["m"]), with_interval(r["success"], r["low"], r["high"], "share", r["n_tasks"]),
            with_interval(r["gain"], r["gain_low"], r["gain_high"], "points", r["n_tasks"]), p_value(r["permutation_p"]), ratio(r["speedup"]),
            number(r["evaluations"]), number(r["seconds"]),
        ]
        for r in own.to_dicts() if r["m"] in (*BUDGETS, most)
    ]  # fmt: skip
    return View(
        "pipeline", "Ranking before correctness is known",
        "Samples are ranked before any is evaluated; at most m are evaluated in order, and evaluation stops at the first "
        "correct, or the first fast_1, one. At m = K and “first correct” this is the paper's selection after the fact. Random order "
        "is exact over all orders; the gain is over it, on the same tasks, with the p of sign-flipped task means (not "
        "corrected for the many rows). More stops and budgets are in the table pipeline.",
        ["sample set", "tasks", "order", "stops at", "m", "fast_1 found", "gain over random", "p", "speedup", "evaluations", "seconds"],
        rows, 4, "This study has no sample set.",
    )  # fmt: skip


def sharpening(tables: Frames, facts: StudyFacts) -> View:
    """Power sampling without training."""
    rows = [
        [
            r["source"], r["task_set"], number(r["alpha"]), with_interval(r["fast_1"], r["low"], r["high"], "share", r["n_tasks"]), share(r["correct"]),
            ratio(r["mean_speedup"]), number(r["effective_samples"]), number(r["effective_least"]), share(r["unreliable"]),
        ]
        for r in tables["sharpening"].to_dicts()
    ]  # fmt: skip
    return View(
        "sharpening", "Sharpening and flattening without training",
        "Stored samples reweighted by q^(α − 1): per-sample rates that the same policy would have if its distribution were "
        "sharpened (α > 1) or flattened (α < 1). If adaptation only sharpens, its steps lie on this curve. Effective samples: "
        "how many equal ones the weights are worth; below five a task says nothing.",
        ["sample set", "tasks", "α", "fast_1 per sample", "correct", "mean speedup", "effective samples", "least", "below five"],
        rows, 2, "This study has no sample set.",
    )  # fmt: skip


def power(tables: Frames, facts: StudyFacts) -> View:
    """How many tasks the 80 % against 50 % comparison needs."""
    rows = []
    own = tables["power"]
    for (scenario,), part in own.group_by("scenario", maintain_order=True):
        by = dict(part.select("n_tasks", "power").rows())
        rows.append([scenario, *(share(by.get(n)) for n in (10, 20, 40, 60, 100)), number(part["needed"][0])])
    return View(
        "power", "How many tasks such a comparison needs",
        "Power of the exact two-sided sign (McNemar) test at 5 % over independent tasks, and the tasks that 80 % power takes. Seeds "
        "of a task are replicates, not tasks; the paper compares five tasks.",
        ["scenario", "10 tasks", "20", "40", "60", "100", "tasks for 80 %"], rows, 1, "This study has no sample set.",
    )  # fmt: skip


def audit(tables: Frames, facts: StudyFacts) -> View:
    """The paper's numbers against one another."""
    rows = [
        [f"{r['finding']}. {r['check']}", r["printed"], r["recomputed"], "yes" if r["consistent"] else "no"]
        for r in tables["audit"].to_dicts()
    ]
    return View(
        "audit", "The paper's numbers against one another",
        "Recomputed by our code from what the paper prints, no run of ours involved. Numbers are those of the caveats below.",
        ["finding, and what is recomputed", "paper", "follows from its inputs", "agree"], rows, 4,
        "The analysis was given none of the paper’s numbers.",
    )  # fmt: skip
