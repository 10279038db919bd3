"""The first reading of a file of tokens: its digest, whether its tokens are in range, and where shards are cut."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyfactory.core.digest import Digest
from pyfactory.errors import BadRecordError
from pyfactory.shard.importers.reading import Course
from pyfactory.shard.importers.streams import RawFile, refuse_changed
from pyfactory.shard.importers.token_documents import Cut, Cutter, ends_between, rows_between
from pyfactory.shard.importers.token_files import TokenFile

__all__ = ["Scanned", "Scanning"]

_BLOCK_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class Scanned:
    """What the first reading of a file found.

    Attributes:
        digest: Of the whole file.
        greatest: Its greatest token.
        documents: Documents with tokens.
        empty: Documents without.
        ended: Whether a token ended one.
        cuts: The shards to be written, by the width of tokens.
    """

    digest: Digest
    greatest: int
    documents: int
    empty: int
    ended: bool
    cuts: dict[int, list[Cut]]


@dataclass(frozen=True, slots=True)
class Scanning:
    """The first reading; called with the number of a file, it does that.

    Attributes:
        files: All files.
        eos: The token that ends documents, or None.
        limit: What tokens must be less than.
        promised: Whether that is the size of a vocabulary, and not what can be stored.
        widths: Widths for which shards are to be cut.
        target_bytes: Content of a shard.
        course: What the tasks share.
    """

    files: Sequence[TokenFile]
    eos: int | None
    limit: int
    promised: bool
    widths: Sequence[int]
    target_bytes: int
    course: Course

    def __call__(self, number: int) -> Scanned:
        """Read a file.

        Raises:
            BadRecordError: A token is out of range.
        """
        try:
            with RawFile(self.files[number].source, partial(self.course.advanced, number)) as raw:
                return self._read(self.files[number], raw)
        except BaseException:
            self.course.stop_after(number)
            raise

    def _read(self, file: TokenFile, raw: RawFile) -> Scanned:
        cutters = [Cutter(max(1, self.target_bytes // width)) for width in self.widths]
        at = ended = document = greatest = 0
        found = False
        for tokens in _blocks(file, raw.read):
            greatest = max(greatest, self._check(file, tokens, at))
            eos = None if self.eos is None else tokens == self.eos
            found |= eos is not None and bool(eos.any())
            ends = ends_between(file, at, at + len(tokens), document, eos)
            rows = rows_between(ends, ended, document)
            for cutter in cutters:
                cutter.add(*rows)
            ended, document = int(ends[-1]) if len(ends) else ended, document + len(ends)
            at += len(tokens)
        documents = cutters[0].documents
        cuts = {width: cutter.finish() for width, cutter in zip(self.widths, cutters, strict=True)}
        return Scanned(raw.finish(), greatest, documents, document - documents, found, cuts)

    def _check(self, file: TokenFile, tokens: NDArray[Any], at: int) -> int:
        """Return the greatest of some tokens, all of which must be in range."""
        low, high = int(tokens.min()), int(tokens.max())
        if low < 0 or high >= self.limit:
            wrong = (tokens >= self.limit) if low >= 0 else (tokens < 0)
            place = int(np.argmax(wrong))
            refuse_changed(file.source)
            byte = file.start + (at + place) * file.dtype.itemsize
            why = "is negative" if low < 0 else f"is not below {self.limit}"
            message = f"{file.source.path}: token {at + place}, at byte {byte}, {why}: {tokens[place]}"
            hint = "choose the dtype and format that it was written with" + ", or a larger vocab_size" * self.promised
            raise BadRecordError(message, hint=hint)
        return high


def _blocks(file: TokenFile, read: Callable[[int], bytes]) -> Iterator[NDArray[Any]]:
    """Yield the tokens of a file, some MB at a time; the bytes before the first one are read and left out."""
    left = file.start
    while left:
        left -= len(read(left)) or left
    rest = b""
    while piece := read(_BLOCK_BYTES):
        whole = rest + piece if rest else piece
        count = len(whole) // file.dtype.itemsize
        if count:
            yield np.frombuffer(whole, file.dtype, count)
        rest = whole[count * file.dtype.itemsize :]
