"""Which records stand at positions: their ids, origins, rows and tokens."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pyfactory.core.digest import Digest
from pyfactory.repo.version import Version
from pyfactory.shard.reader import Side, open_shard, open_side, token_buffers

if TYPE_CHECKING:
    from pyfactory.stream.stream import Stream

__all__ = ["RecordSpan", "records_of"]

# Positions located at a time, and shards opened for them that are kept.
_CHUNK = 1024
_OPEN = 64


@dataclass(frozen=True, slots=True)
class RecordSpan:
    """The part of a record that a sample reads.

    Attributes:
        position: The position of the sample.
        source: Name of the source that delivers it.
        table: Name of the table.
        id: The record's id.
        shard: Number of the shard in the table.
        row: Row in the shard.
        start: First token of the record that is read.
        stop: One past the last.
        tokens: Tokens of the whole record.
        origin: (digest of the raw file, line or row in it, from 1), None in tables that a job built: only raw ones
            know it, and `pyfactory find REPO ID` looks there.
    """

    position: int
    source: str
    table: str
    id: str
    shard: int
    row: int
    start: int
    stop: int
    tokens: int
    origin: tuple[Digest, int] | None


def records_of(stream: Stream, start: int, stop: int) -> Iterator[RecordSpan]:
    """Yield the records of positions [start, stop), sample by sample, in the order in which they are read.

    The last token of a sample may be a target alone; it is included. O(documents of the samples).
    """

    @lru_cache(_OPEN)
    def opened(table: int, shard: int) -> tuple[NDArray[np.int64], Side]:
        return _opened(stream.tables[table].version, shard)

    for first in range(start, stop, _CHUNK):
        addresses = stream.addresses(np.arange(first, min(first + _CHUNK, stop)))
        for piece, row in enumerate(addresses.rows().tolist()):
            feed = stream.feeds[int(addresses.feed[row])]
            shard = int(addresses.shard[piece])
            documents, side = opened(feed.table, shard)
            begin, count = int(addresses.first[piece]), int(addresses.length[piece])
            for span in _documents(documents, begin, begin + count):
                at, low, high, tokens = span
                where = first + row, feed.source, feed.version.table, side.id(at), shard, at
                yield RecordSpan(*where, low, high, tokens, side.origin(at))


def _opened(version: Version, shard: int) -> tuple[NDArray[np.int64], Side]:
    objects, part = version.repository.objects, version.manifest.part(shard)
    what = f"shard {part.shard} of table {version.table!r}"
    _, documents = token_buffers(open_shard(objects.map(part.shard), what))
    return documents, open_side(objects.map(part.side), f"the side of {what}")


def _documents(bounds: NDArray[np.int64], first: int, stop: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield (row, first token of it, one past the last, tokens of the whole) of what [first, stop) reads."""
    low = int(np.searchsorted(bounds, first, side="right")) - 1
    high = int(np.searchsorted(bounds, stop, side="left"))
    for row in range(low, high):
        begin, end = int(bounds[row]), int(bounds[row + 1])
        if max(begin, first) < min(end, stop):
            yield row, max(begin, first) - begin, min(end, stop) - begin, end - begin
