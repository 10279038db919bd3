"""Editing manifests: the tree of the result, byte for byte, at the cost of the change."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from test_tree import Watched, count, some_parts
from tree_edits import LONG_RUNS, TABLES, Table, changes_of, differences, entries, key_of

from pyfactory.core.digest import Digest
from pyfactory.errors import CorruptError, InternalError
from pyfactory.shard.diff import Difference, diff_manifests
from pyfactory.shard.edit import edit_manifest, edit_tree
from pyfactory.shard.manifest import Entry, Manifest, new_batch, write_manifest
from pyfactory.shard.node import SHARDS
from pyfactory.shard.nodes import Nodes
from pyfactory.shard.tree import write_tree
from pyfactory.store.content import Objects
from pyfactory.store.memory import MemoryStore

MEANS = [(4, 2), (2, 2), (2, 4), (8, 4)]


def stored(objects: Objects) -> set[str]:
    return {key for key, _ in objects.store.list("objects")}


def check(table: Table, other: Table, means: tuple[int, int]) -> None:
    """Editing gives what writing gives, and stores no node that is not of the result."""
    objects, apart = Objects(MemoryStore()), Objects(MemoryStore())
    before, after = write_tree(objects, entries(table), *means), write_tree(apart, entries(other), *means)
    allowed = stored(objects) | stored(apart)
    assert edit_tree(Nodes(objects), before, differences(table, other), *means) == after
    assert stored(objects) <= allowed
    assert stored(apart) <= stored(objects)


@given(st.data(), TABLES | LONG_RUNS, st.sampled_from(MEANS))
def test_the_tree_is_that_of_the_resulting_entries(data: st.DataObject, table: Table, means: tuple[int, int]) -> None:
    """Whatever was removed, changed and added.

    Catches cutting on from an old end that is no new one, a forced cut that is taken for granted, an entry put behind
    the end of a node, a level too many or too few, and a level of one node that is stored all the same.
    """
    check(table, data.draw(changes_of(table)), means)


@given(TABLES, TABLES, st.sampled_from(MEANS))
@example({}, {}, (4, 2))
@example({(1, 1, 1): 1}, {}, (4, 2))
@example({}, {(1, 1, 1): 1}, (4, 2))
def test_any_table_becomes_any_other(table: Table, other: Table, means: tuple[int, int]) -> None:
    check(table, other, means)


@given(st.data(), TABLES, st.sampled_from(MEANS))
def test_differences_that_were_found_lead_there(data: st.DataObject, table: Table, means: tuple[int, int]) -> None:
    objects = Objects(MemoryStore())
    other = data.draw(changes_of(table))
    before, after = (write_tree(objects, entries(each), *means) for each in (table, other))
    assert edit_tree(Nodes(objects), before, diff_manifests(objects, before, after), *means) == after
    assert edit_tree(Nodes(objects), after, diff_manifests(objects, after, before), *means) == before


@pytest.mark.parametrize("means", [(4, 2), (2, 4)])
@pytest.mark.parametrize("content", [-1, 0, None])
def test_each_single_change_of_a_table(means: tuple[int, int], content: int | None) -> None:
    """Each entry removed, and one put before each: those that end nodes among them, and in runs where none does."""
    table = {(1, 0, 2 * place): place if content is None else content for place in range(36)}
    for key in table:
        check(table, {other: value for other, value in table.items() if other != key}, means)
        check(table, table | {(1, 0, key[2] + 1): 7}, means)
        check(table, table | {key: 9}, means)


@pytest.mark.parametrize("kept", [0, 1, -1])
def test_nothing_but_one_node_is_left(kept: int) -> None:
    """It becomes the root, or what is below it does, and nothing is written: catches looking for it in the wrong place,
    and inner nodes of one record above it."""
    objects = Objects(MemoryStore())
    found = new_batch(some_parts(300), 1)
    before = write_tree(objects, found, 4, 2)
    depth = 0
    while (root := Nodes(objects).root(before)).level:
        starts = root.starts[SHARDS].tolist()
        index = range(len(starts) - 1)[kept]
        left = found[starts[index] : starts[index + 1]]
        gone = [Difference(key_of(entry), entry, None) for entry in found if entry not in left]
        there = stored(objects)
        after = edit_tree(Nodes(objects), before, gone, 4, 2)
        assert stored(objects) == there
        assert after == write_tree(objects, left, 4, 2)
        before, found, depth = after, left, depth + 1
    assert depth >= 3


@pytest.fixture(scope="module")
def large() -> tuple[Watched, list[Entry], Digest]:
    objects = Watched()
    found = new_batch(some_parts(100_000), 1)
    return objects, found, write_manifest(objects, found)


def test_little_is_read_and_written(large: tuple[Watched, list[Entry], Digest]) -> None:
    """A place that changes costs its leaf, perhaps the next, and the root: catches walking or writing all of it."""
    objects, found, root = large
    new = new_batch(some_parts(10, seed=1), 2)
    cases: list[list[Difference]] = [
        [Difference(key_of(entry), None, entry) for entry in new],
        [Difference(key_of(entry), entry, None) for entry in found[70_000:70_010]],
        [Difference(key_of(found[5]), found[5], None), *(Difference(key_of(entry), None, entry) for entry in new)],
    ]
    for number, case in enumerate(cases):
        before = count(objects)
        objects.read.clear()
        edited = edit_manifest(objects, root, case)
        assert len(objects.read) <= 3 + 2 * (number == 2) and count(objects) - before <= 3 + 2 * (number == 2)
        assert Manifest(objects, edited).shards == 100_000 + sum(
            (d.after is not None) - (d.before is not None) for d in case
        )
        assert list(diff_manifests(objects, root, edited)) == case


def test_nodes_at_hand_are_not_read_again(large: tuple[Watched, list[Entry], Digest]) -> None:
    objects, found, root = large
    nodes = Nodes(objects)
    one = edit_manifest(objects, root, [Difference(key_of(found[9]), found[9], None)])
    case = list(diff_manifests(objects, root, one, nodes=nodes))
    objects.read.clear()
    assert edit_manifest(objects, root, case, nodes=nodes) == one and not objects.read


def test_what_was_not_there_is_an_error() -> None:
    """Catches differences of another manifest applied without a look."""
    objects = Objects(MemoryStore())
    found = new_batch(some_parts(50), 1)
    root = write_tree(objects, found[:49], 4, 2)
    other = Entry(1, found[3].batch, 3, found[4].part)
    wrong = [
        [Difference(key_of(found[49]), found[49], None)],
        [Difference(key_of(found[3]), None, found[3])],
        [Difference(key_of(other), other, None)],
        [Difference(key_of(found[3]), found[3], None), Difference(key_of(found[2]), found[2], None)],
        [Difference(key_of(found[3]), found[3], None)] * 2,
        [Difference(key_of(found[3]), found[4], None)],
    ]
    for case in wrong:
        with pytest.raises(InternalError):
            edit_tree(Nodes(objects), root, case, 4, 2)
    for case in (wrong[0], wrong[3]):
        with pytest.raises(InternalError):
            edit_manifest(objects, None, case)


def test_a_missing_node_is_corrupt() -> None:
    objects = Objects(MemoryStore())
    found = new_batch(some_parts(200), 1)
    root = write_tree(objects, found, 4, 2)
    gone = list(Manifest(objects, root).nodes())[-1]
    objects.store.delete(objects.key(gone))
    with pytest.raises(CorruptError, match=f"{gone} is missing"):
        edit_tree(Nodes(objects), root, [Difference(key_of(found[-1]), found[-1], None)], 4, 2)
