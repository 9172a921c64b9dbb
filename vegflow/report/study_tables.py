"""Tables about the study itself: what it spent, what became of its rollouts, how it differs from the paper.

Knows how analysis tables are read, not what the page looks like.
"""

import polars as pl

from vegflow.config.analysis import StudyFacts
from vegflow.config.report import ReportFacts
from vegflow.report.text import natural, number, ratio, share
from vegflow.report.view import Frames, View

MARK = "†"
MARK_NOTE = "headroom below 1.25×: fast_1 there is noise"


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
    noise = noisy_tasks(tables)
    rows = [
        [
            r["source"], marked(r["task_id"], noise), number(r["n"]), share(r["correct"]), share(r["fast_1"]), share(r["any_fast_1"]),
            ratio(r["mean_speedup"]), ratio(r["best_speedup"]), number(r["distinct_candidates"]), number(r["nll_mean"]),
            number(r["nll_std"]), number(r["mean_tokens"]),
        ]
        for r in sorted(pooled.to_dicts(), key=lambda row: (row["source"], natural(row["task_id"])))
    ]  # fmt: skip
    return View(
        "tasks", "Samples of each task",
        "Means over seeds. Any-of-K: share of seeds with a fast_1 sample. Speedups are of correct samples."
        + (f" {MARK} {MARK_NOTE}" if noise else ""),
        ["sample set", "task", "samples", "correct", "fast_1", "any of K", "mean speedup", "best", "distinct programs",
         "NLL", "sd of NLL", "tokens"], rows, 2,
    )  # fmt: skip


def headroom(tables: Frames, facts: StudyFacts) -> View:
    """How much faster than its reference each task could be made on this device."""
    rows = [
        [r["task_id"], MARK_NOTE if r["noise"] else "", number(r["n"]), number(r["reference_us"]), ratio(r["headroom"])]
        for r in sorted(tables["headroom"].to_dicts(), key=lambda row: (row["headroom"], natural(row["task_id"])))
    ]
    return View(
        "headroom", "Headroom of each task",
        "The reference's time over the least time in which this device could move the bytes that any correct program must "
        "move, and do the operations that it must do; medians over the timed evaluations. No program gains more. For "
        "convolutions the least time is far below what is known to be possible, so a large headroom promises nothing.",
        ["task", "", "evaluations", "reference, µs", "headroom"], rows, 2,
    )  # fmt: skip


def noisy_tasks(tables: Frames) -> frozenset[str]:
    """Tasks in which fast_1 is noise."""
    return frozenset(tables["headroom"].filter(pl.col("noise"))["task_id"])


def marked(task: str, noise: frozenset[str]) -> str:
    """The task's name, with a mark if it is among `noise`."""
    return f"{task} {MARK}" if task in noise else task


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


def differences(tables: Frames, facts: StudyFacts, about: ReportFacts) -> list[list[str]]:
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
            "intervals over tasks, made for few of them; tests flip whole tasks",
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
        ours = f"{trained.steps} steps, group {trained.group_size}, {len(trained.tasks)} tasks, {trained.objective or 'objective not stated'}"
        rows.insert(4, ["training before", "RLVR, 40 steps of 8 tasks × 8 samples, 80 tasks, GRPO", ours])
    return rows


def ran_where(tables: Frames, about: ReportFacts) -> list[tuple[str, str]]:
    """What ran where: hardware, versions, command, and what each arm cost in all."""
    rows = [("hardware", about.hardware), ("command", about.command or "not stated")]
    rows += (
        [("versions", ", ".join(f"{name} {version}" for name, version in about.versions.items()))]
        if about.versions
        else []
    )
    for r in tables["budget"].to_dicts():
        seeds = r["seeds"]
        cost = (
            f"{seeds} seed{'s' if seeds > 1 else ''}, {number(r['updates'] * seeds)} updates, {number(r['rollouts'] * seeds)} rollouts, "
            f"{number(r['student_tokens'] * seeds)} student and {number(r['teacher_tokens'] * seeds)} teacher tokens, "
            f"{number(r['evaluate_wall_s'] * seeds)} s of evaluation ({number(r['evaluate_cpu_s'] * seeds)} CPU-seconds)"
        )
        rows.append((f"{r['kind']} {r['source']}", cost))
    return rows
