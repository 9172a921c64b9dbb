"""The report: analysis tables and figures as one HTML file that needs nothing else, not even a network.

Knows the template beside it and the charts' JavaScript; the numbers are made into text in `tables`.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import polars as pl
import pyarrow as pa
import vl_convert
import yaml
from pydantic import TypeAdapter, ValidationError

from vegflow.artifacts.analysis import VERDICTS
from vegflow.config.analysis import StudyFacts
from vegflow.config.block import Block
from vegflow.config.errors import sentences
from vegflow.config.report import ReportFacts
from vegflow.errors import ConfigError
from vegflow.report.measured import measured_views
from vegflow.report.reward_views import reward_views
from vegflow.report.staged_views import headline, staged_views, verdicts
from vegflow.report.study_tables import MARK_NOTE, differences, noisy_tasks, ran_where
from vegflow.report.tables import views
from vegflow.report.text import FEW, FEW_MARK, FEW_NOTE, in_unit, interval, natural, number, ratio, share
from vegflow.report.view import View

TEMPLATE = "report.html.j2"
VEGA_LITE = "6.4"
FOREMOST = (1, 2, 4)
"""Findings of the audit that stand at the report's top: a mean set against a maximum, arms that differ at step 0, the probe's sign."""
SHOWN_TASKS = 400
"""Tasks whose programs stand in the report; the table `candidates` has all."""
SHOWN_CANDIDATES = 40
"""Distinct programs shown per task: the commonest, and all that a strategy picked."""

CAPTIONS = {
    "figure1_overview": (
        "Figure 1. Every way to spend the samples",
        "Share of tasks (any-of-K, picks) or of samples (per sample) that are fast_1. Diamonds: the paper.",
    ),
    "figure3_scaling": (
        "Figure 3. Best-of-N scaling",
        "The adapted policy stands here twice: its per-sample rate, which compares with K = 1, and its any-of-K rate, "
        "which compares with the curve at its group size. The paper shows the first beside the curve's end.",
    ),
    "figure4a_strategies": (
        "Figure 4a. Selection strategies: fast_1",
        "Bars with intervals over tasks. Diamonds: the paper.",
    ),
    "figure4b_speedups": (
        "Figure 4b. Selection strategies: speedup of the pick",
        "Logarithmic, with intervals made on the logarithm. The paper's means are driven by one task (859.8× on a matrix-vector product).",
    ),
    "figure5a_trajectory": (
        "Figure 5a. Adaptation, step by step",
        "Stars: the step that BoA picks. The band is the interval of the mean over seeds and tasks. Click a legend entry "
        "to single it out.",
    ),
    "figure5b_tasks": (
        "Figure 5b. Adaptation, task by task",
        "Dotted: the paper's seed 42, where the task is the same.",
    ),
    "figure6_probe": (
        "Figure 6. Over-sharpening probe",
        "Spearman's rho of NLL and speedup over fixed samples. Below zero the likelier samples are the faster ones.",
    ),
    "figure7_regimes": (
        "Figure 7. Deficit of adaptation, task by task",
        "BoA's per-sample rate minus the search's, against the search's rate; each dot a task. Below zero search is ahead. The "
        "paper's values are not printed.",
    ),
    "figure8_pipeline": (
        "Open question 2. Ranking before correctness is known",
        "Success against what it costs: at most m samples are evaluated in the order given, stopping at the first fast_1 (solid) or "
        "the first correct one (dashed). Random order is exact. The last point of “first correct” is the paper's selection.",
    ),
    "figure8_costs": (
        "Open question 2. What a budget of m costs, and what it finds",
        "The same pipelines against m, the most samples evaluated: success, expected evaluations and expected seconds a task, where "
        "evaluation stops at the first fast_1 sample (left) or at the first correct one (right).",
    ),
    "figure9_sharpening": (
        "Over-sharpening without training",
        "Stored samples reweighted to q^α. Dotted: the adapted policy's steps. Where the effective number of samples is small "
        "(point at a mark), little is known.",
    ),
    "figure10_budget": (
        "Adaptation and best-of-N under one budget",
        "Tasks with a fast_1 program among everything drawn up to a step, against the rollouts that took; best-of-N with as many "
        "samples, as far as the sample set has them. Teacher tokens are in the table.",
    ),
    "figure11_updates": (
        "What the updates did",
        "A row a trajectory, mean over seeds. Left: shares of the rollouts (fast ones pushed down, effective, distinct) and of the "
        "groups (equal rewards). Right: entropy and KL, nats a token.",
    ),
}


STAGED_CAPTIONS = {
    "frontier": (
        "Value and throughput",
        "Each point a pipeline: what its pick is worth, and candidates a second as a multiple of the full suite's, logarithmic. "
        "Bars: intervals over tasks and timing repeats. Coloured: on the front.",
    ),
    "pruned": (
        "Where candidates are pruned",
        "For the pipelines of the front, which stage drops how many distinct candidates, by why the full suite would fail them. "
        "Left: what remains at the end.",
    ),
    "wasted": (
        "Wrong candidates that rank high",
        "Of the first candidates of each task in a ranker's order, the share that is wrong: what verifying them would waste. "
        "Character-level: at most five edits from a correct program of the task.",
    ),
    "composed": (
        "Composed cost against running",
        "Each point a pipeline. Band: within 10 %. Bars: least and most of the repeats that the composition did not see.",
    ),
}


class Caveat(Block):
    """A finding of the audit of the paper."""

    number: int
    needs: tuple[str, ...]
    """Analysis tables of which one must have rows for the caveat to matter."""
    text: str


def load_caveats(path: str | Path) -> list[Caveat]:
    """Read `resources/paper/caveats.yaml`. Raises ConfigError, naming the file."""
    try:
        return TypeAdapter(list[Caveat]).validate_python(yaml.safe_load(Path(path).read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: there is no such file") from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not readable as YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        raise ConfigError(f"{path}: {sentences(error)}") from error


def render(
    tables: Mapping[str, pa.Table],
    figures: Mapping[str, dict[str, Any]],
    facts: StudyFacts,
    about: ReportFacts,
    caveats: Sequence[Caveat] = (),
    staged: Mapping[str, pa.Table] | None = None,
    staged_figures: Mapping[str, dict[str, Any]] | None = None,
    measured: Mapping[str, pa.Table] | None = None,
    rankings: Sequence[pa.Table] = (),
    jobs: Sequence[tuple[str, str]] = (),
) -> str:
    """The report as HTML.

    `tables` are those of `ANALYSIS_TABLES`, `figures` Vega-Lite specifications by name; `staged`, those of
    `FRONTIER_TABLES`, and `staged_figures` make the section on staged verification, which is left out without them;
    `measured` are the claims of studies that are kept as data, by name, `rankings` tables of `REWARD_MODELS`,
    `jobs` what each rule's jobs took (`jobs.job_rows`). Same input, same text.
    """
    frames = {name: pl.DataFrame(pl.from_arrow(table)) for name, table in tables.items()}
    rankers = reward_views(rankings)
    claims = [_claim(row) for row in frames["claims"].to_dicts()]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.globals.update(share=share, ratio=ratio, number=number)
    return environment.get_template(TEMPLATE).render(
        about=about,
        differences=differences(frames, facts, about),
        ran_where=[*ran_where(frames, about), *jobs],
        foremost=[c for c in caveats if c.number in FOREMOST and any(frames[t].height for t in c.needs if t in frames)],
        claims=claims,
        inside=_inside(frames["claims"]),
        few_note=FEW_NOTE if any(FEW_MARK in claim["interval"] for claim in claims) else "",
        counts={verdict: sum(claim["verdict"] == verdict for claim in claims) for verdict in VERDICTS},
        check=next((row for row in frames["self_check"].to_dicts() if row["task_id"] == "all"), None),
        figures=[_figure(name, spec) for name, spec in figures.items()],
        staged=_staged(staged, staged_figures or {}, rankers) if staged else None,
        views=[*views(frames, facts), *([] if staged else rankers), *measured_views(measured or {})],
        pages=_pages(_tasks(frames["candidates"], frames["tasks"], noisy_tasks(frames))),
        caveats=[c for c in caveats if any(frames[t].height for t in c.needs if t in frames)],
        library=vl_convert.javascript_bundle(vl_version=VEGA_LITE).replace("</script", "<\\/script"),
    )


def _inside(claims: pl.DataFrame) -> dict[str, int]:
    """How many of the paper's numbers have ours beside them, an interval, and lie inside it."""
    return {
        "numbers": claims.height,
        "ours": claims["ours"].count(),
        "with_interval": claims["low"].count(),
        "inside": int(claims["inside"].sum() or 0),
    }


