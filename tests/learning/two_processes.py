"""Run by `torchrun`: the update script's work for each file of arguments in a folder, in one team of processes.

Prints the processes' numbers and, for each model that is sharded, the bytes of its weights that each holds and all hold.
"""

import json
import os
import runpy
import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

from vegflow.learning.parallel import team
from vegflow.models.sharded import load_sharded, shard_bytes

SCRIPT = Path(__file__).resolve().parents[2] / "workflow" / "scripts" / "update.py"


def main(folder: str) -> None:
    work = runpy.run_path(str(SCRIPT))["_update"]
    with team("cpu") as (processes, device):
        pids = processes.gather(os.getpid())
        if processes.rank == 0:  # two who print at once print into each other's lines
            print(sorted(set(pids)), flush=True)
        held = {}
        for file in sorted(Path(folder).glob("*/*.json")):
            args = Namespace(**json.loads(file.read_text()))
            model = args.options["model"]
            sharded = processes.size > 1 and model.get("learning", {}).get("shard", False)
            work(args, replace(processes, sharded=sharded), device)
            if sharded and model["location"] not in held:
                held[model["location"]] = processes.gather(shard_bytes(load_sharded(model)))
        if processes.rank == 0:
            print(json.dumps(held), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
