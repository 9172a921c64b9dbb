"""Files that staged verification reads beside its own: completions of functions, and stored scores of reward models.

Knows which columns are needed and which may be there; completions may come from anywhere.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vegflow.artifacts.frames import scan_frame
from vegflow.artifacts.reward_model import SCORES, completion_digest
from vegflow.artifacts.rollouts import ROLLOUTS
from vegflow.errors import ArtifactError

NEEDED = ("task_id", "completion")
MORE = ("n_tokens", "logprob", "finish_reason")
"""Columns of rollouts that are used where they are there."""


def read_completions(path: str | Path) -> list[dict[str, Any]]:
    """Rows of a Parquet file of rollouts, or of any file with task_id and completion.

    Raises ArtifactError, naming the file, if it is absent, damaged, or lacks one of the two.
    """
    rows = scan_frame([path], ROLLOUTS, [*NEEDED, *MORE], optional=MORE).collect().to_dicts()
    if not rows:
        raise ArtifactError(f"{path}: there is no completion in it")
    return rows


def first_samples(rollouts: Sequence[Mapping[str, Any]], samples: int | None) -> list[Mapping[str, Any]]:
    """The first `samples` rows of each task, in the order given; all of them for None."""
    if samples is None:
        return list(rollouts)
    seen: dict[str, int] = {}
    kept = []
    for row in rollouts:
        seen[row["task_id"]] = seen.get(row["task_id"], 0) + 1
        if seen[row["task_id"]] <= samples:
            kept.append(row)
    return kept


def evaluation_checks(
    rollouts: Sequence[Mapping[str, Any]], evaluations: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Rows of CHECKS, check `full`: what a kernel's whole evaluation, timing included, said of each candidate and took."""
    verdicts = {row["rollout_id"]: row for row in evaluations}
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for rollout in rollouts:
        key = rollout["task_id"], completion_digest(rollout["completion"])
        row = verdicts[rollout["rollout_id"]]
        rows[key] = {
            "task_id": key[0],
            "completion_sha256": key[1],
            "check": "full",
            "outcome": "pass" if row["correct"] else "timeout" if row["status"] == "timeout" else "fail",
            "error_kind": "" if row["correct"] else row["status"],
            "answer_sha256": None,
            "wall_s": row["evaluate_wall_s"],
            "cpu_s": row["evaluate_cpu_s"] + row["build_cpu_s"],
        }
    return list(rows.values())


def read_scores(paths: Sequence[str | Path], scorer: str) -> Mapping[tuple[str, str], float]:
    """(task_id, completion_sha256) -> score, of one scorer; of a file of one's own with a single scorer, its scores.

    Raises ArtifactError if there is none of that name.
    """
    found: dict[tuple[str, str], float] = {}
    names: set[str] = set()
    for path in paths:
        table = scan_frame([path], SCORES, ["task_id", "completion_sha256", "scorer", "score"], optional=("scorer",))
        for row in table.collect().to_dicts():
            name = row.get("scorer") or scorer
            names.add(name)
            if name == scorer or scorer.endswith(".parquet"):
                found[row["task_id"], row["completion_sha256"]] = row["score"]
    if not found or (scorer.endswith(".parquet") and len(names) > 1):
        known = ", ".join(sorted(names)) or "none"
        raise ArtifactError(f"{paths[0]}: there are no scores of one scorer '{scorer}' (there are: {known})")
    return found