def _claim(row: dict[str, Any]) -> dict[str, Any]:
    return row | {
        "paper": in_unit(row["paper"], row["unit"]),
        "ours": in_unit(row["ours"], row["unit"]),
        "interval": interval(row["low"], row["high"], row["unit"]) + (FEW_MARK if 0 < row["n_tasks"] < FEW else ""),
        "difference": _difference(row),
        "where": {True: "inside our interval", False: "outside our interval", None: ""}[row["inside"]],
        "slug": row["verdict"].replace(" ", "-"),
        "group": "judged" if row["kind"] != "level" else "level" if row["ours"] is not None else "missing",
    }


def _difference(row: dict[str, Any]) -> str:
    """Ours minus the paper's, with its sign; shares in points."""
    if row["difference"] is None:
        return ""
    unit = {"share": "points"}.get(row["unit"], row["unit"])
    text = in_unit(row["difference"], unit) if unit == "points" else number(row["difference"])
    return text if text[0] in "+−0" else f"+{text}"


def _figure(name: str, spec: dict[str, Any]) -> dict[str, str]:
    title, note = CAPTIONS.get(name, (name, ""))
    # In a script element only "</" could end it early.
    return {"name": name, "title": title, "note": note, "spec": json.dumps(spec).replace("</", "<\\/")}


