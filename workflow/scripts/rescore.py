"""Rescore: fixed rollouts and a policy in, the surprisal of each rollout under that policy out."""

from argparse import Namespace

from vegflow.artifacts.io import provenance, read_rows, write_table
from vegflow.artifacts.policies import NLL
from vegflow.artifacts.rollouts import ROLLOUTS
from vegflow.config.sampling import SamplingConfig
from vegflow.models.device import model_device
from vegflow.rescoring import rescore
from vegflow.sampling.engines import load_engine
from vegflow.stage import run


def main(args: Namespace) -> None:
    sampling = SamplingConfig(**args.options["engine"])
    with load_engine(args.options["model"], sampling, args.adapter, model_device(args.gpus)) as engine:
        rows = rescore(engine, read_rows(args.rollouts, ROLLOUTS), args.options["policy"])
    parents = [path for path in (args.rollouts, args.adapter) if path]
    write_table(args.output, rows, NLL, provenance(config=args.options, parents=parents))


if __name__ == "__main__":
    run(main, required=("options", "rollouts", "output"), optional=("adapter",))
