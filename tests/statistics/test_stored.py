"""Analysis of files: the same in blocks as whole, of any folder, and with as few columns as there can be."""

import subprocess
import sys

import polars as pl
import pytest

from vegflow.artifacts.frames import scan_frame, task_blocks
from vegflow.artifacts.rollouts import ROLLOUTS
from vegflow.config.analysis import AnalysisConfig
from vegflow.errors import ArtifactError, VegflowError
from vegflow.standalone.analyse import analyse_folder, infer, read_folder
from vegflow.statistics import stored
from vegflow.statistics.paper import load_paper
from vegflow.statistics.rearrange import rearrange, worthwhile
from vegflow.statistics.stored import Source, analyse_stored

from synthetic import RESULTS, default, make_study, write_study  # isort: skip

CONFIG = AnalysisConfig(bootstrap=200)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("elsewhere")
    write_study(default()[0], place)
    return place


def test_blocks_of_tasks_give_the_tables_of_the_whole(folder):
    study, tables = default()
    found = read_folder(folder)
    source = Source(found.source.rollouts, found.source.evaluations)
    blocks = analyse_stored(source, study.nll, study.updates, None, study.facts, CONFIG, load_paper(RESULTS), most=1000)
    for name, table in tables.items():
        a, b = (pl.DataFrame(pl.from_arrow(t)) for t in (table, blocks[name]))
        assert a.columns == b.columns
        assert a.height == b.height, name
        for column in a.columns:
            if a[column].dtype.is_float():
                assert ((a[column] - b[column]).abs().max() or 0) < 1e-9, (name, column)
            elif name != "candidates" or column != "picked_by":
                assert a[column].equals(b[column]), (name, column)


def test_files_that_hold_every_task_are_rearranged_and_give_the_same(folder, monkeypatch):
    study, found = default()[0], read_folder(folder)
    used = []
    monkeypatch.setattr(stored, "worthwhile", lambda *_: True)
    monkeypatch.setattr(stored, "rearrange", lambda *args: used.append(rearrange(*args)) or used[-1])
    source = Source(found.source.rollouts, found.source.evaluations)
    blocks = analyse_stored(source, study.nll, study.updates, None, study.facts, CONFIG, load_paper(RESULTS), most=1000)
    assert len(used) == 2
    assert len(used[0]) == len(used[1]) > 3
    whole = analyse_stored(source, study.nll, study.updates, None, study.facts, CONFIG, load_paper(RESULTS))
    for name in ("tasks", "strategies", "scaling", "candidates", "correlations"):
        a, b = (pl.DataFrame(pl.from_arrow(t[name])) for t in (whole, blocks))
        floats = [c for c in a.columns if a[c].dtype.is_float()]
        assert a.drop(floats, "picked_by", strict=False).equals(b.drop(floats, "picked_by", strict=False)), name
        assert all(((a[c] - b[c]).abs().max() or 0) < 1e-9 for c in floats), name


def test_rearranged_rows_are_those_of_the_files_in_their_order(tmp_path, monkeypatch):
    monkeypatch.setattr("vegflow.statistics.rearrange.ROWS", 3)
    monkeypatch.setattr("vegflow.statistics.rearrange.OPEN", 2)
    rows = pl.DataFrame({"task_id": list("abcdabcdab"), "i": range(10), "not looked at": "x"})
    paths = [str(tmp_path / f"{n}.parquet") for n in range(2)]
    for path, part in zip(paths, (rows[:6], rows[6:]), strict=True):
        part.write_parquet(path)
    made = rearrange(paths, ["task_id", "i", "absent"], [["a", "c"], ["b"], ["nobody"]], tmp_path / "new")
    assert [pl.read_parquet(path)["i"].to_list() for path in made] == [[0, 2, 4, 6, 8], [1, 5, 9], []]
    assert pl.read_parquet(made[0]).columns == ["task_id", "i"]


def test_rearranging_pays_where_many_blocks_need_every_file():
    assert worthwhile([200] * 100, 200)
    assert not worthwhile([5] * 100, 200)  # each block has files of its own
    assert not worthwhile([10] * 10, 10)


def test_a_block_never_splits_a_task(folder):
    scanned = scan_frame(read_folder(folder).source.rollouts, ROLLOUTS, ["task_id"])
    blocks = list(task_blocks(scanned, 500))
    assert [task for block in blocks for task in block] == sorted(default()[0].rollouts["task_id"].unique())
    assert len(blocks) > 3


def test_what_a_study_holds_is_told_from_its_rollouts(folder):
    facts = infer(read_folder(folder))
    assert set(facts.sample_sets) == {"best_of_n"}
    assert (facts.sample_sets["best_of_n"].k, facts.sample_sets["best_of_n"].seeds) == (64, (42, 43))
    assert set(facts.trajectories) == {"rlvr", "ttt"}
    assert (facts.comparison.search, facts.comparison.adaptation) == ("best_of_n", "ttt")
    assert set(facts.probes) == {"best_of_n_under_ttt"}  # rlvr's last policy scored them too, as ttt's first
    assert facts.probes["best_of_n_under_ttt"].seeds == (42,)
    assert infer(read_folder(folder)) == facts


def test_a_folder_gives_tables_figures_and_the_report(folder, tmp_path):
    report = analyse_folder(folder, tmp_path, config=CONFIG)
    assert "Surprisal-Guided" in report.read_text(encoding="utf-8")
    ours = pl.read_parquet(tmp_path / "tables" / "strategies.parquet").filter(pl.col("task_set") == "all")
    staged = pl.DataFrame(pl.from_arrow(default()[1]["strategies"])).filter(pl.col("task_set") == "all")
    assert dict(ours.select("strategy", "fast_1").rows()) == pytest.approx(
        dict(staged.select("strategy", "fast_1").rows())
    )
    assert len(list((tmp_path / "figures").iterdir())) >= 7


