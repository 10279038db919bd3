"""Where documents of tokens end, and how they are cut into shards.

A row of a token table is a document. Documents without a token are left out, though they count: the line of a record is
the number of its document in the file. One of more than `MAX_ROW_TOKENS` becomes several rows, so that no shard is
larger than memory; the tokens follow one another all the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyfactory.core.durable import translate_os_error
from pyfactory.errors import InvalidInputError
from pyfactory.shard.importers.staging import MAX_SHARD_ROWS
from pyfactory.shard.importers.token_files import TokenFile

__all__ = ["MAX_ROW_TOKENS", "Cut", "Cutter", "ends_between", "read_lengths", "rows_between"]

MAX_ROW_TOKENS = 1 << 25
"""A longer document is cut into rows of so many tokens."""

Int64s = NDArray[np.int64]

_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Cut:
    """A shard to be written: some tokens of a file.

    Attributes:
        start: First token.
        stop: One past the last.
        document: Number of the document, from 0, that the first token belongs to.
        rows: Rows.
    """

    start: int
    stop: int
    document: int
    rows: int


def ends_between(file: TokenFile, start: int, stop: int, document: int, eos: NDArray[np.bool_] | None) -> Int64s:
    """Return where documents end in (start, stop], in tokens of the file; documents without a token repeat an end.

    Args:
        file: The file.
        start: A token.
        stop: A later one, or the count of tokens.
        document: Number of the document of the first token; only looked at if the file lists its documents.
        eos: bool[stop - start], where the tokens end a document; None if no token does.
    """
    if eos is not None:
        ends: Int64s = np.flatnonzero(eos) + (start + 1)
    elif file.ends is not None:
        last = document + int(np.searchsorted(file.ends[document:], stop, side="right"))
        ends = np.asarray(file.ends[document:last])
    elif file.row:
        ends = np.arange(start // file.row + 1, stop // file.row + 1, dtype=np.int64) * file.row
    else:
        ends = np.zeros(0, np.int64)
    if stop == file.count and (not len(ends) or ends[-1] < stop):
        ends = np.append(ends, stop)  # what follows the last end is a document too
    return ends


def rows_between(ends: Int64s, start: int, document: int) -> tuple[Int64s, Int64s]:
    """Return the rows that documents make: where each ends, and the number of its document.

    Args:
        ends: Where the documents end that follow `start`.
        start: The first token, at which a row begins.
        document: Number of its document.
    """
    lengths = np.diff(ends, prepend=start)
    pieces = -(-lengths // MAX_ROW_TOKENS)  # none for a document without a token
    numbers = np.repeat(np.arange(document, document + len(ends)), pieces)
    if (pieces == 1).all():
        return ends, numbers
    owners = numbers - document
    within = np.arange(len(numbers)) - (np.cumsum(pieces) - pieces)[owners]
    begins = (ends - lengths)[owners]
    return np.minimum(begins + (within + 1) * MAX_ROW_TOKENS, ends[owners]), numbers


@dataclass(slots=True)
class Cutter:
    """Collects the rows of a file and says which belong into one shard; the row that reaches the target is its last.

    Attributes:
        target: Tokens of a shard, about.
        cuts: The shards so far.
        documents: Documents with tokens so far.
    """

    target: int
    cuts: list[Cut] = field(default_factory=list)
    documents: int = 0
    _start: int = 0
    _document: int = 0
    _rows: int = 0
    _last: int = 0

    def add(self, ends: Int64s, numbers: Int64s) -> None:
        """Take the rows of the next documents; see `rows_between`."""
        if not len(ends):
            return
        self.documents += 1 + int(np.count_nonzero(np.diff(numbers)))
        at = 0
        while at < len(ends):
            if not self._rows:
                self._document = int(numbers[at])
            stop = int(np.searchsorted(ends, self._start + self.target)) + 1
            stop = min(stop, at + MAX_SHARD_ROWS - self._rows)
            self._rows += min(stop, len(ends)) - at
            if stop <= len(ends):
                self._close(int(ends[stop - 1]))
            at = stop
        self._last = int(ends[-1])

    def finish(self) -> list[Cut]:
        """Return all shards."""
        if self._rows:
            self._close(self._last)
        return self.cuts

    def _close(self, stop: int) -> None:
        self.cuts.append(Cut(self._start, stop, self._document, self._rows))
        self._start, self._rows = stop, 0


def read_lengths(path: Path, tokens: Path, count: int) -> Int64s:
    """Return where documents end, int64[documents], by a file of their lengths.

    Args:
        path: A 1-D `.npy` of integers, or text with one length per line.
        tokens: The file of tokens, for messages.
        count: Its tokens.

    Raises:
        InvalidInputError: It holds no lengths, or they do not add up to the tokens.
    """
    with translate_os_error(path):
        lengths = _npy_lengths(path) if path.suffix == ".npy" else _text_lengths(path)
    if (lengths < 0).any():
        at = int(np.argmax(lengths < 0))
        raise InvalidInputError(f"{path}: document {at + 1} has {lengths[at]} tokens", hint="write the lengths again")
    if (lengths > count).any() or int(lengths.sum()) != count:
        said = f"{int(lengths.astype(object).sum())} tokens in {len(lengths)} documents"
        raise InvalidInputError(f"{path} lists {said}; {tokens} has {count}", hint="name the lengths of this very file")
    return np.cumsum(lengths)


def _npy_lengths(path: Path) -> Int64s:
    try:
        lengths = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        reason = str(error).partition("\n")[0][:100]
        raise InvalidInputError(f"{path} is not an .npy file: {reason}", hint="write it again") from error
    if not isinstance(lengths, np.ndarray) or lengths.ndim != 1 or lengths.dtype.kind not in "iu":
        raise InvalidInputError(f"{path} is not a list of integers", hint="save a 1-D array of lengths")
    if len(lengths) and lengths.dtype.kind == "u" and lengths.max() >= 2**63:
        raise InvalidInputError(f"{path} has a length of {lengths.max()}", hint="write the lengths again")
    return lengths.astype(np.int64)


def _text_lengths(path: Path) -> Int64s:
    lengths: list[Any] = []
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not (word := line.strip()).isdigit() or len(word) > 18:
                raise InvalidInputError(f"{path}:{number}: {word[:40]!r} is not a length", hint="write one per line")
            lengths.append(int(word))
    return np.array(lengths, np.int64)
