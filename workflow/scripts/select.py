"""Select: evaluated sample sets in, what each strategy picks out."""

from argparse import Namespace

from vegflow.artifacts.io import provenance, write_table
from vegflow.artifacts.selections import SELECTIONS
from vegflow.config.selection import SelectionConfig
from vegflow.selection import select_stored
from vegflow.stage import run


def main(args: Namespace) -> None:
    table = select_stored(args.rollouts, args.evaluations, SelectionConfig(**args.options))
    parents = [*args.rollouts, *args.evaluations]
    write_table(args.output, table, SELECTIONS, provenance(config=args.options, parents=parents))


if __name__ == "__main__":
    run(main, required=("options", "output"), many=("rollouts", "evaluations"))
