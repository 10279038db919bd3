"""Commits and what they descend from.

Clocks order the walks, later commits first, so that few are read. They decide no answer, as long as no commit says a
time more than a day before that of one it follows.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from datetime import datetime
from itertools import count

from pyfactory.core.digest import Digest
from pyfactory.errors import CorruptError
from pyfactory.repo.objects import Commit, load_commit
from pyfactory.store.content import Objects

__all__ = ["ancestors", "is_ancestor", "merge_base"]

_SKEW_SECONDS = 86_400

_OURS, _THEIRS, _BEYOND = 1, 2, 4  # from where a commit is reached; behind a common ancestor
_COMMON = _OURS | _THEIRS


def ancestors(objects: Objects, digest: Digest, named_by: str) -> Iterator[Commit]:
    """Yield a commit and all its ancestors, each once, later ones first.

    Args:
        objects: Where they are.
        digest: The commit.
        named_by: What names it, for the CorruptError when it is missing.
    """
    waiting = _Waiting(objects)
    waiting.push(digest, named_by)
    met = {digest}
    while waiting:
        latest, commit = waiting.pop()
        yield commit
        for parent in commit.parents:
            if parent not in met:
                met.add(parent)
                waiting.push(parent, f"commit {latest}")


def is_ancestor(objects: Objects, old: Digest, new: Digest) -> bool:
    """Tell whether a commit is another one or an ancestor of it. Reads the commits since the earlier one."""
    if old == new:
        return True
    earliest = _seconds(load_commit(objects, old, "what is asked for"), old) - _SKEW_SECONDS
    for commit in ancestors(objects, new, "what is asked for"):
        if old in commit.parents:
            return True
        if _seconds(commit, new) < earliest:
            return False
    return False


def merge_base(objects: Objects, a: Digest, b: Digest) -> Digest | None:
    """Return the best common ancestor of two commits (which may be one of them), None if they share none.

    It is one from which no other common ancestor descends; of several the latest, then that of the smallest digest. The
    order of the two does not matter. Reads the commits since then.
    """
    found = _common(objects, a, b)
    best = [
        digest
        for digest in found
        if not any(other != digest and is_ancestor(objects, digest, other) for other in found)
    ]
    return min(best, key=lambda digest: (-_seconds(found[digest], digest), digest), default=None)


def _common(objects: Objects, a: Digest, b: Digest) -> dict[Digest, Commit]:
    """Return common ancestors, all the best ones among them, and rarely one from which another descends.

    Every path from `a` or `b` is followed up to a common ancestor. Beyond that it is followed only as long as others
    are on their way, which may be going to meet it.
    """
    marks: dict[Digest, int] = {}
    open_ends: set[Digest] = set()
    waiting = _Waiting(objects)

    def mark(digest: Digest, more: int, named_by: str) -> None:
        old = marks.get(digest, 0)
        if old | more != old:
            marks[digest] = old | more
            waiting.push(digest, named_by)
            (open_ends.discard if marks[digest] & _BEYOND else open_ends.add)(digest)

    mark(a, _OURS, "what is merged")
    mark(b, _THEIRS, "what is merged")
    found: dict[Digest, Commit] = {}
    while open_ends:
        digest, commit = waiting.pop()
        open_ends.discard(digest)
        common = marks[digest] & _COMMON == _COMMON
        if common:
            found[digest] = commit
        for parent in commit.parents:
            mark(parent, marks[digest] | (_BEYOND if common else 0), f"commit {digest}")
    return {digest: commit for digest, commit in found.items() if not marks[digest] & _BEYOND}


class _Waiting:
    """Commits to be looked at, the latest first; of one second, the one that came first."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._heap: list[tuple[int, int, Digest]] = []
        self._arrivals = count()
        self._commits: dict[Digest, Commit] = {}

    def __bool__(self) -> bool:
        return bool(self._heap)

    def push(self, digest: Digest, named_by: str) -> None:
        """Add a commit, read if it was never here; CorruptError if it is missing or none."""
        commit = self._commits.get(digest) or load_commit(self._objects, digest, named_by)
        self._commits[digest] = commit
        heapq.heappush(self._heap, (-_seconds(commit, digest), next(self._arrivals), digest))

    def pop(self) -> tuple[Digest, Commit]:
        """Take the latest."""
        digest = heapq.heappop(self._heap)[-1]
        return digest, self._commits[digest]


def _seconds(commit: Commit, digest: Digest) -> int:
    try:
        return int(datetime.fromisoformat(commit.time).timestamp())
    except (ValueError, OverflowError) as error:
        raise CorruptError(f"commit {digest} says the time {commit.time}, which there is not") from error
