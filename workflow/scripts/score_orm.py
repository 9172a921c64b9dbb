"""Score with an outcome reward model: rollouts in, the score of each distinct completion out."""

from argparse import Namespace

from vegflow.artifacts.io import provenance, read_rows, write_table
from vegflow.artifacts.reward_model import SCORES
from vegflow.artifacts.rollouts import ROLLOUTS
from vegflow.learning.reward_model import RewardModel
from vegflow.learning.reward_scoring import score_rollouts
from vegflow.models.device import model_device
from vegflow.models.load import load_policy
from vegflow.stage import run


def main(args: Namespace) -> None:
    trunk = load_policy(args.options["model"], args.adapter, model_device(args.gpus))
    model = RewardModel.load(args.reward_model)
    rows = score_rollouts(trunk, model, args.options["reward_model"], read_rows(args.rollouts, ROLLOUTS))
    parents = [args.rollouts, args.reward_model]
    write_table(args.output, rows, SCORES, provenance(config=args.options, parents=parents))


if __name__ == "__main__":
    run(main, required=("options", "reward_model", "rollouts", "output"), optional=("adapter",))
