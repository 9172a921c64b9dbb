"""Rank with an outcome reward model: scores and verdicts in, how well it ranks beside the controls out."""

from argparse import Namespace

from polars import DataFrame

from vegflow.artifacts.evaluations import EVALUATIONS
from vegflow.artifacts.frames import read_frame, scan_frame
from vegflow.artifacts.io import provenance, write_table
from vegflow.artifacts.reward_model import REWARD_MODELS, REWARD_TRAINING, SCORES
from vegflow.artifacts.rollouts import ROLLOUTS
from vegflow.artifacts.verification import POOL
from vegflow.stage import run
from vegflow.statistics.reward_ranking import ROLLOUT_COLUMNS, Measuring, candidates_of, pool_candidates, rankings


def main(args: Namespace) -> None:
    how = Measuring(**args.options)
    scores, training = read_frame(args.scores, SCORES), read_frame([args.training], REWARD_TRAINING)
    candidates = pool_candidates(read_frame(args.pool, POOL), scores) if args.pool else _judged(args, how)
    rows = rankings(candidates, scores, training, how)
    parents = [*args.rollouts, *args.evaluations, *args.pool, *args.scores, args.training]
    write_table(args.output, rows, REWARD_MODELS, provenance(config=args.options, parents=parents))


def _judged(args: Namespace, how: Measuring) -> DataFrame:
    rollouts = scan_frame(args.rollouts, ROLLOUTS, ROLLOUT_COLUMNS).collect()
    evaluations = scan_frame(args.evaluations, EVALUATIONS, ("rollout_id", "status", how.label)).collect()
    return candidates_of(rollouts, evaluations, how.label)


if __name__ == "__main__":
    run(main, required=("options", "training", "output"), many=("rollouts", "evaluations", "pool", "scores"))
