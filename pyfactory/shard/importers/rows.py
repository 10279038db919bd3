"""Rows on their way from a file to a shard, and the content from which ids are made.

Canonical content (final: ids in stored tables depend on it)

    The content hash of a record is the first 16 bytes of the BLAKE3 of its canonical content. For a table of `text`
    alone that is the UTF-8 of the text, nothing else. For a table with more columns it is the frames of its values, in
    the order of the schema, `text` first. A frame is the length of the value in bytes, unsigned 64-bit little-endian,
    and the value:

        string, binary          the bytes (UTF-8)
        integer, date, timestamp  8 bytes, two's complement, little-endian: the integer, days or units since 1970
        float, double           8 bytes, IEEE 754 double, little-endian; every NaN is 0x7ff8000000000000
        bool                    1 byte, 0 or 1
        list                    the frames of its items, one after the other
        null                    no value; the frame is 8 bytes 0xff

    The width of a number and the size of string offsets do not show; neither do column names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pyfactory.core.digest import Hasher

__all__ = ["HASH_BYTES", "Bad", "RowBuilder", "Rows", "content_hashes", "row_bytes", "strings"]

HASH_BYTES = 16

Int64s = NDArray[np.int64]

_NAN = b"\0\0\0\0\0\0\xf8\x7f"
_NULL_FRAME = b"\xff" * 8


class Bad(NamedTuple):
    """A record that cannot be taken: number of its file in the import, line or row number from 1, why."""

    file: int
    line: int
    reason: str


@dataclass(frozen=True, slots=True)
class Rows:
    """Records read from files, in order.

    Attributes:
        content: Their content in the schema of the table.
        ids: large_string[rows], their ids; None when these are made from the content.
        file: int32[rows], number of the file among all files of the import.
        line: int64[rows], line or row number in the file, from 1.
        bad: Records met on the way that cannot be taken.
    """

    content: pa.RecordBatch
    ids: pa.LargeStringArray | None
    file: NDArray[np.int32]
    line: Int64s
    bad: Sequence[Bad] = ()


@dataclass(slots=True)
class RowBuilder:
    """Collects rows one by one.

    Attributes:
        schema: Of the content.
        texts: UTF-8 of each row's text.
        values: Values of the other columns of each row; left empty if there are none.
        ids: Ids of the rows; left empty if these are made from the content.
        files: File number of each row.
        lines: Line number of each row.
        bad: Records that cannot be taken.
    """

    schema: pa.Schema
    texts: list[bytes] = field(default_factory=list)
    values: list[Sequence[Any]] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    files: list[int] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)
    bad: list[Bad] = field(default_factory=list)

    def take(self) -> Rows:
        """Return what was collected and start again."""
        types = self.schema.types[1:]
        values = list(zip(*self.values, strict=True)) or [()] * len(types)
        columns = [pa.array(column, type_) for column, type_ in zip(values, types, strict=True)]
        rows = Rows(
            pa.RecordBatch.from_arrays([strings(self.texts), *columns], schema=self.schema),
            strings([one.encode() for one in self.ids]) if self.ids else None,
            np.array(self.files, np.int32),
            np.array(self.lines, np.int64),
            self.bad,
        )
        self.texts, self.values, self.ids, self.files, self.lines, self.bad = [], [], [], [], [], []
        return rows


def strings(encoded: Sequence[bytes]) -> pa.LargeStringArray:
    """Return strings given as valid UTF-8 as an Arrow array."""
    offsets = np.zeros(len(encoded) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, encoded), np.int64, len(encoded)), out=offsets[1:])
    return pa.LargeStringArray.from_buffers(len(encoded), pa.py_buffer(offsets), pa.py_buffer(b"".join(encoded)))


def row_bytes(batch: pa.RecordBatch) -> Int64s:
    """Return about how many bytes each row takes: its texts, lists and binaries, and 8 for each other value."""
    total = np.zeros(batch.num_rows, np.int64)
    for column in batch.columns:
        type_ = column.type
        if pa.types.is_large_list(type_):
            total += 8 * pc.list_value_length(column).fill_null(0).to_numpy(zero_copy_only=False)
        elif pa.types.is_primitive(type_):
            total += 8
        else:
            total += pc.binary_length(column).fill_null(0).to_numpy(zero_copy_only=False)
    return total


def content_hashes(batch: pa.RecordBatch) -> bytes:
    """Return the content hashes of all rows, 16 bytes each, one after the other (see the top of this module)."""
    if batch.num_columns == 1:
        starts, octets = _spans(batch.column(0))
        contents: Any = (octets[start:stop] for start, stop in pairwise(starts))
    else:
        contents = map(b"".join, zip(*map(_frames, batch.columns), strict=True))
    return b"".join([Hasher(content).digest(length=HASH_BYTES) for content in contents])


def _frames(column: pa.Array) -> list[bytes]:
    type_ = column.type
    if pa.types.is_large_list(type_):
        frames = _list_frames(column)
    elif pa.types.is_boolean(type_):
        bools = column.fill_null(False).to_numpy(zero_copy_only=False)
        frames = [b"\1\0\0\0\0\0\0\0\1" if value else b"\1\0\0\0\0\0\0\0\0" for value in bools.tolist()]
    elif pa.types.is_primitive(type_):
        octets = _words(column)
        frames = [b"\x08\0\0\0\0\0\0\0" + octets[at : at + 8] for at in range(0, len(octets), 8)]
    else:
        starts, view = _spans(column)
        frames = [(stop - start).to_bytes(8, "little") + view[start:stop] for start, stop in pairwise(starts)]
    if column.null_count:
        for row in np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False)).tolist():
            frames[row] = _NULL_FRAME
    return frames


def _list_frames(column: pa.Array) -> list[bytes]:
    items = _frames(column.flatten())  # which leaves out what lies under nulls
    lengths = pc.list_value_length(column).fill_null(0).to_pylist()
    frames, start = [], 0
    for length in lengths:
        body = b"".join(items[start : start + length])
        frames.append(len(body).to_bytes(8, "little") + body)
        start += length
    return frames


def _words(column: pa.Array) -> bytes:
    """Return each value of a column of numbers, dates or times as 8 bytes."""
    if pa.types.is_temporal(column.type):
        column = column.view(pa.int32() if column.type.bit_width == 32 else pa.int64())
    if pa.types.is_floating(column.type):
        doubles = column.fill_null(0).to_numpy(zero_copy_only=False).astype("<f8")
        doubles[np.isnan(doubles)] = np.frombuffer(_NAN, "<f8")[0]
        return bytes(doubles.tobytes())
    values = column.fill_null(0).to_numpy(zero_copy_only=False)
    octets: bytes = values.astype("<u8" if values.dtype.kind == "u" else "<i8").tobytes()
    return octets


def _spans(column: pa.Array) -> tuple[list[int], memoryview]:
    """Return where each value starts in the bytes of a column of strings or binaries, and those bytes."""
    if not len(column):
        return [0], memoryview(b"")
    _, offsets, octets = column.buffers()
    narrow = column.type in (pa.string(), pa.binary())
    starts = np.frombuffer(offsets, np.int32 if narrow else np.int64)[column.offset : column.offset + len(column) + 1]
    return starts.tolist(), memoryview(octets) if octets is not None else memoryview(b"")
