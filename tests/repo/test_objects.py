"""Commits, trees and table states as bytes. The bytes here are the format, written by hand: they never change."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfactory.core.canonical import decode, digest_of_value, encode
from pyfactory.core.digest import Digest, digest_of
from pyfactory.errors import CorruptError, NewerFormatError
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
COMMIT = Commit(A, (B, C), "Ada", "2026-01-02T03:04:05Z", "größer ✓", {"kind": "job", "job": B})
COMMIT_BYTES = (
    '{"author":"Ada","gates":[],"kind":"commit","made_by":{"job":"' + B + '","kind":"job"},"message":"größer ✓",'
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
