"""Verify, first half: candidates in, every check of each out."""

from argparse import Namespace

from vegflow.artifacts.evaluations import EVALUATIONS
from vegflow.artifacts.io import provenance, read_rows, write_table
from vegflow.artifacts.rollouts import ROLLOUTS
from vegflow.artifacts.verification import CHECKS, POOL
from vegflow.candidates.scaffold import candidates_of
from vegflow.config.evaluation import EvaluationConfig
from vegflow.config.verification import VerificationConfig
from vegflow.stage import progress, run
from vegflow.tasks.functions import load_functions
from vegflow.tasks.load import load_revisions
from vegflow.verification.inputs import read_completions
from vegflow.verification.pool import Collected, collect_functions, collect_kernels


def main(args: Namespace) -> None:
    config = VerificationConfig(**args.options["verification"])
    found = _kernels(args, config) if config.domain == "kernels" else _functions(args, config)
    source = provenance(config=args.options, parents=[*args.rollouts, *args.evaluations])
    write_table(args.pool, found.pool, POOL, source)
    write_table(args.checks, found.checks, CHECKS, source)


def _functions(args: Namespace, config: VerificationConfig) -> Collected:
    rollouts = [row for path in args.rollouts for row in read_completions(path)]
    return collect_functions(rollouts, load_functions(config.tasks), config, _progress)


def _kernels(args: Namespace, config: VerificationConfig) -> Collected:
    tasks = load_revisions(args.options["tasks"])
    rollouts = [row for path in args.rollouts for row in read_rows(path, ROLLOUTS)]
    evaluations = [row for path in args.evaluations for row in read_rows(path, EVALUATIONS)]
    candidates = candidates_of(rollouts, tasks, args.options["scaffold"])
    programs = {row["rollout_id"]: one.program for row, one in zip(rollouts, candidates, strict=True)}
    protocol = EvaluationConfig(**args.options["evaluation"])
    return collect_kernels(rollouts, evaluations, tasks, programs, protocol, config, _progress)


def _progress(done: int, of: int, what: str) -> None:
    progress(f"{done}/{of} {what}")


if __name__ == "__main__":
    run(main, required=("options", "pool", "checks"), many=("rollouts", "evaluations"))
