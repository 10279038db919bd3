"""The gate `duplicates`: added rows whose content occurs more than once, or occurs in the target already."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pyfactory.errors import InvalidInputError
from pyfactory.repo.gates.answer import allowed, answer, percent
from pyfactory.repo.gates.base import EVIDENCE, Proposal, Verdict
from pyfactory.repo.gates.options import COUNT, SHARE, TEXT, option, ratio, rounded
from pyfactory.repo.gates.rows import evidence, open_content
from pyfactory.repo.gates.sample import WHOLE, ContentSample, content_digests, sampled
from pyfactory.shard.manifest import Part

__all__ = ["Duplicates", "occurring_twice"]

_LEAST_SAMPLE, _MOST_SAMPLE = 16, 65_536
_CONTENTS = ("string", "large_string", "binary", "large_binary")


@dataclass(frozen=True)
class Duplicates:
    """Among the added rows exactly, by 128 bits of BLAKE3; against the target by a sample of its contents.

    Judging holds 16 bytes for each added row.
    """

    name: ClassVar[str] = "duplicates"
    version: ClassVar[int] = 1

    max_share: Decimal = option("0.01", SHARE, "share of the added rows whose content occurs in another added row")
    max_known: Decimal = option("0.01", SHARE, "share of the added rows whose content the target has, by estimate")
    sample: int = option(4096, COUNT, "contents in the sample of the target, 16 to 65,536")
    column: str = option("", TEXT, "the column of text or bytes that is the content; the first one without it")

    def __post_init__(self) -> None:
        if not _LEAST_SAMPLE <= self.sample <= _MOST_SAMPLE:
            raise InvalidInputError(
                f"the gate duplicates: a sample of {self.sample}", hint=f"{_LEAST_SAMPLE} to {_MOST_SAMPLE} can be had"
            )

    def obstacle(self, proposal: Proposal) -> str:
        """Return why the table cannot be judged, or ""."""
        if proposal.after is None:
            return "would be removed"
        for state, where in ((proposal.after, ""), (proposal.before, " in the target")):
            columns = {} if state is None else {name: type_ for name, type_, _ in state.schema}
            if self.column and state is not None and columns.get(self.column) not in _CONTENTS:
                return f"has no column {self.column!r} of text or bytes{where}"
        return ""

    def judge(self, proposal: Proposal) -> Verdict:
        """Return the verdict; the evidence are added rows that occur twice or, if those may, rows of the target."""
        digests = self._digests(proposal)
        twice = occurring_twice(digests)
        rows, repeated = len(digests), int(twice.sum())
        share = ratio(repeated, rows)
        few = allowed(repeated, rows, self.max_share)
        found: dict[str, str | int] = {"rows": rows, "repeated": repeated, "share repeated": rounded(share)}
        told = f"{repeated:,} of {rows:,} added rows, {percent(share)}, occur among them more than once"
        told += f" ({percent(self.max_share)} may)"
        new = True
        shown = twice
        if proposal.before is not None and proposal.before.rows and rows:
            compared = self._against_target(proposal, digests[:, 0])
            new = allowed(compared.hits, compared.rows, self.max_known)
            told += f"; {compared.told} ({percent(self.max_known)} may)"
            found |= compared.found
            shown = compared.known if few else twice
        places = [] if few and new else _places(proposal.added, np.flatnonzero(shown)[:EVIDENCE].tolist())
        ids = evidence(proposal.objects, places)
        return answer(self, proposal, told, found, passed=few and new, evidence=ids)

    def _digests(self, proposal: Proposal) -> NDArray[np.uint64]:
        each = proposal.sketches.each(
            lambda part: content_digests(open_content(proposal.objects, part), self.column), proposal.added
        )
        return np.concatenate([np.zeros((0, 2), np.uint64), *each])

    def _against_target(self, proposal: Proposal, words: NDArray[np.uint64]) -> _Compared:
        """Compare with the rows of the target that stay: what a rewritten shard held before is no duplicate."""
        measure = ContentSample(self.sample, self.column)
        held = proposal.sketches.total(measure, proposal.before)
        held = measure.without(held, proposal.sketches.total(measure, proposal.removed))
        below, known = sampled(held, words)
        rows, hits = int(below.sum()), int(known.sum())
        share = ratio(hits, rows)
        found: dict[str, str | int] = {"compared": rows, "known": hits, "share known": rounded(share)}
        if held["below"] == WHOLE:
            told = f"{hits:,}, {percent(share)}, are in the target, all of which was compared"
        elif not rows:
            told = "none of them falls into the sample of the target, so nothing is known about repeats of it"
        else:
            found["error"] = _error(hits, rows)
            around = f"give or take {percent(Decimal(found['error']))}"
            told = f"an estimated {percent(share)} are in the target, {around}, by {rows:,} of them"
        return _Compared(rows, hits, known, found, told)


@dataclass(frozen=True)
class _Compared:
    """Added rows beside the target: how many could be compared, how many it has, and which."""

    rows: int
    hits: int
    known: NDArray[np.bool_]
    found: dict[str, str | int]
    told: str


def _error(hits: int, rows: int) -> str:
    """Return how far an estimated share may be off, 19 times out of 20: two standard errors, 3 / rows at 0 and 1."""
    share = hits / rows
    error = 2 * math.sqrt(share * (1 - share) / rows) if 0 < hits < rows else min(1.0, 3 / rows)
    return f"{error:.4f}"


def occurring_twice(digests: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """Return bool[rows]: whether the digest of a row, uint64[rows, 2], is that of another one. O(rows log rows)."""
    order = np.lexsort((digests[:, 1], digests[:, 0]))
    placed = digests[order]
    same = (placed[1:] == placed[:-1]).all(axis=1)
    twice = np.zeros(len(digests), bool)
    twice[order[1:][same]] = True
    twice[order[:-1][same]] = True
    return twice


def _places(parts: tuple[Part, ...], rows: list[int]) -> list[tuple[int, int, Part]]:
    """Return (index of the shard, row in it, shard) of rows counted over all shards."""
    starts = np.cumsum([0, *(part.rows for part in parts)])
    places = []
    for row in rows:
        index = int(np.searchsorted(starts, row, side="right")) - 1
        places.append((index, row - int(starts[index]), parts[index]))
    return places
