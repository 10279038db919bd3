"""Types of the C++ extension; csrc/bind says the rest."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_Int64s = NDArray[np.int64]

IGNORE: int

def philox(counters: NDArray[np.uint32], key: int) -> NDArray[np.uint32]:
    """Philox4x32-10 of each counter: uint32 [m, 4] -> uint32 [m, 4]."""

def permute(index: _Int64s, n: int, key: int) -> _Int64s:
    """The keyed bijection of [0, n) at each index."""

def unpermute(index: _Int64s, n: int, key: int) -> _Int64s:
    """The inverse of `permute`."""

class Order:
    """The order of a source of `samples` samples, shuffled in blocks and windows."""

    def __init__(self, samples: int, block: int, window: int, block_key: int, window_key: int) -> None: ...
    def samples_at(self, indexes: _Int64s) -> _Int64s:
        """Index (of any epoch) -> sample ordinal. Ascending indexes are the fastest."""

    def positions_of(self, samples: _Int64s, epochs: _Int64s) -> _Int64s:
        """Sample ordinal and epoch -> index."""

class Interleave:
    """The tree that deals the positions of a phase to its sources; docs/stream-spec.md, section 6.

    Weights are uint64[k], k >= 1, each at least 1, and add up to less than 2^32.
    """

    def __init__(self, weights: NDArray[np.uint64]) -> None: ...
    def split(self, positions: _Int64s) -> tuple[_Int64s, _Int64s]:
        """Position less the first of its phase -> source, and which one of its samples. O(log k) each."""

    def join(self, sources: _Int64s, numbers: _Int64s) -> _Int64s:
        """The inverse of `split`."""

    def counts(self, position: int) -> _Int64s:
        """How many of the first `position` positions each source takes: int64[k]. O(k)."""

class TwoWay:
    """The same split of `total` samples, up to 2^62, into `tail` and the rest; docs/stream-spec.md, section 7."""

    def __init__(self, tail: int, total: int) -> None: ...
    def split(self, numbers: _Int64s) -> tuple[_Int64s, _Int64s]:
        """Number in [0, total) -> side (0 is the tail), and which one of that side. O(1) each."""

    def join(self, sides: _Int64s, indexes: _Int64s) -> _Int64s:
        """The inverse of `split`."""

class Mixture:
    """`Interleave` and an `Order` of each source in one call; source i starts at its index `begins[i]`."""

    def __init__(self, weights: NDArray[np.uint64], orders: Sequence[Order], begins: _Int64s) -> None: ...
    def samples_at(self, positions: _Int64s) -> tuple[_Int64s, _Int64s, _Int64s]:
        """Position less the first of its phase -> source, sample ordinal and epoch. Ascending ones are the fastest."""

class ShardSet:
    """Open token shards by number."""

    def __init__(self) -> None: ...
    def add(self, shard: int, tokens: NDArray[np.unsignedinteger], documents: _Int64s) -> None:
        """Hold a shard: tokens [n] of 1, 2 or 4 bytes, document bounds int64 [rows + 1]."""

    def remove(self, shard: int) -> None:
        """Let go of a shard, once nobody reads it."""

    def __contains__(self, shard: int) -> bool: ...
    def fill(
        self,
        shard: _Int64s,
        first: _Int64s,
        count: _Int64s,
        offsets: _Int64s,
        length: int,
        *,
        input_ids: _Int64s | None = None,
        targets: _Int64s | None = None,
        position_ids: _Int64s | None = None,
        doc_ids: NDArray[np.int32] | None = None,
        cu_seqlens: bool = False,
        across: bool = False,
        fill: int = 0,
        template: _Int64s | None = None,
    ) -> tuple[NDArray[np.int32] | None, int]:
        """Fill the given arrays [samples, length] with samples of 1 to length + 1 tokens.

        `across`: documents are seen over their bounds; `fill`: the input behind a short sample; `template`: targets
        begin behind the first place where a sample has these tokens. Returns cu_seqlens (if wanted) and the longest
        document, padding being one. Section 9 of docs/stream-spec.md says each element.
        """

def best_fit(lengths: _Int64s, length: int) -> tuple[_Int64s, _Int64s, _Int64s, _Int64s]:
    """Pack documents by best-fit decreasing into samples of up to `length` inputs, deterministically.

    A document of more than length + 1 tokens is cut; no other is. Documents without tokens are in no sample.

    Args:
        lengths: int64[d], tokens of each document.
        length: Inputs of a sample, 1 to 2^24.

    Returns:
        offsets: int64[s + 1], where the pieces of each sample begin.
        document: int64[p], the number of the document of each piece.
        start: int64[p], its first token in the document.
        count: int64[p], its tokens.
    """
