"""Evaluate: rollouts in, the verdict on each one's candidate out."""

from argparse import Namespace

from vegflow.artifacts.evaluations import EVALUATIONS
from vegflow.artifacts.io import provenance, read_rows, write_table
from vegflow.artifacts.rollouts import ROLLOUTS
from vegflow.candidates.scaffold import candidates_of
from vegflow.config.evaluation import EvaluationConfig
from vegflow.evaluation.device import device_identity
from vegflow.evaluation.table import evaluate_rollouts
from vegflow.stage import progress, run
from vegflow.tasks.load import load_revisions


def main(args: Namespace) -> None:
    tasks = load_revisions(args.options["tasks"])
    rollouts = read_rows(args.rollouts, ROLLOUTS)
    config = EvaluationConfig(**args.options["evaluation"])
    candidates = candidates_of(rollouts, tasks, args.options["scaffold"])
    rows = evaluate_rollouts(rollouts, candidates, tasks, config, args.store, progress)
    source = provenance(config=args.options, parents=[args.rollouts], hardware=device_identity(config.device))
    write_table(args.output, rows, EVALUATIONS, source)


if __name__ == "__main__":
    run(main, required=("options", "rollouts", "store", "output"))
