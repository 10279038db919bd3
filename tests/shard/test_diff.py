"""Comparing manifests: exactly what differs, at the cost of what differs."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_tree import Watched, some_parts
from tree_edits import LONG_RUNS, TABLES, Table, changes_of, differences, entries, key_of

from pyfactory.core.digest import NO_DIGEST, Digest
from pyfactory.errors import CorruptError
from pyfactory.shard.diff import Difference, diff_manifests
from pyfactory.shard.manifest import Entry, Manifest, Part, extend_manifest, new_batch, write_manifest
from pyfactory.shard.tree import write_tree
from pyfactory.store.content import Objects
from pyfactory.store.memory import MemoryStore

OPEN = Digest("ff" * 32)  # no node ends behind it
MEANS = [(4, 2), (2, 2), (2, 4), (8, 4)]


@given(st.data(), TABLES | LONG_RUNS, st.sampled_from(MEANS))
def test_differences_are_those_of_plain_mappings(data: st.DataObject, table: Table, means: tuple[int, int]) -> None:
    """Catches subtrees skipped at another level, records lost where leaves overlap, keys compared as stored bytes, and
    batches that numpy turned round."""
    objects = Objects(MemoryStore())
    other = data.draw(changes_of(table))
    before, after = (write_tree(objects, entries(each), *means) for each in (table, other))
    assert list(diff_manifests(objects, before, after)) == differences(table, other)
    assert list(diff_manifests(objects, after, before)) == differences(other, table)


@given(TABLES, TABLES)
def test_unrelated_tables_differ_in_all_they_do_not_share(table: Table, other: Table) -> None:
    objects = Objects(MemoryStore())
    before, after = (write_tree(objects, entries(each), 4, 2) for each in (table, other))
    assert list(diff_manifests(objects, before, after)) == differences(table, other)


@given(TABLES)
def test_no_table_is_an_empty_one(table: Table) -> None:
    objects = Objects(MemoryStore())
    root, empty = write_tree(objects, entries(table), 4, 2), write_tree(objects, [])
    assert list(diff_manifests(objects, None, root)) == differences({}, table)
    assert list(diff_manifests(objects, empty, root)) == differences({}, table)
    assert list(diff_manifests(objects, root, None)) == differences(table, {})
    assert not [*diff_manifests(objects, None, empty), *diff_manifests(objects, root, root)]


@pytest.fixture(scope="module")
def large() -> tuple[Watched, list[Entry], Digest]:
    objects = Watched()
    found = new_batch(some_parts(100_000), 1)
    return objects, found, write_manifest(objects, found)


def test_only_what_differs_is_read(large: tuple[Watched, list[Entry], Digest]) -> None:
    """Two roots, and a leaf or two of each for each place that changed: catches opening what is equal."""
    objects, found, root = large
    appended = extend_manifest(objects, root, new_batch(some_parts(10, seed=1), 2))
    fewer = write_manifest(objects, found[:50_000] + found[50_010:])
    earlier = write_manifest(objects, new_batch(some_parts(10, seed=2), 0) + found)
    for other in (appended, fewer, earlier):
        objects.read.clear()
        assert len(list(diff_manifests(objects, root, other))) == 10
        assert len(objects.read) <= 8
    objects.read.clear()
    assert not list(diff_manifests(objects, root, root)) and not objects.read


def test_a_replaced_shard_is_one_difference(large: tuple[Watched, list[Entry], Digest]) -> None:
    objects, found, root = large
    old = found[40_000]
    new = Entry(old.generation, old.batch, old.ordinal, some_parts(1, seed=9)[0])
    other = write_manifest(objects, [*found[:40_000], new, *found[40_001:]])
    assert list(diff_manifests(objects, root, other)) == [Difference(key_of(old), old, new)]


def test_a_missing_node_is_corrupt_by_name() -> None:
    objects = Objects(MemoryStore())
    root = write_tree(objects, new_batch(some_parts(200), 1), 4, 2)
    gone = list(Manifest(objects, root).nodes())[-1]
    objects.store.delete(objects.key(gone))
    with pytest.raises(CorruptError, match=f"{gone} is missing"):
        list(diff_manifests(objects, None, root))
    with pytest.raises(CorruptError, match=f"{NO_DIGEST} is missing"):
        list(diff_manifests(objects, root, NO_DIGEST))


def lying(objects: Objects, *changes: tuple[int, int, int]) -> Digest:
    """A parent of two leaves; (record, field, by) changes what it says of them."""
    leaves = [new_batch([Part(OPEN, NO_DIGEST, 1, 2, 3)] * number, number) for number in (2, 3)]
    claims: list[list[int]] = [
        [leaf[0].generation, 0, len(leaf), len(leaf), 2 * len(leaf), 3 * len(leaf)] for leaf in leaves
    ]
    for record, field, by in changes:
        claims[record][field] += by
    content = struct.pack("<8sII", b"PFNODE01", 1, 2)
    for (generation, ordinal, *totals), leaf in zip(claims, leaves, strict=True):
        content += struct.pack("<Q32sQ", generation, bytes.fromhex(leaf[0].batch), ordinal)
        content += struct.pack("<32sQQQQ", bytes.fromhex(write_manifest(objects, leaf)), *totals)
    return objects.put(content)


@pytest.mark.parametrize("change", [(0, 1, 1), (1, 0, 1), (0, 2, 1), (1, 3, 1), (1, 4, 1), (0, 5, 1)])
def test_a_parent_that_lies_is_corrupt(change: tuple[int, int, int]) -> None:
    objects = Objects(MemoryStore())
    assert len(list(diff_manifests(objects, None, lying(objects)))) == 5
    with pytest.raises(CorruptError, match="not what its parent says"):
        list(diff_manifests(objects, None, lying(objects, change)))


def test_leaves_that_overlap_are_corrupt() -> None:
    """Two leaves whose records would come out of order, under a parent that tells the truth of each."""
    objects = Objects(MemoryStore())
    part = Part(OPEN, NO_DIGEST, 1, 1, 1)
    content = struct.pack("<8sII", b"PFNODE01", 1, 2)
    for generations in ((1, 5), (3, 4)):
        leaf = write_manifest(objects, [Entry(generation, NO_DIGEST, 0, part) for generation in generations])
        content += struct.pack("<Q32sQ32sQQQQ", generations[0], bytes(32), 0, bytes.fromhex(leaf), 2, 2, 2, 2)
    with pytest.raises(CorruptError, match="do not ascend"):
        list(diff_manifests(objects, objects.put(content), None))


def test_a_tree_that_names_a_node_again_and_again_is_corrupt_soon() -> None:
    """Twenty levels of twelve nodes that lead to each other's children: 600,000 nodes to whoever does not look."""
    objects = Watched()
    part = Part(OPEN, NO_DIGEST, 0, 0, 0)
    below = [(write_manifest(objects, [Entry(key, NO_DIGEST, 0, part)]), 1) for key in range(12)]
    for level in range(1, 20):
        nodes = []
        for key in range(12):
            children = [(each, *below[each]) for each in range(key, min(key + 2, 12))]
            content = struct.pack("<8sII", b"PFNODE01", level, len(children))
            for first, child, shards in children:
                content += struct.pack("<Q32sQ32sQQQQ", first, bytes(32), 0, bytes.fromhex(child), shards, 0, 0, 0)
            nodes.append((objects.put(content), sum(shards for _, _, shards in children)))
        below = nodes
    objects.read.clear()
    with pytest.raises(CorruptError, match="nodes that do not ascend"):
        list(diff_manifests(objects, None, below[0][0]))
    assert len(objects.read) < 10


def test_subtrees_that_are_equal_are_skipped_at_every_level() -> None:
    """Catches walking down to the leaves before comparing names: here that would read hundreds of nodes."""
    objects = Watched()
    found = new_batch(some_parts(3000), 1)
    before = write_tree(objects, found, 4, 2)
    after = write_tree(objects, found[:1500] + found[1501:], 4, 2)
    objects.read.clear()
    assert [each.after for each in diff_manifests(objects, before, after)] == [None]
    assert len(objects.read) <= 80 < len(set(Manifest(objects, before).nodes())) // 5
