"""Build a small model from scratch: corpus and prompts in, a Hugging Face folder out."""

import tempfile
from argparse import Namespace
from pathlib import Path

import torch  # noqa: F401  (loaded before stage.run, which sets its threads)

from vegflow.artifacts.io import atomic
from vegflow.config.model import BuildConfig
from vegflow.models.corpus import load_corpus
from vegflow.models.tiny import build, lessons_of
from vegflow.stage import progress, run


def main(args: Namespace) -> None:
    corpus = load_corpus(Path(args.corpus))
    prompts = args.options["prompts"]
    lessons = lessons_of(prompts, {task: corpus[operation] for task, operation in args.options["operations"].items()})
    with tempfile.TemporaryDirectory() as folder:
        build(lessons, BuildConfig(**args.options["build"]), Path(folder), progress)
        for path in args.outputs:
            with atomic(path) as temporary:
                temporary.write_bytes((Path(folder) / Path(path).name).read_bytes())


if __name__ == "__main__":
    run(main, required=("options", "corpus"), many=("outputs",))
