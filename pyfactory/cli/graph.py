"""Lines beside a list of commits that show which follows which, as `git log --graph` draws them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyfactory.core.digest import Digest
    from pyfactory.repo.objects import Commit

__all__ = ["drawn"]


def drawn(commits: Sequence[Commit]) -> Iterator[tuple[Commit, str, str, list[str]]]:
    """Yield each commit with what to print before its first line, before its other lines, and after it.

    Args:
        commits: Children before their parents.
    """
    lanes: list[Digest] = []  # the commit that each line leads to
    for commit in commits:
        if commit.digest not in lanes:
            lanes.append(commit.digest)
        at = lanes.index(commit.digest)
        first = "".join("* " if lane == at else "| " for lane in range(len(lanes)))
        after = list(_advance(lanes, at, commit.parents))
        yield commit, first, "| " * len(lanes) if lanes else "", after


def _advance(lanes: list[Digest], at: int, parents: Sequence[Digest]) -> Iterator[str]:
    """Let the line of a commit lead to its parents; yield what that looks like."""
    if not parents:
        yield from _ended(lanes, at)
        return
    lanes[at] = parents[0]
    for parent in parents[1:]:
        if parent not in lanes:
            yield "| " * at + "|\\ " + "\\ " * (len(lanes) - at - 1)
            lanes.insert(at + 1, parent)
    while lanes.count(parents[0]) > 1:
        left = lanes.index(parents[0])
        right = lanes.index(parents[0], left + 1)
        yield "| " * left + "|" + "_|" * (right - left - 1) + "/ " + "/ " * (len(lanes) - right - 1)
        del lanes[right]


def _ended(lanes: list[Digest], at: int) -> Iterator[str]:
    if at + 1 < len(lanes):
        yield "| " * at + " /" * (len(lanes) - at - 1)
    del lanes[at]
