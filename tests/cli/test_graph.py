"""The graph beside `pyfactory log`."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from pyfactory.cli.graph import drawn
from pyfactory.core.digest import Digest, digest_of
from pyfactory.repo.objects import Commit

TREE = digest_of(b"tree")


def commit(label: str, *parents: Commit) -> Commit:
    return Commit(TREE, tuple(parent.digest for parent in parents), "a", "2026-01-01T00:00:00Z", label)


def picture(commits: Sequence[Commit]) -> list[str]:
    lines = []
    for each, first, _, after in drawn(commits):
        lines += [first + each.message, *after]
    return [line.rstrip() for line in lines]


def test_a_straight_line_has_one_lane() -> None:
    one = commit("one")
    two = commit("two", one)
    assert picture([two, one]) == ["* two", "* one"]


def test_a_merge_forks_and_joins() -> None:
    """Drawn by hand. Catches a lane that is not closed where the lines meet."""
    root = commit("root")
    left, right = commit("left", root), commit("right", root)
    merge = commit("merge", left, right)
    assert picture([merge, right, left, root]) == ["* merge", "|\\", "| * right", "* | left", "|/", "* root"]


def test_two_roots_and_a_lane_between() -> None:
    """Catches a join that jumps over a lane without saying so."""
    root, other = commit("root"), commit("other")
    a, b = commit("a", root), commit("b", root)
    inner = commit("inner", a, other)
    top = commit("top", inner, b)
    assert picture([top, b, inner, a, other, root]) == [
        *("* top", "|\\", "| * b", "* | inner", "|\\ \\", "* | | a", "|_|/", "| * other", "* root")
    ]


@given(st.lists(st.lists(st.integers(0, 5), max_size=3), min_size=1, max_size=14))
def test_any_history_can_be_drawn(shape: list[list[int]]) -> None:
    """Each commit has one star in its own column; at the end every line has led to its commit."""
    commits: list[Commit] = []
    for number, behind in enumerate(shape):
        parents = {commits[-1 - back].digest: commits[-1 - back] for back in behind if back < len(commits)}
        commits.append(commit(str(number), *parents.values()))
    lines = list(drawn(commits[::-1]))
    assert [each.message for each, *_ in lines] == [each.message for each in commits[::-1]]
    assert all(first.count("*") == 1 for _, first, _, _ in lines)
    waiting: set[Digest] = set()
    for each, _, rest, _ in lines:
        waiting = (waiting - {each.digest}) | set(each.parents)
        assert rest.count("|") == len(waiting)
