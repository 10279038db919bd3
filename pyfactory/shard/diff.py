"""What differs between two manifests, at the cost of what differs.

Level by level from the roots down, nodes that both trees name are left out, unread: equal names are equal entries,
wherever in the two trees they stand. Of the leaves that are left, the records are compared as arrays.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pyfactory.core.digest import Digest
from pyfactory.errors import CorruptError
from pyfactory.shard.node import (
    KEY,
    Node,
    Records,
    inner_records,
    leaf_records,
    packed_sort_key,
    reference,
    sort_keys,
)
from pyfactory.shard.nodes import Nodes
from pyfactory.shard.tree import Entry, entries_in

if TYPE_CHECKING:
    from pyfactory.store.content import Objects

__all__ = ["Difference", "changed_blocks", "diff_manifests"]


@dataclass(frozen=True, slots=True)
class Difference:
    """One key at which two manifests differ.

    Attributes:
        key: Its 48 stored bytes.
        before: What the first manifest has there, None if nothing.
        after: What the second one has there, None if nothing.
    """

    key: bytes
    before: Entry | None
    after: Entry | None


def diff_manifests(
    objects: Objects, before: Digest | None, after: Digest | None, *, nodes: Nodes | None = None
) -> Iterator[Difference]:
    """Yield where two manifests differ, ascending by key. O(differences * log shards) reads and time.

    Args:
        objects: Where both are.
        before: Root of one, None for an empty table.
        after: Root of the other, None for an empty table.
        nodes: Nodes at hand from comparing or editing the same manifests; None reads them.

    Raises:
        CorruptError: A node is missing, damaged, or not what its parent says.
    """
    for removed, added in changed_blocks(nodes or Nodes(objects), before, after):
        yield from _paired(removed, added)


def changed_blocks(nodes: Nodes, before: Digest | None, after: Digest | None) -> Iterator[tuple[Records, Records]]:
    """Yield the leaf records that only one of two manifests has: (of `before`, of `after`), in ranges of keys.

    The ranges ascend, and so do the keys in each array; both records of a key come together. See `diff_manifests`.
    """
    if before == after:
        return
    left, right = _Frontier(nodes, before), _Frontier(nodes, after)
    level = max(left.level, right.level)
    while level:
        if left.level == right.level:
            left.records, right.records = _unequal(left.records, right.records)
        for side in (left, right):
            if side.level == level:
                side.open()
        level -= 1
    left.records, right.records = _unequal(left.records, right.records)
    yield from _of_leaves(_Leaves(left), _Leaves(right))


class _Frontier:
    """The nodes of one level of a tree that the other tree may not have, as the records that name them."""

    def __init__(self, nodes: Nodes, root: Digest | None) -> None:
        self.what = f"the manifest {root}"
        self.level = 0
        self.records: Records = inner_records(b"")
        self._nodes = nodes
        if root is not None:
            node = nodes.root(root)
            self.level = node.level
            if len(node.records):
                self.records = inner_records(reference(node, root))

    def open(self) -> None:
        """Go down one level."""
        # Joined as bytes: joined as arrays, numpy would turn the batches round into its own byte order.
        self.records = inner_records(b"".join(node.records.tobytes() for node in self.nodes()))
        self.level -= 1
        # Over all of them: a hostile tree could name one node again and again, and grow without bound on the way down.
        keys = sort_keys(self.records)
        if not (keys[:-1] < keys[1:]).all():
            raise CorruptError(f"{self.what} has nodes that do not ascend")

    def nodes(self) -> Iterator[Node]:
        """Read the nodes, one at a time."""
        return (self._nodes.child(record.tobytes(), self.level) for record in self.records)


class _Leaves:
    """The records of leaves, one leaf at a time.

    Attributes:
        end: What the last record that is held sorts by, None if none is held.
    """

    def __init__(self, frontier: _Frontier) -> None:
        self.end: bytes | None = None
        self._what = frontier.what
        self._nodes = frontier.nodes()
        self._records = leaf_records(b"")
        self._last: bytes | None = None

    def fill(self) -> None:
        """Read the next leaf, if no records are held and there is one."""
        node = None if len(self._records) else next(self._nodes, None)
        if node is not None:
            self._records = node.records
            if self._last is not None and packed_sort_key(node.key(0)) <= self._last:
                raise CorruptError(f"{self._what} has leaves that do not ascend")
            self.end = self._last = packed_sort_key(node.key(-1))

    def take(self, limit: bytes) -> Records:
        """Return the records up to a key, and hold them no longer."""
        count = len(self._records)
        if self.end is not None and self.end > limit:
            keys = sort_keys(self._records)
            count = int(np.searchsorted(keys, np.array(limit, keys.dtype), side="right"))
        else:
            self.end = None
        taken, self._records = self._records[:count], self._records[count:]
        return taken


def _of_leaves(left: _Leaves, right: _Leaves) -> Iterator[tuple[Records, Records]]:
    while True:
        left.fill()
        right.fill()
        # No key up to the smaller end can come later: both are taken that far.
        ends = [side.end for side in (left, right) if side.end is not None]
        if not ends:
            return
        removed, added = _unequal(left.take(min(ends)), right.take(min(ends)))
        if len(removed) or len(added):
            yield removed, added


def _unequal(left: Records, right: Records) -> tuple[Records, Records]:
    """Return the records of each that the other one does not have; both ascend by key."""
    shorter = min(len(left), len(right))
    if len(left) == len(right):  # the usual change of a few in their places
        apart = ~_same(left, right)
        left, right = left[apart], right[apart]
    else:  # the usual run that is missing from one
        start = _first(~_same(left[:shorter], right[:shorter]))
        left, right = left[start:], right[start:]
        shorter -= start
        rest = _first(~_same(left[len(left) - shorter :], right[len(right) - shorter :])[::-1])
        left, right = left[: len(left) - rest], right[: len(right) - rest]
    if not len(left) or not len(right):
        return left, right
    places = np.minimum(np.searchsorted(sort_keys(right), sort_keys(left)), len(right) - 1)
    same = _same(left, right[places])
    unmet = np.ones(len(right), bool)
    unmet[places[same]] = False
    return left[~same], right[unmet]


def _first(apart: NDArray[np.bool_]) -> int:
    """Return the place of the first True, the length if there is none."""
    return int(np.argmax(apart)) if apart.any() else len(apart)


def _same(left: Records, right: Records) -> NDArray[np.bool_]:
    """Tell which records are equal, place by place."""
    size = left.dtype.itemsize // 8
    rows = [np.ascontiguousarray(records).view(np.uint64).reshape(-1, size) for records in (left, right)]
    same: NDArray[np.bool_] = (rows[0] == rows[1]).all(axis=1)
    return same


def _paired(removed: Records, added: Records) -> Iterator[Difference]:
    """Yield the differences that two ascending arrays make."""
    before, after = _by_key(removed), _by_key(added)
    for key in sorted(before.keys() | after.keys(), key=packed_sort_key):
        yield Difference(key, before.get(key), after.get(key))


def _by_key(records: Records) -> dict[bytes, Entry]:
    packed = records.tobytes()
    keys = (packed[at : at + KEY.size] for at in range(0, len(packed), records.dtype.itemsize))
    return dict(zip(keys, entries_in(records), strict=True))
