"""What a stream delivers, found by a look at everything: for tests of what finds it by arithmetic."""

from __future__ import annotations

import numpy as np

from pyfactory.shard.reader import open_shard, open_side, token_buffers
from pyfactory.stream.stream import Stream

__all__ = ["numbered", "scanned"]


def numbered(lengths: list[int]) -> list[np.ndarray]:
    """Documents of which document i holds nothing but the token i + 1: so whoever receives a token knows its record."""
    return [np.full(length, number + 1) for number, length in enumerate(lengths)]


def scanned(stream: Stream, start: int, stop: int) -> dict[str, list[int]]:
    """The positions of each record, by a look at the documents under every piece of every sample."""
    found: dict[str, list[int]] = {}
    for position in range(start, stop):
        pieces = stream.addresses([position])
        records: set[str] = set()
        for table, shard, first, length in zip(pieces.table, pieces.shard, pieces.first, pieces.length, strict=True):
            manifest = stream.tables[table].version.manifest
            part = manifest.part(int(shard))
            bounds = token_buffers(open_shard(manifest.objects.map(part.shard), "shard"))[1]
            ids = open_side(manifest.objects.map(part.side), "side").ids.to_pylist()
            low, high = np.maximum(bounds[:-1], first), np.minimum(bounds[1:], first + length)
            records |= {ids[row] for row in np.flatnonzero(low < high)}
        for record in records:
            found.setdefault(record, []).append(position)
    return found
