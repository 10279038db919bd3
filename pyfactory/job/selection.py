"""Selections: which rows of a part are kept, as a small object of one bit per row.

Layout: 8 bytes magic, rows and rows kept as little-endian uint64, then ceil(rows / 8) bytes, row r in bit r % 8 of
byte r // 8, unused bits zero. So equal selections are equal bytes.
"""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from pyfactory.core.digest import Buffer
from pyfactory.errors import CorruptError

__all__ = ["decode_selection", "encode_selection"]

_MAGIC = b"pfselect"
_HEADER = struct.Struct("<8sQQ")


def encode_selection(mask: NDArray[np.bool_]) -> bytes:
    """Return the object of a selection; `mask`: bool[rows], true where the row is kept."""
    header = _HEADER.pack(_MAGIC, len(mask), int(np.count_nonzero(mask)))
    return header + np.packbits(mask, bitorder="little").tobytes()


def decode_selection(content: Buffer, rows: int, kept: int, what: str) -> NDArray[np.bool_]:
    """Return the mask bool[rows] of a stored selection.

    Args:
        content: The object; hostile bytes end in an error.
        rows: Rows of the part that it selects from.
        kept: Rows that it must keep.
        what: Names the object in errors.

    Raises:
        CorruptError: The bytes are not a selection of `kept` of `rows` rows.
    """
    if len(content) != _HEADER.size + (rows + 7) // 8:
        raise CorruptError(f"{what} has {len(content)} bytes, which is no selection of {rows} rows")
    if _HEADER.unpack_from(content) != (_MAGIC, rows, kept):
        raise CorruptError(f"{what} is not a selection of {kept} of {rows} rows")
    bits = np.unpackbits(np.frombuffer(content, np.uint8, offset=_HEADER.size), bitorder="little")
    if np.count_nonzero(bits) != kept or bits[rows:].any():
        raise CorruptError(f"{what} does not select the {kept} rows that it promises")
    return bits[:rows].view(np.bool_)
