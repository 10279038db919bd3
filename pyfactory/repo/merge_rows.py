"""The rows of a table that two sides changed: which changes stand together, and the manifest of both.

A batch that both sides added counts once, although other appends may have given it another generation on each: it
stands at the earlier one of the two, whichever side is called ours.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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
from pyfactory.shard.manifest import Entry, Part, new_batch
from pyfactory.shard.node import KEY, sort_key
from pyfactory.shard.nodes import Nodes
from pyfactory.shard.reader import Side, open_shard
from pyfactory.shard.tree import pack_entry
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

    @property
    def by_us(self) -> Changes:
        """What we changed, by key, ascending; a batch of both sides stands where the merged table has it."""
        return self._sides[0]

    @property
    def by_them(self) -> Changes:
        """What they changed, likewise."""
        return self._sides[1]

    @property
    def only_added(self) -> bool:
        """Neither side removed or changed what was there."""
        return not (rewrote(self.by_us) or rewrote(self.by_them))

    @property
    def both_replaced(self) -> bool:
        """Both removed the same rows, and yet did not do the same."""
        if self.ours == self.theirs:
            return False
        ours, theirs = (_removed(changes) for changes in self._sides)
        return not ours.isdisjoint(theirs)

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
        ours, theirs = self._found
        if len(self.by_them) <= len(self.by_us):
            return self._applied(self.ours, ours, self.by_us, self.by_them, THEIRS, decided)
        return self._applied(self.theirs, theirs, self.by_them, self.by_us, OURS, decided)

    def totals(self, root: Digest) -> tuple[int, ...]:
        """Return shards, rows, tokens and bytes of a manifest."""
        return self._nodes.root(root).totals

    def _changes(self, to: Digest) -> Changes:
        found = diff_manifests(self.objects, self.base, to, nodes=self._nodes)
        return {difference.key: difference for difference in found}

    @cached_property
    def _found(self) -> tuple[Changes, Changes]:
        """What each side changed, as its manifest has it."""
        return self._changes(self.ours), self._changes(self.theirs)

    @cached_property
    def _sides(self) -> tuple[Changes, Changes]:
        return _settled(*self._found)

    def _applied(
        self, root: Digest, found: Changes, has: Changes, more: Changes, of: str, decided: Mapping[bytes, str]
    ) -> Digest:
        """Write the manifest of both from that of one side.

        Args:
            root: The manifest of that side.
            found: What it changed, as its manifest has it.
            has: The same, as the merged table has it.
            more: What the other side changed, as the merged table has it.
            of: Which the other side is.
            decided: Who is right, for the key of each conflict.
        """
        wanted = {**{key: None for key in found if key not in has and found[key].before is None}, **_after(has)}
        wanted |= {key: after for key, after in _after(more).items() if key not in has or decided.get(key) == of}

        def differences() -> Iterator[Difference]:
            for key in sorted(wanted, key=sort_key):
                now = found[key].after if key in found else more[key].before if key in more else None
                if now != wanted[key]:
                    yield Difference(key, now, wanted[key])

        return edit_manifest(self.objects, root, differences(), nodes=self._nodes)


def _after(changes: Changes) -> dict[bytes, Entry | None]:
    return {key: change.after for key, change in changes.items()}


def _removed(changes: Changes) -> set[bytes]:
    """Return the keys of what is gone, without batches that an earlier merge has put elsewhere."""
    kept = _batches(changes)
    gone = ((key, change.before) for key, change in changes.items() if change.after is None)
    return {key for key, entry in gone if entry is not None and entry.batch not in kept}


def _settled(ours: Changes, theirs: Changes) -> tuple[Changes, Changes]:
    """Return the changes of both sides with each batch that both added at the earlier of its two places.

    Of a batch that a side added several times, the first is that of the other side's first, and so on.
    """
    by_us, by_them = _batches(ours), _batches(theirs)
    moves, their_moves = dict[bytes, bytes](), dict[bytes, bytes]()
    for batch in by_us.keys() & by_them.keys():
        for (first, mine), (second, other) in zip(by_us[batch].items(), by_them[batch].items(), strict=False):
            if first > second:
                moves |= zip(mine, other, strict=True)
            elif second > first:
                their_moves |= zip(other, mine, strict=True)
    return _moved(ours, moves), _moved(theirs, their_moves)


def _batches(changes: Changes) -> dict[Digest, dict[int, list[bytes]]]:
    """Return the keys of the batches that were added whole, by batch and generation, each ascending."""
    found: dict[tuple[Digest, int], list[Entry]] = {}
    for change in changes.values():
        if change.before is None and change.after is not None:
            found.setdefault((change.after.batch, change.after.generation), []).append(change.after)
    batches: dict[Digest, dict[int, list[bytes]]] = {}
    for (batch, generation), entries in found.items():
        if new_batch([entry.part for entry in entries], generation) == entries:
            batches.setdefault(batch, {})[generation] = [pack_entry(entry)[: KEY.size] for entry in entries]
    return batches


def _moved(changes: Changes, moves: Mapping[bytes, bytes]) -> Changes:
    """Return changes with entries at other keys."""
    if not moves:
        return changes
    found: Changes = {}
    for key, change in changes.items():
        to = moves.get(key, key)
        entry = change.after
        if to != key and entry is not None:
            entry = replace(entry, generation=sort_key(to)[0])
        found[to] = Difference(to, change.before, entry)
    return {key: found[key] for key in sorted(found, key=sort_key)}


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
