"""Where the tokens of samples are: pieces of shards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyfactory.shard.manifest import Manifest

__all__ = ["Addresses", "joined", "locate"]

Int64s = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Addresses:
    """The pieces of m samples, all pieces of a sample together and in order.

    Attributes:
        table: int64[p], number of the table in `Stream.tables`.
        shard: int64[p], number of the shard in the table.
        first: int64[p], first token in that shard.
        length: int64[p], tokens; those of a sample add up to sequence_length + 1 at most.
        offsets: int64[m + 1]; sample i has the pieces [offsets[i], offsets[i + 1]).
        feed: int64[m], number of the feed in `Stream.feeds` that delivers each sample.
        epoch: int64[m], the epoch of the feed that each sample was asked for in.
    """

    table: Int64s
    shard: Int64s
    first: Int64s
    length: Int64s
    offsets: Int64s
    feed: Int64s
    epoch: Int64s

    def __len__(self) -> int:
        return len(self.epoch)

    def slice(self, start: int, stop: int) -> Addresses:
        """Return the addresses of samples start to stop."""
        low, high = self.offsets[start], self.offsets[stop]
        return Addresses(
            self.table[low:high],
            self.shard[low:high],
            self.first[low:high],
            self.length[low:high],
            self.offsets[start : stop + 1] - low,
            self.feed[start:stop],
            self.epoch[start:stop],
        )

    def rows(self) -> Int64s:
        """Return the sample that each piece belongs to: int64[p]."""
        return np.repeat(np.arange(len(self)), np.diff(self.offsets))

    def inner_starts(self) -> Int64s:
        """Return the place in its sample where each piece begins: int64[p]."""
        before = np.concatenate([[0], np.cumsum(self.length)])
        starts: Int64s = before[:-1] - np.repeat(before[self.offsets[:-1]], np.diff(self.offsets))
        return starts


def locate(manifest: Manifest, firsts: Int64s, lengths: Int64s) -> tuple[Int64s, Int64s, Int64s, Int64s]:
    """Cut runs of a table's tokens where shards end. O(log shards) each.

    Args:
        manifest: The table.
        firsts: int64[r], the first token of each run in the table.
        lengths: int64[r], its tokens, 1 or more.

    Returns:
        int64[p] each, in the order of the runs: the run, the shard, the first token in it, the number of tokens.
    """
    runs = np.arange(len(firsts))
    at, left = firsts, lengths
    found: list[tuple[Int64s, Int64s, Int64s, Int64s]] = []
    while len(runs) or not found:
        shard, first = manifest.locate_tokens(at)
        length = np.minimum(left, _shard_ends(manifest, shard) - at)
        found.append((runs, shard, first, length))
        crossing = length < left
        runs, at, left = runs[crossing], (at + length)[crossing], (left - length)[crossing]
    if len(found) == 1:
        return found[0]
    run, shard, first, length = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.argsort(run, kind="stable")
    return run[order], shard[order], first[order], length[order]


def joined(parts: Sequence[tuple[Int64s, Addresses]], count: int) -> Addresses:
    """Return the addresses of `count` samples from parts, each with the samples (int64[m]) that it tells of."""
    if len(parts) == 1:
        return parts[0][1]  # it tells of all samples, in order
    samples = np.concatenate([which for which, _ in parts])
    owners = np.concatenate([which[part.rows()] for which, part in parts])
    pieces = np.argsort(owners, kind="stable")
    back = np.argsort(samples)

    def of_pieces(name: str) -> Int64s:
        column: Int64s = np.concatenate([getattr(part, name) for _, part in parts])[pieces]
        return column

    return Addresses(
        table=of_pieces("table"),
        shard=of_pieces("shard"),
        first=of_pieces("first"),
        length=of_pieces("length"),
        offsets=np.searchsorted(owners[pieces], np.arange(count + 1)).astype(np.int64),
        feed=np.concatenate([part.feed for _, part in parts])[back],
        epoch=np.concatenate([part.epoch for _, part in parts])[back],
    )


def _shard_ends(manifest: Manifest, shards: Int64s) -> Int64s:
    ends = np.full(len(shards), manifest.tokens)
    inner = shards + 1 < manifest.shards
    ends[inner] = manifest.token_starts(shards[inner] + 1)
    return ends
