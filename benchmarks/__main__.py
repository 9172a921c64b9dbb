"""Run one benchmark: `python -m benchmarks NAME`. The last line printed is one JSON object."""

import importlib
import json
import os
import platform
import sys
from pathlib import Path


def main() -> None:
    """Run the benchmark named on the command line and print its figures as the last line."""
    here = Path(__file__).parent
    names = sorted(path.stem for path in here.glob("*.py") if not path.stem.startswith("_"))
    if len(sys.argv) != 2 or sys.argv[1] not in names:
        sys.exit(f"usage: python -m benchmarks NAME, with NAME one of: {', '.join(names)}")
    name = sys.argv[1]
    found = importlib.import_module(f"benchmarks.{name}").run()
    defaults = {"name": name, "machine": machine(), "command": f"python -m benchmarks {name}"}
    print(json.dumps(defaults | found))


def machine() -> str:
    """The machine in a few words."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    return f"{os.cpu_count()} x {model}, Python {platform.python_version()}"


if __name__ == "__main__":
    main()
