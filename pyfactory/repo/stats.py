"""Statistics: how much of what a repository holds, and who needs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pyfactory.core.progress import Progress, no_progress
from pyfactory.repo.home import Home
from pyfactory.repo.listing import contains, digests_of
from pyfactory.repo.names import BRANCH, TAG
from pyfactory.repo.objects import load_commit, load_tree
from pyfactory.repo.operation import View
from pyfactory.repo.reachable import KINDS, Reachable, overlaid
from pyfactory.repo.resolve import resolve
from pyfactory.repo.stored import Stored, folders, stored_objects
from pyfactory.repo.swept import CONDEMNED, SWEEP, load_listing

__all__ = ["Stats", "TableStats", "stats"]

_FOLDERS = ("log", "summary", "runs", "memo", "sketch", "index", "signatures", "leases")


@dataclass(frozen=True, slots=True)
class TableStats:
    """One table at one commit.

    Attributes:
        rows: Its rows.
        tokens: Its tokens; 0 in a raw table.
        nbytes: Bytes of its content shards.
        shards: Its content shards.
    """

    rows: int
    tokens: int
    nbytes: int
    shards: int

    @property
    def mean_shard(self) -> int:
        """Mean bytes of a content shard, 0 if there is none."""
        return self.nbytes // self.shards if self.shards else 0


@dataclass(frozen=True, slots=True)
class Stats:
    """What a repository holds.

    Attributes:
        branches: Number of branches.
        tags: Number of tags.
        commits: Commits that a branch or tag leads to.
        operations: Entries of the log.
        kinds: Number and bytes by kind: what branches and tags lead to, `unreachable` (of them or of the record:
            some of it is kept for undo, runs and readers), then the caches, the log and the rest.
        tables: The tables at the ref, by name.
        alone: Bytes that only this branch leads to, by branch.
        shared: Bytes that several branches lead to.
        condemned: Number and bytes of what the last sweep condemned, and may be deleted after the grace period.
        sweeping: Whether a sweep is deleting, or was cut off.
    """

    branches: int
    tags: int
    commits: int
    operations: int
    kinds: Mapping[str, tuple[int, int]]
    tables: Mapping[str, TableStats]
    alone: Mapping[str, int]
    shared: int
    condemned: tuple[int, int]
    sweeping: bool


def stats(home: Home, ref: str = "main", *, progress: Progress = no_progress) -> Stats:
    """Count what a repository holds. Reads all commits and manifests, no shards; memory as of `gc`.

    Args:
        home: The repository.
        ref: Whose tables are counted; `main` may have no commit yet.
        progress: Told as stages `list` and `mark`.

    Raises:
        NotFoundError: There is no such ref.
        CorruptError: Something that branches or tags lead to is missing or damaged.
    """
    view = home.view()
    tables = _tables(home, view, ref)  # first: a wrong name should not take minutes to be found
    stored = stored_objects(home.store, progress)
    marked = Reachable(home.store, progress)
    marked.mark_view(view)
    kinds = _kinds(home, view, marked, stored)
    alone, shared = _shares(home, view, stored)
    listing = load_listing(home, view, CONDEMNED)
    return Stats(
        branches=sum(name.startswith(BRANCH) for name in view.refs),
        tags=sum(name.startswith(TAG) for name in view.refs),
        commits=len(marked.of_kind("commits")),
        operations=view.n + 1,
        kinds=kinds,
        tables=tables,
        alone=alone,
        shared=shared,
        condemned=(0, 0) if listing is None else (len(listing.digests), listing.nbytes),
        sweeping=SWEEP in view.refs,
    )


def _tables(home: Home, view: View, ref: str) -> dict[str, TableStats]:
    if ref == "main" and BRANCH + ref not in view.refs:
        return {}
    commit = resolve(home.oplog, home.objects, view, ref, strict=False).commit
    tree = load_tree(home.objects, load_commit(home.objects, commit, ref).tree, f"commit {commit}")
    return {
        name: TableStats(state.rows, state.tokens, state.nbytes, state.shards)
        for name, state in sorted(tree.tables.items())
    }


def _kinds(home: Home, view: View, marked: Reachable, stored: Stored) -> dict[str, tuple[int, int]]:
    kinds = {}
    rest = stored
    # A redaction names its replacements, so they are among the other objects, too.
    found = {kind: marked.of_kind(kind) for kind in KINDS if kind != "other"}
    found |= {"replacements": overlaid(home, view, None).new, "other": marked.of_kind("other")}
    for kind, digests in found.items():
        some = rest.among(digests)
        kinds[kind] = (len(some), some.total)
        rest = rest.without(some.digests)
    kinds["unreachable"] = (len(rest), rest.total)
    for name, number, nbytes in folders(home.store, _FOLDERS):
        kinds[name] = (number, nbytes)
    return kinds


def _shares(home: Home, view: View, stored: Stored) -> tuple[dict[str, int], int]:
    """Return bytes that only one branch leads to, by branch, and bytes that several lead to."""
    times = np.zeros(len(stored), np.int32)
    reached = {}
    for ref, digest in sorted(view.refs.items()):
        if ref.startswith(BRANCH):
            marked = Reachable(home.store)
            marked.mark_commit(digest, ref)
            packed = b"".join(marked.of_kind(kind).tobytes() for kind in KINDS)
            reached[ref.removeprefix(BRANCH)] = contains(digests_of(packed), stored.digests)
            times += reached[ref.removeprefix(BRANCH)]
    alone = {name: int(stored.sizes[mask & (times == 1)].sum()) for name, mask in reached.items()}
    return alone, int(stored.sizes[times > 1].sum())
