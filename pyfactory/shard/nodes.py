"""Nodes of manifest trees that are walked together: each is read and checked once while it is in use."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from pyfactory.core.digest import Digest
from pyfactory.errors import CorruptError, NotFoundError
from pyfactory.shard.node import Node, load_node, totals_of

if TYPE_CHECKING:
    from pyfactory.store.content import Objects

__all__ = ["Nodes"]

_KEPT_LEAVES = 24  # about 0.7 MB each
_KEPT_INNER = 1024


class Nodes:
    """Reads nodes; keeps those that were used last. For one thread.

    Args:
        objects: Where they are.
    """

    def __init__(self, objects: Objects) -> None:
        self.objects = objects
        self._leaves: OrderedDict[Digest, Node] = OrderedDict()
        self._inner: OrderedDict[Digest, Node] = OrderedDict()

    def root(self, digest: Digest) -> Node:
        """Return the root of a tree, or any node of which nobody says what it holds.

        Raises:
            CorruptError: It is damaged or missing.
        """
        for kept in (self._leaves, self._inner):
            if digest in kept:
                kept.move_to_end(digest)
                return kept[digest]
        try:
            node = load_node(self.objects, digest)
        except NotFoundError as error:
            raise CorruptError(
                f"{self.objects.store.url}: the manifest node {digest} is missing",
                hint="put the object back from a copy of the repository; pyfactory verify lists what else is wrong",
            ) from error
        kept, most = (self._inner, _KEPT_INNER) if node.level else (self._leaves, _KEPT_LEAVES)
        kept[digest] = node
        if len(kept) > most:
            kept.popitem(last=False)
        return node

    def child(self, packed: bytes, level: int) -> Node:
        """Return the node that a packed record of an inner node names.

        Args:
            packed: The record.
            level: Level that the node must have.

        Raises:
            CorruptError: It is damaged, missing, or not what the record says.
        """
        first, digest, totals = totals_of(packed)
        node = self.root(digest)
        # Said of it again and again, by records that may not agree: so it is compared each time.
        if node.level != level or node.totals != totals or node.key(0) != first:
            raise CorruptError(
                f"the manifest node {digest} is not what its parent says: another level, first key or total"
            )
        return node
