"""Nodes of a manifest tree: bytes <-> records of fixed width, and where one node ends and the next begins.

A node is the magic `PFNODE01`, its level (u32, 0 = leaf), the number of its records (u32) and the records, all
little-endian. A leaf lists shards, an inner node its children with their first keys and totals. Whether a node ends
after a record depends on the digest in the record alone, so equal entries give equal trees, and a change touches only
the nodes near it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pyfactory.core.digest import Digest
from pyfactory.errors import CorruptError

if TYPE_CHECKING:
    from pyfactory.store.content import Objects

__all__ = [
    "BYTES",
    "INNER_MEAN",
    "KEY",
    "LEAF_MEAN",
    "LEAF_STRUCT",
    "QUANTITIES",
    "ROWS",
    "SHARDS",
    "TOKENS",
    "Node",
    "Records",
    "SortKeys",
    "encode_node",
    "inner_records",
    "leaf_records",
    "load_child",
    "load_node",
    "node_of",
    "packed_sort_key",
    "parse_node",
    "pieces",
    "reference",
    "sort_key",
    "sort_keys",
    "totals_of",
]

LEAF_MEAN = 4096
"""Mean number of shards in a leaf; a power of two, part of the format."""

INNER_MEAN = 256
"""Mean number of children of an inner node; a power of two, part of the format."""

SHARDS, ROWS, TOKENS, BYTES = range(4)
"""Rows of `Node.starts`."""

QUANTITIES = ("shards", "rows", "tokens", "nbytes")

Records = NDArray[np.void]

SortKeys = NDArray[np.bytes_]
"""Keys as 48 bytes that compare as the keys sort."""

_MAGIC = b"PFNODE01"
_HEADER = struct.Struct("<8sII")
_MAX_MULTIPLE = 8  # A node never exceeds this many times the mean, whatever digests an adversary finds.
_MAX_LEVEL = 64
_MAX_TOTAL = 2**63 - 1

# Batches sort as text, so they are read as big-endian words; other digests are only compared for equality.
_KEY = [("generation", "<u8"), ("batch", ">u8", (4,)), ("ordinal", "<u8")]
_SORT_KEY = np.dtype([("generation", ">u8"), ("batch", ">u8", (4,)), ("ordinal", ">u8")])
_LEAF = np.dtype([*_KEY, ("shard", "<u8", (4,)), ("side", "<u8", (4,)), *((name, "<u8") for name in QUANTITIES[1:])])
_INNER = np.dtype([*_KEY, ("child", "<u8", (4,)), *((name, "<u8") for name in QUANTITIES)])

KEY = struct.Struct("<Q32sQ")
LEAF_STRUCT = struct.Struct("<Q32sQ32s32sQQQ")
_INNER_STRUCT = struct.Struct("<48s32sQQQQ")


@dataclass(frozen=True, slots=True)
class Node:
    """A node that has been checked.

    Attributes:
        level: 0 for a leaf.
        records: Its records, read-only.
        starts: int64[4, count + 1]: shards, rows, tokens and bytes of this node before each record; totals come last.
    """

    level: int
    records: Records
    starts: NDArray[np.int64]

    @property
    def totals(self) -> tuple[int, ...]:
        """Shards, rows, tokens and bytes below this node."""
        return tuple(self.starts[:, -1].tolist())

    def key(self, index: int) -> bytes:
        """Return the 48 stored bytes of a record's key."""
        return bytes(self.records[index].tobytes()[: KEY.size])

    def child(self, index: int) -> Digest:
        """Return the digest of a child of an inner node."""
        return Digest(self.records["child"][index].tobytes().hex())


def sort_key(key: bytes) -> tuple[int, bytes, int]:
    """Return (generation, batch, ordinal) of 48 stored bytes, which compare as keys sort."""
    generation, batch, ordinal = KEY.unpack(key)
    return generation, batch, ordinal


def sort_keys(records: Records) -> SortKeys:
    """Return the keys of records as bytes that compare as the keys sort: S48[records]. O(records)."""
    keys = np.empty(len(records), _SORT_KEY)
    for name in keys.dtype.names or ():
        keys[name] = records[name]
    return keys.view(f"S{KEY.size}")


def packed_sort_key(key: bytes) -> bytes:
    """Return what `sort_keys` gives for the 48 stored bytes of one key."""
    return key[7::-1] + key[8:40] + key[:39:-1]


def leaf_records(content: bytes | bytearray) -> Records:
    """View packed leaf records."""
    return np.frombuffer(content, _LEAF)


def inner_records(content: bytes | bytearray) -> Records:
    """View packed inner records."""
    return np.frombuffer(content, _INNER)


def encode_node(level: int, records: Records) -> bytes:
    """Return the stored bytes of a node."""
    return _HEADER.pack(_MAGIC, level, len(records)) + records.tobytes()


