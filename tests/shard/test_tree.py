"""Writing manifests: the tree depends on the entries alone, and a change rewrites little."""

from __future__ import annotations

import random
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfactory.core.canonical import digest_of_value
from pyfactory.core.digest import NO_DIGEST, Digest, digest_of
from pyfactory.errors import InternalError
from pyfactory.shard.manifest import Entry, Manifest, Part, extend_manifest, new_batch, write_manifest
from pyfactory.shard.tree import extend_tree, write_tree
from pyfactory.store.content import Objects
from pyfactory.store.memory import MemoryStore

MEANS = (4, 2)
"""Small nodes: 3 levels and more from some dozen entries."""


class Watched(Objects):
    """Objects that remember what was asked of them."""

    def __init__(self) -> None:
        super().__init__(MemoryStore())
        self.read: list[Digest] = []

    def get(self, digest: Digest) -> bytes:
        self.read.append(digest)
        return super().get(digest)


def count(objects: Objects) -> int:
    return sum(1 for _ in objects.store.list("objects"))


def some_parts(number: int, seed: int = 0) -> list[Part]:
    draw = random.Random(seed)
    return [
        Part(
            Digest(draw.randbytes(32).hex()), Digest(draw.randbytes(32).hex()), draw.randrange(9), draw.randrange(99), 8
        )
        for _ in range(number)
    ]


KEYS = st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 2**64 - 1))


@st.composite
def sorted_entries(draw: st.DrawFn) -> list[Entry]:
    keys = sorted(draw(st.sets(KEYS, max_size=80)))
    parts = some_parts(len(keys), draw(st.integers(0, 2**32)))
    return [
        Entry(generation, digest_of(bytes([batch])), ordinal, part)
        for (generation, batch, ordinal), part in zip(keys, parts, strict=True)
    ]


def test_golden_bytes_of_a_leaf() -> None:
    """By hand, from the description of the format."""
    parts = [Part(Digest("a1" * 32), Digest("b2" * 32), 3, 500, 4096), Part(Digest("c3" * 32), NO_DIGEST, 0, 0, 506)]
    batch = digest_of_value([["a1" * 32, "b2" * 32, 3, 500, 4096], ["c3" * 32, "00" * 32, 0, 0, 506]])
    entries = new_batch(parts, 7)
    assert [(entry.generation, entry.batch, entry.ordinal) for entry in entries] == [(7, batch, 0), (7, batch, 1)]
    name = bytes.fromhex(batch)
    content = b"".join(
        [
            b"PFNODE01" + struct.pack("<II", 0, 2),
            struct.pack("<Q", 7) + name + struct.pack("<Q", 0),
            b"\xa1" * 32 + b"\xb2" * 32 + struct.pack("<QQQ", 3, 500, 4096),
            struct.pack("<Q", 7) + name + struct.pack("<Q", 1),
            b"\xc3" * 32 + b"\x00" * 32 + struct.pack("<QQQ", 0, 0, 506),
        ]
    )
    objects = Objects(MemoryStore())
    root = write_manifest(objects, entries)
    assert objects.get(root) == content and root == digest_of(content)


def test_golden_bytes_of_an_inner_node() -> None:
    """Two leaves: the first shard's last 8 bytes are a multiple of 4096, so that a leaf ends after it."""
    batch, other = b"\x11" * 32, b"\x22" * 32
    bound = b"\xff" * 24 + struct.pack("<Q", 5 * 4096)
    first = struct.pack("<Q32sQ32s32sQQQ", 1, batch, 0, bound, other, 10, 20, 30)
    second = struct.pack("<Q32sQ32s32sQQQ", 1, batch, 1, other, other, 1, 2, 3)
    leaves = [b"PFNODE01" + struct.pack("<II", 0, 1) + record for record in (first, second)]
    names = [bytes.fromhex(digest_of(leaf)) for leaf in leaves]
    content = b"".join(
        [
            b"PFNODE01" + struct.pack("<II", 1, 2),
            struct.pack("<Q32sQ", 1, batch, 0) + names[0] + struct.pack("<QQQQ", 1, 10, 20, 30),
            struct.pack("<Q32sQ", 1, batch, 1) + names[1] + struct.pack("<QQQQ", 1, 1, 2, 3),
        ]
    )
    name = Digest(other.hex())
    parts = [Part(Digest(bound.hex()), name, 10, 20, 30), Part(name, name, 1, 2, 3)]
    objects = Objects(MemoryStore())
    root = write_manifest(objects, [Entry(1, Digest(batch.hex()), n, part) for n, part in enumerate(parts)])
    assert objects.get(root) == content
    assert list(Manifest(objects, root).nodes()) == [root, *[name.hex() for name in names]]


