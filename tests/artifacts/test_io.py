"""Artifacts: what does not fit is refused on write and on read, a killed writer leaves nothing, equal rows equal bytes."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vegflow.artifacts.analysis import ANALYSIS_TABLES
from vegflow.artifacts.evaluations import EVALUATIONS
from vegflow.artifacts.frames import read_frame
from vegflow.artifacts.io import atomic, column, digest, provenance, read_provenance, read_rows, read_table, write_table
from vegflow.artifacts.policies import NLL, UPDATES
from vegflow.artifacts.rollouts import ROLLOUTS
from vegflow.errors import ArtifactError

SCHEMA = pa.schema([column("name", pa.string(), "who"), column("size", pa.float64(), "metres", nullable=True)])
ROWS = [{"name": "a", "size": 1.5}, {"name": "b", "size": None}]


def test_rows_come_back_with_their_provenance(tmp_path):
    path = tmp_path / "deep" / "table.parquet"
    write_table(path, ROWS, SCHEMA, provenance(config={"k": 1}))
    assert read_rows(path, SCHEMA) == ROWS
    assert read_provenance(path)["config"] == digest({"k": 1})


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"name": "a"}], "row 0: columns ['size'] are missing or unknown"),
        ([{"name": "a", "size": 1.0, "more": 2}], "row 0: columns ['more'] are missing or unknown"),
        ([{"name": None, "size": 1.0}], "column 'name' holds nulls"),
        ([{"name": "a", "size": "tall"}], "a value does not fit its column"),
    ],
)
def test_what_does_not_fit_is_not_written(tmp_path, rows, message):
    path = tmp_path / "table.parquet"
    with pytest.raises(ArtifactError) as caught:
        write_table(path, rows, SCHEMA, {})
    assert message in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_what_does_not_fit_is_not_read(tmp_path):
    path = tmp_path / "table.parquet"
    pq.write_table(pa.table({"name": ["a"], "size": [1]}), path)
    with pytest.raises(ArtifactError, match="column 'size' is int64, should be double"):
        read_table(path, SCHEMA)
    with pytest.raises(ArtifactError, match="missing columns"):
        read_table(path, NLL)


def test_absent_and_damaged_files_are_named(tmp_path):
    with pytest.raises(ArtifactError, match=r"gone.parquet: there is no such file"):
        read_table(tmp_path / "gone.parquet", SCHEMA)
    (tmp_path / "cut.parquet").write_bytes(b"PAR1 half a file")
    with pytest.raises(ArtifactError, match=r"cut.parquet: not a readable Parquet file"):
        read_table(tmp_path / "cut.parquet", SCHEMA)


def test_equal_rows_give_equal_bytes(tmp_path):
    for name in ("one", "two"):
        write_table(tmp_path / name, ROWS, SCHEMA, provenance(config=1, parents=[]))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_writer_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def fail():
        with atomic(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_is_an_error_and_leaves_nothing_under_the_name(tmp_path, monkeypatch):
    """/dev/full answers every write as a full disk does."""
    monkeypatch.setattr("vegflow.artifacts.io.pq.write_table", lambda *_, **__: Path("/dev/full").write_text("x"))
    with pytest.raises(OSError, match="No space left"):
        write_table(tmp_path / "file", ROWS, SCHEMA, {})
    assert list(tmp_path.iterdir()) == []


def test_frames_of_no_files_have_the_columns(tmp_path):
    assert read_frame([], NLL).columns == NLL.names
    write_table(tmp_path / "a", ROWS, SCHEMA, {})
    assert read_frame([tmp_path / "a", tmp_path / "a"], SCHEMA).height == 4


@pytest.mark.parametrize("schema", [ROLLOUTS, EVALUATIONS, NLL, UPDATES, *ANALYSIS_TABLES.values()])
def test_every_column_says_what_it_means(schema):
    assert all(field.metadata[b"meaning"] for field in schema)


def test_digests_keep_parts_apart():
    assert digest("ab", "c") != digest("a", "bc")
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
