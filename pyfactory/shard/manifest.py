"""The ordered shards of a table, as a tree of content-addressed nodes.

Keys are (generation, batch, ordinal): an append takes a later generation than all rows it follows, and two appends made
side by side order themselves by the digest of what they appended. Opening reads the root; look-ups are binary searches
in cumulative counts that read only the nodes on their way. `node` has the bytes, `tree` the writing.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pyfactory.core.digest import Digest
from pyfactory.core.forks import renew_in_children
from pyfactory.errors import CorruptError, InvalidInputError
from pyfactory.shard.node import (
    BYTES,
    QUANTITIES,
    ROWS,
    SHARDS,
    TOKENS,
    Node,
    load_child,
    load_node,
    packed_sort_key,
    sort_key,
    sort_keys,
)
from pyfactory.shard.tree import Entry, Part, entries_of, extend_tree, new_batch, part_of, write_tree

if TYPE_CHECKING:
    from pyfactory.store.content import Objects

__all__ = ["Entry", "Manifest", "Part", "extend_manifest", "new_batch", "write_manifest"]

Int64s = NDArray[np.int64]

# About 0.7 MB each: enough for every leaf of 250,000 shards, bounded at 10^7.
_CACHED_LEAVES = 64
_CACHED_INNER = 1024

_SHARD = np.dtype("S32")  # which compares as bytes, unlike V32


def write_manifest(objects: Objects, entries: Iterable[Entry]) -> Digest:
    """Write the manifest of entries and return the digest of its root.

    Equal entries give equal digests, however the table came about. O(entries) time, memory of a few leaves.

    Raises:
        InternalError: The keys do not strictly ascend, or a count does not fit its field.
    """
    return write_tree(objects, entries)


def extend_manifest(objects: Objects, root: Digest, entries: Iterable[Entry]) -> Digest:
    """Append entries, all later than those of a manifest, and return the digest of the new root.

    The result is what `write_manifest` gives for all entries; the cost is that of the change and of one node per level.

    Raises:
        InternalError: The keys do not strictly ascend from the last old one on.
    """
    return extend_tree(objects, root, entries)


class Manifest:
    """A stored manifest, read lazily; any number of threads may share one.

    Args:
        objects: Where its nodes are.
        root: Digest of the root, the only node read at once.

    Raises:
        CorruptError: Here or later: a node is damaged, or not what its parent says.
    """

    def __init__(self, objects: Objects, root: Digest) -> None:
        self.objects = objects
        self.root = root
        self._node = load_node(objects, root)
        self._leaves = _Recent(_CACHED_LEAVES)
        self._inner = _Recent(_CACHED_INNER)
        self.shards, self.rows, self.tokens, self.nbytes = self._node.totals

    @property
    def last_generation(self) -> int:
        """Generation of the last entry, 0 in an empty table. O(log shards)."""
        node = self._node
        while node.level:
            node = self._child(node, len(node.records) - 1)
        return int(node.records["generation"][-1]) if len(node.records) else 0

    def entries(self) -> Iterator[Entry]:
        """Yield all entries in order, holding one leaf at a time."""
        last = b""
        for leaf in self._walk_leaves(self._node):
            if last and sort_key(last) >= sort_key(leaf.key(0)):
                raise CorruptError(f"the manifest {self.root} has leaves that do not ascend")
            yield from entries_of(leaf)
            last = leaf.key(-1) if len(leaf.records) else b""

    def parts(self) -> Iterator[Part]:
        """Yield all parts in order."""
        return (entry.part for entry in self.entries())

    def nodes(self) -> Iterator[Digest]:
        """Yield the digests of all nodes, parents first, without reading the leaves."""
        yield self.root
        yield from self._walk_nodes(self._node)

    def part(self, shard_ordinal: int) -> Part:
        """Return the part of a shard, counted from 0. O(log shards)."""
        node, rest = self._node, self._checked([shard_ordinal], SHARDS).item()
        while node.level:
            index = int(np.searchsorted(node.starts[SHARDS, 1:], rest, side="right"))
            rest -= int(node.starts[SHARDS, index])
            node = self._child(node, index)
        return part_of(node, rest)

    def ordinal_of(self, key: bytes) -> int:
        """Return the number of the shard that has a key (its 48 stored bytes). O(log shards).

        Raises:
            InvalidInputError: No shard has it.
        """
        node, wanted, before = self._node, packed_sort_key(key), 0
        while node.level:
            index = max(int(np.searchsorted(sort_keys(node.records), wanted, side="right")) - 1, 0)
            before += int(node.starts[SHARDS, index])
            node = self._child(node, index)
        index = int(np.searchsorted(sort_keys(node.records), wanted))
        if index == len(node.records) or node.key(index) != key:
            raise InvalidInputError(f"no shard of the manifest {self.root} has the key {key.hex()}")
        return before + index

    def locate_tokens(self, positions: Int64s) -> tuple[Int64s, Int64s]:
        """Find tokens by their index in the table.

        Args:
            positions: int64[m], each in [0, tokens), in any order.

        Returns:
            shard_ordinals: int64[m].
            offsets: int64[m], token index in the shard.

        Raises:
            InvalidInputError: A position is out of range.
        """
        return self._locate(positions, TOKENS)

    def locate_rows(self, rows: Int64s) -> tuple[Int64s, Int64s]:
        """Find rows by their index in the table: int64[m] -> (shard ordinals int64[m], row in the shard int64[m])."""
        return self._locate(rows, ROWS)

    def token_starts(self, shard_ordinals: Int64s) -> Int64s:
        """Return the index in the table of the first token of shards: int64[m] -> int64[m]."""
        return self._starts(shard_ordinals, TOKENS)

    def row_starts(self, shard_ordinals: Int64s) -> Int64s:
        """Return the index in the table of the first row of shards: int64[m] -> int64[m]."""
        return self._starts(shard_ordinals, ROWS)

    def byte_starts(self, shard_ordinals: Int64s) -> Int64s:
        """Return the bytes of all content shards before shards: int64[m] -> int64[m]."""
        return self._starts(shard_ordinals, BYTES)

    def find_shards(self, digests: Iterable[Digest]) -> Iterator[tuple[Digest, int]]:
        """Yield (shard, index of its first token in the table) of those content shards that are wanted, in order.

        O(shards), with NumPy inside the leaves.
        """
        wanted = np.unique(np.frombuffer(bytes.fromhex("".join(digests)), _SHARD))
        tokens = 0
        for leaf in self._walk_leaves(self._node) if len(wanted) else ():
            shards = np.ascontiguousarray(leaf.records["shard"]).view(_SHARD).ravel()
            for at in np.flatnonzero(np.isin(shards, wanted)).tolist():
                digest = Digest(leaf.records["shard"][at].tobytes().hex())
                yield digest, tokens + int(leaf.starts[TOKENS, at])
            tokens += leaf.totals[TOKENS]

    def _starts(self, shard_ordinals: Int64s, of: int) -> Int64s:
        starts: Int64s = self._found(shard_ordinals, SHARDS)[of]
        return starts

    def _locate(self, targets: Int64s, by: int) -> tuple[Int64s, Int64s]:
        found = self._found(targets, by)
        return found[SHARDS], np.asarray(targets, np.int64) - found[by]

    def _found(self, targets: Int64s, by: int) -> Int64s:
        """Return what lies before the shards that hold targets: int64[4, m], a row for each quantity."""
        return self._descend(self._node, self._checked(targets, by), by)

    def _checked(self, targets: Int64s | list[int], by: int) -> Int64s:
        array, total = np.asarray(targets), self._node.totals[by]
        if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
            raise InvalidInputError(f"an array of integers is needed to look into the manifest {self.root}")
        wrong = array[(array < 0) | (array >= total)]
        if wrong.size:
            name = QUANTITIES[by].removesuffix("s")
            raise InvalidInputError(f"there is no {name} {wrong[0]} in the manifest {self.root}: it has {total}")
        return array.astype(np.int64, copy=False)

    def _descend(self, node: Node, targets: Int64s, by: int) -> Int64s:
        # "right" skips shards that hold nothing: the first end beyond the target belongs to a shard that holds it.
        indices = np.searchsorted(node.starts[by, 1:], targets, side="right")
        found: Int64s = node.starts[:, indices]
        if node.level and targets.size:
            rest = targets - found[by]
            order = np.argsort(indices, kind="stable")
            for group in np.split(order, np.flatnonzero(np.diff(indices[order])) + 1):
                child = self._child(node, int(indices[group[0]]))
                found[:, group] += self._descend(child, rest[group], by)
        return found

    def _child(self, node: Node, index: int) -> Node:
        recent = self._inner if node.level > 1 else self._leaves
        # By the whole record, not the digest alone: a child found here was checked against these very claims.
        name = (node.level, node.records[index].tobytes())
        child = recent.get(name)
        if child is None:
            child = load_child(self.objects, node, index)
            recent.put(name, child)
        return child

    def _walk_leaves(self, node: Node) -> Iterator[Node]:
        if not node.level:
            yield node
            return
        for index in range(len(node.records)):
            # Past the cache, which a scan would only flush.
            yield from self._walk_leaves(load_child(self.objects, node, index))

    def _walk_nodes(self, node: Node) -> Iterator[Digest]:
        for index in range(len(node.records)) if node.level else ():
            yield node.child(index)
            if node.level > 1:
                yield from self._walk_nodes(load_child(self.objects, node, index))


class _Recent:
    """The nodes used last, at most `capacity`, under a lock; two threads that miss together load twice, harmlessly."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._nodes: OrderedDict[tuple[int, bytes], Node] = OrderedDict()
        self.renew_lock()
        renew_in_children(self)

    def renew_lock(self) -> None:
        """Take a new lock; see `core.forks`."""
        self._lock = threading.Lock()

    def get(self, name: tuple[int, bytes]) -> Node | None:
        with self._lock:
            node = self._nodes.get(name)
            if node is not None:
                self._nodes.move_to_end(name)
            return node

    def put(self, name: tuple[int, bytes], node: Node) -> None:
        with self._lock:
            self._nodes[name] = node
            self._nodes.move_to_end(name)
            if len(self._nodes) > self._capacity:
                self._nodes.popitem(last=False)
