"""A version as an Arrow table, or as what DuckDB scans: shards are opened in place, one when its turn comes.

A scan has three columns that no shard holds: `_id`, the record's id, `_file`, the digest of the raw file it came from,
and `_line`, its line or row number there. They are read from the side shards, and only if a query asks for them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
from pyarrow import acero

from pyfactory.core.digest import NO_DIGEST
from pyfactory.errors import CorruptError
from pyfactory.shard.manifest import Part
from pyfactory.shard.reader import Side, open_shard, open_side

if TYPE_CHECKING:
    from pyfactory.repo.version import Version

__all__ = ["RECORD_COLUMNS", "TableScan", "arrow_table", "batches", "scan_schema"]

RECORD_COLUMNS = (pa.field("_id", pa.large_string()), pa.field("_file", pa.string()), pa.field("_line", pa.int64()))
"""What a scan tells of each record beside its content; null where the table does not know it."""

_NAMES = tuple(field.name for field in RECORD_COLUMNS)


def arrow_table(version: Version) -> pa.Table:
    """Return the content of a version as an Arrow table over the memory maps of its shards; see `Version.to_arrow`."""
    return pa.Table.from_batches(batches(version, version.schema.names), version.schema)


def scan_schema(version: Version) -> pa.Schema:
    """Return the columns of a scan: those of the table, then `_id`, `_file`, `_line` unless it has one of that name."""
    schema = version.schema
    return pa.schema([*schema, *(field for field in RECORD_COLUMNS if field.name not in schema.names)])


def batches(version: Version, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    """Yield a batch per shard with some columns of `scan_schema`, in that order, without copying content.

    Raises:
        CorruptError: A shard is damaged, or not what the table says.
        NotFoundError: A shard is gone.
    """
    schema = scan_schema(version)
    chosen = pa.schema([schema.field(name) for name in columns])
    wanted = {name for name in columns if name not in version.schema.names}
    for part in version.parts():
        content = _content(version, part)
        told = _records(version, part, wanted) if wanted else {}
        arrays = [told[name] if name in wanted else content.column(name) for name in columns]
        # A batch without columns has no rows of its own.
        yield pa.RecordBatch.from_arrays(arrays, schema=chosen) if arrays else content.select([])


def _content(version: Version, part: Part) -> pa.RecordBatch:
    what = _what(version, part)
    batch = open_shard(version.repository.objects.map(part.shard), what)
    if batch.num_rows != part.rows or not batch.schema.equals(version.schema):
        raise CorruptError(f"{what} has not the {part.rows} rows, or not the columns, that its table says")
    return batch


def _records(version: Version, part: Part, wanted: set[str]) -> dict[str, pa.Array]:
    empty = {field.name: pa.nulls(part.rows, field.type) for field in RECORD_COLUMNS if field.name in wanted}
    if part.side == NO_DIGEST:
        return empty
    what = f"the side {part.side} of {_what(version, part)}"
    side = open_side(version.repository.objects.map(part.side), what)
    if len(side) != part.rows:
        raise CorruptError(f"{what} has {len(side)} rows where its table says {part.rows}")
    return empty | {name: array for name, array in _told(side, wanted).items() if name in wanted}


def _told(side: Side, wanted: set[str]) -> dict[str, pa.Array]:
    told: dict[str, pa.Array] = {"_id": side.ids}
    origins = side.origins() if wanted & {"_file", "_line"} else ()
    if not origins:
        return told
    files, file, line = origins
    if len(file) and not (file.min() >= 0 and file.max() < len(files) and line.min() >= 1):
        raise CorruptError(f"{side.what} has an origin outside its files")
    names = np.array(files, object) if files else np.zeros(0, object)
    return told | {"_file": pa.array(names, pa.string()).take(pa.array(file)), "_line": pa.array(line)}


def _what(version: Version, part: Part) -> str:
    return f"shard {part.shard} of table {version.table!r} in {version.repository.url}"


class TableScan(ds.Dataset):  # type: ignore[misc]  # pyarrow has no types
    """A version as a dataset that DuckDB scans as often as a query needs it, with only the columns it needs.

    DuckDB asks a dataset for `schema` and `scanner`, and nothing else here works. Made without calling the base class,
    which makes datasets of files.

    Attributes:
        failure: What stopped a scan; the error of the reader, of which only the text survives inside DuckDB.
    """

    def __init__(self, version: Version) -> None:
        self.failure: Exception | None = None
        self._version = version
        self._schema = scan_schema(version)

    @property
    def schema(self) -> pa.Schema:
        """The columns of a scan."""
        return self._schema

    def scanner(self, columns: Sequence[str] | None = None, filter: Any = None, **rest: Any) -> _Scan:
        """Return a scan of some columns of the rows for which a filter (a pyarrow expression) is true."""
        return _Scan(self, self._version, self._schema.names if columns is None else list(columns), filter)


class _Scan:
    """One pass over a table."""

    def __init__(self, table: TableScan, version: Version, columns: list[str], filter: Any) -> None:
        self._table = table
        self._version = version
        self._columns = columns
        self._filter = filter

    @property
    def projected_schema(self) -> pa.Schema:
        """The columns that come out."""
        return pa.schema([self._table.schema.field(name) for name in self._columns])

    def to_reader(self) -> pa.RecordBatchReader:
        """Return the stream of batches; nothing is opened before it is read."""
        return pa.RecordBatchReader.from_batches(self.projected_schema, self._read())

    def _read(self) -> Iterator[pa.RecordBatch]:
        try:
            if self._filter is None:
                yield from batches(self._version, self._columns)
                return
            extra = [name for name in self._table.schema.names if name not in self._columns and self._needs(name)]
            for batch in batches(self._version, [*self._columns, *extra]):
                yield from _filtered(batch, self._filter, self._columns)
        except Exception as error:
            self._table.failure = error
            raise

    def _needs(self, name: str) -> bool:
        """Tell whether the filter looks at a column, which an expression does not say of itself: try without it."""
        others = pa.schema([field for field in self._table.schema if field.name != name])
        try:
            others.empty_table().filter(self._filter)
        except pa.ArrowInvalid:
            return True
        return False


def _filtered(batch: pa.RecordBatch, expression: Any, columns: list[str]) -> list[pa.RecordBatch]:
    """Return the rows for which an expression is true, in order, which threads would not keep."""
    plan = acero.Declaration.from_sequence(
        [
            acero.Declaration("table_source", acero.TableSourceNodeOptions(pa.Table.from_batches([batch]))),
            acero.Declaration("filter", acero.FilterNodeOptions(expression)),
        ]
    )
    found: list[pa.RecordBatch] = plan.to_table(use_threads=False).select(columns).to_batches()
    return found
