"""Analyse: everything stored in, every statistic out."""

from argparse import Namespace
from pathlib import Path

from vegflow.artifacts.analysis import ANALYSIS_TABLES
from vegflow.artifacts.frames import read_frame
from vegflow.artifacts.io import provenance, read_provenance, write_table
from vegflow.artifacts.policies import NLL, UPDATES
from vegflow.artifacts.selections import SELECTIONS
from vegflow.config.analysis import AnalysisConfig, StudyFacts
from vegflow.stage import run
from vegflow.statistics.paper import load_paper
from vegflow.statistics.stored import Source, analyse_stored


def main(args: Namespace) -> None:
    schemas = {"nll": NLL, "updates": UPDATES}
    frames = {name: read_frame(getattr(args, name), schema) for name, schema in schemas.items()}
    frames["selections"] = read_frame([args.selections], SELECTIONS)
    facts, config = StudyFacts(**args.options["facts"]), AnalysisConfig(**args.options["statistics"])
    source = Source(tuple(args.rollouts), tuple(args.evaluations))
    tables = analyse_stored(
        source, **frames, facts=facts, config=config, paper=load_paper(args.paper), processes=args.threads
    )
    hardware = sorted({read_provenance(path).get("hardware", "") for path in args.evaluations} - {""})
    made = provenance(config=args.options, parents=[args.selections, args.paper], hardware=hardware)
    for path in args.outputs:
        name = Path(path).stem
        write_table(path, tables[name], ANALYSIS_TABLES[name], made)


if __name__ == "__main__":
    run(
        main,
        required=("options", "selections", "paper"),
        many=("rollouts", "evaluations", "nll", "updates", "outputs"),
    )
