"""Which shards of a table are indexed together; see `record_index`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from pyfactory.core.digest import NO_DIGEST, Digest
from pyfactory.shard.manifest import Entry

__all__ = ["Segment", "segments_of"]

_FANOUT_BITS = 3  # so many segments of one size become one: 8
_SMALL_ROWS = 4096  # below it all sizes are one
_WIDTH = 32


@dataclass(frozen=True, slots=True)
class Segment:
    """Consecutive shards of a table that are indexed together.

    Attributes:
        first: Number of the first of them in the table.
        shards: How many.
        rows: Rows of those that have sides.
        packed: Digests of their sides as they are read now, 32 bytes each.
    """

    first: int
    shards: int
    rows: int
    packed: bytes

    @property
    def level(self) -> int:
        """Size, as the power of eight that it reaches."""
        return max(self.rows, _SMALL_ROWS).bit_length() // _FANOUT_BITS


def segments_of(entries: Iterable[Entry], current: Callable[[Digest], Digest]) -> list[Segment]:
    """Return the segments of a table: a function of its entries, of which an append changes the last ones only."""
    found: list[Segment] = []
    for segment in _batches(entries, current):
        found.append(segment)
        while True:
            level, low = found[-1].level, len(found)
            while low and found[low - 1].level <= level:
                low -= 1
            if len(found) - low < 1 << _FANOUT_BITS:
                break
            found[low:] = [_joined(found[low:])]
    return found


def _batches(entries: Iterable[Entry], current: Callable[[Digest], Digest]) -> Iterator[Segment]:
    batch, first, rows, packed = None, 0, 0, bytearray()
    for entry in entries:
        if batch is not None and (entry.generation, entry.batch) != batch:
            yield Segment(first, len(packed) // _WIDTH, rows, bytes(packed))
            first, rows, packed = first + len(packed) // _WIDTH, 0, bytearray()
        batch = entry.generation, entry.batch
        packed += bytes.fromhex(current(entry.part.side))
        rows += entry.part.rows if entry.part.side != NO_DIGEST else 0
    if packed:
        yield Segment(first, len(packed) // _WIDTH, rows, bytes(packed))


def _joined(some: list[Segment]) -> Segment:
    shards, rows = sum(segment.shards for segment in some), sum(segment.rows for segment in some)
    return Segment(some[0].first, shards, rows, b"".join(segment.packed for segment in some))
