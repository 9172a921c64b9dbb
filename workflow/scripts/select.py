"""Select: evaluated sample sets in, what each strategy picks out."""

from argparse import Namespace

from vegflow.artifacts.evaluations import EVALUATIONS
from vegflow.artifacts.frames import scan_frame
from vegflow.artifacts.io import provenance, write_table
from vegflow.artifacts.rollouts import ROLLOUTS
from vegflow.artifacts.selections import SELECTIONS
from vegflow.config.selection import SelectionConfig
from vegflow.selection import EVALUATIONS_READ, ROLLOUTS_READ, select
from vegflow.stage import run


def main(args: Namespace) -> None:
    drawn = scan_frame(args.rollouts, ROLLOUTS, ROLLOUTS_READ).collect()
    verdicts = scan_frame(args.evaluations, EVALUATIONS, EVALUATIONS_READ).collect()
    table = select(drawn, verdicts, SelectionConfig(**args.options))
    parents = [*args.rollouts, *args.evaluations]
    write_table(args.output, table, SELECTIONS, provenance(config=args.options, parents=parents))


if __name__ == "__main__":
    run(main, required=("options", "output"), many=("rollouts", "evaluations"))
