"""Studies that are kept as data stand in the report beside the paper's numbers."""

import pyarrow as pa
import pytest

from vegflow.artifacts.analysis import ANALYSIS_TABLES
from vegflow.artifacts.evaluations import EVALUATIONS
from vegflow.artifacts.io import read_rows, read_table
from vegflow.artifacts.policies import NLL
from vegflow.artifacts.rollouts import ROLLOUTS
from vegflow.report.measured import measured_views
from vegflow.report.text import FEW_MARK, FEW_NOTE

ROW = {
    "id": "a",
    "place": "Table 1",
    "claim": "something is faster",
    "unit": "share",
    "paper": 0.9,
    "ours": 0.5,
    "low": 0.25,
    "high": 0.75,
    "n_tasks": 5,
    "difference": -0.4,
    "inside": False,
    "kind": "level",
    "verdict": "not comparable",
    "reason": "",
    "caveats": [],
}


def claims(*changes):
    return pa.Table.from_pylist([ROW | change for change in changes], schema=ANALYSIS_TABLES["claims"])


def test_effects_come_first_and_what_the_study_does_not_speak_to_is_left_out():
    table = claims({}, {"id": "b", "ours": None}, {"id": "c", "kind": "effect", "verdict": "undecided", "claim": "E"})
    (view,) = measured_views({"coder-0.5b": table})
    assert view.name == "measured-coder-0-5b"
    assert "resources/measured/coder-0.5b/README.md" in view.note
    assert [row[0] for row in view.rows] == ["E", "something is faster"]
    _, place, verdict, paper, measured = view.rows[1]
    assert (place, verdict, paper) == ("Table 1", "not comparable", "90.0\u00a0%")
    assert measured.startswith("50.0\u00a0% [")
    assert measured.endswith("]" + FEW_MARK)  # five tasks
    assert FEW_NOTE in view.note


def test_no_measured_study_is_no_table():
    assert measured_views({}) == []


@pytest.fixture
def kept(root):
    return root / "resources" / "measured" / "qwen-coder-0.5b"


def test_the_kept_study_speaks_to_the_papers_effects(kept):
    (view,) = measured_views({kept.name: read_table(kept / "tables" / "claims.parquet", ANALYSIS_TABLES["claims"])})
    assert len(view.rows) > 100
    assert {row[2] for row in view.rows} <= {"reproduced", "not reproduced", "undecided", "not comparable"}


def test_the_kept_rollouts_have_their_verdicts_and_rescoring_gives_what_was_recorded(kept):
    cell = "best_of_n/seed42/subset1/shard000.parquet"
    rollouts = read_rows(kept / "rollouts" / cell, ROLLOUTS)
    judged = [row["rollout_id"] for row in read_rows(kept / "evaluations" / cell, EVALUATIONS)]
    assert judged == [row["rollout_id"] for row in rollouts]
    for row, scored in zip(rollouts, read_rows(kept / "nll" / "base" / "of" / cell, NLL), strict=True):
        assert scored["rollout_id"] == row["rollout_id"]
        assert abs(scored["nll"] + row["logprob"]) / row["n_tokens"] <= 1e-4
