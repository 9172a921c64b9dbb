"""Verify, first half, kernels: evaluated rollouts in, every check of each candidate out."""

from argparse import Namespace

from vegflow.artifacts.evaluations import EVALUATIONS
from vegflow.artifacts.io import provenance, read_rows, write_table
from vegflow.artifacts.rollouts import ROLLOUTS
from vegflow.artifacts.verification import CHECKS, POOL
from vegflow.candidates.scaffold import candidates_of
from vegflow.config.evaluation import EvaluationConfig
from vegflow.config.verification import VerificationConfig
from vegflow.stage import progress, run
from vegflow.tasks.load import load_revisions
from vegflow.verification.inputs import evaluation_checks, first_samples
from vegflow.verification.pool import collect_kernels


def main(args: Namespace) -> None:
    tasks = load_revisions(args.options["tasks"])
    config = VerificationConfig(**args.options["verification"])
    drawn = [row for path in args.rollouts for row in read_rows(path, ROLLOUTS)]
    rollouts = first_samples(drawn, config.samples)
    evaluations = [row for path in args.evaluations for row in read_rows(path, EVALUATIONS)]
    candidates = candidates_of(rollouts, tasks, args.options["scaffold"])
    programs = {row["rollout_id"]: one.program for row, one in zip(rollouts, candidates, strict=True)}
    found = collect_kernels(
        rollouts,
        evaluations,
        tasks,
        programs,
        EvaluationConfig(**args.options["evaluation"]),
        config,
        lambda done, of, what: progress(f"{done}/{of} {what}"),
    )
    source = provenance(config=args.options, parents=[*args.rollouts, *args.evaluations])
    write_table(args.pool, found.pool, POOL, source)
    write_table(args.checks, found.checks + evaluation_checks(rollouts, evaluations), CHECKS, source)


if __name__ == "__main__":
    run(main, required=("options", "pool", "checks"), many=("rollouts", "evaluations"))
