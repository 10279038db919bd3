"""dedup: of rows with the same text, keeps the first in table order. Stores which rows are kept, copies nothing.

Texts are the same when their BLAKE3-128 is. Hashing is one task per piece; finding the first of each is one task over
all hashes, at about 50 bytes of memory per row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pyfactory.core.canonical import Value
from pyfactory.core.digest import NO_DIGEST, Digest, Hasher
from pyfactory.errors import CorruptError
from pyfactory.job.pieces import Piece, kept_mask, kept_rows, narrowed, open_text, store_selection
from pyfactory.job.steps.base import Bench, Parameters, Report, State
from pyfactory.job.task import Result, Task
from pyfactory.store.content import Objects

__all__ = ["VERSION", "Dedup", "DedupParameters"]

VERSION = 1

_HASH_BYTES = 16


class DedupParameters(Parameters):
    """Parameters of `dedup`.

    Attributes:
        method: exact: rows are duplicates when their texts are equal byte for byte.
    """

    method: Literal["exact"] = "exact"

    def bind(self, folder: Path) -> Dedup:
        """Return the step."""
        return Dedup(self.method)


@dataclass(frozen=True, slots=True)
class Dedup:
    """The step `dedup`; see the module."""

    method: str
    name = "dedup"

    def value(self) -> Value:
        """Return the parameters as a canonical value."""
        return {"method": self.method}

    def run(self, bench: Bench, state: State) -> tuple[State, Report]:
        """Hash all texts, then select the first of each."""
        hashed = bench.perform("dedup: hash", [HashWork(piece) for piece in state.pieces])
        hashes = tuple(result.objects[0] for result in hashed)
        (result,) = bench.perform("dedup: compare", [FirstWork(state.pieces, hashes)])
        pieces = narrowed(state.pieces, result.objects, result.numbers)
        kept = sum(result.numbers)
        report = Report(self.name, VERSION, state.rows, kept, {"duplicate": state.rows - kept})
        return replace(state, pieces=pieces), report


@dataclass(frozen=True, slots=True)
class HashWork:
    """The hashes of the kept texts of a piece: an object of 16 bytes for each, in row order."""

    piece: Piece

    def task(self) -> Task:
        """Return the task. BLAKE3 is specified; no library decides its bytes."""
        return Task("dedup.hash", VERSION, {}, self.piece.inputs(side=False), {})

    def run(self, objects: Objects) -> Result:
        """Hash every kept row."""
        text = open_text(objects, self.piece.part)
        offsets, octets = text.buffers()[1:]
        bounds = np.frombuffer(offsets, np.int64)[text.offset : text.offset + len(text) + 1].tolist()
        view = memoryview(octets or b"")
        rows = kept_rows(objects, self.piece)
        wanted = range(len(text)) if rows is None else rows.tolist()
        hashes = b"".join(Hasher(view[bounds[row] : bounds[row + 1]]).digest(length=_HASH_BYTES) for row in wanted)
        return Result(objects=(objects.put(hashes),))


@dataclass(frozen=True, slots=True)
class FirstWork:
    """The selections of all pieces that keep the first row of each hash, and the number of rows that each keeps."""

    pieces: Sequence[Piece]
    hashes: Sequence[Digest]

    def task(self) -> Task:
        """Return the task."""
        inputs = [digest for piece, hashes in self._pairs() for digest in (hashes, piece.keep or NO_DIGEST)]
        rows = [piece.part.rows for piece in self.pieces]
        return Task("dedup.first", VERSION, {"rows": rows}, tuple(inputs), {})

    def run(self, objects: Objects) -> Result:
        """Compare all hashes. O(rows log rows)."""
        loaded = [_hashes(objects, piece, hashes) for piece, hashes in self._pairs()]
        first = _first_of_each(np.concatenate(loaded) if loaded else np.zeros((0, 2), "<u8"))
        selections, rows, start = [], [], 0
        for piece in self.pieces:
            stays = first[start : start + piece.rows]
            mask = kept_mask(objects, piece)
            mask[mask] = stays
            selections.append(store_selection(objects, piece, mask))
            rows.append(int(np.count_nonzero(stays)))
            start += piece.rows
        return Result(objects=tuple(selections), numbers=tuple(rows))

    def _pairs(self) -> zip[tuple[Piece, Digest]]:
        return zip(self.pieces, self.hashes, strict=True)


def _hashes(objects: Objects, piece: Piece, digest: Digest) -> NDArray[Any]:
    content = objects.map(digest)
    if len(content) != _HASH_BYTES * piece.rows:
        raise CorruptError(f"object {digest} in {objects.store.url} is not the hashes of {piece.rows} rows")
    return np.frombuffer(content, "<u8").reshape(-1, 2)


def _first_of_each(hashes: NDArray[Any]) -> NDArray[np.bool_]:
    """Return bool[rows]: whether no earlier row has the same hash, uint64[rows, 2]."""
    order = np.lexsort((hashes[:, 1], hashes[:, 0]))  # stable: the first row of a hash leads its run
    ordered = hashes[order]
    leads = np.ones(len(order), np.bool_)
    leads[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    first = np.zeros(len(order), np.bool_)
    first[order] = leads
    return first
