"""Which commit made a table, and what it made it from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pyfactory.core.digest import Digest, parse_digest
from pyfactory.errors import CorruptError
from pyfactory.repo.fields import sound
from pyfactory.repo.home import Home
from pyfactory.repo.objects import Commit, TableState, load_commit, load_tree
from pyfactory.repo.resolve import Resolved
from pyfactory.repo.version import Version

__all__ = ["jobs_behind", "maker_of"]


def maker_of(home: Home, commit: Digest, table: str) -> tuple[Commit, Digest]:
    """Return the commit that gave a table the rows it has at a commit, and its digest. O(commits since)."""
    manifest = _state(home, load_commit(home.objects, commit, home.url), table, commit)
    while True:
        found = load_commit(home.objects, commit, home.url)
        parents = [(parent, load_commit(home.objects, parent, f"commit {commit}")) for parent in found.parents]
        same = [parent for parent, before in parents if _state(home, before, table, parent) == manifest]
        if manifest is None or not same:
            return found, commit
        commit = same[0]


def jobs_behind(version: Version) -> Iterator[tuple[Mapping[str, Any], Version]]:
    """Yield the jobs that a table came through, each with a table that it read, nearest first.

    Merges are followed to both sides, tables taken from other branches to where they were. Each is (`made_by` of the
    commit, the input).

    Raises:
        CorruptError: A commit on the way is missing or damaged.
    """
    home = version.repository
    waiting, met = [(version.commit, version.table)], {(version.commit, version.table)}
    while waiting:
        commit, table = waiting.pop(0)
        maker, digest = maker_of(home, commit, table)
        made_by: Mapping[str, Any] = maker.made_by or {}
        with sound(f"{home.url}: commit {digest}"):
            before = _made_from(made_by, maker.parents, table)
        for used in before:
            if used not in met:
                met.add(used)
                waiting.append(used)
                if made_by.get("kind") == "job":
                    yield made_by, _version(home, *used)


def _made_from(made_by: Mapping[str, Any], parents: Sequence[Digest], table: str) -> list[tuple[Digest, str]]:
    kind = made_by.get("kind")
    if kind == "job" and made_by["output"] == table:
        return [(parse_digest(used["commit"]), used["table"]) for used in made_by["inputs"]]
    if kind == "commit" and (took := [used for used in made_by["took"] if used["table"] == table]):
        return [(parse_digest(used["commit"]), table) for used in took]
    return [(parent, table) for parent in parents] if kind == "merge" else []


def _version(home: Home, commit: Digest, table: str) -> Version:
    tree = load_tree(home.objects, load_commit(home.objects, commit, home.url).tree, f"commit {commit}")
    if table not in tree.tables:
        raise CorruptError(f"{home.url}: commit {commit} has no table {table!r}, which a job has read there")
    return Version(home, table, tree.tables[table], Resolved(commit, commit, commit))


def _state(home: Home, commit: Commit, table: str, digest: Digest) -> Digest | None:
    """Return the manifest of a table at a commit, None if it has none."""
    state: TableState | None = load_tree(home.objects, commit.tree, f"commit {digest}").tables.get(table)
    return None if state is None else state.manifest