def _staged(
    tables: Mapping[str, pa.Table], figures: Mapping[str, dict[str, Any]], rankers: list[View]
) -> dict[str, Any]:
    """What the section on staged verification shows."""
    frames = {name: pl.DataFrame(pl.from_arrow(table)) for name, table in tables.items()}
    return {
        "headline": headline(frames),
        "figures": [_staged_figure(name, spec) for name, spec in figures.items()],
        "verdicts": verdicts(frames),
        "views": [*staged_views(frames), *rankers],
    }


def _staged_figure(name: str, spec: dict[str, Any]) -> dict[str, str]:
    kind, _, entry = name.removeprefix("staged_").partition("_")
    title, note = STAGED_CAPTIONS[kind]
    return _figure(name, spec) | {"title": f"{title}: {entry}", "note": note}


def _tasks(candidates: pl.DataFrame, tasks: pl.DataFrame, noise: frozenset[str]) -> list[dict[str, Any]]:
    """Each task of each sample set with its distinct programs, the commonest first."""
    found = []
    pooled = tasks.filter(pl.col("step").is_null()).group_by("source", "task_id")
    weight = pl.col("n") / pl.col("n").sum()
    means = pooled.agg((pl.col(rate) * weight).sum() for rate in ("correct", "fast_1"))
    rates = {(row["source"], row["task_id"]): row for row in means.to_dicts()}
    for (source, task), part in candidates.group_by("source", "task_id", maintain_order=True):
        rows = part.to_dicts()
        shown = [row for i, row in enumerate(rows) if i < SHOWN_CANDIDATES or row["picked_by"]]
        rate = rates.get((source, task), {"correct": None, "fast_1": None})
        found.append(
            {
                "source": source,
                "task": task,
                "programs": len(rows),
                "samples": rows[0]["of"],
                "correct": rate["correct"],
                "fast": rate["fast_1"],
                "mark": MARK_NOTE if task in noise else "",
                "best": max(row["speedup"] for row in rows) or None,
                "omitted": len(rows) - len(shown),
                "rows": [
                    row
                    | {
                        "picks": _picks(row["picked_by"]),
                        "speed": ratio(row["speedup"]) if row["status"] == "correct" else "",
                        "ends": interval(row["speedup_low"], row["speedup_high"], "ratio"),
                        "share": row["count"] / row["of"],
                    }
                    for row in shown
                ],
            }
        )
    return sorted(found, key=lambda task: (task["source"], natural(task["task"])))[:SHOWN_TASKS]


def _pages(tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The pages: all that there is of a task, whichever sample set it comes from, with the pages before and after it."""
    names = sorted({task["task"] for task in tasks}, key=natural)
    ends = [None, *names, None]
    return [
        {
            "task": name,
            "before": ends[place],
            "after": ends[place + 2],
            "parts": [task for task in tasks if task["task"] == name],
        }
        for place, name in enumerate(names)
    ]


def _picks(labels: list[str]) -> list[tuple[str, str]]:
    """`["best (seed 42)", "best (seed 43)"]` as `[("best", "seeds 42, 43")]`."""
    seeds: dict[str, list[str]] = {}
    for label in labels:
        strategy, _, seed = label.removesuffix(")").partition(" (seed ")
        if seed not in seeds.setdefault(strategy, []):
            seeds[strategy].append(seed)
    return [(name, f"seed{'s' if len(own) > 1 else ''} {', '.join(own)}") for name, own in seeds.items()]
