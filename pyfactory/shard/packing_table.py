"""A packing table opened: which tokens of its table each sample reads."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyfactory.core.digest import Digest
from pyfactory.core.forks import renew_in_children
from pyfactory.errors import CorruptError, NotFoundError
from pyfactory.shard.packing_format import (
    PackedRange,
    PackingIndex,
    RangeEntry,
    decode_index,
    decode_range,
    read_artifact_name,
)

if TYPE_CHECKING:
    from pyfactory.store.content import Objects

__all__ = ["PackingReport", "PackingTable", "load_fitting", "load_index", "load_range", "open_packing", "report_of"]

Int64s = NDArray[np.int64]

# A range is about a megabyte: mapped ones cost addresses only, others memory.
_MAPPED_RANGES = 1024
_LOADED_RANGES = 64

_MISSING = "`pyfactory pack REPO TABLE` with its --packing and --sequence-length makes it again"


@dataclass(frozen=True, slots=True)
class PackingReport:
    """What a packing does to a table.

    Attributes:
        packing: The method.
        sequence_length: Inputs of a sample.
        documents: Documents of the table that have tokens.
        samples: Samples of an epoch.
        tokens: Tokens of the table.
        input_tokens: Those that are inputs: each of exactly one sample.
        padding: Inputs that no token fills.
        truncated_tokens: Tokens that no sample reads.
        target_only_tokens: Tokens that are the target of an input, but no input.
        split_documents: Documents that were cut, since they are longer than a sample.
    """

    packing: str
    sequence_length: int
    documents: int
    samples: int
    tokens: int
    input_tokens: int
    padding: int
    truncated_tokens: int
    target_only_tokens: int
    split_documents: int

    @property
    def useful_share(self) -> float:
        """Inputs that are tokens, of all inputs: 0 to 1."""
        return self.input_tokens / (self.samples * self.sequence_length) if self.samples else 0.0

    def to_value(self) -> dict[str, Any]:
        """Return a plain dict."""
        return asdict(self)


def report_of(index: PackingIndex) -> PackingReport:
    """Return what a packing table says of itself."""
    tokens, inputs, truncated = (index.total(name) for name in ("tokens", "inputs", "truncated"))
    samples = index.total("samples")
    return PackingReport(
        packing=index.method,
        sequence_length=index.length,
        documents=index.total("documents"),
        samples=samples,
        tokens=tokens,
        input_tokens=inputs,
        padding=samples * index.length - inputs,
        truncated_tokens=truncated,
        target_only_tokens=tokens - inputs - truncated,
        split_documents=index.total("split"),
    )


def load_index(objects: Objects, digest: Digest, what: str) -> PackingIndex:
    """Read the index of a packing table; see `open_packing`."""
    try:
        content = objects.get(digest)
    except NotFoundError as error:
        raise NotFoundError(f"{what} is missing: {error.message}", hint=_MISSING) from error
    return decode_index(content, what)


def load_fitting(objects: Objects, digest: Digest, name: str, counts: tuple[int, int]) -> PackingIndex:
    """Read the index of a packing table that is an artifact of a table of these rows and tokens; see `open_packing`.

    Raises:
        CorruptError: It is not what the name of the artifact says, or was made for other rows.
    """
    what = f"the packing table {digest} ({name})"
    index = load_index(objects, digest, what)
    if (index.method, index.length) != read_artifact_name(name):
        raise CorruptError(f"{what} is {index.method} for samples of {index.length}")
    if (index.total("rows"), index.total("tokens")) != counts:
        raise CorruptError(f"{what} was made for other rows than those of its table")
    return index


def load_range(
    content: bytes | memoryview, entry: RangeEntry, length: int, what: str, *, check: bool = True
) -> PackedRange:
    """Return a range over its bytes; CorruptError if it is not the one that an index of this sequence length names."""
    packed = decode_range(content, what, check=check)
    found = packed.length, packed.tokens, len(packed.offsets) - 1
    if found != (length, entry.tokens, entry.samples):
        raise CorruptError(f"{what} has another length, or other tokens or samples, than its packing table says")
    return packed


def open_packing(objects: Objects, digest: Digest, what: str) -> PackingTable:
    """Open a packing table.

    Args:
        objects: Where it is.
        digest: Its index object.
        what: Names it in errors.

    Raises:
        NotFoundError: There is no such object.
        CorruptError: Here or later: it, or one of its ranges, is damaged.
        NewerFormatError: It is of a newer format.
    """
    return PackingTable(objects, load_index(objects, digest, what), what)


class PackingTable:
    """Which tokens of a table each sample reads: `order.packing.Geometry`. Any number of threads may share one.

    Memory: 16 bytes for each range of rows, and the ranges used last.

    Args:
        objects: Where its ranges are.
        index: What is in each range.
        what: Names it in errors.

    Attributes:
        samples: Samples of an epoch.
        tokens: Tokens of the table that it was made for.
        rows: Rows of that table.
        sequence_length: Inputs of a sample.
        report: What the packing does to the table.
    """

    def __init__(self, objects: Objects, index: PackingIndex, what: str) -> None:
        self._objects = objects
        self._index = index
        self._what = what
        self._samples = _starts([entry.samples for entry in index.ranges])
        self._tokens = _starts([entry.tokens for entry in index.ranges])
        self.samples = int(self._samples[-1])
        self.tokens = int(self._tokens[-1])
        self.rows = index.total("rows")
        self.sequence_length = index.length
        self.report = report_of(index)
        self._open: OrderedDict[int, _Opened] = OrderedDict()
        self._checked: set[int] = set()
        mapped = bool(index.ranges) and objects.path(index.ranges[0].digest) is not None
        self._capacity = _MAPPED_RANGES if mapped else _LOADED_RANGES
        self.renew_lock()
        renew_in_children(self)

    def renew_lock(self) -> None:
        """Take a new lock; see `core.forks`."""
        self._lock = threading.Lock()

    def pieces(self, samples: Int64s) -> tuple[Int64s, Int64s, Int64s]:
        """Return the pieces of samples; see `order.packing.Geometry.pieces`. O(samples + ranges they are in)."""
        number = np.searchsorted(self._samples, samples, side="right") - 1
        order = np.argsort(number, kind="stable")  # range by range, so that each is looked into once
        inner = samples[order] - self._samples[number[order]]
        runs = [(self._range(k).packed, at) for k, at in _runs(number[order])]
        low, count = np.empty_like(inner), np.empty_like(inner)
        for packed, at in runs:
            low[at] = packed.offsets[inner[at]]
            count[at] = packed.offsets[inner[at] + 1]
        count -= low
        starts = _starts(count)  # where the pieces of each sample go, range by range
        source = _spread(low - starts[:-1], count)
        first, length = np.empty_like(source), np.empty_like(source)
        for packed, at in runs:
            here = slice(starts[at.start], starts[at.stop])
            first[here] = packed.first[source[here]]
            length[here] = packed.count[source[here]]
        first += np.repeat(self._tokens[number[order]], count)
        counts = np.empty_like(count)
        counts[order] = count
        offsets = _starts(counts)
        asked = _spread(offsets[order] - starts[:-1], count)  # and where in the order that was asked for
        return _placed(first, asked), _placed(length, asked), offsets

    def samples_with(self, first: int, stop: int) -> Int64s:
        """Return the samples that read some of the tokens [first, stop); see `order.packing.Geometry.samples_with`."""
        found = [np.zeros(0, np.int64)]
        low = max(int(np.searchsorted(self._tokens, first, side="right")) - 1, 0)
        for k in range(low, int(np.searchsorted(self._tokens, stop, side="left")) if first < stop else low):
            if k < len(self._index.ranges):
                packed, start = self._range(k).packed, self._tokens[k]
                meets = (packed.first < stop - start) & (packed.first + packed.count > first - start)
                mine = np.searchsorted(packed.offsets, np.flatnonzero(meets), side="right") - 1
                found.append(np.unique(mine) + self._samples[k])
        return np.concatenate(found)

    def sample_at(self, first_tokens: Int64s) -> Int64s:
        """Return the samples that begin at tokens; see `order.packing.Geometry.sample_at`."""
        found = np.full(len(first_tokens), -1, np.int64)
        number = np.searchsorted(self._tokens, first_tokens, side="right") - 1
        order = np.argsort(number, kind="stable")
        for k, at in _runs(number[order]):
            if 0 <= k < len(self._index.ranges):
                inner = self._range(k).sample_at(first_tokens[order[at]] - self._tokens[k])
                found[order[at]] = np.where(inner >= 0, inner + self._samples[k], -1)
        return found

    def _range(self, k: int) -> _Opened:
        with self._lock:
            opened = self._open.get(k)
            if opened is not None:
                self._open.move_to_end(k)
                return opened
        entry = self._index.ranges[k]  # two threads may open it at once, harmlessly
        what = f"range {k} ({entry.digest}) of {self._what}"
        try:
            content = self._objects.map(entry.digest)
        except NotFoundError as error:
            raise NotFoundError(f"{what} is missing: {error.message}", hint=_MISSING) from error
        packed = load_range(content, entry, self.sequence_length, what, check=k not in self._checked)
        opened = _Opened(packed)
        with self._lock:
            self._checked.add(k)
            self._open[k] = opened
            while len(self._open) > self._capacity:
                self._open.popitem(last=False)
        return opened


class _Opened:
    """A range, and its samples by where they begin, once somebody asks for that."""

    def __init__(self, packed: PackedRange) -> None:
        self.packed = packed
        self._heads: tuple[Int64s, Int64s] | None = None

    def sample_at(self, tokens: Int64s) -> Int64s:
        """Return the samples of the range that begin at its tokens, -1 where none does."""
        if self._heads is None:
            heads = self.packed.first[self.packed.offsets[:-1]]
            order = np.argsort(heads, kind="stable")
            self._heads = heads[order], order
        heads, order = self._heads
        if not len(heads):
            return np.full(len(tokens), -1, np.int64)
        at = np.minimum(np.searchsorted(heads, tokens), len(heads) - 1)
        return np.where(heads[at] == tokens, order[at], -1)


def _starts(counts: Int64s | list[int]) -> Int64s:
    starts = np.zeros(len(counts) + 1, np.int64)
    np.cumsum(counts, out=starts[1:])
    return starts


def _runs(numbers: Int64s) -> list[tuple[int, slice]]:
    """Return (number, where it stands) for each number of an ascending list."""
    cuts = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(numbers)]
    return [(int(numbers[start]), slice(start, stop)) for start, stop in pairwise(cuts) if start < stop]


def _spread(shifts: Int64s, counts: Int64s) -> Int64s:
    """Return 0, 1, 2, ... with each shift added to as many of them as its count says."""
    shifted = np.repeat(shifts, counts)
    shifted += np.arange(len(shifted))
    return shifted


def _placed(values: Int64s, places: Int64s) -> Int64s:
    placed = np.empty_like(values)
    placed[places] = values
    return placed
