"""Masked tokens in batches: the input there is the fill token, and nothing is predicted there or right before.

No position moves: a redacted document keeps its place and length. A table that nothing was taken out of costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyfactory.core.canonical import digest_of_value
from pyfactory.core.digest import NO_DIGEST
from pyfactory.shard.manifest import Manifest
from pyfactory.store.content import Masks
from pyfactory.stream.unseen import TokenRuns

__all__ = ["IGNORE", "Pieces", "TableMasks", "apply_ranges", "masks_of"]

IGNORE = -100
"""The target where nothing is to be predicted."""

Int64s = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Pieces:
    """Runs of a table's tokens in the rows of a batch.

    Attributes:
        rows: int64[p], the row of the batch.
        columns: int64[p], where in the row the run begins.
        firsts: int64[p], its first token in the table.
        lengths: int64[p], its tokens.
    """

    rows: Int64s
    columns: Int64s
    firsts: Int64s
    lengths: Int64s


@dataclass(frozen=True)
class TableMasks:
    """The forgotten tokens of a table, as ranges of its tokens that do not overlap.

    Attributes:
        numbers: int64[k], the redaction that each range belongs to.
        firsts: int64[k], ascending.
        stops: int64[k], one past the last token of each, ascending.
    """

    numbers: Int64s
    firsts: Int64s
    stops: Int64s

    def __len__(self) -> int:
        return len(self.firsts)

    @cached_property
    def identities(self) -> list[dict[str, Any]]:
        """What the replay identity says of these masks after each redaction that took something, oldest first.

        Each is {"count", "digest"}: the number of redactions and the digest of the one before it and of the ranges
        that came with it, so that earlier states of the table are known again.
        """
        found: list[dict[str, Any]] = []
        digest = NO_DIGEST
        for number in np.unique(self.numbers).tolist():
            mine = self.numbers == number
            ranges = np.stack([self.firsts[mine], self.stops[mine]], axis=1).tolist()
            digest = digest_of_value([digest, ranges])
            found.append({"count": len(found) + 1, "digest": digest})
        return found


def masks_of(manifest: Manifest, masks: Masks) -> TableMasks:
    """Return the forgotten tokens of a table. O(shards of the table), unless no shard anywhere has masks."""
    found = [
        (number, start + first, start + stop)
        for shard, start in manifest.find_shards(masks)
        for number, first, stop in masks[shard]
    ]
    numbers, firsts, stops = np.array(sorted(found, key=lambda span: span[1]), np.int64).reshape(-1, 3).T
    return TableMasks(numbers, firsts, stops)


def apply_ranges(
    ranges: TableMasks | TokenRuns, pieces: Pieces, fill: int, input_ids: Any = None, targets: Any = None
) -> None:
    """Mask ranges of a table's tokens in a batch, in place.

    Args:
        ranges: What is masked.
        pieces: Where tokens of the table stand in the batch.
        fill: The input where they stood.
        input_ids: int64[m, length] or None.
        targets: int64[m, length] or None.
    """
    begins = ranges.firsts
    ends = ranges.stops if isinstance(ranges, TableMasks) else ranges.firsts + ranges.lengths
    low = np.searchsorted(ends, pieces.firsts, side="right")
    high = np.searchsorted(begins, pieces.firsts + pieces.lengths, side="left")
    for piece in np.flatnonzero(low < high).tolist():
        row, column, first = (int(of[piece]) for of in (pieces.rows, pieces.columns, pieces.firsts))
        last = column + int(pieces.lengths[piece])
        for at in range(int(low[piece]), int(high[piece])):
            start, stop = max(int(begins[at]) - first, 0) + column, min(int(ends[at]) - first + column, last)
            # The last token of a sample may be a target alone: a slice beyond the row takes what there is.
            if input_ids is not None:
                input_ids[row, start:stop] = fill
            if targets is not None:
                targets[row, max(start - 1, 0) : stop] = IGNORE
