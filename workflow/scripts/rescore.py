"""Rescore: fixed rollouts and a policy in, the surprisal of each rollout under that policy out."""

from argparse import Namespace

from vegflow.artifacts.io import provenance, read_rows, write_table
from vegflow.artifacts.policies import NLL
from vegflow.artifacts.rollouts import ROLLOUTS
from vegflow.models.device import model_device
from vegflow.models.load import load_policy
from vegflow.rescoring import rescore
from vegflow.stage import run


def main(args: Namespace) -> None:
    model = load_policy(args.options["model"], args.adapter, model_device(args.gpus))
    rows = rescore(model, read_rows(args.rollouts, ROLLOUTS), args.options["policy"])
    parents = [path for path in (args.rollouts, args.adapter) if path]
    write_table(args.output, rows, NLL, provenance(config=args.options, parents=parents))


if __name__ == "__main__":
    run(main, required=("options", "rollouts", "output"), optional=("adapter",))
