"""What a new version of a table has that an old one has not, and the other way round: as runs of tokens.

The cost is that of the shards that changed. A document is the same if its record id and its number of tokens are; its
tokens may be forgotten in the meantime, which must move nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyfactory.core.digest import NO_DIGEST
from pyfactory.errors import InvalidInputError
from pyfactory.repo.version import Version
from pyfactory.shard.diff import diff_manifests
from pyfactory.shard.layout import key_of_id
from pyfactory.shard.manifest import Manifest, Part
from pyfactory.shard.reader import open_shard, open_side, token_buffers

__all__ = ["TokenRuns", "Unseen", "compare"]

Int64s = NDArray[np.int64]

_Document = tuple[bytes, int]  # key of the record id, tokens


@dataclass(frozen=True, eq=False)
class TokenRuns:
    """Runs of a table's tokens that do not touch, ascending.

    Attributes:
        firsts: int64[r], first token of each run in the table.
        lengths: int64[r], its tokens, 1 or more.
        documents: Documents in them.
    """

    firsts: Int64s
    lengths: Int64s
    documents: int

    @property
    def tokens(self) -> int:
        """Tokens of all runs."""
        return int(self.lengths.sum())


@dataclass(frozen=True, eq=False)
class Unseen:
    """How two versions of a table differ.

    Attributes:
        added: What only the new version has, in its tokens.
        removed: What only the old version has, in its tokens.
    """

    added: TokenRuns
    removed: TokenRuns


@dataclass(frozen=True, slots=True)
class _Shard:
    """A shard that only one of the versions has."""

    start: int  # its first token in the table
    part: Part


def compare(old: Version, new: Version) -> Unseen:
    """Return how two versions of a table differ. O(rows of the shards that changed); appended shards are not opened.

    Raises:
        InvalidInputError: They are of different repositories.
        CorruptError, NotFoundError: A shard is damaged or gone.
    """
    if old.repository.url != new.repository.url:
        raise InvalidInputError(
            f"{old.table} in {old.repository.url} and {new.table} in {new.repository.url} cannot be compared",
            hint="unseen_only needs two versions in one repository",
        )
    gone: list[_Shard] = []
    came: list[_Shard] = []
    for difference in diff_manifests(new.repository.objects, old.state.manifest, new.state.manifest):
        for entry, version, found in ((difference.before, old, gone), (difference.after, new, came)):
            if entry is not None:
                found.append(_Shard(_start(version.manifest, difference.key), entry.part))
    if not gone:
        return Unseen(_whole(came), _whole([]))
    there = Counter(document for shard in gone for document in _documents(old, shard.part))
    added = _runs(new, came, there)  # what it finds in the old version, it takes out of `there`
    here = Counter(document for shard in came for document in _documents(new, shard.part))
    return Unseen(added, _runs(old, gone, here))


def _start(manifest: Manifest, key: bytes) -> int:
    return int(manifest.token_starts(np.array([manifest.ordinal_of(key)]))[0])


def _whole(shards: Sequence[_Shard]) -> TokenRuns:
    spans = [(shard.start, shard.start + shard.part.tokens) for shard in shards if shard.part.tokens]
    return _joined(spans, sum(shard.part.rows for shard in shards))


def _runs(version: Version, shards: Sequence[_Shard], others: Counter[_Document]) -> TokenRuns:
    """Return the documents of shards that have no partner among others; each other is the partner of one."""
    spans: list[tuple[int, int]] = []
    for shard in shards:
        at = shard.start
        for document in _documents(version, shard.part):
            if others[document]:
                others[document] -= 1
            else:
                spans.append((at, at + document[1]))
            at += document[1]
    return _joined(spans, len(spans))


def _joined(spans: Sequence[tuple[int, int]], documents: int) -> TokenRuns:
    joined: list[list[int]] = []
    for start, stop in spans:
        if joined and joined[-1][1] == start:
            joined[-1][1] = stop
        elif start < stop:
            joined.append([start, stop])
    bounds = np.array(joined, np.int64).reshape(-1, 2)
    return TokenRuns(bounds[:, 0].copy(), bounds[:, 1] - bounds[:, 0], documents)


def _documents(version: Version, part: Part) -> Iterator[_Document]:
    objects = version.repository.objects
    what = f"shard {part.shard} of table {version.table!r}"
    if part.side == NO_DIGEST:
        raise InvalidInputError(
            f"{what} has no record ids, so nobody can say which of its documents are new",
            hint="move to the new version without unseen_only: a new epoch begins",
        )
    _, bounds = token_buffers(open_shard(objects.map(part.shard), what))
    ids = open_side(objects.map(part.side), f"the side of {what}").ids
    for record, tokens in zip(ids.to_pylist(), np.diff(bounds).tolist(), strict=True):
        yield key_of_id(record), tokens
