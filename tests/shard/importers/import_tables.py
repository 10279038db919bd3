"""Raw files in all formats, and imports read back as plain rows."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from pyfactory.shard.importers import Imported
from pyfactory.shard.reader import Side, open_shard, open_side
from pyfactory.store.content import Objects

NAMES = ["a.jsonl", "a.ndjson", "a.json", "a.jsonl.gz", "a.jsonl.zst", "a.parquet"]
RECORDS = [{"key": f"k{number}", "n": number % 3, "text": f"text {number % 4}\n" * number} for number in range(10)]
"""The same few records, and names for a file of them in every format."""

Row = tuple[Any, ...]


def json_lines(records: Iterable[Any], end: str = "\n") -> bytes:
    """Records as JSON lines; bytes are taken as they are."""
    lines = [one if isinstance(one, bytes) else json.dumps(one, ensure_ascii=False).encode() for one in records]
    return end.encode().join([*lines, b""])


def write_records(path: Path, records: Sequence[dict[str, Any]], schema: pa.Schema | None = None) -> Path:
    """Write records in the format that the name of a file asks for."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(list(records), schema), path, row_group_size=3)
        return path
    content = json_lines(records)
    if path.suffix == ".gz":
        content = gzip.compress(content, mtime=0)
    elif path.suffix == ".zst":
        content = zstandard.compress(content)
    path.write_bytes(content)
    return path


def rows_of(objects: Objects, imported: Imported) -> list[Row]:
    """All rows in order: id, values of the columns, digest of the raw file, line."""
    rows: list[Row] = []
    for part in imported.parts:
        content = open_shard(objects.map(part.shard), "shard", verify=True)
        side = open_side(objects.map(part.side), "side", verify=True)
        assert content.schema.equals(imported.schema)
        assert content.num_rows == len(side) == part.rows > 0
        assert objects.store.size(objects.key(part.shard)) == part.nbytes
        values = zip(*(column.to_pylist() for column in content.columns), strict=True)
        for row, value in enumerate(values):
            rows.append((side.id(row), *value, *(side.origin(row) or ())))
    assert len(rows) == imported.records
    return rows


def sides_of(objects: Objects, imported: Imported) -> list[Side]:
    """The side shards of an import."""
    return [open_side(objects.map(part.side), "side") for part in imported.parts]
