"""Render: analysis tables and figures in, one self-contained HTML report out."""

import json
from argparse import Namespace
from pathlib import Path

from vegflow.artifacts.analysis import ANALYSIS_TABLES
from vegflow.artifacts.frontier import FRONTIER_TABLES
from vegflow.artifacts.io import atomic, read_provenance, read_table
from vegflow.artifacts.reward_model import REWARD_MODELS
from vegflow.config.analysis import StudyFacts
from vegflow.config.report import ReportFacts
from vegflow.report.jobs import job_rows
from vegflow.report.render import load_caveats, render
from vegflow.stage import run


def main(args: Namespace) -> None:
    tables = {Path(path).stem: read_table(path, ANALYSIS_TABLES[Path(path).stem]) for path in args.tables}
    drawn = {Path(path).stem: json.loads(Path(path).read_text()) for path in args.figures}
    hardware = "; ".join(read_provenance(args.tables[0]).get("hardware", [])) or "not stated"
    about = ReportFacts(hardware=hardware, **args.options["about"])
    staged = {Path(path).stem: read_table(path, FRONTIER_TABLES[Path(path).stem]) for path in args.staged}
    more = {Path(path).stem: json.loads(Path(path).read_text()) for path in args.staged_figures}
    facts, caveats = StudyFacts(**args.options["facts"]), load_caveats(args.caveats)
    measured = {Path(path).parent.parent.name: read_table(path, ANALYSIS_TABLES["claims"]) for path in args.measured}
    rankings = [read_table(path, REWARD_MODELS) for path in args.rankings]
    html = render(tables, drawn, facts, about, caveats, staged, more, measured, rankings, job_rows(args.jobs))
    with atomic(args.output) as temporary:
        temporary.write_text(html, encoding="utf-8")


if __name__ == "__main__":
    run(
        main,
        required=("options", "caveats", "jobs", "output"),
        many=("tables", "figures", "staged", "staged_figures", "measured", "rankings"),
    )
