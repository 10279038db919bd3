"""Differences applied to a manifest: the tree of the resulting entries, at the cost of the change.

Where nodes end is decided from the left, from one end to the next. So each level is cut anew from the start of the
first node that changes, until a new end falls on an old one; from there to the next change the old nodes stand. What
was cut anew is the change of the level above.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyfactory.core.digest import Digest
from pyfactory.errors import InternalError
from pyfactory.shard.diff import Difference
from pyfactory.shard.node import (
    INNER_MEAN,
    LEAF_MEAN,
    SHARDS,
    Node,
    Records,
    SortKeys,
    inner_records,
    leaf_records,
    packed_sort_key,
    pieces,
    sort_keys,
    totals_of,
)
from pyfactory.shard.nodes import Nodes
from pyfactory.shard.tree import Entry, pack_entry, store_node, write_tree

if TYPE_CHECKING:
    from pyfactory.store.content import Objects

__all__ = ["edit_manifest", "edit_tree"]


def edit_manifest(
    objects: Objects, root: Digest | None, differences: Iterable[Difference], *, nodes: Nodes | None = None
) -> Digest:
    """Apply differences to a manifest and return the digest of the new root.

    The result is what `write_manifest` gives for the resulting entries. O(differences * log shards) reads, writes and
    time; memory of the nodes around a change.

    Args:
        objects: Where the manifest is.
        root: Its root, None for an empty table.
        differences: From this manifest to the wanted one, ascending by key.
        nodes: Nodes at hand from comparing the same manifests; None reads them.

    Raises:
        InternalError: The keys do not ascend, or the manifest does not hold what a difference says was there before.
        CorruptError: A node is missing, damaged, or not what its parent says.
    """
    return edit_tree(nodes or Nodes(objects), root, differences)


def edit_tree(
    nodes: Nodes,
    root: Digest | None,
    differences: Iterable[Difference],
    leaf_mean: int = LEAF_MEAN,
    inner_mean: int = INNER_MEAN,
) -> Digest:
    """Do as `edit_manifest`; other means than the format's are for tests."""
    if root is None or not nodes.root(root).totals[SHARDS]:
        return write_tree(nodes.objects, _added(differences), leaf_mean, inner_mean)
    old = _Old(nodes, root)
    located = _Located(old, differences)
    edits = [*_rewritten(old, 0, located, leaf_mean)]
    if not edits:
        return root
    total = old.shards + located.grown
    if not total:
        return write_tree(nodes.objects, (), leaf_mean, inner_mean)
    for level in range(old.level + 1):
        if level:
            edits = [*_rewritten(old, level, edits, inner_mean)]
        only = _only_node(old, level, edits, total)
        if only is not None:
            return only
    return _grown(nodes.objects, edits[0].records, old, inner_mean)


class _Edit(NamedTuple):
    """Shards [start, stop) of the old manifest, and the packed records of a level that take the place of theirs."""

    start: int
    stop: int
    records: bytes


@dataclass(frozen=True, slots=True)
class _Place:
    """A node of the old tree, its name, and the number of the first shard below it."""

    node: Node
    digest: Digest
    start: int

    @property
    def stop(self) -> int:
        return self.start + int(self.node.totals[SHARDS])


class _Old:
    """The tree that is edited; its nodes are found by the shards below them."""

    def __init__(self, nodes: Nodes, root: Digest) -> None:
        self.root = root
        self.what = f"the manifest {root}, edited,"
        self.nodes = nodes
        top = nodes.root(root)
        self.level, self.shards = top.level, int(top.totals[SHARDS])

    def at(self, level: int, shard: int) -> _Place:
        """Return the node of a level that holds a shard, the last node for the number behind the last shard."""
        place = _Place(self.nodes.root(self.root), self.root, 0)
        while place.node.level > level:
            ends = place.node.starts[SHARDS, 1:]
            index = min(int(np.searchsorted(ends, shard - place.start, side="right")), len(ends) - 1)
            place = self._below(place, index)
        return place

    def leaf_of(self, key: bytes) -> tuple[_Place, bytes | None]:
        """Return the leaf in which a key is or would be, and what the first key behind the leaf sorts by."""
        place, limit = _Place(self.nodes.root(self.root), self.root, 0), None
        while place.node.level:
            keys = sort_keys(place.node.records)
            index = max(int(np.searchsorted(keys, np.array(key, keys.dtype), side="right")) - 1, 0)
            if index + 1 < len(keys):
                limit = bytes(keys[index + 1])
            place = self._below(place, index)
        return place, limit

    def _below(self, place: _Place, index: int) -> _Place:
        packed = place.node.records[index].tobytes()
        node = self.nodes.child(packed, place.node.level - 1)
        return _Place(node, totals_of(packed)[1], place.start + int(place.node.starts[SHARDS, index]))


