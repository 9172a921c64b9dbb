"""Typed tables on disk: checked on write and on read, written atomically, carrying where they came from.

Knows Arrow and files; what the columns mean is said beside each schema, in the modules next to this one.
"""

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vegflow.errors import ArtifactError

PROVENANCE = b"vegflow"


def column(name: str, type_: pa.DataType, meaning: str, *, nullable: bool = False) -> pa.Field:
    """A column with its meaning and unit; the data dictionary is made from these."""
    return pa.field(name, type_, nullable=nullable, metadata={"meaning": meaning})


def digest(*parts: object) -> str:
    """SHA-256 (hex) of JSON-serialisable values or bytes; equal values give equal digests."""
    sha = hashlib.sha256()
    for part in parts:
        data = part if isinstance(part, bytes) else json.dumps(part, sort_keys=True, default=str).encode()
        sha.update(len(data).to_bytes(8, "big") + data)
    return sha.hexdigest()


def file_digest(path: str | Path) -> str:
    """SHA-256 (hex) of a file's bytes."""
    with open(path, "rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


@contextlib.contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it takes the real name only if the block succeeds.

    A killed writer leaves nothing under the real name; of two writers the last whole file wins.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def provenance(*, config: object = None, parents: Sequence[str | Path] = (), **more: Any) -> dict[str, Any]:
    """What a file came from: package version, digest of the configuration slice, digests of the inputs.

    No time and no host: two runs on the same inputs write the same bytes. `more` may add `hardware`.
    """
    return {
        "version": metadata.version("vegflow"),
        "config": digest(config),
        "parents": {Path(p).name: file_digest(p) for p in parents},
        **more,
    }


def to_table(rows: Iterable[Mapping[str, Any]], schema: pa.Schema) -> pa.Table:
    """Rows (mappings) as a table of `schema`.

    Raises ArtifactError if a column is missing, unknown, of the wrong type, or null where it may not be.
    """
    rows = list(rows)
    names = set(schema.names)
    for index, row in enumerate(rows):
        if row.keys() != names:
            odd = sorted(row.keys() ^ names)
            raise ArtifactError(f"row {index}: columns {odd} are missing or unknown")
    try:
        table = pa.Table.from_pylist([dict(row) for row in rows], schema=schema)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise ArtifactError(f"a value does not fit its column: {error}") from error
    return check(table, schema)


def check(table: pa.Table, schema: pa.Schema, where: str = "table") -> pa.Table:
    """Return `table` cast to `schema` (with its descriptions); ArtifactError if it does not fit."""
    if table.schema.names != schema.names:
        missing = [n for n in schema.names if n not in table.schema.names]
        extra = [n for n in table.schema.names if n not in schema.names]
        raise ArtifactError(f"{where}: missing columns {missing}, unknown columns {extra}")
    for field in schema:
        got = table.schema.field(field.name).type
        if got != field.type:
            raise ArtifactError(f"{where}: column '{field.name}' is {got}, should be {field.type}")
        if not field.nullable and table.column(field.name).null_count:
            raise ArtifactError(f"{where}: column '{field.name}' holds nulls")
    return table.cast(schema)


def write_table(
    path: str | Path, rows: pa.Table | Iterable[Mapping[str, Any]], schema: pa.Schema, source: Mapping[str, Any]
) -> None:
    """Check `rows` against `schema` and write them to `path` with the provenance `source`, atomically."""
    table = check(rows, schema, str(path)) if isinstance(rows, pa.Table) else to_table(rows, schema)
    facts = {PROVENANCE: json.dumps(dict(source), sort_keys=True).encode()}
    with atomic(path) as temporary:
        pq.write_table(table.replace_schema_metadata(facts), temporary, compression="zstd")


def read_table(path: str | Path, schema: pa.Schema) -> pa.Table:
    """Read and check a table. Raises ArtifactError, naming the file, if it is absent, damaged or of another schema."""
    try:
        table = pq.read_table(path, partitioning=None)
    except FileNotFoundError as error:
        raise ArtifactError(f"{path}: there is no such file") from error
    except pa.ArrowInvalid as error:
        raise ArtifactError(f"{path}: not a readable Parquet file ({error}); delete it and run again") from error
    return check(table, schema, str(path))


def read_rows(path: str | Path, schema: pa.Schema) -> list[dict[str, Any]]:
    """`read_table` as a list of dictionaries, one a row."""
    return read_table(path, schema).to_pylist()


def read_provenance(path: str | Path) -> dict[str, Any]:
    """The provenance written with a table ({} if it has none)."""
    facts = pq.read_schema(path).metadata or {}
    return json.loads(facts.get(PROVENANCE, b"{}"))
