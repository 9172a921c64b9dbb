"""Run by `torchrun`: the update script's work for each file of arguments in a folder, in one team of processes."""

import json
import os
import runpy
import sys
from argparse import Namespace
from pathlib import Path

from vegflow.learning.parallel import team

SCRIPT = Path(__file__).resolve().parents[2] / "workflow" / "scripts" / "update.py"


def main(folder: str) -> None:
    work = runpy.run_path(str(SCRIPT))["_update"]
    with team("cpu") as (processes, device):
        pids = processes.gather(os.getpid())
        if processes.rank == 0:  # two who print at once print into each other's lines
            print(sorted(set(pids)), flush=True)
        for file in sorted(Path(folder).glob("*.json")):
            work(Namespace(**json.loads(file.read_text())), processes, device)


if __name__ == "__main__":
    main(sys.argv[1])
