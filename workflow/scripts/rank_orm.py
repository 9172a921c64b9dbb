"""Rank with an outcome reward model: scores and verdicts in, how well it ranks beside the controls out."""

from argparse import Namespace

from vegflow.artifacts.evaluations import EVALUATIONS
from vegflow.artifacts.frames import read_frame, scan_frame
from vegflow.artifacts.io import provenance, write_table
from vegflow.artifacts.reward_model import REWARD_MODELS, REWARD_TRAINING, SCORES
from vegflow.artifacts.rollouts import ROLLOUTS
from vegflow.stage import run
from vegflow.statistics.reward_ranking import ROLLOUT_COLUMNS, Measuring, candidates_of, rankings


def main(args: Namespace) -> None:
    how = Measuring(**args.options)
    rollouts = scan_frame(args.rollouts, ROLLOUTS, ROLLOUT_COLUMNS).collect()
    evaluations = scan_frame(args.evaluations, EVALUATIONS, ("rollout_id", "status", how.label)).collect()
    candidates = candidates_of(rollouts, evaluations, how.label)
    training = read_frame([args.training], REWARD_TRAINING)
    rows = rankings(candidates, read_frame(args.scores, SCORES), training, how)
    parents = [*args.rollouts, *args.evaluations, *args.scores, args.training]
    write_table(args.output, rows, REWARD_MODELS, provenance(config=args.options, parents=parents))


if __name__ == "__main__":
    run(main, required=("options", "training", "output"), many=("rollouts", "evaluations", "scores"))
