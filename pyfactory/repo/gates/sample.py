"""Contents of rows as digests, and a sample of them that can be merged: all contents whose digest is below a bound.

The sample of a set is its `size` smallest distinct digests, each with how often it occurs, and the bound below which
it is complete: the next digest, or 2^64 if there is none. Whatever is merged in whatever order, the sample is that of
the union. Since digests are as good as random, what holds for the contents in a sample estimates what holds for all.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pyfactory.core.canonical import Value
from pyfactory.core.digest import Hasher
from pyfactory.errors import CorruptError
from pyfactory.repo.fields import read_fields
from pyfactory.repo.gates.base import measure_name
from pyfactory.shard.layout import TOKENS
from pyfactory.shard.reader import token_buffers

__all__ = ["WHOLE", "ContentSample", "content_digests", "sampled"]

WHOLE = 2**64
"""The bound of a sample that holds all contents."""

_BYTES = 16  # of a digest; the first 8, big-endian, order the sample

Digests = NDArray[np.uint64]


def content_digests(batch: pa.RecordBatch, column: str = "") -> Digests:
    """Return uint64[rows, 2]: the first 128 bits of the BLAKE3 of each text or document, as big-endian words.

    Args:
        batch: The rows.
        column: The column of text or bytes that is the content; the first one without it. Null counts as empty.
    """
    if batch.schema.names == [TOKENS]:
        values, offsets = token_buffers(batch)
        content, bounds = values.view(np.uint8).data, (offsets * values.dtype.itemsize).tolist()
    else:
        array = batch.column(column or 0).cast(pa.large_binary())
        rows = len(array)
        bounds = np.frombuffer(array.buffers()[1], np.int64, rows + 1, array.offset * 8).tolist() if rows else [0]
        content = memoryview(array.buffers()[2] or b"")
    joined = b"".join(Hasher(content[low:high]).digest(length=_BYTES) for low, high in pairwise(bounds))
    return np.frombuffer(joined, ">u8").astype(np.uint64).reshape(-1, 2)


@dataclass(frozen=True)
class ContentSample:
    """The measure of a sample: `{"below": bound, "counts": [...], "digests": hexadecimal, 16 digits each, ascending}`.

    Attributes:
        size: Most contents that it holds.
        column: See `content_digests`.
    """

    size: int
    column: str = ""

    @property
    def name(self) -> str:
        """See `Measure`."""
        return measure_name("contents", 1, column=self.column, size=self.size)

    def measure(self, batch: pa.RecordBatch) -> Value:
        """Return the sample of a shard."""
        words, counts = np.unique(content_digests(batch, self.column)[:, 0], return_counts=True)
        return self._cut(words, counts, WHOLE)

    def check(self, value: Value, rows: int) -> Value:
        """Return a stored sample, or raise CorruptError."""
        what = f"a value of {self.name}"
        fields = read_fields(value, ("below", "counts", "digests"), what)
        counts, text, below = fields.items("counts"), fields.text("digests"), fields.value("below")
        well = len(text) == 16 * len(counts) and len(counts) <= self.size and type(below) is int and 0 <= below <= WHOLE
        well = well and all(type(count) is int and 0 < count <= rows for count in counts) and sum(counts) <= rows
        if not well or not _is_hexadecimal(text):
            raise CorruptError(f"{what} is no sample")
        words = _words(value)
        if (words[1:] <= words[:-1]).any() or (len(words) and int(words[-1]) >= below):
            raise CorruptError(f"{what} does not ascend to its bound")
        return value

    def empty(self) -> Value:
        """Return the sample of nothing, which is complete."""
        return {"below": WHOLE, "counts": [], "digests": ""}

    def merge(self, one: Value, other: Value) -> Value:
        """Return the sample of the rows of both."""
        return self._combined(one, other, 1)

    def subtract(self, whole: Value, part: Value) -> Value | None:
        """Return None: what is left would be a smaller sample than that of the rest."""
        return None

    def without(self, whole: Value, part: Value) -> Value:
        """Return a sample of the rest: complete below its bound, but of fewer contents than it could have."""
        return self._combined(whole, part, -1)

    def _combined(self, one: Value, other: Value, sign: int) -> Value:
        below = min(one["below"], other["below"])
        words = np.concatenate([_words(one), _words(other)])
        counts = np.concatenate([np.array(one["counts"], np.int64), sign * np.array(other["counts"], np.int64)])
        distinct, places = np.unique(words, return_inverse=True)
        sums = np.zeros(len(distinct), np.int64)
        np.add.at(sums, places, counts)
        kept = sums > 0
        if below < WHOLE:
            kept &= distinct < np.uint64(below)
        return self._cut(distinct[kept], sums[kept], below)

    def _cut(self, words: Digests, counts: NDArray[np.int64], below: int) -> Value:
        if len(words) > self.size:
            below = int(words[self.size])
        kept = words[: self.size]
        return {
            "below": below,
            "counts": counts[: self.size].tolist(),
            "digests": kept.astype(">u8").tobytes().hex(),
        }


def sampled(sample: Value, words: Digests) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which contents lie below the bound of a sample, and which of them are in it: bool[n], bool[n].

    Args:
        sample: A value of `ContentSample`.
        words: uint64[n], first words of digests.
    """
    below = np.ones(len(words), bool) if sample["below"] == WHOLE else words < np.uint64(sample["below"])
    return below, below & np.isin(words, _words(sample))


def _words(value: Value) -> Digests:
    return np.frombuffer(bytes.fromhex(value["digests"]), ">u8").astype(np.uint64)


def _is_hexadecimal(text: str) -> bool:
    return text.isascii() and all(character in "0123456789abcdef" for character in text)
