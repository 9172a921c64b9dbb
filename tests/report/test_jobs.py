"""How long jobs took, told from the records that Snakemake leaves."""

import json

from vegflow.report.jobs import job_rows


def record(path, *seconds):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"s": s, "max_rss": 10.0}) + "\n" for s in seconds))


def test_jobs_are_summed_by_rule_the_longest_first_and_only_the_last_run_of_each_counts(tmp_path):
    record(tmp_path / "select.jsonl", 2.0)
    record(tmp_path / "sample" / "best_of_n" / "a.jsonl", 99.0, 30.0)
    record(tmp_path / "sample" / "best_of_n" / "b.jsonl", 10.0)
    rows = job_rows(tmp_path)
    assert [what for what, _ in rows] == ["time of all jobs", "time of sample", "time of select"]
    assert rows[0][1].startswith("3 jobs, 42 s")
    assert rows[1][1] == "2 jobs, 40 s in all, 30 s the longest"


def test_broken_and_absent_records_are_no_jobs(tmp_path):
    (tmp_path / "select.jsonl").write_text("{")
    (tmp_path / "render.jsonl").write_text("")
    assert job_rows(tmp_path) == []
    assert job_rows(tmp_path / "nowhere") == []
