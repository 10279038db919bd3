"""Shards opened in place: no bytes are copied, and hostile bytes end in CorruptError, never in a wild read.

Opening checks all that reading relies on (layout, buffer sizes, offsets); that costs a pass over the offsets, not over
the content. `verify=True` looks at the content as well.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pyfactory.core import canonical
from pyfactory.core.digest import Buffer, Digest, parse_digest
from pyfactory.errors import CorruptError, InvalidInputError
from pyfactory.shard.layout import FILES_KEY, KEY_BYTES, canonical_schema, is_side_schema, key_of_id, token_width

__all__ = ["Side", "open_shard", "open_side", "token_buffers"]

_MAGIC_BYTES = 8  # "ARROW1" and padding, before the first message of an IPC file


def open_shard(buffer: Buffer | pa.Buffer, what: str, *, verify: bool = False) -> pa.RecordBatch:
    """Open the file of a shard without copying it.

    Args:
        buffer: The whole file, for instance a memory map; it stays referenced by the batch.
        what: Names the shard in errors.
        verify: Also check every value (valid UTF-8, null counts), which reads everything.

    Raises:
        CorruptError: The bytes are not one record batch in a layout that `encode_shard` or `make_side` writes.
    """
    whole = buffer if isinstance(buffer, pa.Buffer) else pa.py_buffer(buffer)
    with _corrupt(what):
        reader = pa.ipc.open_file(whole)
        schema = reader.schema
        _check_layout(schema, what)
        if reader.num_record_batches != 1:
            raise CorruptError(f"{what} has {reader.num_record_batches} record batches instead of one")
        batch = _only_batch(whole, schema, what)
        batch.validate(full=verify)
        for field, column in zip(schema, batch.columns, strict=True):
            _check_column(column, field, whole, f"column {field.name!r} of {what}")
    return batch


def token_buffers(batch: pa.RecordBatch) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Return the arrays behind a token shard, or a slice of one, without copying tokens.

    Returns:
        values: uint8, uint16 or uint32 [tokens], read-only, all documents one after the other.
        offsets: int64[rows + 1], where each document starts in `values`; they never fall.

    Raises:
        InvalidInputError: The batch is not of a token table.
    """
    width = token_width(batch.schema)
    if width is None:
        raise InvalidInputError(f"columns {batch.schema.names} are not those of a token table")
    column = batch.column(0)
    items = column.values
    values = _view(items.buffers()[1], np.dtype(f"u{width}"), items.offset, len(items))
    if not len(column):
        return values[:0], np.zeros(1, np.int64)
    offsets = _view(column.buffers()[1], np.dtype(np.int64), column.offset, len(column) + 1)
    values = values[offsets[0] : offsets[-1]]
    return values, offsets if offsets[0] == 0 else offsets - offsets[0]


def open_side(buffer: Buffer | pa.Buffer, what: str, *, verify: bool = False) -> Side:
    """Open the file of a side shard; see `open_shard`. `verify` also checks that its keys are those of its ids."""
    side = Side(open_shard(buffer, what, verify=verify), what)
    if verify:
        side.check()
    return side


