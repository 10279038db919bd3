"""write: ends every job. Puts the rows in their final order and cuts them into the shards of the new table.

The order is that of the input, or the keyed bijection of `shuffle`. A shard takes rows until the next one would exceed
the target; a row never spans shards, so a row larger than the target is a shard of its own. Finding the cuts is one
task; each shard is then a task that gathers its rows from memory-mapped parts. Memory: 16 bytes per row while cutting,
8 per row of the parts that are open (where each row starts, or which are kept), and a few times the target per worker.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pyfactory.core.canonical import Value, digest_of_value
from pyfactory.core.digest import Digest
from pyfactory.core.rng import SPEC_VERSION, derive_key
from pyfactory.errors import CorruptError
from pyfactory.job.gather import Gathering
from pyfactory.job.pieces import Piece, store_part, whole_pieces
from pyfactory.job.steps.base import Bench, Report, State
from pyfactory.job.task import Result, Task, library_versions
from pyfactory.native import permute
from pyfactory.store.content import Objects

__all__ = ["VERSION", "Write", "cut_rows"]

VERSION = 1

_PURPOSE = "job.shuffle"
_CHUNK_ROWS = 1 << 20

Int64s = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Write:
    """The step `write`; see the module.

    Attributes:
        target_bytes: Size that content shards have at most, but for single rows.
    """

    target_bytes: int
    name = "write"

    def value(self) -> Value:
        """Return the parameters as a canonical value."""
        return {"target_bytes": self.target_bytes}

    def run(self, bench: Bench, state: State) -> tuple[State, Report]:
        """Cut, then write one task per shard."""
        gathering = Gathering(bench.objects, state.pieces, state.schema)
        order = RowOrder(gathering.rows, state.seed)
        pieces = pieces_digest(state.pieces)
        (cut,) = bench.perform("write: cut", [CutWork(pieces, gathering, order, self.target_bytes)])
        bounds = _checked(cut.numbers, gathering.rows)
        works = [WriteWork(pieces, gathering, order, start, stop) for start, stop in pairwise(bounds)]
        results = bench.perform(self.name, works)
        written = whole_pieces(part for result in results for part in result.parts)
        return replace(state, pieces=written), Report(self.name, VERSION, state.rows, gathering.rows)


@dataclass(frozen=True, slots=True)
class RowOrder:
    """Which row comes where.

    Attributes:
        rows: Number of rows.
        seed: Seed of the shuffle; None: rows stay where they are.
    """

    rows: int
    seed: int | None

    def value(self) -> Value:
        """Return the order as a canonical value."""
        return None if self.seed is None else {"seed": self.seed, "rng": SPEC_VERSION}

    def source(self, start: int, stop: int) -> Int64s:
        """Return the old rows that come to the new rows start to stop: int64[stop - start]."""
        rows = np.arange(start, stop, dtype=np.int64)
        return rows if self.seed is None else permute(rows, self.rows, derive_key(self.seed, _PURPOSE, ""))


@dataclass(frozen=True, slots=True)
class CutWork:
    """The numbers of the first rows of all shards, and the number of rows at the end."""

    pieces: Digest
    gathering: Gathering
    order: RowOrder
    target_bytes: int

    def task(self) -> Task:
        """Return the task."""
        params = {"order": self.order.value(), "target_bytes": self.target_bytes}
        return Task("write.cut", VERSION, params, (self.pieces,), {})

    def run(self, objects: Objects) -> Result:
        """Cut. O(rows)."""
        sizes = self.gathering.sizes()
        if self.order.seed is not None:
            ordered = np.empty_like(sizes)
            for start in range(0, len(sizes), _CHUNK_ROWS):
                stop = min(start + _CHUNK_ROWS, len(sizes))
                ordered[start:stop] = sizes[self.order.source(start, stop)]
            sizes = ordered
        return Result(numbers=tuple(cut_rows(sizes, self.target_bytes)))


@dataclass(frozen=True, slots=True)
class WriteWork:
    """One shard: the new rows start to stop."""

    pieces: Digest
    gathering: Gathering
    order: RowOrder
    start: int
    stop: int

    def task(self) -> Task:
        """Return the task. In input order only the pieces it reads matter: a longer table keeps its first shards."""
        inputs, first = (self.pieces,), 0
        if self.order.seed is None:
            pieces, first = self.gathering.inputs(self.start, self.stop)
            inputs = (pieces_digest(pieces),)
        params = {"order": self.order.value(), "start": self.start - first, "stop": self.stop - first}
        return Task("write", VERSION, params, inputs, library_versions("pyarrow"))

    def run(self, objects: Objects) -> Result:
        """Gather the rows and store them."""
        content, ids = self.gathering.take(self.order.source(self.start, self.stop))
        return Result(parts=(store_part(objects, content, ids),))


def cut_rows(sizes: Int64s, target_bytes: int) -> list[int]:
    """Return where shards start, and the end: each takes rows up to the target, and one at least.

    Args:
        sizes: int64[rows], bytes of each row; overwritten.
        target_bytes: Bytes that a shard of more than one row never exceeds.
    """
    ends = np.cumsum(sizes, out=sizes)
    bounds = [0]
    while bounds[-1] < len(ends):
        start = bounds[-1]
        before = int(ends[start - 1]) if start else 0
        bounds.append(max(start + 1, int(np.searchsorted(ends, before + target_bytes, side="right"))))
    return bounds


def pieces_digest(pieces: Sequence[Piece]) -> Digest:
    """Return one digest for some pieces in their order, their ids included."""
    return digest_of_value([list(piece.inputs(side=True)) for piece in pieces])


def _checked(bounds: Sequence[int], rows: int) -> list[int]:
    rising = all(start < stop for start, stop in pairwise(bounds))
    if not bounds or bounds[0] != 0 or bounds[-1] != rows or not rising:
        raise CorruptError(f"the remembered cuts of {rows} rows do not rise from 0 to {rows}")
    return list(bounds)
