"""Rows of many pieces by their number, gathered from memory-mapped shards."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pyfactory.errors import CorruptError
from pyfactory.job.pieces import Piece, kept_rows, open_content, open_ids
from pyfactory.shard.layout import TOKENS, token_width
from pyfactory.shard.reader import token_buffers
from pyfactory.shard.writer import token_batch
from pyfactory.store.content import Objects

__all__ = ["Gathering"]

Int64s = NDArray[np.int64]

# Linux lets a process map about 65,000 files, and two are mapped per part. What cannot be mapped lies in memory.
_MAPPED_PARTS = 8192
_LOADED_PARTS = 8


@dataclass(frozen=True, slots=True)
class _Opened:
    """An opened piece: its content (tokens as plain bytes), its ids, and the rows kept (int64, or None for all)."""

    content: pa.RecordBatch
    ids: pa.LargeStringArray
    kept: Int64s | None


class Gathering:
    """All kept rows of some pieces, numbered from 0 in their order; any number of threads may share it.

    Args:
        objects: Where the parts are.
        pieces: The pieces.
        schema: Columns of all parts.

    Attributes:
        rows: Number of rows.
    """

    def __init__(self, objects: Objects, pieces: Sequence[Piece], schema: pa.Schema) -> None:
        self._objects = objects
        self._pieces = pieces
        self._schema = schema
        self._width = token_width(schema)
        self._starts = np.concatenate([[0], np.cumsum([piece.rows for piece in pieces])]).astype(np.int64)
        self.rows = int(self._starts[-1])
        self._opened: OrderedDict[int, _Opened] = OrderedDict()
        self._lock = threading.Lock()
        mapped = bool(pieces) and objects.store.path(objects.key(pieces[0].part.shard)) is not None
        self._capacity = _MAPPED_PARTS if mapped else _LOADED_PARTS

    def sizes(self) -> Int64s:
        """Return how many bytes each row takes in a shard, without its id: int64[rows]."""
        sizes = np.empty(self.rows, np.int64)
        for index, start in enumerate(self._starts[:-1].tolist()):
            opened = self._open(index)
            row_sizes = sum(_row_sizes(column) for column in opened.content.columns)
            sizes[start : self._starts[index + 1]] = row_sizes if opened.kept is None else row_sizes[opened.kept]
        return sizes

    def take(self, rows: Int64s) -> tuple[pa.RecordBatch, pa.LargeStringArray]:
        """Return rows by number, int64[m], m > 0, in that order: their content and their ids."""
        piece_of = np.searchsorted(self._starts, rows, side="right") - 1
        order = np.argsort(piece_of, kind="stable")
        groups = np.split(order, np.flatnonzero(np.diff(piece_of[order])) + 1)
        found = [self._rows_of(int(piece_of[group[0]]), rows[group]) for group in groups]
        content = pa.concat_batches([batch for batch, _ in found])
        ids = pa.concat_arrays([part for _, part in found])
        if (order[1:] < order[:-1]).any():
            back = np.empty_like(order)
            back[order] = np.arange(len(order))
            content, ids = content.take(pa.array(back)), ids.take(pa.array(back))
        return self._as_stored(content), ids

    def inputs(self, start: int, stop: int) -> tuple[Sequence[Piece], int]:
        """Return the pieces that rows start to stop lie in, and the number of the first row of the first of them."""
        first = int(np.searchsorted(self._starts, start, side="right")) - 1
        last = int(np.searchsorted(self._starts, stop, side="left"))
        return self._pieces[first:last], int(self._starts[first])

    def _rows_of(self, index: int, rows: Int64s) -> tuple[pa.RecordBatch, pa.LargeStringArray]:
        opened = self._open(index)
        local = rows - self._starts[index]
        if opened.kept is not None:
            local = opened.kept[local]
        if (np.diff(local) == 1).all():
            return opened.content.slice(local[0], len(local)), opened.ids.slice(local[0], len(local))
        return opened.content.take(pa.array(local)), opened.ids.take(pa.array(local))

    def _open(self, index: int) -> _Opened:
        with self._lock:
            opened = self._opened.get(index)
            if opened is not None:
                self._opened.move_to_end(index)
                return opened
        piece = self._pieces[index]  # two threads may open it at once, harmlessly
        content = open_content(self._objects, piece.part)
        if not content.schema.equals(self._schema):
            raise CorruptError(f"shard {piece.part.shard} has the columns {content.schema.names}, unlike the others")
        content = content if self._width is None else _as_bytes(content, self._width)
        opened = _Opened(content, open_ids(self._objects, piece.part).ids, kept_rows(self._objects, piece))
        with self._lock:
            self._opened[index] = opened
            if len(self._opened) > self._capacity:
                self._opened.popitem(last=False)
        return opened

    def _as_stored(self, content: pa.RecordBatch) -> pa.RecordBatch:
        if self._width is None:
            return content
        column = content.column(0)
        offsets = np.frombuffer(column.buffers()[1], np.int64)[column.offset : column.offset + len(column) + 1]
        octets = np.frombuffer(column.buffers()[2] or b"", np.uint8)[offsets[0] : offsets[-1]]
        return token_batch(octets.view(f"u{self._width}"), (offsets - offsets[0]) // self._width)


def _as_bytes(batch: pa.RecordBatch, width: int) -> pa.RecordBatch:
    """Return token lists as byte strings over the same memory: Arrow gathers those by row, lists by element."""
    values, offsets = token_buffers(batch)
    buffers = [None, pa.py_buffer(offsets * width), pa.py_buffer(values.view(np.uint8))]
    column = pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(offsets) - 1, buffers)
    return pa.RecordBatch.from_arrays([column], names=[TOKENS])


def _row_sizes(column: pa.Array) -> Any:
    """Return the bytes that each row of a column takes, with its offset if it has one: int64[rows]."""
    type_ = column.type
    if pa.types.is_boolean(type_):
        return np.ones(len(column), np.int64)
    if pa.types.is_primitive(type_):
        return np.full(len(column), type_.bit_width // 8, np.int64)
    wide = pa.types.is_large_string(type_) or pa.types.is_large_binary(type_) or pa.types.is_large_list(type_)
    dtype = np.dtype(np.int64 if wide else np.int32)
    offsets = np.frombuffer(column.buffers()[1], dtype)[column.offset : column.offset + len(column) + 1]
    unit = type_.value_type.bit_width // 8 if pa.types.is_large_list(type_) else 1
    return np.diff(offsets).astype(np.int64) * unit + dtype.itemsize