class Side:
    """Ids and origins of the rows of a content shard.

    Args:
        batch: An opened side shard.
        what: Names it in errors.

    Attributes:
        ids: large_string[rows], in row order.
        keys: V16[rows], ascending, read-only: the keys of the ids.
        files: Digests of the raw files that rows come from, empty if they come from none.

    Raises:
        CorruptError: The batch is none of a side shard.
    """

    def __init__(self, batch: pa.RecordBatch, what: str = "a side shard") -> None:
        if not is_side_schema(batch.schema):
            raise CorruptError(f"{what} is not a side shard: its columns are {batch.schema.names}")
        self.what = what
        self.ids: pa.LargeStringArray = batch.column("id")
        key, row = batch.column("key"), batch.column("row")
        self.keys = _view(key.buffers()[1], np.dtype(f"V{KEY_BYTES}"), key.offset, len(key))
        self._rows = _view(row.buffers()[1], np.dtype(np.uint32), row.offset, len(row))
        self.files = _files(batch.schema, what)
        self._origins: tuple[pa.Array, pa.Array] | None = None
        if len(batch.schema) > 3:
            self._origins = batch.column("file"), batch.column("line")

    def __len__(self) -> int:
        return len(self.keys)

    def find(self, record_id: str) -> int | None:
        """Return the first row with this id, or None. O(log rows)."""
        key = key_of_id(record_id)
        at = bisect_left(range(len(self)), key, key=self._key)
        while at < len(self) and self._key(at) == key:
            row = self._row(at)
            if self.id(row) == record_id:
                return row
            at += 1
        return None

    def id(self, row: int) -> str:
        """Return the id of a row."""
        try:
            text: str = self.ids[row].as_py()
        except UnicodeDecodeError as error:
            raise CorruptError(f"{self.what}: the id of row {row} is not valid UTF-8") from error
        return text

    def origin(self, row: int) -> tuple[Digest, int] | None:
        """Return (digest of the raw file, line or row number in it, from 1), or None if the table was not imported."""
        if self._origins is None:
            return None
        file, line = (column[row].as_py() for column in self._origins)
        if not (0 <= file < len(self.files) and line >= 1):
            raise CorruptError(f"{self.what}: row {row} comes from line {line} of file {file} of {len(self.files)}")
        return self.files[file], line

    def origins(self) -> tuple[list[Digest], NDArray[np.int32], NDArray[np.int64]] | tuple[()]:
        """Return all origins as `make_side` takes them: files, int32[rows], int64[rows]; () if the table has none."""
        if self._origins is None:
            return ()
        file, line = (column.to_numpy() for column in self._origins)
        return self.files, file, line

    def rows_of(self, keys: NDArray[Any]) -> NDArray[np.int64]:
        """Return the rows whose ids have some of these keys, ascending. O(keys log rows).

        Args:
            keys: V16[m], the keys to look for (`key_of_id`), in any order.

        Returns:
            int64[k]; an id that several rows have gives all of them.
        """
        mine, wanted = _words(self.keys), np.unique(_words(np.ascontiguousarray(keys)))
        low = np.searchsorted(mine, wanted, side="left")
        high = np.searchsorted(mine, wanted, side="right")
        spans = [np.arange(start, stop) for start, stop in zip(low, high, strict=True) if start < stop]
        rows = np.sort(self._rows[np.concatenate(spans)].astype(np.int64)) if spans else np.zeros(0, np.int64)
        if len(rows) and rows[-1] >= len(self):
            raise CorruptError(f"{self.what}: a key names row {rows[-1]} of {len(self)}")
        return rows

    def sorted_keys(self) -> tuple[NDArray[Any], NDArray[np.uint32]]:
        """Return the keys, V16[rows], ascending, and the row of each, uint32[rows]; both read-only."""
        if len(self) and int(self._rows.max()) >= len(self):
            raise CorruptError(f"{self.what}: a key names row {self._rows.max()} of {len(self)}")
        return self.keys, self._rows

    def check(self) -> None:
        """Check every key, row and origin, in O(rows); CorruptError says which row is wrong."""
        order = sorted(range(len(self)), key=self._row)
        if [self._row(at) for at in order] != list(range(len(self))):
            raise CorruptError(f"{self.what}: its keys do not name each row once")
        for row, at in enumerate(order):
            if self._key(at) != key_of_id(self.id(row)) or (at and self._key(at - 1) > self._key(at)):
                raise CorruptError(f"{self.what}: the key of row {row} is wrong or out of order")
            self.origin(row)

    def _key(self, at: int) -> bytes:
        return bytes(self.keys[at].tobytes())

    def _row(self, at: int) -> int:
        row = int(self._rows[at])
        if row >= len(self):
            raise CorruptError(f"{self.what}: a key names row {row} of {len(self)}")
        return row


@contextmanager
def _corrupt(what: str) -> Iterator[None]:
    """Translate whatever Arrow raises over hostile bytes."""
    try:
        yield
    except (pa.ArrowException, OSError, ValueError, KeyError, OverflowError) as error:
        raise CorruptError(f"{what} is not a readable shard: {str(error)[:200]}") from error


def _check_layout(schema: pa.Schema, what: str) -> None:
    if is_side_schema(schema):
        expected = schema.remove_metadata()
        if len(schema) > 3:
            expected = expected.with_metadata({FILES_KEY: (schema.metadata or {}).get(FILES_KEY, b"")})
    else:
        try:
            expected = canonical_schema(schema)
        except InvalidInputError as error:
            raise CorruptError(f"{what}: {error.message}") from error
    if not schema.equals(expected, check_metadata=True):
        raise CorruptError(f"{what} has metadata or list items that no shard has")


