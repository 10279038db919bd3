"""Large sets of digests: in memory as sorted arrays of 32 bytes each, stored as listing objects.

A listing object is the magic `PFLIST01`, the length of its header (u32, little-endian), the header (canonical JSON:
`bytes`, `count`, `n`, `time`, `v`) and the digests as 32 bytes each, strictly ascending.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyfactory.core.canonical import decode, encode
from pyfactory.core.digest import Digest
from pyfactory.errors import CorruptError
from pyfactory.repo.fields import read_versioned

__all__ = [
    "EMPTY",
    "WIDTH",
    "DigestSet",
    "Digests",
    "Listing",
    "contains",
    "digests_of",
    "hexadecimal",
    "packed_digests",
    "parse_listing",
]

Digests = NDArray[np.bytes_]
"""Digests as numpy `S32`, ascending, each once. Comparing as bytes is right, since all have the same length."""

WIDTH = 32
"""Bytes of a digest."""

_MAGIC = b"PFLIST01"
_LENGTH = struct.Struct("<I")
_BUFFERED = 1 << 18  # digests added before they are sorted in: 8 MB


def digests_of(packed: bytes | bytearray | memoryview) -> Digests:
    """Return packed digests (32 bytes each, in any order) as a sorted array without doubles."""
    return np.unique(np.frombuffer(packed, f"S{WIDTH}"))


EMPTY: Digests = digests_of(b"")
"""No digests."""


def contains(known: Digests, wanted: Digests) -> NDArray[np.bool_]:
    """Tell of each wanted digest whether it is among the known: bool[len(wanted)]. O(wanted * log known)."""
    if not len(known):
        return np.zeros(len(wanted), bool)
    places = np.searchsorted(known, wanted)
    np.minimum(places, len(known) - 1, out=places)
    found: NDArray[np.bool_] = known[places] == wanted
    return found


def hexadecimal(digests: Digests) -> Iterator[Digest]:
    """Yield digests as the text that names objects."""
    packed = memoryview(digests.tobytes())
    for start in range(0, len(packed), WIDTH):
        yield Digest(packed[start : start + WIDTH].hex())


class DigestSet:
    """A growing set of digests: 32 bytes each, and a buffer of some megabytes."""

    def __init__(self) -> None:
        self._sorted = EMPTY
        self._buffer = bytearray()

    def add(self, digest: Digest) -> None:
        """Add one digest."""
        self.add_packed(bytes.fromhex(digest))

    def add_packed(self, packed: bytes) -> None:
        """Add digests of 32 bytes each."""
        self._buffer += packed
        if len(self._buffer) >= _BUFFERED * WIDTH:
            self._settle()

    def array(self) -> Digests:
        """Return all digests."""
        self._settle()
        return self._sorted

    def _settle(self) -> None:
        added = digests_of(bytes(self._buffer))
        self._buffer = bytearray()
        new = added[~contains(self._sorted, added)]
        if len(new):
            self._sorted = np.sort(np.concatenate([self._sorted, new]), kind="stable")


@dataclass(frozen=True, slots=True)
class Listing:
    """Objects that are to be deleted, or may be some day.

    Attributes:
        n: Number of the log entry up to which refs were looked at; with `time`, it makes every listing another object.
        time: When.
        nbytes: Bytes of the objects.
        digests: The objects.
    """

    n: int
    time: str
    nbytes: int
    digests: Digests

    def to_bytes(self) -> bytes:
        """Return the stored bytes."""
        header = encode({"bytes": self.nbytes, "count": len(self.digests), "n": self.n, "time": self.time, "v": 1})
        return b"".join([_MAGIC, _LENGTH.pack(len(header)), header, self.digests.tobytes()])


def parse_listing(content: bytes, what: str) -> Listing:
    """Return the listing of hostile bytes; `what` names them in the CorruptError."""
    start = len(_MAGIC) + _LENGTH.size
    if content[: len(_MAGIC)] != _MAGIC or len(content) < start:
        raise CorruptError(f"{what} is not a listing")
    end = start + _LENGTH.unpack_from(content, len(_MAGIC))[0]
    value: Any = decode(content[start:end], what)
    fields = read_versioned(value, ("bytes", "count", "n", "time"), what)
    count = fields.count("count")
    if len(content) != end + count * WIDTH:
        raise CorruptError(f"{what} does not hold the {count} digests that it promises")
    digests: Digests = np.frombuffer(content, f"S{WIDTH}", offset=end)
    if not (digests[:-1] < digests[1:]).all():
        raise CorruptError(f"{what} holds digests that do not ascend")
    return Listing(fields.count("n"), fields.time("time"), fields.count("bytes"), digests)


def packed_digests(digests: Iterable[Digest]) -> bytes:
    """Return digests as 32 bytes each, in their order."""
    return bytes.fromhex("".join(digests))
