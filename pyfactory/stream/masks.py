"""Forgotten tokens in batches: the input there is 0, and nothing is to be predicted there or at the position before.

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

__all__ = ["FILL", "IGNORE", "TableMasks", "masks_of"]

FILL = 0
"""The input where tokens were forgotten."""

IGNORE = -100
"""The target where nothing is to be predicted."""

Int64s = NDArray[np.int64]


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

    def apply(self, samples: Int64s, length: int, input_ids: Any = None, targets: Any = None) -> None:
        """Mask a batch in place.

        Args:
            samples: int64[m], the first token of each sample in the table.
            length: Input tokens of a sample.
            input_ids: int64[m, length] or None.
            targets: int64[m, length] or None.
        """
        # Ranges that reach into [first, first + length], the last token being a target alone.
        low = np.searchsorted(self.stops, samples, side="right")
        high = np.searchsorted(self.firsts, samples + length + 1, side="left")
        for row in np.flatnonzero(low < high).tolist():
            starts = self.firsts[low[row] : high[row]] - samples[row]
            stops = self.stops[low[row] : high[row]] - samples[row]
            for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
                if input_ids is not None:
                    input_ids[row, max(start, 0) : stop] = FILL
                if targets is not None:
                    targets[row, max(start - 1, 0) : stop] = IGNORE

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