def _only_batch(whole: pa.Buffer, schema: pa.Schema, what: str) -> pa.RecordBatch:
    """Take the batch from the messages before the footer, which lets us look before Arrow would decompress a bomb."""
    messages = [*islice(pa.ipc.MessageReader.open_stream(whole.slice(_MAGIC_BYTES)), 3)]
    if [message.type for message in messages] != ["schema", "record batch"]:
        raise CorruptError(f"{what} does not hold one schema and one record batch")
    if _is_compressed(messages[1].metadata.to_pybytes()):
        raise CorruptError(f"{what} is compressed")
    return pa.ipc.read_record_batch(messages[1], schema)


def _is_compressed(message: bytes) -> bool:
    """Tell whether a record batch message names a codec: field 3 of the RecordBatch that is field 2 of the Message.

    Numbers are those of Arrow's Message.fbs; its Python face does not tell. Arrow has verified the flatbuffer.
    """
    header = _table_field(message, int.from_bytes(message[:4], "little"), 2)
    return bool(_table_field(message, header + int.from_bytes(message[header : header + 4], "little"), 3))


def _table_field(message: bytes, table: int, field: int) -> int:
    """Return where a flatbuffer table has a field, 0 if it has none."""
    vtable = table - int.from_bytes(message[table : table + 4], "little", signed=True)
    size, slot = int.from_bytes(message[vtable : vtable + 2], "little"), 4 + 2 * field
    offset = int.from_bytes(message[vtable + slot : vtable + slot + 2], "little") if slot < size else 0
    return table + offset if offset else 0


def _check_column(column: pa.Array, field: pa.Field, whole: pa.Buffer, what: str) -> None:
    """Check what the size checks of Arrow leave open: buffers inside the file, rising offsets, no undeclared nulls."""
    for buffer in column.buffers():
        if buffer is not None and buffer.size and not _inside(buffer, whole):
            raise CorruptError(f"{what} does not lie open in its file")
    if column.null_count and not field.nullable:
        raise CorruptError(f"{what} holds nulls and may hold none")
    width = _offset_width(field.type)
    if width and len(column):
        offsets = _view(column.buffers()[1], np.dtype(f"i{width}"), column.offset, len(column) + 1)
        if offsets[0] < 0 or (offsets[1:] < offsets[:-1]).any():
            raise CorruptError(f"{what} has offsets that fall")
    if pa.types.is_large_list(field.type):
        _check_column(column.values, field.type.value_field, whole, f"the items of {what}")


def _inside(buffer: pa.Buffer, whole: pa.Buffer) -> bool:
    start, stop = int(buffer.address), int(buffer.address + buffer.size)
    return int(whole.address) <= start and stop <= int(whole.address + whole.size)


def _offset_width(type_: pa.DataType) -> int:
    if type_ in (pa.string(), pa.binary()):
        return 4
    return 8 if type_ in (pa.large_string(), pa.large_binary()) or pa.types.is_large_list(type_) else 0


def _view(buffer: pa.Buffer | None, dtype: np.dtype[Any], offset: int, count: int) -> NDArray[Any]:
    """View `count` elements of a buffer; copied only if the file lies in memory where the type may not."""
    if not count or buffer is None:
        return np.zeros(0, dtype)
    return np.require(np.frombuffer(buffer, dtype, count, offset * dtype.itemsize), requirements="A")


def _words(keys: NDArray[Any]) -> NDArray[Any]:
    """View keys of 16 bytes as what NumPy compares as these bytes are compared."""
    return keys.view(f"S{KEY_BYTES}")


def _files(schema: pa.Schema, what: str) -> list[Digest]:
    if not schema.metadata:
        return []
    listing = canonical.decode(schema.metadata[FILES_KEY], f"the list of files of {what}")
    if not isinstance(listing, list):
        raise CorruptError(f"the list of files of {what} is no list")
    try:
        return [parse_digest(digest) for digest in listing]
    except InvalidInputError as error:
        raise CorruptError(f"the list of files of {what} is not one of digests") from error
