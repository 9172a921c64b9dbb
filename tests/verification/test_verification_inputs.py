"""Files from elsewhere: completions with few columns or many, scores by name, evaluations as checks."""

import polars as pl
import pytest

from vegflow.artifacts.io import to_table
from vegflow.artifacts.reward_model import completion_digest
from vegflow.artifacts.verification import CHECKS
from vegflow.errors import ArtifactError
from vegflow.verification.inputs import evaluation_checks, first_samples, read_completions, read_scores


def written(path, rows):
    pl.DataFrame(rows).write_parquet(path)
    return path


def test_two_columns_are_enough_and_more_are_used(tmp_path):
    few = written(tmp_path / "few.parquet", [{"task_id": "a", "completion": "x", "other": 1}])
    assert read_completions(few) == [{"task_id": "a", "completion": "x"}]
    many = written(tmp_path / "many.parquet", [{"task_id": "a", "completion": "x", "logprob": -2.0, "n_tokens": 3}])
    assert read_completions(many) == [{"task_id": "a", "completion": "x", "logprob": -2.0, "n_tokens": 3}]


@pytest.mark.parametrize("rows", [[{"task_id": "a"}], [{"completion": "x"}]])
def test_a_file_without_one_of_them_is_one_sentence(tmp_path, rows):
    with pytest.raises(ArtifactError, match=r"x\.parquet: there is no column"):
        read_completions(written(tmp_path / "x.parquet", rows))


def test_a_file_without_rows_is_one_sentence(tmp_path):
    pl.DataFrame(schema={"task_id": pl.String, "completion": pl.String}).write_parquet(tmp_path / "x.parquet")
    with pytest.raises(ArtifactError, match="there is no completion in it"):
        read_completions(tmp_path / "x.parquet")


def scores(*names):
    return [
        {"task_id": "a", "completion_sha256": "s", "scorer": name, "score": float(n)} for n, name in enumerate(names)
    ]


def test_scores_are_those_of_the_scorer_named(tmp_path):
    path = written(tmp_path / "s.parquet", scores("orm.bradley_terry", "orm.cross_entropy"))
    assert read_scores([path], "orm.cross_entropy") == {("a", "s"): 1.0}
    with pytest.raises(ArtifactError, match=r"no scores of one scorer 'orm\.other' \(there are: orm\.bradley_terry"):
        read_scores([path], "orm.other")


def test_a_file_of_ones_own_has_one_scorer(tmp_path):
    one = written(tmp_path / "one.parquet", scores("mine"))
    assert read_scores([one], str(one)) == {("a", "s"): 0.0}
    two = written(tmp_path / "two.parquet", scores("mine", "yours"))
    with pytest.raises(ArtifactError, match="one scorer"):
        read_scores([two], str(two))


def test_an_evaluation_is_a_check_of_its_candidate():
    rollouts = [{"rollout_id": str(n), "task_id": "L1/1", "completion": text} for n, text in enumerate(["a", "b", "a"])]
    verdicts = [(True, "correct"), (False, "timeout"), (True, "correct")]
    evaluations = [
        {"rollout_id": str(n), "correct": ok, "status": status, "evaluate_wall_s": 2.0, "evaluate_cpu_s": 1.0, "build_cpu_s": 0.5}
        for n, (ok, status) in enumerate(verdicts)
    ]  # fmt: skip
    rows = evaluation_checks(rollouts, evaluations)
    assert to_table(rows, CHECKS).num_rows == 2
    assert [(row["completion_sha256"], row["outcome"]) for row in rows] == [
        (completion_digest("a"), "pass"), (completion_digest("b"), "timeout"),
    ]  # fmt: skip
    assert rows[0]["cpu_s"] == 1.5


def test_the_first_samples_are_those_of_each_task():
    rows = [{"task_id": task, "completion": str(n)} for n, task in enumerate("abaab")]
    assert [row["completion"] for row in first_samples(rows, 2)] == ["0", "1", "2", "4"]
    assert first_samples(rows, None) == rows
