"""Completions of HumanEval for the benchmark `staged`: CodeT's file of samples, or a Parquet file of rollouts."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from vegflow.errors import ConfigError
from vegflow.tasks.functions import FunctionTask


def read(path: Path, tasks: Mapping[str, FunctionTask]) -> list[dict[str, Any]]:
    """Rows with task_id and completion. CodeT's lines have prompt and samples, one a task, in the order of ids as text."""
    if path.suffix == ".parquet":
        return [row for row in pq.read_table(path, partitioning=None).to_pylist() if row["task_id"] in tasks]
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    rows = []
    for task_id, line in zip(sorted(tasks), lines, strict=True):
        if f"def {tasks[task_id].entry_point}" not in line["prompt"]:
            raise ConfigError(f"{path}: the line of {task_id} has another prompt")
        rows += [{"task_id": task_id, "completion": text} for text in line["samples"]]
    return rows
