"""How entries become the tree of a manifest: bottom-up in one pass, or along the right edge of a tree that is there."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyfactory.core.canonical import digest_of_value
from pyfactory.core.digest import Digest
from pyfactory.errors import CorruptError, InternalError
from pyfactory.shard.node import (
    INNER_MEAN,
    KEY,
    LEAF_MEAN,
    LEAF_STRUCT,
    Node,
    Records,
    encode_node,
    inner_records,
    leaf_records,
    load_child,
    load_node,
    node_of,
    pieces,
    reference,
)

if TYPE_CHECKING:
    from pyfactory.store.content import Objects

__all__ = [
    "Entry",
    "Part",
    "entries_in",
    "entries_of",
    "extend_tree",
    "new_batch",
    "pack_entry",
    "part_of",
    "store_node",
    "write_tree",
]

_CHUNK = 65_536  # entries packed at a time: bounds the memory of a writer


@dataclass(frozen=True, slots=True)
class Part:
    """One shard of a table.

    Attributes:
        shard: The content shard.
        side: The side shard with the ids and origins of the same rows, or NO_DIGEST.
        rows: Records, or documents of a token table.
        tokens: Tokens; 0 in a raw table.
        nbytes: Size of the content shard's file.
    """

    shard: Digest
    side: Digest
    rows: int
    tokens: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class Entry:
    """A part at its place: entries sort by (generation, batch, ordinal)."""

    generation: int
    batch: Digest
    ordinal: int
    part: Part


def new_batch(parts: Sequence[Part], generation: int) -> list[Entry]:
    """Return the entries of parts added together, in their order; the batch is named by what it holds."""
    listing = [[part.shard, part.side, part.rows, part.tokens, part.nbytes] for part in parts]
    batch = digest_of_value(listing)
    return [Entry(generation, batch, ordinal, part) for ordinal, part in enumerate(parts)]


def entries_of(leaf: Node) -> Iterator[Entry]:
    """Yield the entries of a leaf."""
    return entries_in(leaf.records)


def entries_in(records: Records) -> Iterator[Entry]:
    """Yield the entries of packed leaf records."""
    for generation, batch, ordinal, shard, side, *counts in LEAF_STRUCT.iter_unpack(records.tobytes()):
        part = Part(Digest(shard.hex()), Digest(side.hex()), *counts)
        yield Entry(generation, Digest(batch.hex()), ordinal, part)


def part_of(leaf: Node, index: int) -> Part:
    """Return one part of a leaf."""
    _, _, _, shard, side, *counts = LEAF_STRUCT.unpack(leaf.records[index].tobytes())
    return Part(Digest(shard.hex()), Digest(side.hex()), *counts)


def write_tree(
    objects: Objects, entries: Iterable[Entry], leaf_mean: int = LEAF_MEAN, inner_mean: int = INNER_MEAN
) -> Digest:
    """Write the tree of sorted entries and return its root; other means than the format's are for tests."""
    references = _write_leaves(objects, b"", entries, leaf_mean)
    return _grow(objects, references or [_write(objects, 0, leaf_records(b""))], 1, inner_mean)


def extend_tree(
    objects: Objects, root: Digest, entries: Iterable[Entry], leaf_mean: int = LEAF_MEAN, inner_mean: int = INNER_MEAN
) -> Digest:
    """Write the tree of an old tree's entries and later ones, reading and writing nothing but its right edge."""
    node = load_node(objects, root)
    edge = [node]
    while node.level:
        node = load_child(objects, node, len(node.records) - 1)
        edge.append(node)
    # Every node starts at a bound of its level, so cutting may resume where the last node of each level starts.
    leaf = edge.pop()
    references = _write_leaves(objects, leaf.records.tobytes(), entries, leaf_mean)
    references = references or [_write(objects, 0, leaf.records)]
    for inner in reversed(edge):
        kept = inner.records[:-1].tobytes()
        references = _write_inner(objects, inner.level, kept + b"".join(references), inner_mean)
    return _grow(objects, references, len(edge) + 1, inner_mean)


def _write_leaves(objects: Objects, pending: bytes, entries: Iterable[Entry], mean: int) -> list[bytes]:
    """Write `pending` packed records and the entries as leaves; return the records that name the leaves."""
    references: list[bytes] = []
    packed = bytearray(pending)
    for chunk in _packed(pending[-LEAF_STRUCT.size :], entries):
        packed += chunk
        cut = 0
        for piece, bounded in pieces(leaf_records(bytes(packed)), mean):
            if bounded:
                references.append(_write(objects, 0, piece))
                cut += piece.nbytes
        del packed[:cut]
    if packed:
        references.append(_write(objects, 0, leaf_records(packed)))
    return references


def _packed(last: bytes, entries: Iterable[Entry]) -> Iterator[bytes]:
    """Yield packed records, some at a time, after checking that their keys ascend, also from the record before them."""
    before = None
    if last:
        generation, batch, ordinal = KEY.unpack_from(last)
        before = (generation, batch.hex(), ordinal)
    chunk: list[bytes] = []
    for entry in entries:
        key = (entry.generation, entry.batch, entry.ordinal)
        if before is not None and before >= key:
            raise InternalError(f"manifest entries do not ascend: {key} follows {before}")
        before = key
        chunk.append(pack_entry(entry))
        if len(chunk) == _CHUNK:
            yield b"".join(chunk)
            chunk = []
    yield b"".join(chunk)


def pack_entry(entry: Entry) -> bytes:
    """Return the packed record of an entry; InternalError if a count does not fit its field."""
    part = entry.part
    digests = [bytes.fromhex(digest) for digest in (entry.batch, part.shard, part.side)]
    try:
        return LEAF_STRUCT.pack(
            entry.generation, digests[0], entry.ordinal, *digests[1:], part.rows, part.tokens, part.nbytes
        )
    except struct.error as error:
        raise InternalError(f"a manifest cannot hold {entry}: {error}") from error


def _grow(objects: Objects, references: list[bytes], level: int, mean: int) -> Digest:
    while len(references) > 1:
        references = _write_inner(objects, level, b"".join(references), mean)
        level += 1
    return Digest(inner_records(references[0])["child"][0].tobytes().hex())


def _write_inner(objects: Objects, level: int, packed: bytes, mean: int) -> list[bytes]:
    return [_write(objects, level, piece) for piece, _ in pieces(inner_records(packed), mean)]


def _write(objects: Objects, level: int, records: Records) -> bytes:
    try:
        return store_node(objects, level, records, "a manifest node to be written")
    except CorruptError as error:
        raise InternalError(error.message) from error


def store_node(objects: Objects, level: int, records: Records, what: str) -> bytes:
    """Store a node and return the record that names it; CorruptError, with `what`, if readers would refuse it."""
    node = node_of(level, records, what)
    return reference(node, objects.put(encode_node(level, records)))