def reference(node: Node, digest: Digest) -> bytes:
    """Return the packed record with which a parent names a node."""
    first = node.key(0) if len(node.records) else bytes(KEY.size)
    return _INNER_STRUCT.pack(first, bytes.fromhex(digest), *node.totals)


def totals_of(packed: bytes) -> tuple[bytes, Digest, tuple[int, ...]]:
    """Return what a packed record of an inner node says of a child: its first key, digest and totals."""
    first, digest, *totals = _INNER_STRUCT.unpack(packed)
    return first, Digest(digest.hex()), tuple(totals)


def parse_node(content: bytes, what: str) -> Node:
    """Return the node of hostile bytes; everything that one node can tell is checked.

    Raises:
        CorruptError: The bytes are no node; `what` names them.
    """
    if len(content) < _HEADER.size:
        raise CorruptError(f"{what} is truncated: {len(content)} bytes")
    magic, level, count = _HEADER.unpack_from(content)
    if magic != _MAGIC:
        raise CorruptError(f"{what} is not a manifest node")
    if level > _MAX_LEVEL:
        raise CorruptError(f"{what} claims level {level}")
    record = _INNER if level else _LEAF
    if len(content) != _HEADER.size + count * record.itemsize:
        raise CorruptError(f"{what} has {len(content)} bytes, which are not those of {count} records")
    return node_of(level, np.frombuffer(content, record, offset=_HEADER.size), what)


def load_node(objects: Objects, digest: Digest) -> Node:
    """Read and check the node of that digest; a CorruptError names it, NotFoundError comes from the store."""
    return parse_node(objects.get(digest), f"the manifest node {digest}")


def load_child(objects: Objects, parent: Node, index: int) -> Node:
    """Read a child of an inner node and check that it is what its parent says: its level, first key and totals."""
    digest = parent.child(index)
    node = load_node(objects, digest)
    said = tuple(parent.starts[:, index + 1] - parent.starts[:, index])
    if node.level != parent.level - 1 or node.totals != said or node.key(0) != parent.key(index):
        raise CorruptError(f"the manifest node {digest} is not what its parent says: another level, first key or total")
    return node


def node_of(level: int, records: Records, what: str) -> Node:
    """Return the node of records after checking them.

    Raises:
        CorruptError: Keys do not ascend, totals exceed 63 bits, or an inner node or a child of it is empty.
    """
    if level and not (len(records) and records["shards"].all()):
        raise CorruptError(f"{what} has no records, or children without records")
    if not _ascends(records):
        raise CorruptError(f"{what} has keys that do not ascend")
    starts = np.zeros((len(QUANTITIES), len(records) + 1), np.int64)
    for row, name in enumerate(QUANTITIES):
        if level or row:
            _check_total(records[name], f"{what} holds more {name}")
            np.cumsum(records[name].astype(np.int64), out=starts[row, 1:])
        else:
            starts[row] = np.arange(len(records) + 1)
    starts.setflags(write=False)
    return Node(level, records, starts)


def pieces(records: Records, mean: int) -> Iterator[tuple[Records, bool]]:
    """Cut the records of a level into nodes, in order.

    Args:
        records: What follows a bound of the level.
        mean: Mean length of a node, a power of two.

    Yields:
        The records of a node, and whether it ends at a bound: only the last may end because the records end.
    """
    digests: NDArray[Any] = records["shard" if records.dtype == _LEAF else "child"]
    bounds = np.flatnonzero((digests[:, 3] & np.uint64(mean - 1)) == 0) + 1
    start, longest = 0, mean * _MAX_MULTIPLE
    for bound in [*bounds.tolist(), None]:
        stop = len(records) if bound is None else bound
        while stop - start >= longest:
            yield records[start : start + longest], True
            start += longest
        if start < stop:
            yield records[start:stop], bound is not None
            start = stop


def _ascends(records: Records) -> bool:
    columns = [records["generation"], *records["batch"].T, records["ordinal"]]
    less = np.zeros(max(len(records) - 1, 0), bool)
    equal = np.ones_like(less)
    for column in columns:
        before, after = column[:-1], column[1:]
        less |= equal & (before < after)
        equal &= before == after
    return bool(less.all())


def _check_total(column: NDArray[Any], what: str) -> None:
    # Summed in halves: 2^32 records of 32 bits each fit 64 bits, so that no sum wraps around unseen.
    high = int((column >> np.uint64(32)).sum(dtype=np.uint64))
    low = int((column & np.uint64(0xFFFFFFFF)).sum(dtype=np.uint64))
    if (high << 32) + low > _MAX_TOTAL:
        raise CorruptError(f"{what} than 63 bits can count")
