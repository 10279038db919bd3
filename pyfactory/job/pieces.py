"""Pieces: what steps hand on. A piece is a part of a table and the rows of it that are still kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pyfactory.core.digest import NO_DIGEST, Digest
from pyfactory.errors import CorruptError
from pyfactory.job.selection import decode_selection, encode_selection
from pyfactory.shard.layout import TEXT, token_width
from pyfactory.shard.manifest import Part
from pyfactory.shard.reader import Side, open_shard, open_side, token_buffers
from pyfactory.shard.writer import encode_shard, make_side
from pyfactory.store.content import Objects

__all__ = [
    "Piece",
    "as_redacted",
    "kept_mask",
    "kept_rows",
    "narrowed",
    "open_content",
    "open_ids",
    "open_text",
    "store_part",
    "store_selection",
    "text_of",
    "whole_pieces",
]


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows of one part.

    Attributes:
        part: The part.
        keep: The object that says which rows are kept; None: all of them.
        rows: Number of rows kept.
    """

    part: Part
    keep: Digest | None
    rows: int

    def inputs(self, *, side: bool) -> tuple[Digest, ...]:
        """Return the digests that name the piece in a task; `side`: its ids matter too."""
        return (self.part.shard, *([self.part.side] if side else []), self.keep or NO_DIGEST)


def whole_pieces(parts: Iterable[Part]) -> tuple[Piece, ...]:
    """Return parts as pieces that keep every row; parts without rows are left out."""
    return tuple(Piece(part, None, part.rows) for part in parts if part.rows)


def as_redacted(objects: Objects, parts: Iterable[Part]) -> Iterator[Part]:
    """Yield parts under the digests of what is read today.

    So a task over a redacted shard has another name than the task over what the shard held before.
    """
    for part in parts:
        shard, side = objects.current(part.shard), objects.current(part.side)
        # `or`: a replacement that is missing will be missed when it is read.
        nbytes = part.nbytes if shard == part.shard else objects.size(shard) or part.nbytes
        yield part if (shard, side) == (part.shard, part.side) else Part(shard, side, part.rows, part.tokens, nbytes)


def kept_mask(objects: Objects, piece: Piece) -> NDArray[np.bool_]:
    """Return which rows of the part are kept: bool[rows of the part]."""
    if piece.keep is None:
        return np.ones(piece.part.rows, np.bool_)
    what = f"selection {piece.keep} in {objects.store.url}"
    return decode_selection(objects.map(piece.keep), piece.part.rows, piece.rows, what)


def kept_rows(objects: Objects, piece: Piece) -> NDArray[np.int64] | None:
    """Return the row numbers that are kept, int64[piece.rows], ascending; None: all of them."""
    return None if piece.keep is None else np.flatnonzero(kept_mask(objects, piece))


def store_selection(objects: Objects, piece: Piece, mask: NDArray[np.bool_]) -> Digest:
    """Store which rows of the part are kept from now on; return NO_DIGEST if the piece loses no row.

    Args:
        objects: Where the selection goes.
        piece: What was kept so far.
        mask: bool[rows of the part], true only for rows that the piece keeps.
    """
    if np.count_nonzero(mask) == piece.rows:
        return NO_DIGEST
    return objects.put(encode_selection(mask))


def narrowed(pieces: Sequence[Piece], selections: Sequence[Digest], rows: Sequence[int]) -> tuple[Piece, ...]:
    """Return what is left of pieces, without those that are left with nothing.

    Args:
        pieces: What was kept so far.
        selections: What is kept of each from now on; NO_DIGEST: all of it.
        rows: Number of rows kept of each.
    """
    found = zip(pieces, selections, rows, strict=True)
    return tuple(
        Piece(piece.part, piece.keep if selection == NO_DIGEST else selection, kept)
        for piece, selection, kept in found
        if kept
    )


def open_content(objects: Objects, part: Part) -> pa.RecordBatch:
    """Open the content of a part in place.

    Raises:
        CorruptError: It is not a shard, or has not the rows that the part promises.
    """
    what = f"shard {part.shard} in {objects.store.url}"
    # Verified: what is built from damaged bytes would be remembered under the name of the right ones.
    batch = open_shard(objects.map(part.shard, verify=True), what)
    if batch.num_rows != part.rows:
        raise CorruptError(f"{what} has {batch.num_rows} rows; its table says {part.rows}")
    return batch


def open_text(objects: Objects, part: Part) -> pa.LargeStringArray:
    """Open the text column of a part of a raw table in place."""
    batch = open_content(objects, part)
    if batch.schema.names[:1] != [TEXT]:
        raise CorruptError(f"shard {part.shard} in {objects.store.url} has no text, only {batch.schema.names}")
    return batch.column(0)


def open_ids(objects: Objects, part: Part) -> Side:
    """Open the record ids of a part in place; see `open_content`."""
    what = f"side shard {part.side} in {objects.store.url}"
    side = open_side(objects.map(part.side, verify=True), what)
    if len(side) != part.rows:
        raise CorruptError(f"{what} has {len(side)} rows; its table says {part.rows}")
    return side


def text_of(text: pa.LargeStringArray, row: int, part: Part) -> str:
    """Return the text of a row; CorruptError if it is not valid UTF-8."""
    try:
        value: str = text[row].as_py()
    except UnicodeDecodeError as error:
        raise CorruptError(f"shard {part.shard}: the text of row {row} is not valid UTF-8") from error
    return value


def store_part(objects: Objects, content: pa.RecordBatch, ids: pa.LargeStringArray) -> Part:
    """Store rows and their ids as a part of a table."""
    shard = encode_shard(content)
    side = make_side(ids)
    tokens = 0
    if token_width(content.schema) is not None:
        tokens = len(token_buffers(content)[0])
    return Part(objects.put(memoryview(shard)), objects.put(memoryview(side)), content.num_rows, tokens, shard.size)
