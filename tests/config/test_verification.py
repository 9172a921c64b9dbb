"""Names that an entry of `verification` uses: what leads nowhere is one sentence that says where."""

import pytest

from vegflow.config.study import parse_study
from vegflow.config.verification import parse_stage
from vegflow.errors import ConfigError
from vegflow.plan import Study

STUDY = {
    "study": "s",
    "model": "tiny",
    "sample_sets": {"drawn": {"tasks": "subset1", "k": 4, "shard_size": 4}},
    "reward_models": {"orm": {"train": "drawn", "losses": ["bradley_terry"], "score": ["drawn"]}},
}
KERNELS = {"domain": "kernels", "rollouts": "drawn"}
FUNCTIONS = {"domain": "functions", "rollouts": "samples.parquet"}


def parse(**entry):
    return parse_study({**STUDY, "verification": {"v": entry}}, "study.yaml")


def test_a_whole_entry_is_read():
    study = parse(**KERNELS, orm="orm.bradley_terry", pipelines={"a": ["syntax", {"orm": "top 2"}, {"full": "first"}]})
    assert list(study.verification["v"].parsed()) == ["full", "a"]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({**KERNELS, "rollouts": "other"}, "rollouts: there is no sample set 'other' (there are: drawn)"),
        ({**KERNELS, "tasks": "humaneval"}, "tasks: 'humaneval' is for functions"),
        ({**FUNCTIONS, "rollouts": "drawn"}, "rollouts: 'drawn' is no Parquet file"),
        ({**KERNELS, "pipelines": {"a": ["orm"]}}, "orm: a pipeline has the stage orm; name a reward model"),
        ({**KERNELS, "orm": "judge.bradley_terry"}, "orm: there is no reward model 'judge.bradley_terry'"),
        ({**KERNELS, "orm": "orm.cross_entropy"}, "orm: reward_models.orm has no loss 'cross_entropy' (it has: bradley_terry)"),
        ({**KERNELS, "ks": [8, 4]}, "ks: must be distinct counts from 1 upwards in rising order, not [8, 4]"),
        ({**KERNELS, "ks": [0]}, "ks: must be distinct counts from 1 upwards"),
        ({**KERNELS, "pipelines": {"a": ["sintax"]}}, "pipelines.a: there is no stage 'sintax'"),
    ],
)  # fmt: skip
def test_a_name_that_leads_nowhere_is_one_sentence(entry, message):
    with pytest.raises(ConfigError) as caught:
        parse(**entry)
    assert str(caught.value).startswith("study.yaml: verification.v")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_scores_of_a_sample_set_that_the_reward_model_does_not_score_are_not_there():
    raw = {
        **STUDY,
        "reward_models": {"orm": {"train": "drawn"}},
        "verification": {"v": {**KERNELS, "orm": "orm.bradley_terry"}},
    }
    with pytest.raises(ConfigError, match=r"reward_models\.orm\.score does not name 'drawn'"):
        parse_study(raw, "study.yaml")


@pytest.mark.parametrize("key", ["rollouts", "orm", "tasks"])
def test_a_file_that_is_not_there_is_one_sentence(key, root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "samples.parquet").write_text("")
    entry = {**FUNCTIONS, key: "absent.jsonl" if key == "tasks" else "absent.parquet"}
    with pytest.raises(ConfigError, match=rf"verification\.v\.{key}: there is no file absent\."):
        Study({**STUDY, "verification": {"v": entry}}, root, "study.yaml")


def test_what_is_collected_does_not_depend_on_pipelines(root, tmp_path, monkeypatch):
    from vegflow.options import JobOptions

    monkeypatch.chdir(tmp_path)
    (tmp_path / "samples.parquet").write_text("")

    def pool_options(**more):
        return JobOptions(Study({**STUDY, "verification": {"v": {**FUNCTIONS, **more}}}, root)).verify_pool("v")

    same = pool_options()
    assert pool_options(pipelines={"a": ["syntax"]}, ks=[1], repeats=1, test_order="learned") == same
    assert pool_options(test_s=3.0) != same


def test_entries_without_repeats_have_no_runs(root):
    plan = Study({**STUDY, "verification": {"v": {**KERNELS, "repeats": 0}, "w": KERNELS}}, root)
    assert plan.collected("runs") == ["results/s/verification/w/runs.parquet"]
    assert len(plan.collected("pool")) == 2
    assert Study(STUDY, root).frontier_tables() == Study(STUDY, root).frontier_figures() == []


def test_stages_read_as_they_are_written():
    for text in ("syntax", "orm"):
        assert parse_stage(text).text == text
