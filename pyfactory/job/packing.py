"""Packing tables made: the documents of a table become samples, one task for each range of rows.

`best_fit` cuts a document only if it is longer than a sample and packs the rest, `padded` gives each piece a sample of
its own, `documents` takes of each document the tokens that fit one sample.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from pyfactory.core.digest import Digest
from pyfactory.core.progress import Progress, no_progress
from pyfactory.errors import CorruptError, InvalidInputError
from pyfactory.job.executors.base import Executor
from pyfactory.job.pieces import open_content
from pyfactory.job.steps.base import Bench
from pyfactory.job.task import Result, Task
from pyfactory.native import best_fit
from pyfactory.shard.manifest import Manifest, Part
from pyfactory.shard.packing_format import (
    LONGEST,
    METHODS,
    RANGE_ROWS,
    PackedRange,
    PackingIndex,
    RangeEntry,
    decode_index,
    encode_range,
)
from pyfactory.shard.reader import token_buffers
from pyfactory.store.content import Objects

__all__ = ["VERSION", "Packed", "check_packing", "cut", "pack_table"]

VERSION = 1
"""Version of what is made of given lengths."""

_RANGES_AT_ONCE = 64  # what is known of the shards to come is bounded by these

Int64s = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Packed:
    """A packing table that is stored.

    Attributes:
        digest: Its index object.
        index: What that says.
        computed: Ranges that were made.
        reused: Ranges that had been made before.
    """

    digest: Digest
    index: PackingIndex
    computed: int
    reused: int


def check_packing(method: str, length: int) -> None:
    """Raise InvalidInputError unless there is such a packing for samples of this length."""
    if method not in METHODS:
        hint = "concat needs no table" if method == "concat" else f"packings with a table: {', '.join(METHODS)}"
        raise InvalidInputError(f"there is no packing table of kind {method!r}", hint=hint)
    if type(length) is not int or not 1 <= length <= LONGEST:
        raise InvalidInputError(f"sequence_length is {length!r}", hint=f"it is a whole number from 1 to {LONGEST}")


def pack_table(
    objects: Objects,
    manifest: Manifest,
    method: str,
    length: int,
    executor: Executor,
    progress: Progress = no_progress,
    *,
    range_rows: int = RANGE_ROWS,
) -> Packed:
    """Make the packing table of a token table and store it. Ranges that were made before are not made again.

    Memory: a few ranges for each worker; shards are mapped.

    Args:
        objects: Where shards are read and ranges are written.
        manifest: The shards of the table.
        method: One of `METHODS`.
        length: Inputs of a sample.
        executor: Where ranges are made; it has no part in the outcome.
        progress: Told after each range, as stage `pack`.
        range_rows: Rows of a range; others than the default are for tests.

    Raises:
        InvalidInputError: There is no such packing, or the table has no tokens.
        CorruptError, NotFoundError: A shard is damaged or gone.
    """
    check_packing(method, length)
    if not manifest.tokens:
        raise InvalidInputError("a table without tokens cannot be packed", hint="pack a table that holds tokens")
    expected = -(-manifest.rows // range_rows)
    entries: list[RangeEntry] = []

    def told(stage: str, done: int, total: int | None) -> None:
        progress(stage, len(entries) + done, expected)

    bench = Bench(objects, executor, told)
    slices = _slices(manifest, range_rows)
    while works := [RangeWork(method, length, rows) for rows in islice(slices, _RANGES_AT_ONCE)]:
        results = bench.perform("pack", works)
        entries += [_entry(work, result) for work, result in zip(works, results, strict=True)]
    index = PackingIndex(method, length, range_rows, tuple(entries))
    content = index.encode()
    decode_index(content, "the packing table just made")  # counts that were remembered may have been forged
    if (index.total("rows"), index.total("tokens")) != (manifest.rows, manifest.tokens):
        raise CorruptError(f"the shards of the manifest {manifest.root} have not the rows and tokens that it says")
    return Packed(objects.put(content), index, bench.computed, bench.reused)


_Slice = tuple[Part, int, int]  # rows [start, stop) of a part


def _slices(manifest: Manifest, range_rows: int) -> Iterator[tuple[_Slice, ...]]:
    """Yield what each range consists of."""
    mine: list[_Slice] = []
    room = range_rows
    for part in manifest.parts():
        start = 0
        while start < part.rows:
            stop = min(part.rows, start + room)
            mine.append((part, start, stop))
            room -= stop - start
            start = stop
            if not room:
                yield tuple(mine)
                mine, room = [], range_rows
    if mine:
        yield tuple(mine)


@dataclass(frozen=True, slots=True)
class RangeWork:
    """One range of rows.

    Attributes:
        method: How it is packed.
        length: Inputs of a sample.
        rows: The parts that it consists of, and which rows of them.
    """

    method: str
    length: int
    rows: tuple[_Slice, ...]

    def task(self) -> Task:
        """Return the task: only the first and the last part are not taken whole."""
        bounds = {"start": self.rows[0][1], "stop": self.rows[-1][2]}
        params = {"method": self.method, "sequence_length": self.length, **bounds}
        return Task("pack", VERSION, params, tuple(part.shard for part, _, _ in self.rows), {})

    def run(self, objects: Objects) -> Result:
        """Pack the rows and store the range. What was forgotten keeps its length, so it changes nothing."""
        lengths = np.concatenate([_lengths(objects, part, start, stop) for part, start, stop in self.rows])
        offsets, document, start, count = cut(lengths, self.length, self.method)
        starts = np.cumsum(lengths) - lengths
        packed = PackedRange(self.length, int(lengths.sum()), starts[document] + start, offsets, count.astype("<u4"))
        sizes = np.add.reduceat(count, offsets[:-1]) if len(count) else count
        numbers = (
            len(lengths),
            np.count_nonzero(lengths),
            packed.tokens,
            len(offsets) - 1,
            np.minimum(sizes, self.length).sum(),
            np.maximum(lengths - self.length - 1, 0).sum() if self.method == "documents" else 0,
            0 if self.method == "documents" else np.count_nonzero(lengths > self.length + 1),
        )
        digest = objects.put(encode_range(packed))
        return Result(objects=(digest,), numbers=tuple(int(number) for number in numbers))


def _entry(work: RangeWork, result: Result) -> RangeEntry:
    if (len(result.objects), len(result.numbers)) != (1, 7):
        raise CorruptError(f"the completion mark of task {work.task().name()} is not one of a packed range")
    return RangeEntry(result.objects[0], *result.numbers)


def cut(lengths: Int64s, length: int, method: str) -> tuple[Int64s, Int64s, Int64s, Int64s]:
    """Return the samples that documents of these lengths become; see `native.best_fit` for what is returned."""
    if method == "best_fit":
        return best_fit(lengths, length)
    if method == "documents":
        document = np.flatnonzero(lengths)
        return (
            np.arange(len(document) + 1),
            document,
            np.zeros_like(document),
            np.minimum(lengths[document], length + 1),
        )
    # Cut as best_fit cuts: full samples while more than length + 1 tokens are left, then the rest.
    full = np.where(lengths > length + 1, (lengths - 2) // length, 0)
    pieces = np.where(lengths > 0, full + 1, 0)
    document = np.repeat(np.arange(len(lengths)), pieces)
    number = np.arange(len(document)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    start = number * length
    count = np.minimum(lengths[document] - start, length + 1)
    return np.arange(len(document) + 1), document, start, count


def _lengths(objects: Objects, part: Part, start: int, stop: int) -> Int64s:
    values, offsets = token_buffers(open_content(objects, part))
    if len(values) != part.tokens:
        raise CorruptError(f"shard {part.shard} has {len(values)} tokens; its table says {part.tokens}")
    lengths: Int64s = np.diff(offsets[start : stop + 1])
    return lengths
