"""The rows of a table that two sides changed: which changes stand together, and the manifest of both."""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pyfactory.core.digest import NO_DIGEST, Digest
from pyfactory.errors import CorruptError, NotFoundError
from pyfactory.repo.choices import OURS, THEIRS
from pyfactory.shard.diff import Difference, diff_manifests
from pyfactory.shard.edit import edit_manifest
from pyfactory.shard.layout import KEY_BYTES
from pyfactory.shard.manifest import Part
from pyfactory.shard.node import sort_key
from pyfactory.shard.nodes import Nodes
from pyfactory.shard.reader import Side, open_shard
from pyfactory.store.content import Objects

__all__ = ["RowChanges", "ids_of_both", "rewrote", "shown_key"]

_SHOWN_IDS = 3
_CONTENT_ID = "b3:"
_KEY_DTYPE = np.dtype(f"S{KEY_BYTES}")

Changes = dict[bytes, Difference]
Keys = NDArray[np.bytes_]


@dataclass
class RowChanges:
    """What two sides made of the manifest that they started from. O(changes) time, reads and memory.

    Attributes:
        objects: Where the manifests are.
        base: Root of the manifest that both started from.
        ours: Root of our manifest.
        theirs: Root of theirs.
    """

    objects: Objects
    base: Digest
    ours: Digest
    theirs: Digest

    def __post_init__(self) -> None:
        self._nodes = Nodes(self.objects)

    @cached_property
    def by_us(self) -> Changes:
        """What we changed, by key, ascending."""
        return self._changes(self.ours)

    @cached_property
    def by_them(self) -> Changes:
        """What they changed, by key, ascending."""
        return self._changes(self.theirs)

    @property
    def only_added(self) -> bool:
        """Neither side removed or changed what was there."""
        return not (rewrote(self.by_us) or rewrote(self.by_them))

    @property
    def both_replaced(self) -> bool:
        """Both removed the same rows, and yet did not do the same."""
        if self.ours == self.theirs:
            return False
        return any(
            change.after is None and key in self.by_them and self.by_them[key].after is None
            for key, change in self.by_us.items()
        )

    def conflicts(self) -> list[tuple[Difference, Difference]]:
        """Return what both changed in different ways: (our change, their change), ascending by key."""
        return [
            (ours, self.by_them[key])
            for key, ours in self.by_us.items()
            if key in self.by_them and self.by_them[key].after != ours.after
        ]

    def added(self, by: str) -> list[Part]:
        """Return the parts that only one side added."""
        mine, other = (self.by_us, self.by_them) if by == OURS else (self.by_them, self.by_us)
        return [
            change.after.part
            for key, change in mine.items()
            if change.before is None and change.after is not None and key not in other
        ]

    def merged(self, decided: Mapping[bytes, str]) -> Digest:
        """Write the manifest of both and return its root, the same whichever side is called ours.

        Args:
            decided: Who is right, for the key of each conflict.
        """
        # The fewer changes are applied to the manifest that has the others.
        if len(self.by_them) <= len(self.by_us):
            return self._applied(self.ours, self.by_us, self.by_them, THEIRS, decided)
        return self._applied(self.theirs, self.by_them, self.by_us, OURS, decided)

    def totals(self, root: Digest) -> tuple[int, ...]:
        """Return shards, rows, tokens and bytes of a manifest."""
        return self._nodes.root(root).totals

    def _changes(self, to: Digest) -> Changes:
        found = diff_manifests(self.objects, self.base, to, nodes=self._nodes)
        return {difference.key: difference for difference in found}

    def _applied(self, root: Digest, has: Changes, more: Changes, of: str, decided: Mapping[bytes, str]) -> Digest:
        def differences() -> Iterator[Difference]:
            for key, change in more.items():
                if key not in has:
                    yield change
                elif has[key].after != change.after and decided[key] == of:
                    yield Difference(key, has[key].after, change.after)

        return edit_manifest(self.objects, root, differences(), nodes=self._nodes)


def rewrote(changes: Changes) -> bool:
    """Tell whether something that was there is changed or gone."""
    return any(change.before is not None for change in changes.values())


def shown_key(difference: Difference) -> str:
    """Return the place of a shard as conflicts name it: generation, start of the batch, ordinal."""
    generation, batch, ordinal = sort_key(difference.key)
    return f"{generation}/{batch.hex()[:12]}/{ordinal}"


def ids_of_both(
    objects: Objects, ours: Sequence[Part], theirs: Sequence[Part], *, content: bool = False
) -> tuple[int, list[str]]:
    """Find ids that rows of both sides have.

    Args:
        objects: Where the side shards are; parts without one are passed over.
        ours: Parts of one side.
        theirs: Parts of the other.
        content: Also ids made from the content of records, which equal records on two sides have in common.

    Returns:
        How many rows of one side have an id of the other, and the first few ids in the order of text. O(rows), holding
        16 bytes for each row of the smaller side.

    Raises:
        CorruptError: A side shard is missing or damaged.
    """
    fewer, more = sorted((ours, theirs), key=lambda parts: sum(part.rows for part in parts))
    keys = [np.zeros(0, _KEY_DTYPE), *(_keys(batch) for batch in _sides(objects, fewer))]
    known: Keys = np.sort(np.concatenate(keys))
    count, first = 0, list[str]()
    for batch in _sides(objects, more) if len(known) else ():
        found = _ids(batch, known, content)
        count += len(found)
        first = heapq.nsmallest(_SHOWN_IDS, {*first, *found})
    return count, first


def _sides(objects: Objects, parts: Sequence[Part]) -> Iterator[pa.RecordBatch]:
    """Open the side shards of parts, one at a time."""
    for part in parts:
        if part.side != NO_DIGEST:
            what = f"side {part.side} of shard {part.shard}"
            try:
                yield open_shard(objects.map(part.side), what)
            except NotFoundError as error:
                raise CorruptError(
                    f"{objects.store.url}: {what} is missing", hint="put the object back from a copy of the repository"
                ) from error


def _keys(batch: pa.RecordBatch) -> Keys:
    return Side(batch).keys.view(_KEY_DTYPE)


def _ids(batch: pa.RecordBatch, known: Keys, content: bool) -> list[str]:
    """Return the ids of a side shard whose keys are known (ascending); those made from content only if asked."""
    keys = _keys(batch)
    places = np.minimum(np.searchsorted(known, keys), len(known) - 1)
    rows = np.asarray(batch.column("row"))[known[places] == keys]
    if len(rows) and int(rows.max()) >= batch.num_rows:
        raise CorruptError(f"a key of a side shard names row {rows.max()} of {batch.num_rows}")
    ids = batch.column("id").take(pa.array(rows))
    if not content:
        ids = ids.filter(pc.invert(pc.starts_with(ids, pattern=_CONTENT_ID)))
    try:
        found: list[str] = ids.to_pylist()
    except UnicodeDecodeError as error:
        raise CorruptError("an id of a side shard is not valid UTF-8") from error
    return found
