"""Reading manifests: look-ups against plain arrays, lazily, and from hostile nodes."""

from __future__ import annotations

import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfactory.core.digest import NO_DIGEST, Digest, digest_of
from pyfactory.errors import CorruptError, InvalidInputError, NotFoundError
from pyfactory.shard.manifest import Entry, Manifest, Part, new_batch, write_manifest
from pyfactory.shard.tree import write_tree
from pyfactory.store.content import Objects
from pyfactory.store.memory import MemoryStore

MEANS = (4, 2)


class Watched(Objects):
    """Objects that remember what was asked of them."""

    def __init__(self) -> None:
        super().__init__(MemoryStore())
        self.read: list[Digest] = []

    def get(self, digest: Digest) -> bytes:
        self.read.append(digest)
        return super().get(digest)


def entries_with(counts: list[tuple[int, int]]) -> list[Entry]:
    """Entries with these (rows, tokens)."""
    names = [digest_of(str(number).encode()) for number in range(len(counts))]
    return new_batch([Part(name, NO_DIGEST, *count, 7) for name, count in zip(names, counts, strict=True)], 1)


def manifest_of(entries: list[Entry], objects: Objects | None = None) -> Manifest:
    objects = objects or Objects(MemoryStore())
    return Manifest(objects, write_tree(objects, entries, *MEANS))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), max_size=60), st.integers(0, 2**32))
def test_look_ups_agree_with_plain_arrays(counts: list[tuple[int, int]], seed: int) -> None:
    """Shards without rows or tokens are skipped: catches side="left", and a start taken from the wrong level."""
    manifest = manifest_of(entries_with(counts))
    rows, tokens = (np.array(column, np.int64) for column in (zip(*counts, strict=True) if counts else ((), ())))
    assert (manifest.shards, manifest.rows, manifest.tokens) == (len(counts), rows.sum(), tokens.sum())
    assert manifest.nbytes == 7 * len(counts)
    every = np.arange(len(counts))
    for sizes, locate, starts in (
        (rows, manifest.locate_rows, manifest.row_starts),
        (tokens, manifest.locate_tokens, manifest.token_starts),
    ):
        owner = np.repeat(every, sizes)
        before = np.cumsum(sizes) - sizes
        order = np.random.default_rng(seed).permutation(len(owner))
        shards, offsets = locate(order)
        assert shards.dtype == offsets.dtype == np.int64
        assert shards.tolist() == owner[order].tolist()
        assert offsets.tolist() == (order - before[owner[order]]).tolist()
        assert starts(every).tolist() == before.tolist()
    assert manifest.byte_starts(every).tolist() == (7 * every).tolist()
    assert [manifest.part(ordinal) for ordinal in range(len(counts))] == list(manifest.parts())


@pytest.fixture(scope="module")
def deep() -> tuple[Watched, list[Entry], Manifest]:
    objects = Watched()
    entries = entries_with([(number % 3, number % 5) for number in range(2000)])
    manifest = manifest_of(entries, objects)
    return objects, entries, manifest


def level_of(objects: Objects, digest: Digest) -> int:
    level: int = struct.unpack_from("<I", objects.get(digest), 8)[0]
    return level