def test_an_empty_table_is_one_empty_leaf() -> None:
    objects = Objects(MemoryStore())
    root = write_manifest(objects, [])
    assert objects.get(root) == b"PFNODE01" + b"\0" * 8
    assert extend_manifest(objects, root, []) == root
    assert list(Manifest(objects, root).entries()) == [] and list(Manifest(objects, root).nodes()) == [root]


@given(sorted_entries(), st.lists(st.integers(0, 80), max_size=4))
def test_history_leaves_no_trace(entries: list[Entry], stops: list[int]) -> None:
    """However a table came about, its root is the same.

    Catches resuming a cut anywhere but at a bound, a forgotten level, and bounds that depend on neighbours.
    """
    objects = Objects(MemoryStore())
    whole = write_tree(objects, entries, *MEANS)
    root, start = write_tree(objects, [], *MEANS), 0
    for stop in [*sorted(stops), len(entries)]:
        root = extend_tree(objects, root, entries[start:stop], *MEANS)
        start = max(start, min(stop, len(entries)))
    assert root == whole
    assert list(Manifest(objects, whole).entries()) == entries


@given(sorted_entries(), st.integers(0, 80))
def test_different_entries_give_different_roots(entries: list[Entry], at: int) -> None:
    objects = Objects(MemoryStore())
    fewer = entries[:at] + entries[at + 1 :]
    assert (write_tree(objects, entries, *MEANS) == write_tree(objects, fewer, *MEANS)) == (fewer == entries)


@pytest.fixture(scope="module")
def large() -> tuple[Watched, list[Entry], Digest]:
    objects = Watched()
    entries = new_batch(some_parts(100_000), 1)
    return objects, entries, write_manifest(objects, entries)


def test_changes_share_nodes(large: tuple[Watched, list[Entry], Digest]) -> None:
    """A change costs the nodes around it and their parents: catches bounds counted from the start of the table."""
    objects, entries, root = large
    assert 10 < count(objects) < 60
    before = set(Manifest(objects, root).nodes())
    later, earlier = new_batch(some_parts(10, seed=1), 2), new_batch(some_parts(10, seed=2), 0)
    for changed in (entries + later, earlier + entries, entries[:50_000] + entries[50_001:]):
        assert len(set(Manifest(objects, write_manifest(objects, changed)).nodes()) - before) <= 4


def test_appends_read_and_write_the_edge_only(large: tuple[Watched, list[Entry], Digest]) -> None:
    objects, entries, root = large
    more = new_batch(some_parts(10, seed=3), 2)
    before = count(objects)
    objects.read.clear()
    extended = extend_manifest(objects, root, more)
    assert len(objects.read) <= 3 and count(objects) - before <= 4
    assert extended == write_manifest(objects, entries + more)


@pytest.mark.parametrize("shard", ["00" * 32, "ff" * 32])
def test_keys_must_ascend(shard: str) -> None:
    """Within a leaf, and behind a shard that ends one, where no check of a single node can see it."""
    objects = Objects(MemoryStore())
    first, second, third = new_batch([Part(Digest(name), NO_DIGEST, 1, 1, 1) for name in ("ff" * 32, shard, shard)], 1)
    for entries in ([second, first], [first, first], [first, third, second], [first, third, third]):
        with pytest.raises(InternalError, match="do not ascend"):
            write_manifest(objects, entries)
    root = write_manifest(objects, [first, third])
    for late in (first, second, third):
        with pytest.raises(InternalError, match="do not ascend"):
            extend_manifest(objects, root, [late])
    fourth = Entry(1, third.batch, 3, third.part)
    assert Manifest(objects, extend_manifest(objects, root, [fourth])).shards == 3


@pytest.mark.parametrize("rows", [-1, 2**64])
def test_counts_must_fit(rows: int) -> None:
    with pytest.raises(InternalError, match="cannot hold"):
        write_manifest(Objects(MemoryStore()), new_batch([Part(NO_DIGEST, NO_DIGEST, 0, rows, 0)], 1))


def test_totals_must_fit() -> None:
    parts = [Part(NO_DIGEST, NO_DIGEST, 2**62, 0, 0)] * 2
    with pytest.raises(InternalError, match="63 bits"):
        write_manifest(Objects(MemoryStore()), new_batch(parts, 1))


@pytest.mark.parametrize("shard", ["00" * 32, "ff" * 32])
def test_hostile_digests_keep_nodes_bounded(shard: str) -> None:
    """All shards hit, or none does: 100 entries with a mean of 4 give leaves of 1, or of 32."""
    objects = Objects(MemoryStore())
    root = write_tree(objects, new_batch([Part(Digest(shard), NO_DIGEST, 1, 1, 1)] * 100, 1), *MEANS)
    manifest = Manifest(objects, root)
    sizes = [struct.unpack_from("<II", objects.get(digest), 8) for digest in manifest.nodes()]
    leaves = [number for level, number in sizes if level == 0]
    assert leaves == ([1] * 100 if shard == "00" * 32 else [32, 32, 32, 4])
    assert len(list(manifest.entries())) == 100
