"""How long the jobs of a study took, from the records that Snakemake leaves (`benchmark:` of each rule).

Knows those files; a job that was not run again keeps the record of the run that made its output.
"""

import json
from collections import defaultdict
from pathlib import Path

from vegflow.report.text import number


def job_rows(folder: str | Path) -> list[tuple[str, str]]:
    """What each rule's jobs took in all, the longest first: (rule, sentence) for the page of what ran where.

    Reads `folder`/RULE.jsonl and `folder`/RULE/**/*.jsonl, of each the last line. An unreadable record counts as none.
    """
    root = Path(folder)
    seconds: dict[str, list[float]] = defaultdict(list)
    for path in sorted(root.rglob("*.jsonl")):
        rule = path.relative_to(root).parts[0].removesuffix(".jsonl")
        try:
            took = float(json.loads(path.read_text(encoding="utf-8").splitlines()[-1])["s"])
        except (OSError, ValueError, IndexError, KeyError, TypeError):
            continue
        seconds[rule].append(took)
    whole = sum(sum(own) for own in seconds.values())
    rows = [
        (f"time of {rule}", f"{len(own)} job{'s' if len(own) > 1 else ''}, {number(sum(own))} s in all, {number(max(own))} s the longest")
        for rule, own in sorted(seconds.items(), key=lambda item: -sum(item[1]))
    ]  # fmt: skip
    if rows:
        rows.insert(
            0,
            (
                "time of all jobs",
                f"{sum(map(len, seconds.values()))} jobs, {number(whole)} s of wall time, several at once",
            ),
        )
    return rows