def test_deep_trees_are_read_lazily(deep: tuple[Watched, list[Entry], Manifest]) -> None:
    """Opening reads the root, a look-up its path, the same look-up again nothing: catches any eager walk."""
    objects, entries, manifest = deep
    depth = level_of(objects, manifest.root)
    assert depth >= 3
    objects.read.clear()
    fresh = Manifest(objects, manifest.root)
    assert objects.read == [manifest.root] and fresh.shards == 2000
    wanted = np.array([fresh.tokens // 2])
    found = fresh.locate_tokens(wanted)
    assert len(objects.read) == 1 + depth
    assert fresh.part(int(found[0][0])) == entries[int(found[0][0])].part
    assert fresh.locate_tokens(wanted) == found and len(objects.read) == 1 + depth


def test_nodes_are_all_nodes_and_leaves_stay_unread(deep: tuple[Watched, list[Entry], Manifest]) -> None:
    objects, _, manifest = deep
    objects.read.clear()
    nodes = list(Manifest(objects, manifest.root).nodes())
    read = list(objects.read)
    stored = {key.removeprefix("objects/").replace("/", "") for key, _ in objects.store.list("objects")}
    assert set(nodes) == stored and len(nodes) == len(stored) and nodes[0] == manifest.root
    assert set(read) == {digest for digest in nodes if level_of(objects, digest)}


def test_memory_is_bounded_and_look_ups_stay_right(deep: tuple[Watched, list[Entry], Manifest]) -> None:
    """More leaves than are kept: the first ones must be read again after all others were."""
    objects, entries, manifest = deep
    fresh = Manifest(objects, manifest.root)
    assert [fresh.part(ordinal) for ordinal in range(2000)] == [entry.part for entry in entries]
    objects.read.clear()
    fresh.part(0)
    assert len(objects.read) == 1


def test_threads_share_a_manifest(deep: tuple[Watched, list[Entry], Manifest]) -> None:
    _, entries, manifest = deep
    tokens = np.array([entry.part.tokens for entry in entries])
    owner = np.repeat(np.arange(2000), tokens)

    def look_up(seed: int) -> bool:
        wanted = np.random.default_rng(seed).integers(0, manifest.tokens, 200)
        return bool((manifest.locate_tokens(wanted)[0] == owner[wanted]).all())

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(look_up, range(64)))


@pytest.mark.parametrize("wrong", [[-1], [5], [0, 2**62], [2**64 - 1], [[0]], [0.5], ["a"], [None]])
def test_impossible_positions_are_invalid(wrong: list[object]) -> None:
    manifest = manifest_of(entries_with([(2, 3), (3, 2)]))
    for look_up in (manifest.locate_rows, manifest.locate_tokens, manifest.token_starts, manifest.row_starts):
        with pytest.raises(InvalidInputError, match=manifest.root):
            look_up(np.array(wrong))
    with pytest.raises(InvalidInputError, match=r"no shard 2 .*it has 2"):
        manifest.part(2)


def test_nothing_asked_is_nothing_found() -> None:
    for manifest in (manifest_of([]), manifest_of(entries_with([(1, 1)] * 30))):
        shards, offsets = manifest.locate_tokens(np.array([], np.int64))
        assert shards.shape == offsets.shape == (0,) and shards.dtype == np.int64
    with pytest.raises(InvalidInputError, match="it has 0"):
        manifest_of([]).locate_tokens(np.array([0]))


def test_a_missing_node_is_not_found() -> None:
    with pytest.raises(NotFoundError):
        Manifest(Objects(MemoryStore()), NO_DIGEST)


# A hostile tree: two true leaves under a parent that lies. Written by hand, since the writer tells the truth.

LEAVES = [entries_with([(1, 2)] * 3), [Entry(2, NO_DIGEST, 0, Part(NO_DIGEST, NO_DIGEST, 4, 5, 6))]]
TRUE = [[1, bytes.fromhex(LEAVES[0][0].batch), 0, 3, 3, 6, 21], [2, bytes(32), 0, 1, 4, 5, 6]]
USES: dict[str, Callable[[Manifest], object]] = {
    "entries": lambda manifest: list(manifest.entries()),
    "part": lambda manifest: [manifest.part(0), manifest.part(manifest.shards - 1)],
    "tokens": lambda manifest: manifest.locate_tokens(np.array([0, manifest.tokens - 1])),
}


def parent(objects: Objects, claims: list[list[object]], level: int = 1, order: tuple[int, int] = (0, 1)) -> Digest:
    digests = [bytes.fromhex(write_manifest(objects, leaf)) for leaf in LEAVES]
    content = struct.pack("<8sII", b"PFNODE01", level, 2)
    for (generation, batch, ordinal, *totals), child in zip(claims, order, strict=True):
        content += struct.pack("<Q32sQ32sQQQQ", generation, batch, ordinal, digests[child], *totals)
    return objects.put(content)


def lying(record: int, field: int, by: int = 1) -> list[list[object]]:
    claims = [list(claim) for claim in TRUE]
    claims[record][field] += by  # type: ignore[operator]
    return claims


@pytest.mark.parametrize("use", USES)
def test_a_true_parent_is_believed(use: str) -> None:
    objects = Objects(MemoryStore())
    assert USES[use](Manifest(objects, parent(objects, TRUE)))


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize(
    ("claims", "level"),
    [*[(lying(record, field), 1) for record in (0, 1) for field in (2, 3, 4, 5, 6)], (lying(1, 0), 1), (TRUE, 2)],
)
def test_a_parent_that_lies_is_corrupt(claims: list[list[object]], level: int, use: str) -> None:
    """First key, each total and the level are compared when a child is read; the error names the child."""
    objects = Objects(MemoryStore())
    manifest = Manifest(objects, parent(objects, claims, level))
    names = "|".join(write_manifest(objects, leaf) for leaf in LEAVES)
    with pytest.raises(CorruptError, match=names):
        USES[use](manifest)


def test_a_claim_is_checked_even_if_the_child_is_at_hand() -> None:
    """One leaf under two records, one of which lies: catches a cache keyed by the digest alone."""
    objects = Objects(MemoryStore())
    claims = [list(TRUE[0]), [2, bytes(32), 0, 30, 30, 60, 21]]
    manifest = Manifest(objects, parent(objects, claims, order=(0, 0)))
    assert manifest.part(0) == LEAVES[0][0].part
    with pytest.raises(CorruptError, match="parent says"):
        manifest.part(20)


def test_leaves_that_overlap_are_corrupt() -> None:
    """The parent tells the truth about each, but the first ends after the second begins."""
    objects = Objects(MemoryStore())
    wide = [Entry(1, NO_DIGEST, 0, LEAVES[0][0].part), Entry(5, NO_DIGEST, 0, LEAVES[0][0].part)]
    narrow = [Entry(3, NO_DIGEST, 0, LEAVES[0][0].part)]
    content = struct.pack("<8sII", b"PFNODE01", 1, 2)
    for leaf in (wide, narrow):
        digest = bytes.fromhex(write_manifest(objects, leaf))
        number = len(leaf)
        content += struct.pack("<Q32sQ32s", leaf[0].generation, bytes(32), 0, digest)
        content += struct.pack("<QQQQ", number, number, 2 * number, 7 * number)
    with pytest.raises(CorruptError, match="ascend"):
        list(Manifest(objects, objects.put(content)).entries())
