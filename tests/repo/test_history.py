"""Ancestors and merge bases against the plain definitions."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfactory.core.canonical import encode
from pyfactory.core.digest import NO_DIGEST, Digest, digest_of
from pyfactory.errors import CorruptError
from pyfactory.repo.history import ancestors, is_ancestor, merge_base
from pyfactory.repo.objects import Commit
from pyfactory.store.content import Objects
from pyfactory.store.memory import MemoryStore
from pyfactory.store.wrap import Counted

START = datetime(2026, 1, 1, tzinfo=UTC)


def add(objects: Objects, minute: int, *parents: Digest, message: str = "") -> Digest:
    time = (START + timedelta(minutes=minute)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return objects.put(encode(Commit(NO_DIGEST, tuple(dict.fromkeys(parents)), "Ada", time, message).to_value()))


@st.composite
def histories(draw: st.DrawFn) -> list[tuple[int, list[int]]]:
    """(minute, parents by number) of each commit; clocks that stand still or run backwards are among them."""
    size = draw(st.integers(1, 14))
    skew = draw(st.sampled_from([0, 1, 40]))
    return [
        (
            draw(st.integers(-skew, skew)) + number * draw(st.sampled_from([0, 1, 10])),
            draw(st.lists(st.integers(max(0, number - 5), number - 1), max_size=2)) if number else [],
        )
        for number in range(size)
    ]


def plain(history: list[tuple[int, list[int]]]) -> list[set[int]]:
    """Each commit's ancestors and itself."""
    reached: list[set[int]] = []
    for number, (_, parents) in enumerate(history):
        reached.append({number}.union(*(reached[parent] for parent in parents)))
    return reached


@given(histories())
def test_answers_are_those_of_the_definitions(history: list[tuple[int, list[int]]]) -> None:
    """Catches a base that another common ancestor descends from, one that is missed, one that depends on the order of
    its arguments, and walks that believe the clocks."""
    objects = Objects(MemoryStore())
    names: list[Digest] = []
    for number, (minute, parents) in enumerate(history):
        names.append(add(objects, minute, *(names[parent] for parent in parents), message=str(number)))
    reached = plain(history)
    for a in range(len(history)):
        walked = [commit.digest for commit in ancestors(objects, names[a], "the test")]
        assert walked[0] == names[a] and sorted(walked) == sorted(names[each] for each in reached[a])
        for b in range(len(history)):
            assert is_ancestor(objects, names[a], names[b]) == (a in reached[b])
            common = reached[a] & reached[b]
            best = [each for each in common if not any(each in reached[other] for other in common - {each})]
            expected = min(((-history[each][0], names[each]) for each in best), default=(0, None))[1]
            assert merge_base(objects, names[a], names[b]) == expected


def test_few_commits_are_read() -> None:
    """Catches walks down to the first commit: here they would read a thousand."""
    store = Counted(MemoryStore())
    objects = Objects(store)
    old = main = add(objects, 0)
    for minute in range(1, 1000):
        main = add(objects, minute * 10, main)
    base = ours = theirs = main
    for minute in range(1, 4):
        ours = add(objects, 9990 + minute, ours, message="ours")
        theirs = add(objects, 9995 + minute, theirs, message="theirs")
    store.calls.clear()
    assert merge_base(objects, ours, theirs) == merge_base(objects, theirs, ours) == base
    assert store.calls["get"] <= 20
    store.calls.clear()
    assert merge_base(objects, base, ours) == base and is_ancestor(objects, base, ours)
    assert not is_ancestor(objects, ours, theirs)
    assert store.calls["get"] <= 200  # a day of commits, since clocks may differ by as much
    assert is_ancestor(objects, old, ours)


def test_unrelated_commits_have_no_base() -> None:
    objects = Objects(MemoryStore())
    one, other = add(objects, 0, message="one"), add(objects, 1, message="other")
    assert merge_base(objects, one, other) is None
    assert not is_ancestor(objects, one, other)
    both = add(objects, 2, one, other)
    assert (merge_base(objects, both, one), merge_base(objects, other, both)) == (one, other)


def test_later_commits_come_first() -> None:
    objects = Objects(MemoryStore())
    first = add(objects, 0)
    left, right = add(objects, 2, first), add(objects, 3, first)
    last = add(objects, 5, left, right)
    assert [commit.digest for commit in ancestors(objects, last, "x")] == [last, right, left, first]


def test_what_is_missing_or_impossible_is_corrupt() -> None:
    objects = Objects(MemoryStore())
    gone = digest_of(b"gone")
    child = add(objects, 0, gone)
    with pytest.raises(CorruptError, match=f"{gone}, named by commit {child}"):
        list(ancestors(objects, child, "the test"))
    with pytest.raises(CorruptError, match=gone):
        merge_base(objects, child, add(objects, 1, child, gone))
    wrong = objects.put(encode(Commit(NO_DIGEST, (), "Ada", "2026-13-01T00:00:00Z", "").to_value()))
    with pytest.raises(CorruptError, match="2026-13-01"):
        list(ancestors(objects, wrong, "the test"))
