"""Sample: a policy and tasks in, a rollouts file out."""

from argparse import Namespace

from vegflow.artifacts.io import provenance, write_table
from vegflow.artifacts.rollouts import ROLLOUTS
from vegflow.candidates.prompt import load_template
from vegflow.config.sampling import SamplingConfig
from vegflow.models.device import model_device
from vegflow.models.load import load_policy, load_tokenizer
from vegflow.sampling.sample import sample
from vegflow.stage import progress, run
from vegflow.tasks.load import load_revisions


def main(args: Namespace) -> None:
    model = args.options["model"]
    rows = sample(
        load_policy(model, args.adapter, model_device(args.gpus)),
        load_tokenizer(model),
        list(load_revisions(args.options["tasks"]).values()),
        load_template(args.template),
        args.options["cell"],
        SamplingConfig(**args.options["sampling"]),
        progress,
    )
    parents = [args.adapter] if args.adapter else []
    write_table(args.output, rows, ROLLOUTS, provenance(config=args.options, parents=parents))


if __name__ == "__main__":
    run(main, required=("options", "template", "output"), optional=("adapter",))
