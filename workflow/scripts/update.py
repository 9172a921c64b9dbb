"""Update: a policy and its scored rollouts in, the next policy out; under `torchrun`, by several processes."""

import json
from argparse import Namespace
from pathlib import Path

from safetensors.torch import load_file

from vegflow.artifacts.evaluations import EVALUATIONS
from vegflow.artifacts.io import provenance, read_rows, write_table
from vegflow.artifacts.policies import UPDATES
from vegflow.artifacts.rollouts import ROLLOUTS
from vegflow.config.learning import UpdateConfig
from vegflow.learning.learner import Learner
from vegflow.learning.parallel import Team, team
from vegflow.learning.teacher import teacher_prompts
from vegflow.learning.update import make_batch, update
from vegflow.models.device import model_device
from vegflow.models.load import load_tokenizer
from vegflow.stage import progress, run


def main(args: Namespace) -> None:
    shard = args.options["model"].get("learning", {}).get("shard", False)
    with team(model_device(args.gpus), shard) as (processes, device):
        _update(args, processes, device)


def _update(args: Namespace, processes: Team, device: str) -> None:
    place, config = args.options["place"], UpdateConfig(**args.options["update"])
    batch = make_batch(read_rows(args.rollouts, ROLLOUTS), read_rows(args.evaluations, EVALUATIONS), config)
    paths = [Path(path) if path else None for path in (args.adapter, args.start)]
    key = (place["trajectory"], place["seed"])
    learner = Learner.load(
        args.options["model"], config, *paths, init_key=key, device=device, sharded=processes.sharded
    )
    if args.optimizer:
        learner.restore(load_file(args.optimizer))
    teachers = None
    if form := config.parts.teacher:
        tokenizer = load_tokenizer(args.options["model"])
        teachers = teacher_prompts(batch.rows, batch.verdicts, form, tokenizer, args.options["prompt"])
    record = place | update(learner, batch, teachers, processes)
    if not processes.first:
        return
    progress(json.dumps({name: value for name, value in record.items() if name != "mismatch"}))
    parents = [path for path in (args.rollouts, args.evaluations, args.adapter) if path]
    output = Path(args.output)
    learner.save(output.parent)
    write_table(output, [record], UPDATES, provenance(config=args.options, parents=parents))


if __name__ == "__main__":
    run(
        main,
        required=("options", "rollouts", "evaluations", "output"),
        optional=("adapter", "start", "optimizer"),
    )
