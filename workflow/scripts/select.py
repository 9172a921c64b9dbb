"""Select: evaluated sample sets in, what each strategy picks out."""

from argparse import Namespace

from vegflow.artifacts.evaluations import EVALUATIONS
from vegflow.artifacts.frames import read_frame
from vegflow.artifacts.io import provenance, write_table
from vegflow.artifacts.rollouts import ROLLOUTS
from vegflow.artifacts.selections import SELECTIONS
from vegflow.config.selection import SelectionConfig
from vegflow.selection import select
from vegflow.stage import run


def main(args: Namespace) -> None:
    rollouts, evaluations = read_frame(args.rollouts, ROLLOUTS), read_frame(args.evaluations, EVALUATIONS)
    table = select(rollouts, evaluations, SelectionConfig(**args.options))
    parents = [*args.rollouts, *args.evaluations]
    write_table(args.output, table, SELECTIONS, provenance(config=args.options, parents=parents))


if __name__ == "__main__":
    run(main, required=("options", "output"), many=("rollouts", "evaluations"))
