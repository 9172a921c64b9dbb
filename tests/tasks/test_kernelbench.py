"""KernelBench's own files as tasks: layouts, ids, and what a file that is none of them is told."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vegflow.errors import ConfigError
from vegflow.tasks.kernelbench import kernelbench_tasks

MARKER = "raise RuntimeError('a problem file was run')"


def problem(arguments: str = "A, B", docstring: str = '"""\n    Adds.\n\n    Slowly.\n    """') -> str:
    return f"""
import torch

{MARKER}


class Model(torch.nn.Module):
    {docstring}

    def forward(self, {arguments}):
        return A + B


N = 4


def get_inputs():
    return [torch.rand(N), torch.rand(N)]


def get_init_inputs():
    return []
"""


def rows(level: int, *numbers: int) -> list[dict]:
    return [{"problem_id": n, "name": f"{n}_Add_number_{n}_", "code": problem(), "level": level} for n in numbers]


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    for name in ("level1/2_Add_two_", "level1/10_Scale", "level2/1_Fused", "changelog/v0.1/1_Old"):
        file = tmp_path / "KernelBench" / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(problem("x: torch.Tensor, mask" if "Scale" in name else "A, B"))
    (tmp_path / "KernelBench" / "level1" / "__init__.py").write_text("")
    return tmp_path


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    for level, numbers in ((1, (2, 10)), (2, (1,))):
        pq.write_table(
            pa.Table.from_pylist(rows(level, *numbers)), tmp_path / "data" / f"level_{level}-00000-of-00001.parquet"
        )
    return tmp_path


@pytest.mark.parametrize("below", [".", "KernelBench"])
def test_a_checkout_is_read_from_its_root_or_its_folder_of_levels(checkout: Path, below: str):
    tasks = kernelbench_tasks(str(checkout / below), {1, 2})
    assert list(tasks) == ["L1/2", "L1/10", "L2/1"]
    assert tasks["L1/2"].name == "Add_two"
    assert tasks["L1/2"].description == "Adds."
    assert tasks["L1/2"].arguments == ("A", "B")
    assert tasks["L1/10"].arguments == ("x", "mask")
    assert tasks["L1/2"].source == problem()


@pytest.mark.parametrize("below", [".", "data"])
def test_a_folder_in_the_hubs_layout_is_read(parquet: Path, below: str):
    tasks = kernelbench_tasks(str(parquet / below), {1, 2})
    assert list(tasks) == ["L1/2", "L1/10", "L2/1"]
    assert tasks["L1/10"].name == "Add_number_10"
    assert tasks["L1/10"].source == problem()


def test_one_parquet_file_is_read(parquet: Path):
    assert list(kernelbench_tasks(str(parquet / "data" / "level_2-00000-of-00001.parquet"), {1, 2})) == ["L2/1"]


def test_only_the_levels_asked_for_are_read(checkout: Path, parquet: Path):
    (checkout / "KernelBench" / "level2" / "1_Fused.py").write_text("this is not Python")
    assert list(kernelbench_tasks(str(checkout), {1})) == ["L1/2", "L1/10"]
    assert list(kernelbench_tasks(str(parquet / "data"), {2})) == ["L2/1"]
    assert kernelbench_tasks(str(checkout), {4}) == {}


def test_both_layouts_give_the_same_revision(tmp_path: Path, parquet: Path):
    code = kernelbench_tasks(str(parquet), {1})["L1/2"].source
    (tmp_path / "level1").mkdir()
    (tmp_path / "level1" / "2_Add.py").write_text(code)
    from_file = kernelbench_tasks(str(tmp_path), {1})["L1/2"]
    assert from_file.revision == kernelbench_tasks(str(parquet / "data"), {1})["L1/2"].revision


def test_a_docstring_is_not_needed(tmp_path: Path):
    (tmp_path / "level1").mkdir()
    (tmp_path / "level1" / "3_Batched_add_.py").write_text(problem(docstring="pass"))
    assert kernelbench_tasks(str(tmp_path), {1})["L1/3"].description == "Batched add"


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("def f(:", "1_Bad.py is not valid Python"),
        ("x = 1", "1_Bad.py is not in KernelBench's format: no Model, get_inputs, get_init_inputs"),
        ("class Model: pass\ndef get_inputs(): pass\ndef get_init_inputs(): pass", "no Model.forward"),
    ],
)
def test_a_file_in_another_format_is_told(tmp_path: Path, code: str, told: str):
    (tmp_path / "level1").mkdir()
    (tmp_path / "level1" / "1_Bad.py").write_text(code)
    with pytest.raises(ConfigError) as caught:
        kernelbench_tasks(str(tmp_path), {1})
    assert told in str(caught.value)


def test_a_folder_without_problems_is_told(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"holds neither KernelBench/level1/\*\.py"):
        kernelbench_tasks(str(tmp_path), {1})


def test_a_file_that_is_not_parquet_is_told(tmp_path: Path):
    file = tmp_path / "problems.parquet"
    file.write_text("not Parquet")
    with pytest.raises(ConfigError, match="is not a Parquet file of KernelBench problems"):
        kernelbench_tasks(str(file), {1})


def test_missing_columns_are_told(tmp_path: Path):
    pq.write_table(pa.table({"problem_id": [1], "name": ["x"]}), tmp_path / "problems.parquet")
    with pytest.raises(ConfigError, match="has no column code, level"):
        kernelbench_tasks(str(tmp_path), {1})


def test_two_versions_of_a_problem_are_told(parquet: Path):
    other = [row | {"code": problem("x, y")} for row in rows(1, 2)]
    pq.write_table(pa.Table.from_pylist(other), parquet / "data" / "older.parquet")
    with pytest.raises(ConfigError, match="two different versions of L1/2"):
        kernelbench_tasks(str(parquet), {1})


def test_a_path_that_is_nowhere_is_told():
    with pytest.raises(ConfigError, match=r"tasks\.path /no/such/place: there is no such file or folder"):
        kernelbench_tasks("/no/such/place", {1})


def test_a_revision_of_a_local_copy_is_told(checkout: Path):
    with pytest.raises(ConfigError, match=r"tasks\.revision 'abc' goes with a data set on the hub"):
        kernelbench_tasks(str(checkout), {1}, revision="abc")


@pytest.mark.parametrize(("name", "revision"), [(None, None), ("someone/KernelBench", "abc")])
def test_an_unreachable_hub_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name, revision):
    pytest.importorskip("huggingface_hub")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ConfigError) as caught:
        kernelbench_tasks(name, {1}, revision)
    assert (name or "ScalingIntelligence/KernelBench") in str(caught.value)
    assert "set tasks.path to a local copy" in str(caught.value)
    assert ("at revision abc" in str(caught.value)) == (revision == "abc")


def test_the_hub_is_asked_for_the_commit_and_the_levels_only(monkeypatch: pytest.MonkeyPatch, parquet: Path):
    pytest.importorskip("huggingface_hub")
    asked: dict = {}

    def fetched(name: str, **options) -> str:
        asked.update(options, name=name)
        return str(parquet)

    monkeypatch.setattr("huggingface_hub.snapshot_download", fetched)
    assert list(kernelbench_tasks(None, {2}, "abc")) == ["L2/1"]
    assert asked == {
        "name": "ScalingIntelligence/KernelBench",
        "repo_type": "dataset",
        "revision": "abc",
        "allow_patterns": ["data/level_2-*.parquet"],
    }
