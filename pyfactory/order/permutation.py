"""The shuffled order of one source: index <-> sample ordinal, O(1) in time and memory, both ways.

Sources of the method: a Feistel network (Luby, Rackoff 1988) with cycle walking (Black, Rogaway 2002), keyed by
Philox4x32-10 (Salmon et al. 2011); docs/stream-spec.md has every bit.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pyfactory.core.rng import derive_key
from pyfactory.errors import InvalidInputError
from pyfactory.native import Order

__all__ = ["SourceOrder"]

Int64s = NDArray[np.int64]


class SourceOrder:
    """The endless sequence of a source's samples: epoch after epoch, each in an order of its own.

    Args:
        samples: Samples of an epoch, n in [1, 2^62].
        seed: In [0, 2^64).
        source: Name of the source; sources of one name and size share an order.
        block_size: Consecutive samples that move together.
        window: Moved blocks among which samples are shuffled.
        added: Whether these are the samples that a newer version added, which have an order of their own.

    Attributes:
        samples: Samples of an epoch.
        native: The same order, for `pyfactory.native.Mixture`.
    """

    def __init__(
        self, samples: int, seed: int, source: str, *, block_size: int = 1, window: int = 1, added: bool = False
    ) -> None:
        self.samples = samples
        purposes = ("added blocks", "added window") if added else ("blocks", "window")
        block_key, window_key = (derive_key(seed, purpose, source) for purpose in purposes)
        self.native = Order(samples, block_size, window, block_key, window_key)

    def samples_at(self, indexes: Int64s) -> Int64s:
        """Return the sample ordinal at each index: int64[m] -> int64[m]. O(1) each, fastest where they ascend.

        Raises:
            InvalidInputError: An index is not in [0, 2^63 - 1).
        """
        try:
            return self.native.samples_at(indexes)
        except IndexError:
            outside = indexes.min() if indexes.min() < 0 else indexes.max()
            raise InvalidInputError(f"a source has no index {outside}", hint="indexes are 0 to 2^63 - 2") from None

    def positions_of(self, samples: Int64s, epochs: Int64s) -> Int64s:
        """Return the index of each sample in its epoch: the inverse of `samples_at`. O(1) each.

        Raises:
            InvalidInputError: A sample or epoch is out of range.
        """
        try:
            return self.native.positions_of(samples, epochs)
        except IndexError:
            if samples.min() < 0 or samples.max() >= self.samples:
                raise InvalidInputError(f"samples are numbered from 0 to {self.samples - 1}") from None
            raise InvalidInputError("an epoch is negative or too large") from None
