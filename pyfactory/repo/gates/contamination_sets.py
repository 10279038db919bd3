"""Evaluation sets: the hashes of all windows of n words of some texts, as one object of a repository.

Bytes: `PYFNGRAM`, then little-endian unsigned 64-bit numbers: format (1), n, count, and that many hashes, ascending.
The texts themselves are not kept.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pyfactory.core.digest import Buffer, Digest
from pyfactory.core.durable import translate_os_error
from pyfactory.errors import BadRecordError, CorruptError, InvalidInputError, NewerFormatError, NotFoundError
from pyfactory.repo.gates.contamination_ngrams import windows_of
from pyfactory.store.content import Objects

__all__ = ["MAX_N", "EvaluationSet", "load_set", "make_set", "read_texts"]

MAX_N = 64
"""Most words of a window."""

_MAGIC = b"PYFNGRAM"
_FORMAT = 1
_HEADER = 32
_SLOT = np.uint64(42)


class EvaluationSet:
    """The windows of an evaluation set.

    Attributes:
        n: Words of a window.
        hashes: uint64[windows], ascending, each once.
        texts: Texts that it was made of; 0 if it was read back.
        short: Those of them with fewer than n words, which nothing can match; 0 if it was read back.
    """

    def __init__(self, n: int, hashes: NDArray[np.uint64], *, texts: int = 0, short: int = 0) -> None:
        self.n = n
        self.hashes = hashes
        self.texts = texts
        self.short = short
        # By the first 22 bits: tells nearly all that are not in the set apart with one access.
        self._slots = np.zeros(1 << 22, np.bool_)
        self._slots[hashes >> _SLOT] = True

    def to_bytes(self) -> bytes:
        """Return the stored bytes."""
        header = np.array([_FORMAT, self.n, len(self.hashes)], "<u8")
        return _MAGIC + header.tobytes() + self.hashes.astype("<u8").tobytes()

    @classmethod
    def from_bytes(cls, content: Buffer, what: str) -> EvaluationSet:
        """Return the set that bytes hold, in place; `what` names them in errors.

        Raises:
            CorruptError: They are not such a set.
            NewerFormatError: They are one in a newer format.
        """
        view = memoryview(content)
        if len(view) < _HEADER or view[:8] != _MAGIC:
            raise CorruptError(f"{what} is no evaluation set")
        format_, n, count = np.frombuffer(view, "<u8", 3, 8).tolist()
        if format_ > _FORMAT:
            raise NewerFormatError(f"{what} has format {format_}; this pyfactory reads 1", hint="upgrade pyfactory")
        if format_ != _FORMAT or not 1 <= n <= MAX_N or len(view) != _HEADER + 8 * count:
            raise CorruptError(f"{what} is no evaluation set of the length that it says")
        hashes = np.frombuffer(view, "<u8", count, _HEADER)
        if (hashes[1:] <= hashes[:-1]).any():
            raise CorruptError(f"{what} has hashes that do not ascend")
        return cls(n, hashes)

    def contains(self, hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Return which hashes are in the set: bool[len(hashes)]. One access each, a search for few."""
        found: NDArray[np.bool_] = self._slots[hashes >> _SLOT]
        near = np.flatnonzero(found)
        if len(near):
            at = np.searchsorted(self.hashes, hashes[near])
            found[near] = self.hashes[np.minimum(at, len(self.hashes) - 1)] == hashes[near]
        return found


def make_set(texts: Iterable[str], n: int) -> EvaluationSet:
    """Return the set of all windows of n words of texts.

    Raises:
        InvalidInputError: n is not from 1 to `MAX_N`, or no text has n words.
    """
    if not 1 <= n <= MAX_N:
        raise InvalidInputError(f"windows of {n} words cannot be compared", hint=f"choose from 1 to {MAX_N}")
    pieces = [np.zeros(0, np.uint64)]
    long: set[int] = set()
    texts = [*texts]
    for windows in windows_of(texts, n):
        pieces.append(np.unique(windows.hashes))
        long.update(np.unique(windows.rows).tolist())
    hashes = np.unique(np.concatenate(pieces))
    if not len(hashes):
        raise InvalidInputError(f"no text has {n} words", hint="give the texts of the evaluation set, or a smaller n")
    return EvaluationSet(n, hashes, texts=len(texts), short=len(texts) - len(long))


def load_set(objects: Objects, digest: Digest, what: str) -> EvaluationSet:
    """Return a stored set; `what` names it in errors.

    Raises:
        NotFoundError: The repository has no such object.
        CorruptError: The object is none.
    """
    try:
        return EvaluationSet.from_bytes(objects.map(digest, verify=True), what)
    except NotFoundError as error:
        raise NotFoundError(
            f"{what}: the repository has no such object", hint="add it with `pyfactory gate add-set`"
        ) from error


def read_texts(path: Path) -> Iterator[str]:
    """Yield the texts of a file: the field `text` of each line of a `.jsonl`, else each line that is not blank.

    Raises:
        BadRecordError: A line is not UTF-8, or of a `.jsonl` no object with the text.
    """
    with translate_os_error(path), path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield _text_of(line, path.suffix.lower() == ".jsonl", f"{path}: line {number}")


def _text_of(line: bytes, as_json: bool, what: str) -> str:
    try:
        value = json.loads(line) if as_json else line.decode()
    except (ValueError, RecursionError) as error:
        raise BadRecordError(f"{what} cannot be read: {error}") from error
    text = value.get("text") if isinstance(value, dict) else value
    if not isinstance(text, str) or (as_json and not isinstance(value, dict)):
        raise BadRecordError(f"{what} has no text", hint='write {"text": "..."} in each line')
    return text
