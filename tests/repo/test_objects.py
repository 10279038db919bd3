"""Commits, trees and table states as bytes. The bytes here are the format, written by hand: they never change."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from repo_tables import made_by_import, made_by_job

from pyfactory.core.canonical import decode, digest_of_value, encode
from pyfactory.core.digest import Digest, digest_of
from pyfactory.errors import CorruptError, InvalidInputError, NewerFormatError
from pyfactory.repo.objects import Commit, TableState, Tree, load_commit
from pyfactory.store.content import Objects
from pyfactory.store.memory import MemoryStore

A, B, C = (Digest(letter * 64) for letter in "abc")

STATE = TableState(
    manifest=A,
    schema=(("tokens", "large_list<item: uint16 not null>", False),),
    rows=3,
    tokens=40,
    nbytes=512,
    shards=1,
    artifacts={"tokenizer": B},
    attributes={"append": -1, "vocab_size": 50257, "width": 2},
)
STATE_BYTES = (
    '{"artifacts":{"tokenizer":"' + B + '"},"attributes":{"append":-1,"vocab_size":50257,"width":2},"bytes":512,'
    '"manifest":"'
    + A
    + '","rows":3,"schema":[["tokens","large_list<item: uint16 not null>",false]],"shards":1,"tokens":40}'
).encode()
TREE_BYTES = b'{"kind":"tree","tables":{"corpus":' + STATE_BYTES + b'},"v":1}'
COMMIT = Commit(A, (B, C), "Ada", "2026-01-02T03:04:05Z", "größer ✓", {"kind": "other", "job": B})
COMMIT_BYTES = (
    '{"author":"Ada","gates":[],"kind":"commit","made_by":{"job":"' + B + '","kind":"other"},"message":"größer ✓",'
    '"parents":["' + B + '","' + C + '"],"time":"2026-01-02T03:04:05Z","tree":"' + A + '","v":1}'
).encode()
FIRST = Commit(A, (), "", "2026-01-02T03:04:05Z", "")
FIRST_BYTES = (
    '{"author":"","gates":[],"kind":"commit","made_by":null,"message":"","parents":[],'
    '"time":"2026-01-02T03:04:05Z","tree":"' + A + '","v":1}'
).encode()


def test_the_format_of_stored_values_is_frozen() -> None:
    """Fails when a field is renamed, added or reordered: every digest in every repository depends on these bytes."""
    assert encode(STATE.to_value()) == STATE_BYTES
    assert STATE.digest == digest_of(STATE_BYTES)
    assert encode(Tree({"corpus": STATE}).to_value()) == TREE_BYTES
    assert encode(COMMIT.to_value()) == COMMIT_BYTES
    assert encode(FIRST.to_value()) == FIRST_BYTES
    assert COMMIT.digest == digest_of(COMMIT_BYTES)


def test_what_is_written_is_read() -> None:
    assert TableState.from_value(decode(STATE_BYTES, "x"), "x") == STATE
    assert Tree.from_value(decode(TREE_BYTES, "x"), "x") == Tree({"corpus": STATE})
    assert Commit.from_value(decode(COMMIT_BYTES, "x"), "x") == COMMIT
    assert Commit.from_value(decode(FIRST_BYTES, "x"), "x") == FIRST


def test_the_version_digest_knows_every_field() -> None:
    others = [
        replace(STATE, manifest=B),
        replace(STATE, schema=(("tokens", "large_list<item: uint32 not null>", False),)),
        replace(STATE, rows=4),
        replace(STATE, tokens=41),
        replace(STATE, nbytes=513),
        replace(STATE, shards=2),
        replace(STATE, artifacts={}),
        replace(STATE, attributes={}),
    ]
    assert len({state.digest for state in [STATE, *others]}) == 9


WRONG: list[tuple[str, Any]] = [
    ("kind", "tree"),
    ("kind", None),
    ("v", 0),
    ("v", True),
    ("v", "1"),
    ("author", 1),
    ("gates", {}),
    ("gates", [1]),
    ("made_by", []),
    ("made_by", "x"),
    ("message", None),
    ("parents", A),
    ("parents", [A, A]),
    ("parents", [A.upper()]),
    ("parents", [1]),
    ("time", "2026-01-02 03:04:05"),
    ("time", "2026-01-02T03:04:05Z\n"),
    ("time", "٢٠٢٦-01-02T03:04:05Z"),
    ("tree", A[:63]),
    ("tree", None),
    ("extra", 1),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_commit_with_a_wrong_field_is_corrupt(name: str, value: object) -> None:
    with pytest.raises(CorruptError, match="the commit"):
        Commit.from_value(COMMIT.to_value() | {name: value}, "the commit")


@pytest.mark.parametrize("name", sorted(json.loads(COMMIT_BYTES)))
def test_a_commit_without_a_field_is_corrupt(name: str) -> None:
    value = COMMIT.to_value()
    del value[name]
    with pytest.raises(CorruptError):
        Commit.from_value(value, "x")


MERGE = {"kind": "merge", "asked": "exp", "resolved": "branch/exp", "commit": A, "base": None, "choices": {"t": "ours"}}
USED = {"asked": "v1", "resolved": "tag/v1", "commit": A, "table": "t", "version": B}
SAID: list[dict[str, Any]] = [
    made_by_import("raw", A),
    made_by_import("raw", A, B) | {"tokens": 5, "dataset": {"builder": "x"}},
    made_by_job("corpus", A, B),
    MERGE,
    {"kind": "revert", "commit": A, "parent": B},
    {"kind": "commit", "took": [USED], "removed": ["u"]},
]
VERDICT = {"gate": "pii", "table": "raw", "passed": True, "reason": "none", "code": "pii/1:ab", "evidence": ["a"]}
VERDICT |= {"found": {"rows": 3}, "threshold": {"max_share": "0.1"}}


def is_refused(**wrong: Any) -> None:
    """Both ways: it cannot be written, and stored it cannot be read."""
    with pytest.raises(InvalidInputError, match="no commit can hold this"):
        replace(COMMIT, **wrong)
    with pytest.raises(CorruptError, match="the commit: "):
        Commit.from_value(COMMIT.to_value() | wrong, "the commit")


@pytest.mark.parametrize("said", SAID, ids=lambda said: said["kind"])
def test_what_a_commit_says_of_its_making_is_whole(said: dict[str, Any]) -> None:
    """Catches a field that is not looked at: whoever shows or traces the commit would stumble over it."""
    commit = replace(COMMIT, made_by=said, gates=(VERDICT,))
    assert Commit.from_value(decode(encode(commit.to_value()), "x"), "x") == commit
    replace(commit, made_by={**said, "more": 1})
    for name in said:
        if name not in ("tokens", "dataset"):
            is_refused(made_by={key: value for key, value in said.items() if key != name})
        for wrong in (None, 1.5, [1]):
            if wrong is not None or name not in ("skipped_list", "base", "parent"):
                is_refused(made_by={**said, name: wrong})
    for name in ("inputs", "took"):
        for missing in USED if said.get(name) else ():
            (used,) = said[name]
            is_refused(made_by={**said, name: [{key: used[key] for key in used if key != missing}]})
    for missing in said["steps"][0] if said.get("steps") else ():
        (step,) = said["steps"]
        is_refused(made_by={**said, "steps": [{key: step[key] for key in step if key != missing}]})


def test_a_maker_that_nobody_knows_has_a_kind() -> None:
    assert replace(COMMIT, made_by={"kind": "another program", "x": 1}).made_by
    for wrong in ({}, {"kind": 1}, {"kind": ["import"]}, {"job": A}):
        is_refused(made_by=wrong)


def test_verdicts_are_whole() -> None:
    """Catches a commit that cannot be shown."""
    for name in VERDICT:
        is_refused(gates=[{key: value for key, value in VERDICT.items() if key != name}])
        is_refused(gates=[VERDICT, {**VERDICT, name: 1}])
    is_refused(gates=[{**VERDICT, "more": 1}])
    is_refused(gates=[{**VERDICT, "evidence": [1]}])
    is_refused(gates=[{**VERDICT, "found": {"x": None}}])


STATE_WRONG: list[tuple[str, Any]] = [
    ("rows", -1),
    ("rows", True),
    ("rows", 2**63),
    ("tokens", None),
    ("schema", [["a"]]),
    ("schema", [["a", "complex", True]]),
    ("schema", [["a", "int64", 1]]),
    ("schema", [["a", "int64", True], ["a", "int64", True]]),
    ("schema", {}),
    ("artifacts", {"x": "y"}),
    ("artifacts", []),
    ("attributes", {"x": True}),
    ("attributes", {"x": []}),
    ("attributes", None),
    ("manifest", "z" * 64),
    ("extra", 1),
]


@pytest.mark.parametrize(("name", "value"), STATE_WRONG)
def test_a_table_state_with_a_wrong_field_is_corrupt(name: str, value: object) -> None:
    tree = {"kind": "tree", "v": 1, "tables": {"corpus": STATE.to_value() | {name: value}}}
    with pytest.raises(CorruptError, match="corpus"):
        Tree.from_value(tree, "the tree")


@pytest.mark.parametrize("name", ["", "a/b", "..", "f" * 64])
def test_a_tree_with_a_wrong_table_name_is_corrupt(name: str) -> None:
    with pytest.raises(CorruptError, match="cannot be called"):
        Tree.from_value({"kind": "tree", "v": 1, "tables": {name: STATE.to_value()}}, "x")


def test_later_formats_ask_for_an_upgrade() -> None:
    for value in (COMMIT.to_value() | {"v": 2, "new": 1}, {"kind": "commit", "v": 3}):
        with pytest.raises(NewerFormatError, match="upgrade"):
            Commit.from_value(value, "x")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3) | st.just(A),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@given(st.sampled_from(sorted(COMMIT.to_value())), json_values, st.sampled_from(sorted(STATE.to_value())))
def test_hostile_values_are_read_or_corrupt_and_nothing_else(name: str, value: object, field: str) -> None:
    """Any other exception is a parser that trusts what it reads; what is read must also be what was written."""
    commit = COMMIT.to_value() | {name: value}
    with suppress(CorruptError, NewerFormatError):
        assert digest_of_value(Commit.from_value(commit, "x").to_value()) == digest_of_value(commit)
    state = STATE.to_value() | {field: value}
    with suppress(CorruptError):
        assert digest_of_value(TableState.from_value(state, "x").to_value()) == digest_of_value(state)


def test_a_commit_that_something_names_and_nobody_has_is_corruption() -> None:
    objects = Objects(MemoryStore())
    with pytest.raises(CorruptError, match="branch/main, is missing"):
        load_commit(objects, A, "branch/main")
    digest = objects.put(b'{"kind":"tree","tables":{},"v":1}')
    with pytest.raises(CorruptError, match="not a commit"):
        load_commit(objects, digest, "branch/main")
    with pytest.raises(CorruptError, match="canonical"):
        load_commit(objects, objects.put(COMMIT_BYTES + b" "), "branch/main")
