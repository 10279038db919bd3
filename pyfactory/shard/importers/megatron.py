"""The index of a Megatron dataset (`.idx`, version 1): which sequences of the `.bin` are which documents.

    bytes  0   9  the magic `MMIDIDX` and two zeros
           9   8  version, 1
          17   1  code of the type of tokens
          18   8  number of sequences, S
          26   8  number of document bounds, D
          34  4S  length of each sequence in tokens
              8S  byte of the .bin at which each begins: they follow one another from 0
              8D  document bounds: document d is the sequences from bound d to bound d + 1
               S  mode of each sequence; only in some files

All little-endian. The bounds begin with 0, end with S and never fall.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from pyfactory.core.durable import translate_os_error
from pyfactory.errors import InvalidInputError

__all__ = ["Index", "read_index"]

_MAGIC = b"MMIDIDX\0\0"
_HEAD = struct.Struct("<9sQBQQ")
_TYPES = {1: "u1", 2: "i1", 3: "<i2", 4: "<i4", 5: "<i8", 8: "<u2"}
_CHUNK = 1 << 20  # entries looked at together: bounds the memory


@dataclass(frozen=True, slots=True)
class Index:
    """What an index says.

    Attributes:
        dtype: Of the tokens.
        ends: int64[documents], where each document ends, counted in tokens; a map of a temporary file.
    """

    dtype: np.dtype[Any]
    ends: NDArray[np.int64]


def read_index(path: Path, size: int, ends: Path, tokens: Path, tokens_size: int) -> Index:
    """Read and check an index.

    Args:
        path: The index.
        size: Its bytes.
        ends: Where to put the ends of the documents, of which there may be more than fit into memory.
        tokens: The `.bin`, for messages.
        tokens_size: Its bytes.

    Raises:
        InvalidInputError: The index is damaged or does not fit the `.bin`; the message says at which byte.
    """
    with translate_os_error(path), path.open("rb") as file:
        reader = _Reader(path, size, file.fileno())
        dtype, sequences, bounds = reader.head()
        total = reader.check_sequences(sequences, dtype.itemsize)
        if total * dtype.itemsize != tokens_size:
            raise InvalidInputError(
                f"{tokens} has {tokens_size} bytes, and {path} lists {total} tokens of {dtype.itemsize} bytes",
                hint="one of the two is cut off, or belongs to another dataset: copy both again",
            )
        with translate_os_error(ends), ends.open("wb") as sink:
            for piece in reader.document_ends(sequences, bounds, total, dtype.itemsize):
                sink.write(piece.tobytes())
    with translate_os_error(ends):
        return Index(dtype, np.memmap(ends, np.int64, "r") if bounds > 1 else np.zeros(0, np.int64))


class _Reader:
    """Reads an index at any byte, never more at a time than a chunk."""

    def __init__(self, path: Path, size: int, descriptor: int) -> None:
        self._path = path
        self._size = size
        self._descriptor = descriptor

    def head(self) -> tuple[np.dtype[Any], int, int]:
        """Return the type of tokens, the number of sequences and that of document bounds."""
        if self._size < _HEAD.size:
            self._wrong(self._size, f"the file ends within its header of {_HEAD.size} bytes")
        magic, version, code, sequences, bounds = _HEAD.unpack(self._bytes(0, _HEAD.size))
        if magic != _MAGIC:
            self._wrong(0, f"the file does not begin with {_MAGIC!r}")
        if version != 1:
            self._wrong(9, f"the version is {version}, not 1")
        if code not in _TYPES:
            self._wrong(17, f"{code} is not the code of an integer type")
        expected = _HEAD.size + 12 * sequences + 8 * bounds
        if self._size not in (expected, expected + sequences):
            what = f"{sequences} sequences and {bounds} document bounds take {expected} bytes, the file has"
            self._wrong(18, f"{what} {self._size}")
        if not sequences or bounds < 2:
            self._wrong(18, f"there are {sequences} sequences and {bounds} document bounds, so there is no document")
        return np.dtype(_TYPES[code]), sequences, bounds

    def check_sequences(self, sequences: int, width: int) -> int:
        """Check that the sequences follow one another, and return how many tokens they have together."""
        total = 0
        for first in range(0, sequences, _CHUNK):
            count = min(_CHUNK, sequences - first)
            lengths = self._integers(_HEAD.size + 4 * first, count, "<i4").astype(np.int64)
            if (lengths < 0).any():
                at = int(np.argmax(lengths < 0))
                self._wrong(_HEAD.size + 4 * (first + at), f"sequence {first + at} has {lengths[at]} tokens")
            starts = total + np.cumsum(lengths) - lengths
            place = self._pointer(sequences, first)
            pointers = self._integers(place, count, "<i8")
            if (pointers != starts * width).any():
                at = int(np.argmax(pointers != starts * width))
                says = f"sequence {first + at} begins at byte {pointers[at]} instead of {starts[at] * width}"
                self._wrong(place + 8 * at, says)
            total += int(lengths.sum())
        return total

    def document_ends(self, sequences: int, bounds: int, total: int, width: int) -> Iterator[NDArray[np.int64]]:
        """Yield where documents end, in tokens."""
        start, last = _HEAD.size + 12 * sequences, 0
        for first in range(0, bounds, _CHUNK):
            found = self._integers(start + 8 * first, min(_CHUNK, bounds - first), "<i8")
            falls = np.diff(found, prepend=last) < 0
            wrong = falls | (found > sequences)
            wrong[0] |= first == 0 and found[0] != 0
            wrong[-1] |= first + len(found) == bounds and found[-1] != sequences
            if wrong.any():
                at = int(np.argmax(wrong))
                self._wrong(start + 8 * (first + at), f"document bound {first + at} is {found[at]} of {sequences}")
            last = int(found[-1])
            yield self._starts(found, sequences, total, width)[1 if first == 0 else 0 :]

    def _starts(self, found: NDArray[np.int64], sequences: int, total: int, width: int) -> NDArray[np.int64]:
        """Return the first token of sequences given in rising order, `total` for one past the last."""
        starts = np.full(len(found), total, np.int64)
        at = 0
        while at < len(found) and found[at] < sequences:
            low = int(found[at])
            stop = int(np.searchsorted(found, min(low + _CHUNK, sequences)))
            pointers = self._integers(self._pointer(sequences, low), int(found[stop - 1]) - low + 1, "<i8")
            starts[at:stop] = pointers[found[at:stop] - low] // width
            at = stop
        return starts

    def _pointer(self, sequences: int, number: int) -> int:
        return _HEAD.size + 4 * sequences + 8 * number

    def _integers(self, start: int, count: int, dtype: str) -> NDArray[np.int64]:
        integers: NDArray[np.int64] = np.frombuffer(self._bytes(start, count * np.dtype(dtype).itemsize), dtype)
        return integers

    def _bytes(self, start: int, size: int) -> bytes:
        pieces = os.pread(self._descriptor, size, start)
        while len(pieces) < size:
            more = os.pread(self._descriptor, size - len(pieces), start + len(pieces))
            if not more:
                self._wrong(start + len(pieces), "the file ended while it was read")
            pieces += more
        return pieces

    def _wrong(self, place: int, reason: str) -> NoReturn:
        raise InvalidInputError(
            f"{self._path} is not a Megatron index: at byte {place}: {reason}", hint="copy it again, or write it again"
        )
