"""Make the analysis tables of a measured study anew, from its kept rollouts and verdicts: after a change of the statistics.

    python tools/analyse_kept.py qwen-coder-0.5b

Reads resources/measured/NAME and writes its tables/; nothing is sampled, judged or selected again. Update records of an older
code have the columns they have.
"""

import argparse
import json
from pathlib import Path

import yaml

from vegflow.artifacts.analysis import ANALYSIS_TABLES
from vegflow.artifacts.frames import read_frame
from vegflow.artifacts.io import provenance, read_provenance, write_table
from vegflow.artifacts.selections import SELECTIONS
from vegflow.config.analysis import AnalysisConfig, StudyFacts
from vegflow.options import JobOptions
from vegflow.plan import Study
from vegflow.standalone.analyse import read_folder
from vegflow.statistics.paper import load_paper
from vegflow.statistics.stored import analyse_stored

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    """Analyse, and write every table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name")
    folder = ROOT / "resources" / "measured" / parser.parse_args().name
    study = Study(
        yaml.safe_load((folder / "study.yaml").read_text(encoding="utf-8")), ROOT, where=str(folder / "study.yaml")
    )
    options = json.loads(JobOptions(study).analyse())
    found, chosen = read_folder(folder), folder / "tables" / "selections.parquet"
    paper = ROOT / "resources" / "paper" / "results.yaml"
    tables = analyse_stored(
        found.source, found.nll, found.updates, read_frame([chosen], SELECTIONS),
        StudyFacts(**options["facts"]), AnalysisConfig(**options["statistics"]), load_paper(paper),
    )  # fmt: skip
    hardware = sorted({read_provenance(path).get("hardware", "") for path in found.source.evaluations} - {""})
    made = provenance(config=options, parents=[str(chosen), str(paper)], hardware=hardware)
    for name, table in tables.items():
        write_table(folder / "tables" / f"{name}.parquet", table, ANALYSIS_TABLES[name], made)


if __name__ == "__main__":
    main()
