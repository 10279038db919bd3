"""Redaction objects: hostile bytes end in CorruptError; many of them fold into one overlay."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyfactory.core.canonical import decode, encode
from pyfactory.core.digest import Digest, digest_of
from pyfactory.errors import CorruptError, NewerFormatError
from pyfactory.repo.operation import Change, View
from pyfactory.repo.redaction import LAST, NO_OVERLAY, Follower, Overlay, Redaction, Replacement, overlay_of
from pyfactory.repo.repository import Repository
from pyfactory.repo.transaction import publish
from pyfactory.store.memory import MemoryStore


def named(name: object) -> Digest:
    return digest_of(str(name).encode())


def made(previous: Digest | None, shards: dict[str, tuple[str, list[tuple[int, int]]]], **sides: str) -> Redaction:
    new = {named(old): Replacement(named(name), 7, tuple(masked)) for old, (name, masked) in shards.items()}
    return Redaction(
        previous,
        "asked to",
        "Ada",
        "2026-05-04T03:02:01Z",
        ("00" * 16, "ab" * 16),
        (named("text"),),
        new,
        {named(old): named(name) for old, name in sides.items()},
    )


def published(repo: Repository, redaction: Redaction) -> Digest:
    digest = repo.objects.put(redaction.to_bytes())
    changes = [Change(f"redaction/{digest[:16]}", None, digest), Change(LAST, redaction.previous, digest)]
    publish(repo.oplog, repo.view(), changes, "Ada", "asked to")
    return digest


@pytest.fixture
def repo() -> Repository:
    return Repository.create(MemoryStore())


def test_a_redaction_is_read_as_it_was_written() -> None:
    redaction = made(named("before"), {"a": ("b", [(0, 3), (3, 9)]), "c": ("c", [])}, s="t")
    assert Redaction.from_value(decode(redaction.to_bytes(), "it"), "it") == redaction


def damaged() -> list[Any]:
    good = decode(made(None, {"a": ("b", [(0, 3)])}, s="t").to_bytes(), "it")
    found = []

    def but(**fields: Any) -> None:
        found.append(copy.deepcopy(good) | fields)

    (old,) = good["shards"]
    new = good["shards"][old]
    but(kind="rule")
    but(v=True)
    but(more=1)
    but(previous="x")
    but(reason=3)
    but(time="yesterday")
    but(keys="ab")
    but(keys=["ab"])
    but(keys=["AB" * 16])
    but(keys=["ab" * 16, "00" * 16])
    but(keys=["ab" * 16, "ab" * 16])
    but(content=["../../etc/passwd"])
    but(shards=[])
    but(sides={"x": named("t")})
    but(sides={named("s"): None})
    but(shards={"x": new})
    for field, value in (("bytes", -1), ("shard", None), ("more", 1)):
        but(shards={old: {**new, field: value}})
    for masked in (
        3,
        [3],
        [[1]],
        [[1, 1]],
        [[3, 1]],
        [[0, 3], [2, 4]],
        [[-1, 2]],
        [["0", 3]],
        [[False, 3]],
        [[0, True]],
        [[0, 2**63]],
    ):
        but(shards={old: {**new, "masked": masked}})
    return [*found, [], None, "redaction", 3]


@pytest.mark.parametrize("value", damaged(), ids=range(len(damaged())))
def test_hostile_redactions_are_corrupt(value: Any) -> None:
    with pytest.raises(CorruptError):
        Redaction.from_value(value, "it")


def test_a_later_format_is_said_to_be_one() -> None:
    value = decode(made(None, {}).to_bytes(), "it")
    with pytest.raises(NewerFormatError):
        Redaction.from_value(value | {"v": 2}, "it")


@pytest.mark.parametrize("content", [None, b"", b"{", encode({"kind": "redaction"})])
def test_what_cannot_be_read_stops_every_reader(repo: Repository, content: bytes | None) -> None:
    """Catches: a damaged redaction passing for none, so that what was forgotten is read again."""
    digest = published(repo, made(None, {}))
    repo.store.delete(repo.objects.key(digest))
    if content is not None:
        repo.store.create(repo.objects.key(digest), content)
    with pytest.raises(CorruptError):
        Repository.open(repo.store).view()


def test_redactions_of_one_shard_follow_each_other(repo: Repository) -> None:
    """Catches: an overlay that stops at the first replacement, or forgets its masks."""
    first = published(repo, made(None, {"a": ("b", [(2, 4)]), "x": ("x", [(1, 2)])}, s="t"))
    second = published(repo, made(first, {"b": ("c", [(5, 6)]), "d": ("e", [])}, t="u"))
    overlay = overlay_of(repo, repo.view())
    assert [*overlay.redactions] == [first, second]
    expected = {"a": "c", "b": "c", "d": "e", "s": "u", "t": "u"}
    assert overlay.redirect == {named(old): named(new) for old, new in expected.items()}
    assert overlay.masks == {
        named("a"): ((0, 2, 4), (1, 5, 6)),
        named("b"): ((1, 5, 6),),
        named("x"): ((0, 1, 2),),
    }
    assert Overlay.load(repo, repo.view()) == overlay
    assert repo.objects.redirect == overlay.redirect


def test_what_a_shard_became_may_be_another_shard(repo: Repository) -> None:
    """Catches: masks of a redacted shard on a clean one that happens to have the bytes of its replacement."""
    first = published(repo, made(None, {"a": ("clean", [(2, 4)])}))
    overlay = overlay_of(repo, repo.view())
    assert overlay.masks == {named("a"): ((0, 2, 4),)}
    published(repo, made(first, {"clean": ("less", [(7, 8)]), "b": ("clean", [])}))
    overlay = overlay_of(repo, repo.view())
    assert overlay.masks == {named("a"): ((0, 2, 4), (1, 7, 8)), named("clean"): ((1, 7, 8),)}
    expected = {"a": "less", "clean": "less", "b": "clean"}
    assert overlay.redirect == {named(old): named(new) for old, new in expected.items()}


names = st.integers(0, 12).map(str)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.dictionaries(names, names, max_size=5), max_size=6))
def test_the_fold_is_a_walk_from_each_shard(steps: list[dict[str, str]]) -> None:
    """Any redactions, also senseless ones: the fold ends, and says what a walk in their order says."""
    repo = Repository.create(MemoryStore())
    previous = None
    for step in steps:
        previous = published(repo, made(previous, {old: (new, [(int(old), 99)]) for old, new in step.items()}))
    overlay = overlay_of(repo, repo.view())
    for start in map(str, range(13)):
        at, masked = start, []
        for number, step in enumerate(steps):
            if at in step:
                masked.append((number, int(at), 99))
                at = step[at]
        assert overlay.redirect.get(named(start), named(start)) == named(at)
        assert overlay.masks.get(named(start), ()) == tuple(masked)


def test_a_view_costs_nothing_more_when_nothing_was_forgotten(repo: Repository) -> None:
    assert overlay_of(repo, repo.view()) is NO_OVERLAY
    digest = published(repo, made(None, {"a": ("b", [])}))
    known = overlay_of(repo, repo.view())
    repo.store.delete(repo.objects.key(digest))
    assert overlay_of(repo, repo.view(), known) is known, "a known redaction is not read again"


def test_an_older_view_does_not_bring_anything_back(repo: Repository) -> None:
    """Catches: a thread that saw an older view taking a redaction away again."""
    older = repo.view()
    published(repo, made(None, {"a": ("b", [])}))
    follower = Follower()
    follower.follow(repo, repo.view())
    follower.follow(repo, View(older.n, older.digest, older.refs))
    assert follower.overlay.redirect and repo.objects.redirect
