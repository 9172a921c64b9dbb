"""Static checks by ruff: one process for a whole batch of programs, none of which is run.

Knows which rules mean that a program cannot work; what follows from a finding is for the pipeline.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from vegflow.errors import ConfigError

RULES = "E9,F7,F821,F822,F823"
"""Syntax, statements where they cannot stand, names that are not defined or exported, locals used before they are."""
LIMIT_S = 600.0


def lint(programs: Sequence[str]) -> list[str]:
    """For each program the code of its first finding, "" if there is none.

    Raises ConfigError if ruff is not installed.
    """
    if not programs:
        return []
    ruff = _ruff()
    with tempfile.TemporaryDirectory(prefix="vegflow-lint-") as folder:
        names = [f"p{number:06d}.py" for number in range(len(programs))]
        for name, program in zip(names, programs, strict=True):
            Path(folder, name).write_bytes(program.encode("utf-8", "replace"))
        version = f"py{sys.version_info.major}{sys.version_info.minor}"
        order = ["check", "--isolated", "--no-cache", "--exit-zero", "--output-format", "json", "--select", RULES]
        done = subprocess.run(
            [ruff, *order, "--target-version", version, "."],
            cwd=folder,
            capture_output=True,
            timeout=LIMIT_S,
            env={"PATH": "/usr/bin:/bin"},
            check=False,
        )
    try:
        findings = json.loads(done.stdout)
    except ValueError as error:
        raise ConfigError(f"stage lint: ruff failed ({done.stderr.decode('utf-8', 'replace')[:200]})") from error
    found = dict.fromkeys(names, "")
    for finding in findings:
        name = os.path.basename(finding["filename"])
        found[name] = found[name] or str(finding.get("code") or "E999")
    return [found[name] for name in names]


def _ruff() -> str:
    beside = Path(sys.executable).with_name("ruff")
    ruff = str(beside) if beside.exists() else shutil.which("ruff")
    if ruff is None:
        raise ConfigError("stage lint needs ruff: pip install 'vegflow[functions]', or leave the stage out")
    return ruff