def bare(folder, evaluations=("rollout_id", "correct", "speedup")):
    study = make_study(n_tasks=3, k=8, group=2, steps=1, runs=(42,), seeds=(42,))
    drawn = study.rollouts.filter(pl.col("source") == "best_of_n").select(
        "rollout_id", "task_id", "logprob", pl.col("n_tokens").cast(pl.Int64)
    )
    drawn.write_parquet(folder / "rollouts.parquet")
    study.evaluations.select(evaluations).write_parquet(folder / "evaluations.parquet")
    return study


def test_the_fewest_columns_are_enough(tmp_path):
    bare(tmp_path)
    report = analyse_folder(tmp_path, config=CONFIG)
    strategies = pl.read_parquet(tmp_path / "analysis" / "tables" / "strategies.parquet")
    assert strategies["n_pairs"].unique().to_list() == [3]
    assert "surprisal-guided@tempered" not in strategies["strategy"].to_list()
    assert "surprisal-guided" in strategies["strategy"].to_list()
    assert report == tmp_path / "analysis" / "report.html"


def test_entropy_and_self_certainty_select_where_they_are_recorded(tmp_path):
    study = bare(tmp_path)
    drawn = pl.read_parquet(tmp_path / "rollouts.parquet")
    # An entropy that is the surprisal picks what confidence picks; a self-certainty that is the surprisal, the other end.
    drawn.with_columns(entropy=-pl.col("logprob"), self_certainty=-pl.col("logprob").cast(pl.Float32)).write_parquet(
        tmp_path / "rollouts.parquet"
    )
    analyse_folder(tmp_path, config=CONFIG, report=False)
    made = pl.read_parquet(tmp_path / "analysis" / "tables" / "strategies.parquet")
    rates = dict(made.select("strategy", "mean_speedup").rows())
    assert rates["confidence-guided@entropy"] == rates["confidence-guided"]
    assert rates["confidence-guided@self-certainty"] == rates["surprisal-guided"]
    assert dict(made.select("strategy", "nll_choice").rows())["confidence-guided@entropy"] == "entropy"
    assert "entropy" not in study.rollouts.columns


def test_what_is_absent_is_named(tmp_path):
    with pytest.raises(ArtifactError, match="there is no such folder"):
        analyse_folder(tmp_path / "nowhere")
    with pytest.raises(ArtifactError, match=r"neither rollouts\.parquet nor a folder rollouts/"):
        analyse_folder(tmp_path)
    bare(tmp_path, evaluations=("rollout_id", "correct"))
    with pytest.raises(ArtifactError, match="there is no column speedup"):
        analyse_folder(tmp_path)


def test_a_damaged_file_is_named(tmp_path):
    bare(tmp_path)
    (tmp_path / "rollouts.parquet").write_bytes(b"PAR1 and no more")
    with pytest.raises(VegflowError, match=r"rollouts\.parquet: not a readable Parquet file"):
        analyse_folder(tmp_path)


def test_the_command_needs_no_torch_and_no_snakemake(tmp_path):
    bare(tmp_path)
    program = """
import sys
from importlib.abc import MetaPathFinder
class Absent(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "snakemake", "transformers", "peft"):
            raise ModuleNotFoundError(f"No module named {name!r}")
sys.meta_path.insert(0, Absent())
from vegflow.cli import main
sys.argv = ["vegflow", "analyse", sys.argv[1], "--set", "bootstrap=100"]
main()
"""
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "report.html" in done.stdout


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--search", "a"], "go together"),
        (["--search", "a", "--adaptation", "b"], "does not fit"),
        (["--set", "bootstrap=1"], "bootstrap"),
    ],
)
def test_wrong_options_are_one_sentence(tmp_path, monkeypatch, options, message):
    from vegflow.cli import main

    bare(tmp_path)
    monkeypatch.setattr(sys, "argv", ["vegflow", "analyse", str(tmp_path), *options])
    with pytest.raises(SystemExit, match=message):
        main()


def test_a_block_reads_only_the_files_that_hold_its_tasks(folder, tmp_path):
    study = make_study(n_tasks=3, k=8, group=2, steps=1, runs=(42,), seeds=(42,))
    drawn = study.rollouts.filter(pl.col("step").is_null())
    judged = study.evaluations.join(drawn.select("rollout_id"), on="rollout_id", how="semi")
    (tmp_path / "rollouts").mkdir()
    (tmp_path / "evaluations").mkdir()
    tasks = sorted(drawn["task_id"].unique())
    for task in tasks:
        name = task.replace("/", "-")
        drawn.filter(pl.col("task_id") == task).write_parquet(tmp_path / "rollouts" / f"{name}.parquet")
        judged.filter(pl.col("task_id") == task).drop("task_id").write_parquet(
            tmp_path / "evaluations" / f"{name}.parquet"
        )
    source = read_folder(tmp_path).source
    own = source.of([tasks[0]], source.places())
    assert [path.rsplit("/", 1)[1] for path in own.rollouts] == [f"{tasks[0].replace('/', '-')}.parquet"]
    assert own.evaluations == source.evaluations  # they do not name their tasks
    assert own.block([tasks[0]]).equals(source.block([tasks[0]]))
