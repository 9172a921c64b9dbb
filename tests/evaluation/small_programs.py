"""Small tasks and programs that the evaluator's tests share."""

import json
import os
from pathlib import Path
from typing import Any

from vegflow.evaluation import ceilings
from vegflow.evaluation.device import device_identity
from vegflow.tasks.task import Task


def task(id_: str, forward: str, inputs: str, init: str = "", construct: str = "pass") -> Task:
    """A task whose reference does `forward`."""
    source = (
        "import torch\nimport torch.nn as nn\n\n"
        "class Model(nn.Module):\n"
        f"    def __init__(self{', ' if init else ''}{init.split('=')[0].strip() if init else ''}):\n"
        f"        super().__init__()\n        {construct}\n"
        "    def forward(self, *arguments):\n" + "".join(f"        {line}\n" for line in forward.splitlines()) + "\n"
        f"def get_inputs():\n    return {inputs}\n\n"
        f"def get_init_inputs():\n    return [{init.split('=')[1].strip() if init else ''}]\n"
    )
    return Task(id=id_, name=id_, description=id_, arguments=("x",), source=source)


def program(forward: str, before: str = "") -> str:
    """A full program whose ModelNew does `forward` on `x`."""
    body = "".join(f"        {line}\n" for line in forward.splitlines())
    return (
        f"import torch\nimport torch.nn as nn\n{before}\nclass ModelNew(nn.Module):\n    def forward(self, x):\n{body}"
    )


SOFTSIGN = task("T/1", "x, = arguments\nreturn x / (1 + torch.abs(x))", "[torch.randn(64, 1024)]")
HONEST = program("return x / (1 + torch.abs(x))")
WASTEFUL_OF = "x, = arguments\nfor _ in range({times}):\n    y = torch.exp(x).sin().cos()\nreturn y"
"""How often is for the test to say: memory that is new to a call costs as much as some of the times."""
WASTEFUL = task("T/2", WASTEFUL_OF.format(times=6), "[torch.randn(64, 1024)]")


def set_ceilings(store: Path | None = None, bytes_per_s: float = 1e15) -> None:
    """Take this CPU to be so fast, for judges that keep their verdicts in `store`: measuring it takes seconds."""
    identity = device_identity("cpu")
    found = ceilings.Measurement(
        identity, ceilings.MOST_ROUNDS, {"65536": bytes_per_s}, {"float32": 1e3 * bytes_per_s}, {}
    )
    ceilings._known[identity, store] = found
    ceilings._write(store, found)


def kept(store: Path) -> dict[Path, dict[str, Any]]:
    """The verdicts in a store, with what is written beside each."""
    entries = {file: json.loads(file.read_text()) for file in store.rglob("*.json")}
    return {file: entry for file, entry in entries.items() if "verdict" in entry}


def workers_of(process: int) -> list[int]:
    """Pids of the zygotes that `process` started and of all their children."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_bytes().rpartition(b")")[2].split()
                command = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            parents[int(entry.name)] = (int(stat[1]), command)
    zygotes = {
        pid
        for pid, (_, command) in parents.items()
        if b"vegflow.evaluation.zygote" in command and str(process).encode() in command
    }
    return sorted(zygotes | {pid for pid, (parent, _) in parents.items() if parent in zygotes})


def own_workers() -> list[int]:
    """`workers_of` this process, the zygote left out."""
    return [pid for pid in workers_of(os.getpid()) if b"zygote" not in _first_parent(pid)]


def _first_parent(pid: int) -> bytes:
    try:
        parent = int(Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[1])
    except OSError:
        return b"zygote"
    return b"zygote" if parent == os.getpid() else b""
