"""Verify, first half, functions: completions in, every check of each candidate out."""

from argparse import Namespace

from vegflow.artifacts.io import provenance, write_table
from vegflow.artifacts.verification import CHECKS, POOL
from vegflow.config.verification import VerificationConfig
from vegflow.stage import progress, run
from vegflow.tasks.functions import load_functions
from vegflow.verification.inputs import first_samples, read_completions
from vegflow.verification.pool import collect_functions


def main(args: Namespace) -> None:
    config = VerificationConfig(**args.options["verification"])
    rollouts = first_samples([row for path in args.rollouts for row in read_completions(path)], config.samples)
    tasks = load_functions(args.options["source"])
    found = collect_functions(rollouts, tasks, config, lambda done, of, what: progress(f"{done}/{of} {what}"))
    source = provenance(config=args.options, parents=args.rollouts)
    write_table(args.pool, found.pool, POOL, source)
    write_table(args.checks, found.checks, CHECKS, source)


if __name__ == "__main__":
    run(main, required=("options", "pool", "checks"), many=("rollouts", "evaluations"))
