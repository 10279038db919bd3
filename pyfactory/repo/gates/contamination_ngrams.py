"""Hashes of all windows of n words of texts, in numpy, in memory that does not grow with the texts.

Words: NFKC, case folded, every run of characters that are neither letters, digits nor marks separates. Scripts without
spaces (Han, kana, Thai, Lao, Khmer, Burmese) count each character as a word. A run of more than `CHUNK` characters
without a space is cut. A word of k code points c is hashed to
sum(c_i * B^i) mod 2^64 for a fixed odd B, then mixed; a window to the same sum over its words with another base. Two
different windows have one hash with a probability of about 2^-64, so m windows against a set of s are hit by chance
with about m * s / 2^64: 10^-4 for 10^9 windows against 2 * 10^6.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from functools import cache
from itertools import chain

import numpy as np
from numpy.typing import NDArray

__all__ = ["CHUNK", "Windows", "windows_of"]

CHUNK = 1 << 18
"""Characters worked on at a time."""

Hashes = NDArray[np.uint64]
Rows = NDArray[np.int64]

_LETTER_BASE = 0x9E3779B97F4A7C15
_WORD_BASE = 0xD6E8FEB86659FD93
_SEPARATOR, _IN_WORD, _ALONE = 0, 1, 2
_ALONE_RANGES = (
    *((0x0E00, 0x0EFF), (0x1000, 0x109F), (0x1780, 0x17FF), (0x3040, 0x30FF), (0x31F0, 0x31FF), (0x3400, 0x4DBF)),
    *((0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0x20000, 0x3FFFF)),
)
# Marks are sorted in quadratic time when text is normalised; no word has so many.
_MARKS = re.compile(r"[^\w\s]{64,}")
_SPACE = re.compile(r"\s")


class Windows:
    """Windows of n words of some texts.

    Attributes:
        hashes: uint64[windows].
        rows: int64[windows], the text that each is of, ascending.
        words: int64[2, k], texts whose words were counted here, and how many; long texts come in parts.
    """

    __slots__ = ("hashes", "rows", "words")

    def __init__(self, hashes: Hashes, rows: Rows, words: Rows) -> None:
        self.hashes = hashes
        self.rows = rows
        self.words = words


def windows_of(texts: Iterable[str], n: int) -> Iterator[Windows]:
    """Yield all windows of `n` words of texts, piece by piece; texts are numbered from 0.

    O(characters * log n) time, memory of O(`CHUNK` + n).
    """
    hashes, rows = np.zeros(0, np.uint64), np.zeros(0, np.int64)
    for chunk, starts, numbers in _chunks(texts):
        new, at = _words(chunk)
        new_rows = numbers[np.searchsorted(starts, at, side="right") - 1]
        # The last words before come along: windows reach over the border of two pieces.
        hashes, rows = np.concatenate([hashes, new]), np.concatenate([rows, new_rows])
        windows, first = _roll(hashes, n), rows[: max(0, len(rows) - n + 1)]
        whole = first == rows[n - 1 :]
        yield Windows(windows[whole], first[whole], np.stack(np.unique(new_rows, return_counts=True)))
        keep = max(0, len(hashes) - n + 1)
        hashes, rows = hashes[keep:], rows[keep:]


def _chunks(texts: Iterable[str]) -> Iterator[tuple[NDArray[np.uint32], Rows, Rows]]:
    """Yield the code points of texts, several at a time with a gap between them, where each starts, and its number."""
    parts: list[str] = []
    numbers: list[int] = []
    length = 0
    for number, part in chain.from_iterable(_parts(number, text) for number, text in enumerate(texts)):
        if parts and length + len(part) > CHUNK:
            yield _joined(parts, numbers)
            parts, numbers, length = [], [], 0
        parts.append(part)
        numbers.append(number)
        length += len(part)
    if parts:
        yield _joined(parts, numbers)


def _parts(number: int, text: str) -> Iterator[tuple[int, str]]:
    """Yield a text in parts of at most `CHUNK` characters, cut where there is a space if there is one nearby."""
    start = 0
    while start < len(text):
        stop = start + CHUNK
        if stop < len(text):
            space = _SPACE.search(text, max(start, stop - 1000), stop)
            stop = space.end() if space else stop
        yield number, _normal(text[start:stop])
        start = stop


def _normal(text: str) -> str:
    if text.isascii():
        return text.lower()
    text = _MARKS.sub(" ", text)
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())


def _joined(parts: list[str], numbers: list[int]) -> tuple[NDArray[np.uint32], Rows, Rows]:
    codes = np.frombuffer("\n".join(parts).encode("utf-32-le", "surrogatepass"), "<u4")
    starts = np.cumsum([0, *(len(part) + 1 for part in parts[:-1])], dtype=np.int64)
    return codes, starts, np.array(numbers, np.int64)


def _words(codes: NDArray[np.uint32]) -> tuple[Hashes, Rows]:
    """Return the hash of each word, and where it starts."""
    kinds = _kinds()[codes]
    inside = kinds == _IN_WORD
    alone = kinds == _ALONE
    before = np.concatenate([[False], inside[:-1]])
    starts = np.flatnonzero((inside & ~before) | alone)
    if not len(starts):
        return np.zeros(0, np.uint64), starts
    after = np.concatenate([inside[1:], [False]])
    stops = np.flatnonzero((inside & ~after) | alone) + 1
    powers, inverses = _powers(len(codes))
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(codes * powers)])
    return _mixed((sums[stops] - sums[starts]) * inverses[starts]), starts


def _roll(words: Hashes, n: int) -> Hashes:
    """Return the hash of each window of n words, mixed; none if there are fewer."""
    count = len(words) - n + 1
    if count < 1:
        return np.zeros(0, np.uint64)
    rolled = np.zeros(count, np.uint64)
    base = np.uint64(_WORD_BASE)
    for at in range(n):
        rolled *= base
        rolled += words[at : at + count]
    return _mixed(rolled)


def _mixed(values: Hashes) -> Hashes:
    """Spread each value over all 64 bits, one to one (the finaliser of SplitMix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _powers(count: int) -> tuple[Hashes, Hashes]:
    """Return B^i and B^-i mod 2^64 for i below count."""
    powers, inverses = _all_powers()
    if count <= len(powers):
        return powers[:count], inverses[:count]
    return _made_powers(count)


@cache
def _all_powers() -> tuple[Hashes, Hashes]:
    return _made_powers(2 * CHUNK)


def _made_powers(count: int) -> tuple[Hashes, Hashes]:
    made = []
    for base in (_LETTER_BASE, pow(_LETTER_BASE, -1, 1 << 64)):
        factors = np.full(count, base, np.uint64)
        factors[0] = 1
        made.append(np.cumprod(factors))
    return made[0], made[1]


@cache
def _kinds() -> NDArray[np.uint8]:
    """Return what each code point is: a separator, part of a word, or a word of its own."""
    kinds = np.zeros(0x110000, np.uint8)
    for code in range(0x110000):
        if unicodedata.category(chr(code))[0] in "LNM":
            kinds[code] = _IN_WORD
    for first, last in _ALONE_RANGES:
        letters = kinds[first : last + 1]
        letters[letters == _IN_WORD] = _ALONE
    return kinds
