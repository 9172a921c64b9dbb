"""Train an outcome reward model: evaluated rollouts in; the model, how it was trained, and scores of held-out tasks out."""

from argparse import Namespace

from vegflow.artifacts.evaluations import EVALUATIONS
from vegflow.artifacts.io import provenance, read_rows, write_table
from vegflow.artifacts.reward_model import REWARD_TRAINING, SCORES
from vegflow.artifacts.rollouts import ROLLOUTS
from vegflow.artifacts.verification import POOL
from vegflow.config.reward_model import RewardTraining
from vegflow.learning.reward_examples import Examples, make_examples
from vegflow.learning.reward_pool import pool_examples
from vegflow.learning.reward_training import train
from vegflow.models.device import model_device
from vegflow.models.load import load_policy, load_tokenizer
from vegflow.stage import progress, run
from vegflow.tasks.functions import load_functions


def main(args: Namespace) -> None:
    model, config = args.options["model"], RewardTraining(**args.options["training"])
    examples = _functions(args) if args.pool else _kernels(args, config)
    trunk = load_policy(model, args.adapter, model_device(args.gpus))
    trained = train(trunk, examples, config, args.options["reward_model"], model["lora_targets"], progress)
    trained.model.save(args.output)
    made = provenance(config=args.options, parents=[*args.rollouts, *args.evaluations, *args.pool])
    write_table(args.training, trained.training, REWARD_TRAINING, made)
    write_table(args.held_out, trained.held_out, SCORES, made)


def _kernels(args: Namespace, config: RewardTraining) -> Examples:
    rollouts = [row for path in args.rollouts for row in read_rows(path, ROLLOUTS)]
    evaluations = [row for path in args.evaluations for row in read_rows(path, EVALUATIONS)]
    return make_examples(rollouts, evaluations, config.label)


def _functions(args: Namespace) -> Examples:
    pool = [row for path in args.pool for row in read_rows(path, POOL)]
    tasks, tokenizer = load_functions(args.options["functions"]), load_tokenizer(args.options["model"])
    return pool_examples(pool, tasks, tokenizer)


if __name__ == "__main__":
    run(
        main,
        required=("options", "output", "training", "held_out"),
        optional=("adapter",),
        many=("rollouts", "evaluations", "pool"),
    )
