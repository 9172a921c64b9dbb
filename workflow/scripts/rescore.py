"""Rescore: fixed rollouts and a policy in, the surprisal of each rollout under that policy out."""

from argparse import Namespace

from vegflow.artifacts.io import provenance, read_rows, write_table
from vegflow.artifacts.policies import NLL
from vegflow.artifacts.rollouts import ROLLOUTS
from vegflow.config.sampling import SamplingConfig
from vegflow.models.device import model_device
from vegflow.models.memory import check_memory
from vegflow.rescoring import rescore
from vegflow.sampling.engines import load_engine
from vegflow.stage import run


def main(args: Namespace) -> None:
    model, sampling = args.options["model"], SamplingConfig(**args.options["engine"])
    check_memory(model["name"], int(args.memory or 0) / 1000, device := model_device(args.gpus))
    with load_engine(model, sampling, args.adapter, device) as engine:
        rows = rescore(engine, read_rows(args.rollouts, ROLLOUTS), args.options["policy"])
    parents = [path for path in (args.rollouts, args.adapter) if path]
    write_table(args.output, rows, NLL, provenance(config=args.options, parents=parents))


if __name__ == "__main__":
    run(main, required=("options", "rollouts", "output"), optional=("adapter", "memory"))
