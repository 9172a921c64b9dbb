"""Verify, second half: pool and outcome matrix in, what really running each pipeline costs out."""

from argparse import Namespace
from pathlib import Path

from vegflow.artifacts.io import provenance, read_rows, write_table
from vegflow.artifacts.verification import CHECKS, POOL, RUNS, STAGE_COSTS, STAGE_RUNS
from vegflow.config.evaluation import EvaluationConfig
from vegflow.config.verification import VerificationConfig
from vegflow.evaluation.device import device_identity, interpreter_identity
from vegflow.evaluation.timing_lock import PIPELINES, timing_lock
from vegflow.stage import progress, run
from vegflow.tasks.functions import load_functions
from vegflow.tasks.load import load_revisions
from vegflow.verification.inputs import read_scores
from vegflow.verification.run import run_pipelines

SCHEMAS = {"runs": RUNS, "stage_runs": STAGE_RUNS, "stage_costs": STAGE_COSTS}


def main(args: Namespace) -> None:
    config = VerificationConfig(**args.options["verification"])
    kernels = config.domain == "kernels"
    protocol = EvaluationConfig(**args.options["evaluation"]) if kernels else None
    with timing_lock(PIPELINES):
        measured = run_pipelines(
            read_rows(args.pool, POOL),
            read_rows(args.checks, CHECKS),
            {"orm": read_scores(args.scores, config.orm)} if args.scores else {},
            load_revisions(args.options["tasks"]) if kernels else load_functions(args.options["source"]),
            config,
            protocol,
            progress=lambda done, of, what: progress(f"{done}/{of} {what}"),
        )
    hardware = device_identity(protocol.device) if protocol else interpreter_identity()
    source = provenance(config=args.options, parents=[args.pool, args.checks, *args.scores], hardware=hardware)
    for path in args.outputs:
        write_table(path, getattr(measured, Path(path).stem), SCHEMAS[Path(path).stem], source)


if __name__ == "__main__":
    run(main, required=("options", "pool", "checks"), many=("scores", "outputs"))
