"""Parquet files: the wanted columns, some thousand rows at a time."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pyfactory.core.durable import translate_os_error
from pyfactory.errors import InvalidInputError, PyfactoryError
from pyfactory.shard.importers.rows import Bad, Rows, row_bytes
from pyfactory.shard.importers.selection import MAX_ID_BYTES, RESERVED_ID, STRINGS, Column, Selection, near

__all__ = ["check_columns", "check_parquet", "parquet_schema", "read_parquet", "rows_of_batch"]

_BATCH_BYTES = 8 << 20
_BATCH_ROWS = 8192
_PAGE_BYTES = 1 << 20


def parquet_schema(path: Path) -> pa.Schema:
    """Return the columns of a Parquet file; InvalidInputError if it is none."""
    with _opened(path) as file:
        return file.schema_arrow


def check_parquet(path: Path, selection: Selection, columns: list[Column], first: Path) -> None:
    """Check that a file has the wanted columns in the types of the table.

    Args:
        path: The file.
        selection: What to take.
        columns: The kept columns as the caller named them.
        first: The file that decided on the types, named if another one differs.

    Raises:
        InvalidInputError: A column is missing, there twice, or of another type.
    """
    check_columns(parquet_schema(path), path, selection, columns, first)


def check_columns(schema: pa.Schema, what: object, selection: Selection, columns: list[Column], first: object) -> None:
    """Check that what has a schema has the wanted columns in the types of the table; see `check_parquet`."""
    text = _type_of(what, schema, selection.text)
    if text not in STRINGS:
        raise InvalidInputError(f"the text column {selection.text!r} of {what} is {text}", hint="cast it to string")
    if selection.id is not None:
        id_ = _type_of(what, schema, selection.id)
        if id_ not in STRINGS and not pa.types.is_integer(id_):
            message = f"the id column {selection.id!r} of {what} is {id_}"
            raise InvalidInputError(message, hint="cast it to string or integer")
    for column, kept in zip(columns, selection.columns, strict=True):
        type_ = _type_of(what, schema, column.name)
        if not column.allows(type_):
            message = f"column {column.name!r} of {what} is {type_}, not {column.type}"
            raise InvalidInputError(message, hint=f"name the column without a type, or cast it to {column.type}")
        if not _same(type_, kept.type):
            raise InvalidInputError(
                f"column {column.name!r} is {kept.type} in {first} and {type_} in {what}",
                hint="cast it in one of the files, or import them into two tables",
            )


def read_parquet(path: Path, file: int, selection: Selection) -> Iterator[Rows]:
    """Yield the rows of a file.

    Args:
        path: The file, whose columns were checked.
        file: Its number in the import.
        selection: What to take.
    """
    names = [selection.text, *(field.name for field in selection.columns)]
    wanted = names if selection.id is None else [*names, selection.id]
    first = 1
    with _opened(path) as opened:
        for group in range(opened.metadata.num_row_groups):
            size = _batch_rows(opened.metadata.row_group(group))
            batches = opened.iter_batches(size, [group], sorted(set(wanted)), use_threads=False)
            for batch in batches:
                yield rows_of_batch(batch, first, file, selection)
                first += batch.num_rows


def rows_of_batch(batch: pa.RecordBatch, first: int, file: int, selection: Selection) -> Rows:
    """Return the rows of a batch whose columns were checked, the first of which has the number `first`."""
    return _Batch(batch, first, file, selection).rows()


def _batch_rows(group: Any) -> int:
    """Return how many rows of a row group take about `_BATCH_BYTES`, all columns taken together.

    What the columns take is not asked one by one: over a damaged footer, that aborts the program (pyarrow 26).
    """
    rows: int = max(1, min(_BATCH_ROWS, _BATCH_BYTES * max(group.num_rows, 1) // max(group.total_byte_size, 1)))
    return rows


class _Batch:
    """Some rows of a file, from which bad ones are taken out."""

    def __init__(self, batch: pa.RecordBatch, first: int, file: int, selection: Selection) -> None:
        self._file = file
        self._first = first
        self._selection = selection
        self._reasons: dict[int, str] = {}
        self._text = self._strings(batch, selection.text, pa.large_string())
        self._columns = [self._column(batch, field) for field in selection.columns]
        self._ids = None if selection.id is None else self._strings(batch, selection.id, pa.large_string())

    def rows(self) -> Rows:
        """Return the good rows and the bad ones."""
        self._reject(self._text.is_null(), f"field {self._selection.text!r} is null, not a string")
        if self._ids is not None:
            self._check_ids(self._ids)
        limit = self._selection.max_record_bytes
        columns = [self._text.fill_null(""), *self._columns]
        content = pa.RecordBatch.from_arrays(columns, schema=self._selection.schema)
        self._reject(pa.array(row_bytes(content) > limit), f"longer than the limit of {limit:,} bytes")
        good = np.ones(content.num_rows, bool)
        good[list(self._reasons)] = False
        mask = pa.array(good)
        return Rows(
            content if good.all() else content.filter(mask),
            self._ids if self._ids is None or good.all() else self._ids.filter(mask),
            np.full(int(good.sum()), self._file, np.int32),
            np.flatnonzero(good) + self._first,
            [Bad(self._file, self._first + row, reason) for row, reason in sorted(self._reasons.items())],
        )

    def _column(self, batch: pa.RecordBatch, field: pa.Field) -> pa.Array:
        if field.type in STRINGS:
            return self._strings(batch, field.name, field.type)
        return batch.column(field.name).cast(field.type)

    def _strings(self, batch: pa.RecordBatch, name: str, type_: pa.DataType) -> pa.Array:
        """Return a column of strings; what is not valid UTF-8 is bad and becomes empty, integers become decimals."""
        column = batch.column(name)
        if pa.types.is_integer(column.type):
            return column.cast(type_)
        try:
            column.validate(full=True)
        except pa.ArrowInvalid:
            values = column.cast(pa.large_binary()).to_pylist()
            for row, value in enumerate(values):
                if value is not None and (reason := _undecodable(value, name)):
                    self._reasons.setdefault(row, reason)
                    values[row] = b""
            column = pa.array(values, pa.large_binary())
        return column.cast(type_)

    def _check_ids(self, ids: pa.LargeStringArray) -> None:
        name = self._selection.id
        length = pc.binary_length(ids).fill_null(1)
        self._reject(ids.is_null(), f"no id in field {name!r}")
        self._reject(pc.equal(length, 0), f"id field {name!r} is empty")
        self._reject(pc.greater(length, MAX_ID_BYTES), f"the id in field {name!r} is longer than {MAX_ID_BYTES} bytes")
        reserved = f"the id in field {name!r} begins with {RESERVED_ID!r}, as only those of forgotten records do"
        self._reject(pc.starts_with(ids, pattern=RESERVED_ID).fill_null(False), reserved)

    def _reject(self, bad: pa.BooleanArray, reason: str) -> None:
        rows: NDArray[np.int64] = np.flatnonzero(bad.to_numpy(zero_copy_only=False))
        for row in rows.tolist():
            self._reasons.setdefault(row, reason)


@contextmanager
def _opened(path: Path) -> Iterator[pq.ParquetFile]:
    """Open a file and translate what Arrow says about it."""
    try:
        with translate_os_error(path):
            path.open("rb").close()  # Arrow's own messages about missing files and rights are long
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=_PAGE_BYTES) as file:
            yield file
    except PyfactoryError:
        raise
    except OSError as error:
        if error.errno is not None:
            with translate_os_error(path):
                raise
        raise _unreadable(path, error) from error
    except (pa.ArrowException, UnicodeDecodeError, OverflowError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> InvalidInputError:
    message = f"{path} is not a readable Parquet file: {str(error)[:200]}"
    return InvalidInputError(message, hint="write or copy it again")


def _type_of(what: object, schema: pa.Schema, name: str) -> pa.DataType:
    found = [field.type for field in schema if field.name == name]
    if len(found) > 1:
        raise InvalidInputError(f"{what} has {len(found)} columns called {name!r}", hint="rename one of them")
    if not found:
        raise InvalidInputError(f"{what} has no column {name!r}", hint=near(name, schema.names))
    return found[0]


def _same(type_: pa.DataType, kept: pa.DataType) -> bool:
    """Tell whether a type is the one kept; what items of a list are called does not count."""
    if pa.types.is_large_list(type_) and pa.types.is_large_list(kept):
        return bool(type_.value_type == kept.value_type) and type_.value_field.nullable == kept.value_field.nullable
    return bool(type_ == kept)


def _undecodable(value: bytes, name: str) -> str:
    try:
        value.decode()
    except UnicodeDecodeError as error:
        return f"field {name!r} is not valid UTF-8 at byte {error.start + 1}"
    return ""
