"""Sample: a policy and tasks in, a rollouts file out."""

from argparse import Namespace

from vegflow.artifacts.io import provenance, write_table
from vegflow.artifacts.rollouts import ROLLOUTS
from vegflow.candidates.prompt import load_template
from vegflow.config.sampling import SamplingConfig
from vegflow.models.device import model_device
from vegflow.models.load import load_tokenizer
from vegflow.models.memory import check_memory
from vegflow.sampling.engines import load_engine
from vegflow.sampling.sample import sample
from vegflow.stage import progress, run
from vegflow.tasks.load import load_revisions


def main(args: Namespace) -> None:
    model, sampling = args.options["model"], SamplingConfig(**args.options["sampling"])
    check_memory(model["name"], int(args.memory or 0) / 1000, device := model_device(args.gpus))
    tasks = list(load_revisions(args.options["tasks"]).values())
    with load_engine(model, sampling, args.adapter, device) as engine:
        template, cell = load_template(args.template), args.options["cell"]
        rows = sample(engine, load_tokenizer(model), tasks, template, cell, sampling, progress)
    parents = [args.adapter] if args.adapter else []
    write_table(args.output, rows, ROLLOUTS, provenance(config=args.options, parents=parents))


if __name__ == "__main__":
    run(main, required=("options", "template", "output"), optional=("adapter", "memory"))
