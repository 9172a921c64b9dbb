"""Frontier: pools, outcome matrices and runs in, every table of staged verification out."""

from argparse import Namespace
from pathlib import Path

from vegflow.artifacts.frontier import FRONTIER_TABLES
from vegflow.artifacts.io import provenance, read_provenance, read_rows, write_table
from vegflow.artifacts.verification import CHECKS, POOL, RUNS, STAGE_COSTS
from vegflow.config.frontier import FrontierConfig
from vegflow.stage import run
from vegflow.statistics.bootstrap import Resampling
from vegflow.statistics.staged import verification
from vegflow.statistics.staged_paper import load_staged_paper
from vegflow.statistics.staged_tables import frontier_tables
from vegflow.verification.inputs import StoredScores, read_scores

SCHEMAS = {"pool": POOL, "checks": CHECKS, "runs": RUNS, "stage_costs": STAGE_COSTS}


def main(args: Namespace) -> None:
    config = FrontierConfig(**args.options["frontier"])
    files = {name: {Path(path).parent.name: path for path in getattr(args, name)} for name in SCHEMAS}
    work = []
    for name, own in config.verification.items():
        rows = {kind: read_rows(files[kind][name], s) if name in files[kind] else [] for kind, s in SCHEMAS.items()}
        scored = args.options["scores"][name]
        found = read_scores(scored, own.orm) if scored else StoredScores({}, {})
        scores = {"orm": found.score} if scored else {}
        work.append(verification(name, own, scores=scores, scoring_s=found.seconds, **rows))
    how = Resampling(config.bootstrap, config.confidence, config.seed)
    tables = frontier_tables(work, load_staged_paper(args.paper), how)
    hardware = sorted({read_provenance(path).get("hardware", "") for path in args.runs} - {""})
    source = provenance(config=args.options, parents=[args.paper], hardware=hardware)
    for path in args.outputs:
        write_table(path, tables[Path(path).stem], FRONTIER_TABLES[Path(path).stem], source)


if __name__ == "__main__":
    run(main, required=("options", "paper"), many=(*SCHEMAS, "outputs"))
