"""Demonstrate: tasks and a corpus in, known programs of them out, as rows of rollouts that no policy drew."""

from argparse import Namespace
from pathlib import Path

from vegflow.artifacts.io import provenance, write_table
from vegflow.artifacts.rollouts import ROLLOUTS
from vegflow.candidates.prompt import load_template
from vegflow.demonstrations import demonstrate
from vegflow.models.corpus import load_corpus
from vegflow.models.load import load_tokenizer
from vegflow.stage import run
from vegflow.tasks.load import load_revisions


def main(args: Namespace) -> None:
    tasks = list(load_revisions(args.options["tasks"]).values())
    tokenizer, template = load_tokenizer(args.options["model"]), load_template(args.template)
    rows = demonstrate(tokenizer, tasks, load_corpus(Path(args.corpus)), template, args.options["cell"])
    write_table(args.output, rows, ROLLOUTS, provenance(config=args.options, parents=[args.corpus, args.template]))


if __name__ == "__main__":
    run(main, required=("options", "corpus", "template", "output"))
