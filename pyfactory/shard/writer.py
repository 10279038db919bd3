"""Shards as bytes that depend on nothing but the values in them.

Arrow may hold equal values in many ways: slices with an offset, null bitmaps without nulls, whatever was left under a
null, bits behind the last. All of it would reach the file, so every column is first brought into the one form described
at `_compact`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pyfactory.core import canonical
from pyfactory.core.digest import Digest
from pyfactory.errors import InvalidInputError
from pyfactory.shard.layout import (
    FILES_KEY,
    KEY_BYTES,
    TOKEN_WIDTHS,
    canonical_schema,
    key_of_id,
    side_schema,
    token_schema,
)

__all__ = ["encode_shard", "make_side", "token_batch"]

# The format is frozen here, not taken from pyarrow's defaults.
_OPTIONS = pa.ipc.IpcWriteOptions(
    metadata_version=pa.ipc.MetadataVersion.V5,
    allow_64bit=False,
    use_legacy_format=False,
    compression=None,
    use_threads=False,
    emit_dictionary_deltas=False,
    unify_dictionaries=False,
)
_MAX_ROWS = 2**31 - 1

Validity = NDArray[np.bool_]


def encode_shard(batch: pa.RecordBatch) -> pa.Buffer:
    """Return the file of a content shard; equal values and column names give equal bytes.

    Args:
        batch: Columns of a raw or a token table, see `layout`; metadata is dropped. Its text must be valid UTF-8.

    Raises:
        InvalidInputError: No table has such columns, or a column that may hold no nulls holds some.
    """
    return _encode(batch.columns, canonical_schema(batch.schema))


def token_batch(values: NDArray[Any], offsets: NDArray[np.int64]) -> pa.RecordBatch:
    """Return documents of tokens as a batch, without copying.

    Args:
        values: uint8, uint16 or uint32 [tokens], all documents one after the other.
        offsets: int64[rows + 1], where each document starts in `values`, from 0 to its length.
    """
    if values.dtype.kind != "u" or values.dtype.itemsize not in TOKEN_WIDTHS:
        raise InvalidInputError(f"tokens cannot be {values.dtype}", hint="use uint8, uint16 or uint32")
    if not len(offsets) or offsets[0] != 0 or offsets[-1] != len(values) or (offsets[1:] < offsets[:-1]).any():
        raise InvalidInputError(f"the offsets of documents do not rise from 0 to the {len(values)} tokens there are")
    schema = token_schema(values.dtype.itemsize)
    items = pa.array(np.ascontiguousarray(values))
    starts = pa.py_buffer(np.ascontiguousarray(offsets, np.int64))
    column = pa.LargeListArray.from_buffers(schema.field(0).type, len(offsets) - 1, [None, starts], children=[items])
    return pa.RecordBatch.from_arrays([column], schema=schema)


def make_side(
    ids: pa.LargeStringArray,
    files: Sequence[Digest] | None = None,
    file: NDArray[np.int32] | None = None,
    line: NDArray[np.int64] | None = None,
) -> pa.Buffer:
    """Return the file of the side shard beside a content shard of the same rows.

    Args:
        ids: large_string[rows], the record ids in row order, without nulls.
        files: Digests of the raw files that the rows come from; None when they come from no file.
        file: int32[rows], index into `files`.
        line: int64[rows], line or row number in that file, from 1.

    Raises:
        InvalidInputError: An id is missing, an index is out of range, or the lengths differ.
    """
    if ids.null_count:
        raise InvalidInputError("a record has no id")
    keys = np.frombuffer(b"".join(map(key_of_id, ids.to_pylist())), f"V{KEY_BYTES}")
    words = keys.view(">u8").reshape(-1, 2)
    rows = np.lexsort((words[:, 1], words[:, 0]))  # stable: of equal ids the first row comes first
    key = pa.FixedSizeBinaryArray.from_buffers(pa.binary(KEY_BYTES), len(ids), [None, pa.py_buffer(keys[rows])])
    columns: list[pa.Array] = [ids, key, pa.array(rows.astype(np.uint32))]
    if files is None:
        return _encode(columns, side_schema(origin=False))
    columns += _origin_columns(len(ids), len(files), file, line)
    return _encode(columns, side_schema(origin=True).with_metadata({FILES_KEY: canonical.encode(list(files))}))


def _origin_columns(
    rows: int, files: int, file: NDArray[np.int32] | None, line: NDArray[np.int64] | None
) -> list[pa.Array]:
    if file is None or line is None or not len(file) == len(line) == rows:
        raise InvalidInputError(f"the origins of {rows} records are not one file and one line for each")
    if rows and not (file.min() >= 0 and file.max() < files and line.min() >= 1):
        raise InvalidInputError("the origin of a record is outside its files: lines count from 1, files from 0")
    return [pa.array(file, pa.int32()), pa.array(line, pa.int64())]


def _encode(columns: Sequence[pa.Array], schema: pa.Schema) -> pa.Buffer:
    rows = len(columns[0])
    if rows > _MAX_ROWS:
        raise InvalidInputError(f"a shard cannot hold {rows} rows", hint="cut the table into smaller shards")
    compact = []
    for field, column in zip(schema, columns, strict=True):
        if column.null_count and not field.nullable:
            raise InvalidInputError(f"column {field.name!r} holds {column.null_count} nulls and may hold none")
        compact.append(_compact(column, field.type, field.name))
    batch = pa.RecordBatch.from_arrays(compact, schema=schema)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema, options=_OPTIONS) as file:
        file.write_batch(batch)
    return sink.getvalue()


def _compact(column: pa.Array, type_: pa.DataType, name: str) -> pa.Array:
    """Return equal values in the one form that is written.

    That form has no offset, no bitmap unless there are nulls, nothing but zeros under a null and behind the last bit,
    offsets that start at 0, and exactly the bytes or items that the offsets span.
    """
    valid = None
    if column.null_count:
        valid = column.is_valid().to_numpy(zero_copy_only=False)
    bitmap = None if valid is None else _bits(valid)
    if pa.types.is_large_list(type_):
        offsets, items = _spans(column, np.int64, valid)
        children = [_compact(_cut(column.values, items), type_.value_type, name)]
        if children[0].null_count and not type_.value_field.nullable:
            raise InvalidInputError(f"column {name!r} has a list with a null, and may have none")
        return pa.LargeListArray.from_buffers(type_, len(column), [bitmap, offsets], column.null_count, 0, children)
    if pa.types.is_boolean(type_):
        body = [_bits(_under_nulls(column, valid))]
    elif pa.types.is_fixed_size_binary(type_) or pa.types.is_primitive(type_):
        body = [_fixed(column, type_.bit_width // 8, valid)]
    else:
        large = pa.types.is_large_string(type_) or pa.types.is_large_binary(type_)
        offsets, spanned = _spans(column, np.int64 if large else np.int32, valid)
        body = [offsets, pa.py_buffer(_cut(_octets(column.buffers()[2]), spanned))]
    return pa.Array.from_buffers(type_, len(column), [bitmap, *body], column.null_count)


def _spans(
    column: pa.Array, width: type[np.int32] | type[np.int64], valid: Validity | None
) -> tuple[pa.Buffer, slice | Validity]:
    """Return rebased offsets, and what selects the bytes or items they span: a slice, or a mask if nulls span some."""
    if not len(column):
        return pa.py_buffer(np.zeros(1, width)), slice(0, 0)
    offsets = np.frombuffer(column.buffers()[1], width)[column.offset : column.offset + len(column) + 1]
    lengths = np.diff(offsets)
    if valid is None or not lengths[~valid].any():
        return pa.py_buffer(offsets - offsets[0]), slice(int(offsets[0]), int(offsets[-1]))
    selected = np.zeros(int(offsets[-1]), bool)
    selected[offsets[0] :] = np.repeat(valid, lengths)
    rebased = np.zeros(len(offsets), width)
    np.cumsum(np.where(valid, lengths, 0), out=rebased[1:])
    return pa.py_buffer(rebased), selected


def _cut(items: Any, selected: slice | Validity) -> Any:
    if isinstance(selected, slice):
        return items[selected]
    if isinstance(items, np.ndarray):
        return items[: len(selected)][selected]
    return items.slice(0, len(selected)).filter(pa.array(selected))


def _octets(buffer: pa.Buffer | None) -> NDArray[np.uint8]:
    return np.zeros(0, np.uint8) if buffer is None or not buffer.size else np.frombuffer(buffer, np.uint8)


def _fixed(column: pa.Array, width: int, valid: Validity | None) -> pa.Buffer:
    start = column.offset * width
    octets = _octets(column.buffers()[1])[start : start + len(column) * width]
    if valid is not None:
        octets = octets.copy()
        octets.reshape(-1, width)[~valid] = 0
    return pa.py_buffer(octets)


def _under_nulls(column: pa.Array, valid: Validity | None) -> Validity:
    """Return booleans with False under nulls."""
    bits = np.unpackbits(_octets(column.buffers()[1]), bitorder="little")
    values: Validity = bits[column.offset : column.offset + len(column)].astype(bool)
    return values if valid is None else values & valid


def _bits(values: Validity) -> pa.Buffer:
    return pa.py_buffer(np.packbits(values, bitorder="little"))
