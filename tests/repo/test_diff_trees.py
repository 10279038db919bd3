"""What differs between two trees: exact counts, and ids."""

from __future__ import annotations

from dataclasses import replace

import pytest
from repo_tables import raw_part, raw_state, state_of, token_part

from pyfactory.errors import CorruptError
from pyfactory.repo.diff import TableDiff, changed_records, diff_trees
from pyfactory.repo.objects import TableState, Tree
from pyfactory.shard.manifest import Entry, Manifest, Part, write_manifest
from pyfactory.store.content import Objects
from pyfactory.store.memory import MemoryStore
from pyfactory.store.wrap import Counted


def of_parts(objects: Objects, state: TableState, places: list[tuple[int, Part]]) -> TableState:
    """A table whose parts have the given generations."""
    batch = next(Manifest(objects, state.manifest).entries()).batch
    root = write_manifest(objects, [Entry(generation, batch, 0, part) for generation, part in places])
    held = Manifest(objects, root)
    return replace(state, manifest=root, rows=held.rows, tokens=held.tokens, nbytes=held.nbytes, shards=held.shards)


def test_counts_are_those_of_the_shards_that_differ() -> None:
    """Catches totals subtracted from each other, which hide what was replaced, and a swap of before and after."""
    objects = Objects(MemoryStore())
    a, b, c, d = (token_part(objects, [[n] * n for n in range(1, size)]) for size in (2, 3, 5, 7))
    base = state_of(objects, [a], width=2, artifact=b"old")
    before = of_parts(objects, base, [(1, a), (2, b), (3, c)])
    after = of_parts(objects, base, [(1, a), (2, d), (4, b)])
    after = replace(after, artifacts={"tokenizer": objects.put(b"new")}, attributes={**base.attributes, "note": "x"})
    gone, new = raw_state(objects, "gone", 3), raw_state(objects, "new", 4)
    found = diff_trees(objects, Tree({"t": before, "gone": gone, "s": gone}), Tree({"t": after, "new": new, "s": gone}))
    assert [(table.name, table.kind) for table in found.tables] == [
        ("gone", "removed"),
        ("new", "added"),
        ("t", "changed"),
    ]
    assert found.tables[2] == TableDiff(
        name="t",
        kind="changed",
        shards_added=2,
        shards_removed=2,
        rows_added=6 + 2,
        rows_removed=2 + 4,
        tokens_added=21 + 3,
        tokens_removed=3 + 10,
        bytes_added=d.nbytes + b.nbytes,
        bytes_removed=b.nbytes + c.nbytes,
        schema_before=base.schema,
        schema_after=base.schema,
        artifacts={"tokenizer": (base.artifacts["tokenizer"], after.artifacts["tokenizer"])},
        attributes={"note": (None, "x")},
    )
    removed, added = found.tables[:2]
    assert (removed.rows_removed, removed.rows_added, removed.shards_removed) == (3, 0, 1)
    assert (added.rows_added, added.rows_removed, added.bytes_added) == (4, 0, new.nbytes)
    assert (removed.schema_before, removed.schema_after, added.schema_before) == (gone.schema, None, None)


def test_equal_trees_are_not_opened() -> None:
    store = Counted(MemoryStore())
    objects = Objects(store)
    tree = Tree({"a": raw_state(objects, "a"), "b": raw_state(objects, "b")})
    store.calls.clear()
    assert diff_trees(objects, tree, tree).tables == () and not list(changed_records(objects, tree, tree))
    assert not store.calls


def test_ids_of_shards_that_came_and_went() -> None:
    """Catches ids of a shard that only moved, and one that is there twice and then once."""
    objects = Objects(MemoryStore())
    a, b, c, d = (raw_part(objects, [name, name * 2]) for name in "abcd")
    base = state_of(objects, [a])
    before = of_parts(objects, base, [(1, c), (2, b), (3, a), (4, a)])
    after = of_parts(objects, base, [(1, d), (5, a), (6, b)])
    gone = raw_state(objects, "gone")
    found = list(changed_records(objects, Tree({"t": before, "gone": gone}), Tree({"t": after})))
    ids = {part.shard: [f"{part.shard[:8]}-{row}" for row in range(2)] for part in (a, c, d)}
    of_gone = next(Manifest(objects, gone.manifest).entries()).part.shard[:8]
    assert found == [
        *(("removed", "gone", f"{of_gone}-{row}") for row in range(2)),
        *(("removed", "t", each) for part in (c, a) for each in ids[part.shard]),
        *(("added", "t", each) for each in ids[d.shard]),
    ]


def test_missing_sides_are_corrupt() -> None:
    objects = Objects(MemoryStore())
    state = raw_state(objects, "a")
    part = next(Manifest(objects, state.manifest).entries()).part
    objects.store.delete(objects.key(part.side))
    with pytest.raises(CorruptError, match=part.side):
        list(changed_records(objects, Tree({}), Tree({"t": state})))
    assert diff_trees(objects, Tree({}), Tree({"t": state})).tables[0].rows_added == 2
