"""Shards without some of their records: as many rows, as many tokens in each, but nothing in those that are forgotten.

Text becomes "", other columns null (zero or empty where there may be no nulls), tokens 0, and an id the text
`forgotten:` with the key of the old id, so that rows and origins stay where they were and nobody can read the id.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Set
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pyfactory.core.digest import Digest, digest_of
from pyfactory.shard.layout import KEY_BYTES, TEXT, key_of_id, token_width
from pyfactory.shard.reader import Side, token_buffers
from pyfactory.shard.writer import encode_shard, make_side, token_batch

__all__ = [
    "FORGOTTEN",
    "blank_rows",
    "blanked_content",
    "blanked_side",
    "forgotten_id",
    "is_forgotten",
    "rows_with_text",
    "text_digests",
    "token_ranges",
]

FORGOTTEN = "forgotten:"
"""What the id of a forgotten record starts with; 32 hexadecimal digits follow."""

_FORGOTTEN_ID = re.compile(rf"{FORGOTTEN}[0-9a-f]{{{2 * KEY_BYTES}}}", re.ASCII)

Rows = NDArray[np.int64]


def forgotten_id(record_id: str) -> str:
    """Return the id that stands in place of a forgotten one; one that is forgotten already stays as it is."""
    return record_id if is_forgotten(record_id) else f"{FORGOTTEN}{key_of_id(record_id).hex()}"


def is_forgotten(record_id: str) -> bool:
    """Tell whether this stands in place of the id of a forgotten record."""
    return _FORGOTTEN_ID.fullmatch(record_id) is not None


def blank_rows(batch: pa.RecordBatch, rows: Rows) -> NDArray[np.bool_]:
    """Tell of each of some rows whether nothing is in it: bool[m]."""
    wanted = batch.take(pa.array(rows))
    empty = _emptied(wanted, np.arange(len(rows)))
    return np.array([wanted.slice(at, 1).equals(empty.slice(at, 1)) for at in range(len(rows))], np.bool_)


def blanked_content(batch: pa.RecordBatch, rows: Rows) -> pa.Buffer:
    """Return the file of a content shard with nothing in some rows.

    Args:
        batch: The opened shard.
        rows: int64[m], the rows to empty, in any order.
    """
    return encode_shard(_emptied(batch, rows))


def blanked_side(side: Side, rows: Rows) -> pa.Buffer:
    """Return the file of a side shard in which some rows have the ids of forgotten records."""
    ids = side.ids.to_pylist()
    for row in rows.tolist():
        ids[row] = forgotten_id(ids[row])
    return make_side(pa.array(ids, pa.large_string()), *side.origins())


def text_digests(batch: pa.RecordBatch, rows: Rows) -> list[Digest]:
    """Return the digests of the texts in some rows of a raw table, without those that are empty; none of a token table.

    The bytes are hashed as they are stored, whether or not they are valid text.
    """
    return [digest_of(text) for _, text in _texts(batch, rows)]


def rows_with_text(batch: pa.RecordBatch, digests: Set[Digest]) -> list[int]:
    """Return the rows of a raw table whose text has one of these digests, ascending; none of a token table."""
    return [row for row, text in _texts(batch, np.arange(batch.num_rows)) if digest_of(text) in digests]


def _texts(batch: pa.RecordBatch, rows: Rows) -> Iterator[tuple[int, memoryview]]:
    if batch.schema.names[:1] != [TEXT] or not len(rows):
        return
    column = batch.column(0)
    bounds = np.frombuffer(column.buffers()[1], np.int64)[column.offset : column.offset + len(column) + 1]
    octets = memoryview(column.buffers()[2] or b"")
    for row, start, stop in zip(rows.tolist(), bounds[rows].tolist(), bounds[rows + 1].tolist(), strict=True):
        if start < stop:
            yield row, octets[start:stop]


def token_ranges(batch: pa.RecordBatch, rows: Rows) -> list[tuple[int, int]]:
    """Return the tokens of some documents as (first, one past the last) in the shard, ascending, none of them empty."""
    if token_width(batch.schema) is None:
        return []
    _, offsets = token_buffers(batch)
    found = ((int(offsets[row]), int(offsets[row + 1])) for row in np.sort(rows).tolist())
    return [(start, stop) for start, stop in found if start < stop]


def _emptied(batch: pa.RecordBatch, rows: Rows) -> pa.RecordBatch:
    if token_width(batch.schema) is not None:
        return _without_tokens(batch, rows)
    columns = [_without_values(column, field, rows) for column, field in zip(batch.columns, batch.schema, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def _without_tokens(batch: pa.RecordBatch, rows: Rows) -> pa.RecordBatch:
    values, offsets = token_buffers(batch)
    emptied = values.copy()
    for start, stop in token_ranges(batch, rows):
        emptied[start:stop] = 0
    return token_batch(emptied, offsets)


def _without_values(column: pa.Array, field: pa.Field, rows: Rows) -> pa.Array:
    nothing = pa.nulls(1, field.type) if field.nullable else _zero(field.type)
    # A row behind the last holds nothing; the rows to empty are taken from there.
    taken = np.arange(len(column), dtype=np.int64)
    taken[rows] = len(column)
    return pa.concat_arrays([column, nothing]).take(pa.array(taken))


def _zero(type_: pa.DataType) -> pa.Array:
    value: Any = 0
    if pa.types.is_string(type_) or pa.types.is_large_string(type_):
        value = ""
    elif pa.types.is_binary(type_) or pa.types.is_large_binary(type_):
        value = b""
    elif pa.types.is_large_list(type_):
        value = []
    elif pa.types.is_boolean(type_):
        value = False
    return pa.array([value], type_)
