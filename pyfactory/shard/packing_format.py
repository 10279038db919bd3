"""The stored form of packing tables: an index object, and an object for each fixed range of the table's rows.

A range names its tokens from its own first one, so it depends on nothing but the lengths of its documents: equal ranges
are one object, whatever stands before them. docs/format.md has the bytes; all of them are read as hostile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyfactory.core import canonical
from pyfactory.core.canonical import Value
from pyfactory.core.digest import Buffer, Digest, parse_digest
from pyfactory.errors import CorruptError, InvalidInputError, NewerFormatError

__all__ = [
    "LONGEST",
    "METHODS",
    "RANGE_ROWS",
    "PackedRange",
    "PackingIndex",
    "RangeEntry",
    "artifact_name",
    "decode_index",
    "decode_range",
    "encode_range",
    "other_artifacts",
    "packing_artifacts",
    "read_artifact_name",
]

Int64s = NDArray[np.int64]

METHODS = ("best_fit", "padded", "documents")
"""The packings that need a table."""

RANGE_ROWS = 65536
"""Rows of the table in a range."""

LONGEST = 1 << 24
"""Largest sequence length."""

_PREFIX = "packing/"
_MAGIC = b"PFPACK01"
_MOST_TOKENS = 2**62
_MOST_ROWS = 1 << 32
_KIND = "packing"


def artifact_name(method: str, length: int) -> str:
    """Return the name of the artifact of a table that is its packing table."""
    return f"{_PREFIX}{method}/{length}"


def packing_artifacts(artifacts: Mapping[str, Digest]) -> dict[str, Digest]:
    """Return those artifacts of a table that are packing tables: they fit its rows and no others."""
    return {name: digest for name, digest in artifacts.items() if name.startswith(_PREFIX)}


def other_artifacts(artifacts: Mapping[str, Digest]) -> dict[str, Digest]:
    """Return the artifacts of a table that are no packing tables."""
    return {name: digest for name, digest in artifacts.items() if not name.startswith(_PREFIX)}


def read_artifact_name(name: str) -> tuple[str, int]:
    """Return method and sequence length that the name of a packing table says; CorruptError if it says none."""
    method, _, length = name.removeprefix(_PREFIX).partition("/")
    if length.isdecimal() and len(length) < 10 and artifact_name(method, int(length)) == name and method in METHODS:
        return method, int(length)
    raise CorruptError(f"{name!r} is not the name of a packing table")


@dataclass(frozen=True, slots=True, eq=False)
class PackedRange:
    """The samples of one range; tokens are counted from the first of the range.

    Attributes:
        length: Inputs of a sample.
        tokens: Tokens of the range.
        first: int64[p], the first token of each piece.
        offsets: int64[s + 1], where the pieces of each sample begin.
        count: uint32[p], tokens of each piece.
    """

    length: int
    tokens: int
    first: Int64s
    offsets: Int64s
    count: NDArray[np.uint32]


def encode_range(packed: PackedRange) -> bytes:
    """Return the bytes of a range."""
    numbers = [packed.length, packed.tokens, len(packed.offsets) - 1, len(packed.first)]
    header = _MAGIC + np.array(numbers, "<u8").tobytes()
    arrays = (packed.first.astype("<u8"), packed.offsets.astype("<u8"), packed.count.astype("<u4"))
    return header + b"".join(array.tobytes() for array in arrays)


def decode_range(content: Buffer, what: str, *, check: bool = True) -> PackedRange:
    """Return a range over its bytes, without copying; O(pieces) for the checks.

    Args:
        content: The bytes.
        what: Names them in errors.
        check: Look at every piece; False where these very bytes were looked at before.

    Raises:
        CorruptError: They are no range: wrong size, pieces outside of the range, samples that hold too much or nothing.
    """
    view = memoryview(content)
    size = len(_MAGIC) + 32
    if len(view) < size or bytes(view[: len(_MAGIC)]) != _MAGIC:
        raise CorruptError(f"{what} does not begin as a range of a packing table does")
    length, tokens, samples, pieces = (int(number) for number in np.frombuffer(view, "<u8", 4, len(_MAGIC)))
    if not (1 <= length <= LONGEST and tokens <= _MOST_TOKENS and len(view) == size + 12 * pieces + 8 * (samples + 1)):
        raise CorruptError(f"{what} has not the size that its header says")
    first = np.frombuffer(view, "<i8", pieces, size)
    offsets = np.frombuffer(view, "<i8", samples + 1, size + 8 * pieces)
    packed = PackedRange(length, tokens, first, offsets, np.frombuffer(view, "<u4", pieces, len(view) - 4 * pieces))
    if check:
        _check_range(packed, what)
    return packed


def _check_range(packed: PackedRange, what: str) -> None:
    first, offsets, count = packed.first, packed.offsets, packed.count.astype(np.int64)
    if offsets[0] != 0 or offsets[-1] != len(first) or (offsets[1:] <= offsets[:-1]).any():
        raise CorruptError(f"{what}: its samples do not follow one another")
    if ((first < 0) | (count < 1) | (count > packed.length + 1) | (first > packed.tokens - count)).any():
        raise CorruptError(f"{what}: a piece is empty or lies outside of the range")
    if len(count) and (np.add.reduceat(count, offsets[:-1]) > packed.length + 1).any():
        raise CorruptError(f"{what}: a sample holds more than {packed.length + 1} tokens")


@dataclass(frozen=True, slots=True)
class RangeEntry:
    """What an index says of a range.

    Attributes:
        digest: Its object.
        rows: Rows of the table.
        documents: Those that have tokens.
        tokens: Their tokens.
        samples: Samples made of them.
        inputs: Tokens that are the input of a sample.
        truncated: Tokens that no sample reads. The rest, neither input nor truncated, is only a target.
        split: Documents that were cut.
    """

    digest: Digest
    rows: int
    documents: int
    tokens: int
    samples: int
    inputs: int
    truncated: int
    split: int


_COUNTS = tuple(field.name for field in fields(RangeEntry))[1:]


@dataclass(frozen=True, slots=True)
class PackingIndex:
    """A packing table: its ranges, in the order of the table.

    Attributes:
        method: One of `METHODS`.
        length: Inputs of a sample.
        range_rows: Rows of each range but the last.
        ranges: What is in each.
    """

    method: str
    length: int
    range_rows: int
    ranges: Sequence[RangeEntry]

    def total(self, name: str) -> int:
        """Return the sum of one count of `RangeEntry` over all ranges."""
        return sum(getattr(entry, name) for entry in self.ranges)

    def encode(self) -> bytes:
        """Return the canonical bytes."""
        ranges = [[entry.digest, *(getattr(entry, name) for name in _COUNTS)] for entry in self.ranges]
        totals = {name: self.total(name) for name in _COUNTS}
        head = {"kind": _KIND, "v": 1, "method": self.method, "sequence_length": self.length}
        return canonical.encode({**head, "range_rows": self.range_rows, "ranges": ranges, "totals": totals})


def decode_index(content: bytes, what: str) -> PackingIndex:
    """Return the index in hostile bytes.

    Raises:
        CorruptError: They are no index, or its counts contradict one another.
        NewerFormatError: It is of a newer format.
    """
    value = canonical.decode(content, what)
    if not isinstance(value, dict) or value.get("kind") != _KIND:
        raise CorruptError(f"{what} is not a packing table")
    if type(value.get("v")) is int and value["v"] > 1:
        raise NewerFormatError(f"{what} has format {value['v']}; this pyfactory reads 1", hint="upgrade pyfactory")
    names = {"kind", "v", "method", "sequence_length", "range_rows", "ranges", "totals"}
    if type(value.get("v")) is not int or value["v"] != 1 or value.keys() != names or value["method"] not in METHODS:
        raise CorruptError(f"{what} has other fields than a packing table")
    try:
        length, rows = _count(value["sequence_length"], LONGEST), _count(value["range_rows"], _MOST_ROWS)
        ranges = tuple(_entry(item) for item in _items(value["ranges"]))
    except (InvalidInputError, TypeError, ValueError) as error:
        raise CorruptError(f"{what} does not hold what it should: {str(error)[:200]}") from error
    index = PackingIndex(value["method"], length, rows, ranges)
    _check_index(index, value["totals"], what)
    return index


def _check_index(index: PackingIndex, totals: Value, what: str) -> None:
    if index.length < 1 or index.range_rows < 1:
        raise CorruptError(f"{what} has samples or ranges of nothing")
    for number, entry in enumerate(index.ranges):
        last = number + 1 == len(index.ranges)
        whole = 1 <= entry.rows <= index.range_rows if last else entry.rows == index.range_rows
        told = entry.inputs + entry.truncated <= entry.tokens and entry.inputs <= entry.samples * index.length
        few = entry.split <= entry.documents <= min(entry.rows, entry.tokens) and entry.samples <= entry.tokens
        if not (whole and told and few):
            raise CorruptError(f"{what}: the counts of range {number} contradict one another")
    same = totals == {name: index.total(name) for name in _COUNTS} and all(
        type(each) is int for each in totals.values()
    )
    if not same or index.total("tokens") > _MOST_TOKENS:
        raise CorruptError(f"{what}: its totals are not those of its ranges")


def _entry(item: Value) -> RangeEntry:
    digest, *counts = _items(item)
    if len(counts) != len(_COUNTS):
        raise ValueError(f"a range has {len(counts)} counts")
    return RangeEntry(parse_digest(digest), *(_count(number, _MOST_TOKENS) for number in counts))


def _items(value: Value) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError(f"{str(value)[:40]} is not a list")
    return value


def _count(value: Value, most: int) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError(f"{str(value)[:40]} is not a count")
    return value
