"""Where the tokens of samples are: pieces of shards."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyfactory.shard.manifest import Manifest

__all__ = ["Addresses", "locate"]

Int64s = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Addresses:
    """The pieces of m samples, all pieces of a sample together and in order.

    Attributes:
        shard: int64[p], number of the shard in the table.
        first: int64[p], first token in that shard.
        length: int64[p], tokens; those of a sample add up to sequence_length + 1.
        offsets: int64[m + 1]; sample i has the pieces [offsets[i], offsets[i + 1]).
        epoch: int64[m], the epoch that each sample was asked for in.
    """

    shard: Int64s
    first: Int64s
    length: Int64s
    offsets: Int64s
    epoch: Int64s

    def __len__(self) -> int:
        return len(self.epoch)

    def slice(self, start: int, stop: int) -> Addresses:
        """Return the addresses of samples start to stop."""
        low, high = self.offsets[start], self.offsets[stop]
        return Addresses(
            self.shard[low:high],
            self.first[low:high],
            self.length[low:high],
            self.offsets[start : stop + 1] - low,
            self.epoch[start:stop],
        )


def locate(manifest: Manifest, firsts: Int64s, count: int, epochs: Int64s) -> Addresses:
    """Return the pieces of runs of `count` tokens that begin at global tokens `firsts`. O(log shards) each."""
    samples = np.arange(len(firsts))
    at, left = firsts, np.full(len(firsts), count)
    found: list[tuple[Int64s, Int64s, Int64s, Int64s]] = []
    while len(samples) or not found:
        shard, first = manifest.locate_tokens(at)
        length = np.minimum(left, _shard_ends(manifest, shard) - at)
        found.append((samples, shard, first, length))
        crossing = length < left
        samples, at, left = samples[crossing], (at + length)[crossing], (left - length)[crossing]
    if len(found) == 1:
        _, shard, first, length = found[0]
        return Addresses(shard, first, length, np.arange(len(firsts) + 1), epochs)
    sample, shard, first, length = (np.concatenate(column) for column in zip(*found, strict=True))
    order = np.argsort(sample, kind="stable")
    offsets = np.searchsorted(sample[order], np.arange(len(firsts) + 1))
    return Addresses(shard[order], first[order], length[order], offsets.astype(np.int64), epochs)


def _shard_ends(manifest: Manifest, shards: Int64s) -> Int64s:
    ends = np.full(len(shards), manifest.tokens)
    inner = shards + 1 < manifest.shards
    ends[inner] = manifest.token_starts(shards[inner] + 1)
    return ends
