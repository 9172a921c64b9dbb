import pytest

from tests.verification.small_pool import BODIES, CONFIG, TASKS, collected
from vegflow.artifacts.io import to_table
from vegflow.artifacts.verification import CHECKS, POOL
from vegflow.errors import ConfigError
from vegflow.verification import pool as room
from vegflow.verification.pool import collect_functions


def test_equal_completions_are_one_candidate_and_counted():
    rows = [row for row in collected().pool if row["task_id"] == "T/add"]
    assert sum(row["count"] for row in rows) == len(BODIES["T/add"])
    assert len(rows) == len(set(BODIES["T/add"]))
    assert [row["first_index"] for row in rows] == sorted(row["first_index"] for row in rows)
    twice = next(row for row in rows if row["completion"] == BODIES["T/add"][0])
    assert (twice["count"], twice["first_index"], twice["nll"]) == (2, 0, 0.0)


def test_the_matrix_is_complete_and_fits_its_schemas():
    pool, checks = collected()
    to_table(pool, POOL)
    to_table(checks, CHECKS)
    for row in pool:
        own = [c["check"] for c in checks if c["completion_sha256"] == row["completion_sha256"]]
        assert sorted(own) == sorted(["syntax", "lint", "import", *(f"test/{n}" for n in range(4))])


def test_what_the_full_suite_says():
    rows = {row["completion"]: row for row in collected().pool}
    right = [BODIES["T/add"][n] for n in (0, 1, 8)] + [BODIES["T/last"][3]]
    assert {completion for completion, row in rows.items() if row["correct"]} == set(right)
    kinds = {2: "wrong answer", 3: "NameError", 5: "SyntaxError", 6: "timeout"}
    for number, kind in kinds.items():
        assert rows[BODIES["T/add"][number]]["error_kind"] == kind
    assert all(row["reward"] == row["correct"] == row["fast_1"] for row in rows.values())


def test_a_test_after_a_time_out_is_run_all_the_same():
    sha = next(row["completion_sha256"] for row in collected().pool if row["completion"] == BODIES["T/add"][6])
    found = {c["check"]: c["outcome"] for c in collected().checks if c["completion_sha256"] == sha}
    assert [found[f"test/{n}"] for n in range(4)] == ["pass", "timeout", "pass", "pass"]


def test_a_completion_of_no_known_task_is_named():
    with pytest.raises(ConfigError, match="a completion answers 'T/none', which is none of the tasks"):
        collect_functions([{"task_id": "T/none", "completion": ""}], TASKS, CONFIG)


def test_ruff_is_needed_only_where_a_pipeline_lints(monkeypatch):
    def absent(programs):
        raise ConfigError("stage lint needs ruff")

    monkeypatch.setattr(room, "lint", absent)
    rollouts = [{"task_id": "T/add", "completion": "    return 1\n"}]
    found = collect_functions(rollouts, TASKS, CONFIG.model_copy(update={"pipelines": {"a": ("syntax",)}}))
    assert "lint" not in {check["check"] for check in found.checks}
    assert found.pool[0]["nll"] is None
    with pytest.raises(ConfigError, match="ruff"):
        collect_functions(rollouts, TASKS, CONFIG)
