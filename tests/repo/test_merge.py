"""Three-way merges: what is taken, what conflicts, who decides."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from repo_tables import raw_part, raw_state, state_of

from pyfactory.core.digest import NO_DIGEST, Digest, digest_of
from pyfactory.errors import CorruptError, InvalidInputError
from pyfactory.repo.merge import Conflict, Merged, merge_table_states, merge_trees
from pyfactory.repo.objects import TableState, Tree
from pyfactory.shard.layout import raw_schema
from pyfactory.shard.manifest import Entry, Manifest, Part, extend_manifest, new_batch, write_manifest
from pyfactory.shard.writer import encode_shard, make_side
from pyfactory.store.content import Objects
from pyfactory.store.memory import MemoryStore
from pyfactory.store.wrap import Counted

COMMITS = {"ours_commit": "c" * 64, "theirs_commit": "d" * 64}


@pytest.fixture
def objects() -> Objects:
    return Objects(MemoryStore())


def with_rows(objects: Objects, state: TableState, root: Digest) -> TableState:
    held = Manifest(objects, root)
    counts = {"rows": held.rows, "tokens": held.tokens, "nbytes": held.nbytes, "shards": held.shards}
    return replace(state, manifest=root, **counts)


def plus(objects: Objects, state: TableState, *parts: Part) -> TableState:
    """Append parts as one batch."""
    generation = Manifest(objects, state.manifest).last_generation + 1
    return with_rows(objects, state, extend_manifest(objects, state.manifest, new_batch(parts, generation)))


def of_entries(objects: Objects, state: TableState, entries: list[Entry]) -> TableState:
    return with_rows(objects, state, write_manifest(objects, entries))


def entries_of(objects: Objects, state: TableState) -> list[Entry]:
    return list(Manifest(objects, state.manifest).entries())


def part_with_ids(objects: Objects, ids: list[str]) -> Part:
    texts = pa.array([f"text of {id_} {objects.store.url}" for id_ in ids], pa.large_string())
    shard = encode_shard(pa.record_batch([texts], schema=raw_schema()))
    side = objects.put(memoryview(make_side(pa.array(ids, pa.large_string()))))
    return Part(objects.put(memoryview(shard)), side, len(ids), 0, shard.size)


def fake(content: int) -> Part:
    return Part(digest_of(b"%d" % content), NO_DIGEST, content, 2 * content, 3 * content)


def one_of_each(objects: Objects) -> tuple[TableState, list[Entry]]:
    state = state_of(objects, [fake(1), fake(2), fake(3)], width=2, artifact=b"tokenizer")
    return state, entries_of(objects, state)


def merged(
    objects: Objects,
    base: TableState | None,
    ours: TableState | None,
    theirs: TableState | None,
    choices: Mapping[str, str] | None = None,
) -> Merged:
    """Merge one table, after seeing that the sides may change places."""
    trees = [Tree({} if state is None else {"t": state}) for state in (base, ours, theirs)]
    result = merge_trees(objects, *trees, choices or {}, **COMMITS)
    if not choices:
        turned = merge_trees(objects, trees[0], trees[2], trees[1])
        assert [each.key for each in turned.conflicts] == [each.key for each in result.conflicts]
        if not result.conflicts:
            assert turned.tree.to_value() == result.tree.to_value()
    return result


KEYS = st.tuples(st.integers(0, 2), st.integers(0, 1), st.integers(0, 9))
TABLES = st.dictionaries(KEYS, st.integers(0, 3), max_size=25)
Plain = dict[tuple[int, int, int], int]


def to_state(objects: Objects, table: Plain) -> TableState:
    entries = [Entry(g, digest_of(b"%d" % b), o, fake(content)) for (g, b, o), content in table.items()]
    entries.sort(key=lambda entry: (entry.generation, entry.batch, entry.ordinal))
    return of_entries(objects, state_of(objects, [], width=2), entries)


@given(TABLES, TABLES, TABLES, st.data())
def test_rows_merge_as_plain_mappings_do(base: Plain, more: Plain, others: Plain, data: st.DataObject) -> None:
    """Catches a side's change that is lost, a conflict that is missed or made up, counts that are added up wrongly, and
    a merge that depends on who is called ours."""
    objects = Objects(MemoryStore())
    gone = [data.draw(st.sets(st.sampled_from(sorted(base)), max_size=2)) if base else set() for _ in range(2)]
    drawn = [dict(list(change.items())[:4]) for change in (more, others)]
    ours, theirs = (
        {k: v for k, v in (base | new).items() if k not in lost} for new, lost in zip(drawn, gone, strict=True)
    )
    states = [to_state(objects, table) for table in (base, ours, theirs)]
    result = merged(objects, *states)
    changed = [{k for k in base.keys() | side.keys() if base.get(k) != side.get(k)} for side in (ours, theirs)]
    keys = {k for k in changed[0] & changed[1] if ours.get(k) != theirs.get(k)}
    both_gone = any(k not in ours and k not in theirs for k in changed[0] & changed[1])
    expected = dict(ours)
    for k in changed[1] - changed[0]:
        expected.pop(k, None)
        expected |= {k: theirs[k]} if k in theirs else {}
    if ours == theirs:
        assert result.tree.tables["t"] == states[1] and not result.conflicts
    elif both_gone:
        assert [(each.key, each.reason) for each in result.conflicts[:1]] == [("", "both replaced its rows")]
        assert len(result.conflicts) == 1 + len(keys)
    elif keys:
        names = {(g, digest_of(b"%d" % b)[:12], o): (g, b, o) for g, b, o in keys}
        found = [(int(g), b, int(o)) for g, b, o in (each.key.split("/") for each in result.conflicts)]
        assert {names[key] for key in found} == keys and found == sorted(found)
        sides = {f"t:{each.key}": data.draw(st.sampled_from(["ours", "theirs"])) for each in result.conflicts}
        decided = merge_trees(objects, *(Tree({"t": state}) for state in states), sides)
        for place, key in zip(sides, (names[each] for each in found), strict=True):
            winner = ours if sides[place] == "ours" else theirs
            expected.pop(key, None)
            expected |= {key: winner[key]} if key in winner else {}
        assert (decided.tree.tables["t"], decided.conflicts, decided.used) == (to_state(objects, expected), (), sides)
    else:
        assert (result.tree.tables["t"], result.conflicts) == (to_state(objects, expected), ())


BATCHES = st.lists(st.integers(0, 4), max_size=4)


@given(BATCHES, BATCHES, BATCHES)
def test_the_same_import_on_both_sides_counts_once(base: list[int], ours: list[int], theirs: list[int]) -> None:
    """Catches a batch that another append has moved to a later generation and that is taken for another one; and a
    merge whose order depends on who is called ours, or that the next merge takes for a rewritten table."""
    objects = Objects(MemoryStore())
    parts = {label: (raw_part(objects, [f"{label} a"]), raw_part(objects, [f"{label} b"])) for label in range(6)}
    start = state_of(objects, [fake(9)])
    for label in base:
        start = plus(objects, start, *parts[label])
    one = two = start
    for label in ours:
        one = plus(objects, one, *parts[label])
    for label in theirs:
        two = plus(objects, two, *parts[label])
    found = merged(objects, start, one, two).tree.tables["t"]
    counted = Counter(entry.batch for entry in entries_of(objects, found))
    sides = [Counter(entry.batch for entry in entries_of(objects, side)) for side in (one, two)]
    if one != two:
        assert counted == sides[0] | sides[1]
    # Who merged the same before, and has gone on since, merges again.
    later = [plus(objects, found, raw_part(objects, [who])) for who in ("ours", "theirs")]
    for before in (one, two):
        again = merged(objects, before, *later)
        assert again.conflicts == ()
        assert again.tree.tables["t"].rows == found.rows + 2


def test_whole_tables_are_taken_unopened() -> None:
    """Catches opening a table that one side left alone, and one that both changed alike."""
    store = Counted(MemoryStore())
    objects = Objects(store)
    a, b, c, d = (raw_state(objects, name) for name in "abcd")
    base = Tree({"same": a, "ours": a, "theirs": a, "alike": a, "gone": a, "gone too": a})
    ours = Tree({"same": a, "ours": b, "theirs": a, "alike": d, "new": b, "gone": a})
    theirs = Tree({"same": a, "ours": a, "theirs": c, "alike": d, "new too": c})
    store.calls.clear()
    result = merge_trees(objects, base, ours, theirs)
    expected = {"same": a, "ours": b, "theirs": c, "alike": d, "new": b, "new too": c}
    assert (result.tree.tables, result.conflicts, result.used) == (expected, (), {})
    assert not store.calls
    assert merge_trees(objects, None, Tree({"x": a}), Tree({"y": b})).tree.tables == {"x": a, "y": b}


def test_appends_on_both_sides_commute(objects: Objects) -> None:
    base = raw_state(objects, "base")
    ours = plus(objects, plus(objects, base, raw_part(objects, ["one"])), raw_part(objects, ["two"]))
    theirs = plus(objects, base, raw_part(objects, ["three", "four"]))
    result = merged(objects, base, ours, theirs)
    found = result.tree.tables["t"]
    assert (result.conflicts, found.rows, found.shards) == ((), 6, 4)
    old, new = entries_of(objects, base), entries_of(objects, found)
    assert new[: len(old)] == old
    assert {e.part for e in new} == {e.part for side in (ours, theirs) for e in entries_of(objects, side)}
    table = merge_table_states(objects, "t", base, ours, theirs)
    assert (table.state, table.only_added) == (found, True)
    assert not merge_table_states(objects, "t", base, of_entries(objects, base, old[1:]), theirs).only_added


@pytest.mark.parametrize(
    ("ours_side", "reason"),
    [(True, "ours changed it, theirs removed it"), (False, "ours removed it, theirs changed it")],
)
def test_removed_here_and_changed_there(objects: Objects, ours_side: bool, reason: str) -> None:
    base = raw_state(objects, "base")
    changed = plus(objects, base, raw_part(objects, ["more"]))
    sides = (changed, None) if ours_side else (None, changed)
    conflict = merged(objects, base, *sides).conflicts[0]
    digests = [None if state is None else state.digest for state in (base, *sides)]
    assert conflict == Conflict("t", "", reason, *digests, *COMMITS.values())  # type: ignore[arg-type]
    for choice, state in zip(("ours", "theirs"), sides, strict=True):
        for place in ("t", "*"):
            result = merged(objects, base, *sides, choices={place: choice})
            assert (result.tree.tables.get("t"), result.conflicts, result.used) == (state, (), {place: choice})


def test_made_by_both(objects: Objects) -> None:
    ours, theirs = raw_state(objects, "ours"), raw_state(objects, "theirs")
    assert [each.reason for each in merged(objects, None, ours, theirs).conflicts] == ["both made it"]
    assert merged(objects, None, ours, ours).tree.tables == {"t": ours}


def test_names_merge_one_by_one(objects: Objects) -> None:
    """Catches a set of artifacts or attributes that is taken whole from one side."""
    base, _ = one_of_each(objects)
    one, other = objects.put(b"one"), objects.put(b"other")
    ours = replace(base, artifacts={**base.artifacts, "ours": one}, attributes={"width": 2, "append": -1, "note": "x"})
    theirs = replace(base, artifacts={**base.artifacts, "theirs": other}, attributes={**base.attributes, "append": 7})
    found = merged(objects, base, ours, theirs).tree.tables["t"]
    assert found.artifacts == {**base.artifacts, "ours": one, "theirs": other}
    assert found.attributes == {"width": 2, "append": 7, "note": "x"}
    assert found.manifest == base.manifest


def test_all_conflicts_are_listed_together(objects: Objects) -> None:
    """Catches a merge that stops at the first: here are two tables, three facts and two shards."""
    base, entries = one_of_each(objects)
    plain = raw_state(objects, "plain")

    def side(label: int) -> TableState:
        made = Entry(1, entries[0].batch, 7, fake(30 + label))
        state = of_entries(objects, base, [replace(entries[0], part=fake(20 + label)), *entries[1:], made])
        artifacts = {"tokenizer": objects.put(b"%d" % label)}
        schema = ((f"column {label}", "string", False),)
        return replace(state, schema=schema, artifacts=artifacts, attributes={**base.attributes, "append": label})

    trees = [Tree({"t": base, "u": plain})]
    trees += [Tree({"t": side(label), "u": raw_state(objects, str(label))}) for label in (1, 2)]
    conflicts = merge_trees(objects, *trees).conflicts
    batch = entries[0].batch[:12]
    assert [(each.place, each.reason) for each in conflicts] == [
        ("t", "both changed its columns"),
        ("t", "both changed its artifact 'tokenizer'"),
        ("t", "both changed its attribute 'append'"),
        (f"t:0/{batch}/0", "ours changed this shard, theirs changed it"),
        (f"t:1/{batch}/7", "ours added this shard, theirs added it"),
        ("u", "both replaced its rows"),
    ]
    shard = conflicts[3]
    assert (shard.base, shard.ours, shard.theirs) == (fake(1).shard, fake(21).shard, fake(22).shard)
    assert conflicts[4].base is None
    result = merge_trees(objects, *trees, {"t": "theirs", "u": "ours"})
    assert result.tree.tables == {"t": trees[2].tables["t"], "u": trees[1].tables["u"]}
    result = merge_trees(objects, *trees, {"*": "theirs", "u": "ours"})
    assert result.tree.tables == {"t": trees[2].tables["t"], "u": trees[1].tables["u"]}
    assert result.used == {"*": "theirs", "u": "ours"}


def test_rows_beside_other_columns_or_another_tokenizer_conflict(objects: Objects) -> None:
    """Catches a merge that no reader could read, and one whose rows were made by two tokenizers."""
    base, entries = one_of_each(objects)
    longer = plus(objects, base, fake(9))
    columns = replace(base, schema=(*base.schema, ("more", "string", True)))
    reasons = [each.reason for each in merged(objects, base, columns, longer).conflicts]
    assert reasons == ["ours changed its columns, theirs its rows"]
    anew = of_entries(objects, base, [replace(entries[0], generation=9, part=fake(11))])
    anew = replace(anew, artifacts={"tokenizer": objects.put(b"another")})
    reasons = [each.reason for each in merged(objects, base, anew, longer).conflicts]
    assert reasons == [
        "ours made its rows anew with another artifact 'tokenizer', theirs added rows made with the old one"
    ]
    named = replace(base, artifacts={"tokenizer": objects.put(b"the same, said otherwise")})
    assert not merged(objects, base, named, longer).conflicts


def test_ids_that_both_sides_added_conflict(objects: Objects) -> None:
    """Catches ids compared within one side only, ids from content taken for a person's, and rows counted twice that
    both sides took from one import."""
    base = raw_state(objects, "base")
    ours = plus(objects, base, part_with_ids(objects, ["a", "b3:12", "x", "y", "z"]), part_with_ids(objects, ["w"]))
    theirs = plus(objects, base, part_with_ids(objects, ["q", "z", "b3:12", "y"]), part_with_ids(objects, ["x", "w"]))
    result = merged(objects, base, ours, theirs)
    reason = "both added records with the ids 'w', 'x', 'y' and 1 more"
    assert [(each.place, each.reason) for each in result.conflicts] == [("t", reason)]
    assert merged(objects, base, ours, theirs, {"t": "theirs"}).tree.tables == {"t": theirs}
    alike = part_with_ids(objects, ["p", "b3:77"])
    both = plus(objects, base, alike)
    assert not merged(objects, base, both, plus(objects, both, part_with_ids(objects, ["o"]))).conflicts
    assert not merged(objects, base, plus(objects, base, alike, fake(1)), plus(objects, base, fake(2))).conflicts


def test_a_side_that_is_missing_is_corrupt(objects: Objects) -> None:
    base = raw_state(objects, "base")
    part = part_with_ids(objects, ["a"])
    ours, theirs = plus(objects, base, part), plus(objects, base, part_with_ids(objects, ["b"]))
    objects.store.delete(objects.key(part.side))
    with pytest.raises(CorruptError, match=f"side {part.side} of shard {part.shard} is missing"):
        merge_table_states(objects, "t", base, ours, theirs)


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"t": "mine"}, "decides no conflict"),
        ({"t": ""}, "decides no conflict"),
        ({"t:x": "ours"}, "no place of a conflict"),
        ({"t:": "ours"}, "no place of a conflict"),
        ({"t:1/abc/2": "ours"}, "no place of a conflict"),
        ({"t:1/aaaaaaaaaaaa/٣": "ours"}, "no place of a conflict"),
        ({"a/b": "ours"}, "cannot be called"),
        ({"": "ours"}, "cannot be called"),
        ({"t": "ours", "other": "ours"}, "no conflict about other"),
        ({"t:1/aaaaaaaaaaaa/2": "ours"}, "no conflict about t:1/aaaaaaaaaaaa/2"),
    ],
)
def test_choices_about_nothing_are_refused(objects: Objects, choices: dict[str, str], message: str) -> None:
    ours, theirs = raw_state(objects, "ours"), raw_state(objects, "theirs")
    with pytest.raises(InvalidInputError, match=message):
        merged(objects, None, ours, theirs, choices)


def test_a_choice_for_everything_may_decide_nothing(objects: Objects) -> None:
    state = raw_state(objects, "a")
    result = merged(objects, state, state, state, {"*": "ours"})
    assert (result.tree.tables, result.used) == ({"t": state}, {})
