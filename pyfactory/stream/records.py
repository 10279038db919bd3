"""Which records stand at a position: their ids, rows and tokens."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pyfactory.shard.reader import open_shard, open_side, token_buffers
from pyfactory.stream.stream import Stream

__all__ = ["RecordSpan", "records_at"]


@dataclass(frozen=True, slots=True)
class RecordSpan:
    """The part of a record that a sample reads.

    Attributes:
        id: The record's id.
        shard: Number of the shard in the table.
        row: Row in the shard.
        start: First token of the record that is read.
        stop: One past the last.
        tokens: Tokens of the whole record.
    """

    id: str
    shard: int
    row: int
    start: int
    stop: int
    tokens: int


def records_at(stream: Stream, position: int) -> list[RecordSpan]:
    """Return the records of one sample in order, its last token, which is only a target, included. O(its documents)."""
    addresses = stream.addresses([position])
    manifest, table = stream.version.manifest, stream.version.table
    found: list[RecordSpan] = []
    for shard, first, length in zip(addresses.shard, addresses.first, addresses.length, strict=True):
        part = manifest.part(int(shard))
        what = f"shard {part.shard} of table {table!r}"
        _, documents = token_buffers(open_shard(manifest.objects.map(part.shard), what))
        ids = open_side(manifest.objects.map(part.side), f"the side of {what}").ids
        low = int(np.searchsorted(documents, first, side="right")) - 1
        high = int(np.searchsorted(documents, first + length, side="left"))
        for row in range(low, high):
            begin, end = int(documents[row]), int(documents[row + 1])
            start, stop = max(begin, int(first)), min(end, int(first + length))
            if start < stop:
                found.append(RecordSpan(ids[row].as_py(), int(shard), row, start - begin, stop - begin, end - begin))
    return found
