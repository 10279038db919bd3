"""What to put in place of shards that hold records: where these stand, and the same shards with nothing there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from pyfactory.core.digest import NO_DIGEST, Digest, digest_of
from pyfactory.core.progress import Progress
from pyfactory.errors import InvalidInputError, NotFoundError
from pyfactory.repo.home import Home
from pyfactory.repo.operation import View
from pyfactory.repo.records import Everything, Rows, find_rows, keys_of, opened_side
from pyfactory.repo.redaction import Replacement
from pyfactory.shard.blank import (
    blank_rows,
    blanked_content,
    blanked_side,
    is_forgotten,
    text_digests,
    token_ranges,
)
from pyfactory.shard.reader import open_shard

__all__ = ["Found", "Made", "Place", "find_everywhere", "refuse_others", "replacements"]

_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Place:
    """Rows of a record in one table (or completion mark).

    Attributes:
        id: The record.
        holder: A table that holds it, or the key of a completion mark.
        rows: In how many rows of all its distinct shards, over all commits.
    """

    id: str
    holder: str
    rows: int


@dataclass(frozen=True, slots=True)
class Found:
    """Where records stand at a view.

    Attributes:
        wanted: Their ids.
        view: The view.
        sides: Rows of each side shard that holds one.
        shards: Rows of each content shard beside these.
        beside: All sides that any part names beside each of these shards.
        places: The same for people.
    """

    wanted: tuple[str, ...]
    view: View
    sides: Mapping[Digest, Rows]
    shards: Mapping[Digest, Rows]
    beside: Mapping[Digest, set[Digest]]
    places: tuple[Place, ...]


@dataclass(frozen=True, slots=True)
class Made:
    """Replacements.

    Attributes:
        shards: Of content shards.
        sides: Of side shards.
        content: Digests of the texts that are gone, ascending.
        nbytes: Bytes of what is replaced.
    """

    shards: Mapping[Digest, Replacement]
    sides: Mapping[Digest, Digest]
    content: tuple[Digest, ...]
    nbytes: int


def find_everywhere(home: Home, view: View, wanted: Sequence[str], progress: Progress) -> Found:
    """Search the tables of all commits and all completion marks for records. O(side shards of the repository)."""
    everything = Everything(home, view)
    hits = find_rows(everything, keys_of(wanted), progress)
    shards: dict[Digest, Rows] = {}
    for _, part, _ in everything.parts() if hits else ():
        if part.side in hits:
            shards[part.shard] = np.union1d(shards.get(part.shard, np.zeros(0, np.int64)), hits[part.side][1])
    beside: dict[Digest, set[Digest]] = {shard: set() for shard in shards}
    for _, part, _ in everything.parts() if shards else ():
        if part.shard in shards and part.side != NO_DIGEST:
            beside[part.shard].add(part.side)
    count: Counter[tuple[str, str]] = Counter()
    for digest, (holder, rows) in hits.items():
        side = opened_side(home, digest)
        count.update((side.id(row), holder) for row in rows.tolist())
    places = tuple(Place(id_, holder, rows) for (id_, holder), rows in sorted(count.items()))
    return Found(tuple(wanted), view, {side: rows for side, (_, rows) in hits.items()}, shards, beside, places)


def refuse_others(home: Home, found: Found, shard: Digest, rows: Rows) -> None:
    """Raise InvalidInputError if rows of a shard are also records that are not wanted: they have the same bytes."""
    others: set[str] = set()
    for digest in found.beside[shard]:
        with suppress(NotFoundError):  # of a commit that nothing leads to, a part may be gone
            side = opened_side(home, digest)
            others.update(id_ for row in rows.tolist() if not is_forgotten(id_ := side.id(row)))
    listed = sorted(others.difference(found.wanted))
    if listed:
        shown = ", ".join(map(repr, listed[:_SHOWN])) + (", …" if len(listed) > _SHOWN else "")
        raise InvalidInputError(
            f"{home.url}: the same stored bytes are also {'record' if len(listed) == 1 else 'records'} {shown}",
            hint="they can only be forgotten together: name these as well, each with --record",
        )


def replacements(home: Home, found: Found, *, store: bool, progress: Progress) -> Made:
    """Make what to put in place of every shard and side.

    Args:
        home: The repository.
        found: Where the records are.
        store: Whether to store it, too.
        progress: Told of each content shard, as stage `replace`.

    Raises:
        InvalidInputError: See `refuse_others`.
    """
    keep = home.objects.put if store else digest_of
    shards: dict[Digest, Replacement] = {}
    content: set[Digest] = set()
    nbytes = 0
    for digest, rows in found.shards.items():
        try:
            stored = home.objects.map(digest, verify=True)
        except NotFoundError:
            continue  # likewise
        batch = open_shard(stored, f"shard {digest} in {home.url}")
        emptied = blanked_content(batch, rows)
        new = digest_of(memoryview(emptied))
        if new != digest:
            refuse_others(home, found, digest, _gone_from(home, found, new, emptied))
        shards[digest] = Replacement(new, emptied.size, tuple(token_ranges(batch, rows)))
        keep(memoryview(emptied))
        content.update(text_digests(batch, rows))
        nbytes += len(stored)
        progress("replace", len(shards), len(found.shards))
    sides = {}
    for digest, rows in found.sides.items():
        sides[digest] = keep(memoryview(blanked_side(opened_side(home, digest), rows)))
        nbytes += home.objects.size(digest) or 0
    return Made(shards, sides, tuple(sorted(content)), nbytes)


def _gone_from(home: Home, found: Found, new: Digest, emptied: pa.Buffer) -> Rows:
    """Return the rows of a replacement that are to be gone, too, or are gone already.

    There are none, unless a shard with the very bytes of the replacement is itself redacted: two shards that differed
    in forgotten records alone. Then those bytes must not come back under the name of another record.
    """
    if new in found.shards:
        return found.shards[new]
    if home.objects.current(new) == new:
        return np.zeros(0, np.int64)
    left = open_shard(home.objects.map(new, verify=True), f"shard {new} in {home.url}")
    rows = np.arange(left.num_rows)
    return np.flatnonzero(blank_rows(left, rows) & ~blank_rows(open_shard(emptied, f"shard {new}"), rows))