class _Located:
    """Differences as edits of leaves, in order.

    Attributes:
        grown: By how many shards the manifest grows with what was yielded.
    """

    def __init__(self, old: _Old, differences: Iterable[Difference]) -> None:
        self.grown = 0
        self._old = old
        self._differences = _ascending(differences)

    def __iter__(self) -> Iterator[_Edit]:
        place: _Place | None = None
        limit: bytes | None = None
        keys: SortKeys = sort_keys(leaf_records(b""))
        for key, difference in self._differences:
            if place is None or (limit is not None and key >= limit):
                place, limit = self._old.leaf_of(key)
                keys = sort_keys(place.node.records)
            index = int(np.searchsorted(keys, np.array(key, keys.dtype)))
            held = index < len(keys) and bytes(keys[index]) == key.rstrip(b"\0")
            self._check(difference, place.node.records[index].tobytes() if held else None)
            after = b"" if difference.after is None else pack_entry(difference.after)
            self.grown += (difference.after is not None) - held
            yield _Edit(place.start + index, place.start + index + held, after)

    def _check(self, difference: Difference, held: bytes | None) -> None:
        before = None if difference.before is None else pack_entry(difference.before)
        if before != held:
            raise InternalError(f"the manifest {self._old.root} does not hold what {difference} says that it does")


def _added(differences: Iterable[Difference]) -> Iterator[Entry]:
    for _, difference in _ascending(differences):
        if difference.before is not None:
            raise InternalError(f"an empty manifest does not hold what {difference} says that it does")
        if difference.after is not None:
            yield difference.after


def _ascending(differences: Iterable[Difference]) -> Iterator[tuple[bytes, Difference]]:
    """Yield each difference with what its key sorts by, after checking that it belongs there."""
    last = b""
    for difference in differences:
        key = packed_sort_key(difference.key)
        for entry in (difference.before, difference.after):
            if entry is not None and pack_entry(entry)[: len(key)] != difference.key:
                raise InternalError(f"{difference} is not about one key")
        if last and key <= last:
            raise InternalError(f"differences do not ascend: {difference} is late")
        last = key
        yield key, difference


def _rewritten(old: _Old, level: int, edits: Iterable[_Edit], mean: int) -> Iterator[_Edit]:
    """Write the nodes of a level that edits of their records change; yield the edits of the level above."""
    waiting = _Waiting(edits)
    while waiting.first is not None:
        place = old.at(level, waiting.first.start)
        start, pending, written, dropped = place.start, b"", list[bytes](), place.start
        while True:
            records, dropped = _merged(place, dropped, waiting, is_last=place.stop == old.shards)
            pending += records
            for piece, bounded in pieces(leaf_records(pending) if level == 0 else inner_records(pending), mean):
                if bounded or place.stop == old.shards:
                    written.append(store_node(old.nodes.objects, level, piece, old.what))
                    pending = pending[piece.nbytes :]
            if place.stop == old.shards or not (pending or dropped > place.stop):
                break
            place = old.at(level, place.stop)
        yield _Edit(start, place.stop, b"".join(written))


class _Waiting:
    """Edits that come one at a time, of which the first can be looked at."""

    def __init__(self, edits: Iterable[_Edit]) -> None:
        self._edits = iter(edits)
        self.first = next(self._edits, None)

    def before(self, stop: int | None) -> Iterator[_Edit]:
        """Take those that start before a shard, all for None."""
        while self.first is not None and (stop is None or self.first.start < stop):
            taken, self.first = self.first, None
            yield taken
            self.first = next(self._edits, None)


def _merged(place: _Place, dropped: int, waiting: _Waiting, is_last: bool) -> tuple[bytes, int]:
    """Return the records of a node with its edits applied, and the first old shard that is not dropped.

    What comes between two nodes belongs to the second: the first one ended where it did without looking further.
    """
    starts, records = place.start + place.node.starts[SHARDS], place.node.records
    merged = list[bytes]()
    for edit in waiting.before(None if is_last else place.stop):
        merged += [_between(records, starts, dropped, edit.start), edit.records]
        dropped = edit.stop
    merged.append(_between(records, starts, dropped, place.stop))
    return b"".join(merged), dropped


def _between(records: Records, starts: NDArray[np.int64], start: int, stop: int) -> bytes:
    first, last = np.searchsorted(starts, (start, stop)).tolist()
    return records[first:last].tobytes()


def _only_node(old: _Old, level: int, edits: list[_Edit], total: int) -> Digest | None:
    """Return the digest of the only node that a level has now, None if it has more."""
    written = b"".join(edit.records for edit in edits)
    if written:
        _, digest, totals = totals_of(written[: inner_records(b"").dtype.itemsize])
        return digest if totals[SHARDS] == total else None
    kept = 0
    for edit in edits:
        if edit.start > kept:
            break
        kept = edit.stop
    place = old.at(level, kept)
    return place.digest if place.stop - place.start == total else None


def _grown(objects: Objects, references: bytes, old: _Old, mean: int) -> Digest:
    """Write the levels above the old root, whose place several nodes have taken."""
    level = old.level
    while len(records := inner_records(references)) > 1:
        level += 1
        references = b"".join(store_node(objects, level, piece, old.what) for piece, _ in pieces(records, mean))
    return totals_of(references)[1]
