"""What it costs to find that nothing is to be done, and to plan a large study: whole processes, minimum of five."""

import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent
PEER = "rule all:\n    input: 'a'\nrule a:\n    output: 'a'\n    shell: 'touch a'\n"


def run() -> dict[str, Any]:
    """Time a no-op of the finished default study (results/laptop must exist) and the plan of one ten times as large.

    The peer is Snakemake itself on a workflow of one rule: what is above it is ours.
    """
    if not (ROOT / "results/laptop/report.html").exists():
        raise SystemExit("run the default study first (make study): this benchmark times its second run")
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "Snakefile").write_text(PEER)
        (Path(folder) / "a").touch()
        large = Path(folder) / "large.yaml"
        jobs = _large(large)
        rows = {
            "no-op of the default study": _seconds(["--cores", "2"], ROOT),
            f"plan of {jobs} jobs": _seconds(["--cores", "2", "-n", "-q", "--configfile", str(large)], ROOT),
            "no-op of a one-rule workflow": _seconds(["--cores", "2"], Path(folder)),
        }
    for name, seconds in rows.items():
        print(f"{name:<32} {seconds:6.2f} s")
    noop, plan, peer = rows.values()
    figures = {"noop_s": round(noop, 2), "plan_s": round(plan, 2), "plan_jobs": jobs, "peer_noop_s": round(peer, 2)}
    return {"figures": figures, "peer": "snakemake, one rule", "ratio": round(peer / noop, 2)}


def _large(path: Path) -> int:
    """Write a study of about 1,300 jobs."""
    study = yaml.safe_load((ROOT / "config.yaml").read_text())
    study["study"] = "large"
    study["trajectories"]["ttt"]["seeds"] = list(range(42, 42 + 60))
    study["sample_sets"]["best_of_n"]["seeds"] = list(range(42, 42 + 20))
    path.write_text(yaml.safe_dump(study))
    sys.path.insert(0, str(ROOT))
    from vegflow.plan import Study

    plan = Study(study, ROOT)
    return 2 * len(plan.cells) + len(plan.policies) + len(plan.scores()) + 5


def _seconds(arguments: list[str], folder: Path) -> float:
    """Wall time of a Snakemake call, the least of five."""
    times = []
    for _ in range(5):
        started = time.monotonic()
        subprocess.run(
            [sys.executable, "-m", "snakemake", *arguments], cwd=folder, check=True, capture_output=True, text=True
        )
        times.append(time.monotonic() - started)
    return min(times)
