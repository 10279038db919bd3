"""Where records stand, whoever may still ask for them: in all tables of all commits, and in what tasks have left.

Searched are the commits that branches and tags lead to, those that the log ever named (a rollback may be undone), and
the parts in completion marks. Shared nodes and sides are looked at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from pyfactory.core.canonical import decode
from pyfactory.core.digest import NO_DIGEST, Digest
from pyfactory.core.progress import Progress, no_progress
from pyfactory.errors import CorruptError, NotFoundError
from pyfactory.repo.home import Home
from pyfactory.repo.names import BRANCH, TAG
from pyfactory.repo.objects import Commit, Tree
from pyfactory.repo.operation import View
from pyfactory.repo.threads import in_order
from pyfactory.shard.layout import KEY_BYTES, key_of_id
from pyfactory.shard.memo import MEMO, Result, decode_result, task_of_key
from pyfactory.shard.node import parse_node
from pyfactory.shard.reader import Side, open_side
from pyfactory.shard.tree import Part, entries_of

__all__ = ["Everything", "Rows", "Table", "find_rows", "keys_of", "marks", "opened_side"]

Rows = NDArray[np.int64]

_THREADS = 8


@dataclass(frozen=True, slots=True)
class Table:
    """A manifest that some commit holds.

    Attributes:
        name: Name of the table, one of them if it has several.
        needed: A branch or tag leads to it: nothing of it may be missing.
    """

    name: str
    needed: bool


def keys_of(record_ids: Sequence[str]) -> NDArray[np.void]:
    """Return the keys of record ids as `Side.rows_of` takes them: V16[m]."""
    return np.frombuffer(b"".join(map(key_of_id, record_ids)), f"V{KEY_BYTES}")


def marks(home: Home) -> Iterator[tuple[str, Result]]:
    """Yield the key of each completion mark and the result in it; one that cannot be read is believed by nobody."""
    for key, _ in home.store.list(MEMO):
        with suppress(CorruptError, NotFoundError):
            yield key, decode_result(home.store.get(key), task_of_key(key))


def opened_side(home: Home, digest: Digest) -> Side:
    """Open a side shard, verified, as redactions leave it."""
    return open_side(home.objects.map(digest, verify=True), f"the side {digest} in {home.url}")


class Everything:
    """All tables of all commits, and all completion marks, as they were at a view.

    Args:
        home: The repository; its objects are seen through its redactions.
        view: The refs that count.
    """

    def __init__(self, home: Home, view: View) -> None:
        self.home = home
        self.view = view
        self.artifacts: dict[Digest, str] = {}  # objects that tables name besides their shards; known with `manifests`

    @cached_property
    def commits(self) -> Mapping[Digest, tuple[Commit, bool]]:
        """All commits, each with whether it is needed; what only the log names may have been swept."""
        found: dict[Digest, tuple[Commit, bool]] = {}
        named = [digest for ref, digest in self.view.refs.items() if ref.startswith((BRANCH, TAG))]
        changes = (change for operation in self.home.oplog.history(self.view) for change in operation.changes)
        moved = (change for change in changes if change.ref.startswith((BRANCH, TAG)))
        past = [digest for change in moved for digest in (change.old, change.new) if digest is not None]
        for waiting, needed in ((named, True), (past, False)):
            while waiting:
                digest = waiting.pop()
                if digest not in found and (content := self.read(digest, needed, "a commit")) is not None:
                    commit = Commit.from_value(decode(content, f"commit {digest}"), f"commit {digest}")
                    found[digest] = commit, needed
                    waiting += commit.parents
        return found

    @cached_property
    def manifests(self) -> Mapping[Digest, Table]:
        """The roots of all manifests."""
        found: dict[Digest, Table] = {}
        trees = {commit.tree: needed for commit, needed in reversed([*self.commits.values()])}
        for digest, needed in sorted(trees.items(), key=lambda tree: not tree[1]):
            content = self.read(digest, needed, "a tree")
            if content is not None:
                for name, state in Tree.from_value(decode(content, f"tree {digest}"), f"tree {digest}").tables.items():
                    found.setdefault(state.manifest, Table(name, needed))
                    self.artifacts |= dict.fromkeys(state.artifacts.values(), name)
        return found

    def parts(self) -> Iterator[tuple[str, Part, bool]]:
        """Yield every part once: a table or completion mark that holds it, itself, and whether it is needed.

        Digests are those of what is read today, whatever manifests say. Memory: about 150 bytes a part.
        """
        seen: set[bytes] = set()
        objects = self.home.objects
        for holder, part, needed in chain(self._in_tables(), self._in_marks()):
            now = replace(part, shard=objects.current(part.shard), side=objects.current(part.side))
            name = bytes.fromhex(now.shard + now.side)
            if name not in seen:
                seen.add(name)
                yield holder, now, needed

    def read(self, digest: Digest, needed: bool, what: str) -> bytes | None:
        """Return the bytes of an object, None if it is gone and nothing needs it."""
        try:
            return self.home.objects.get(digest)
        except NotFoundError as error:
            if not needed:
                return None
            hint = "put it back from a copy of the repository; pyfactory verify lists what else is wrong"
            raise CorruptError(f"{self.home.url}: {what}, {digest}, is missing", hint=hint) from error

    def _in_tables(self) -> Iterator[tuple[str, Part, bool]]:
        met: set[bytes] = set()
        for root, table in self.manifests.items():
            waiting = [root]
            while waiting:
                digest = waiting.pop()
                name = bytes.fromhex(digest)
                if name in met or (content := self.read(digest, table.needed, "a manifest node")) is None:
                    continue
                met.add(name)
                node = parse_node(content, f"the manifest node {digest}")
                if node.level:
                    waiting += [node.child(index) for index in range(len(node.records))][::-1]
                else:
                    yield from ((table.name, entry.part, table.needed) for entry in entries_of(node))

    def _in_marks(self) -> Iterator[tuple[str, Part, bool]]:
        for key, result in self._marked:
            yield from ((key, part, False) for part in result.parts)

    @cached_property
    def _marked(self) -> list[tuple[str, Result]]:
        return [*marks(self.home)]


def find_rows(
    everything: Everything, keys: NDArray[np.void], progress: Progress = no_progress
) -> dict[Digest, tuple[str, Rows]]:
    """Return the side shards that hold some of the keys: what holds the side (a table), and the rows, ascending.

    Each side is opened once, some at a time. O(sides + rows found).
    """
    found: dict[Digest, tuple[str, Rows]] = {}
    looking = partial(_rows_in, everything, keys)
    for count, (holder, digest, rows) in enumerate(in_order(looking, _sides(everything), _THREADS), 1):
        if len(rows):
            found[digest] = holder, rows
        progress("search", count, None)
    return found


def _sides(everything: Everything) -> Iterator[tuple[str, Digest, bool]]:
    seen: set[bytes] = {bytes.fromhex(NO_DIGEST)}
    for holder, part, needed in everything.parts():
        name = bytes.fromhex(part.side)
        if name not in seen:
            seen.add(name)
            yield holder, part.side, needed


def _rows_in(
    everything: Everything, keys: NDArray[np.void], side: tuple[str, Digest, bool]
) -> tuple[str, Digest, Rows]:
    holder, digest, needed = side
    try:
        return holder, digest, opened_side(everything.home, digest).rows_of(keys)
    except NotFoundError as error:
        if not needed:
            return holder, digest, np.zeros(0, np.int64)
        hint = "put it back from a copy of the repository; pyfactory verify lists what else is wrong"
        raise CorruptError(
            f"{everything.home.url}: the side {digest} of table {holder!r} is missing", hint=hint
        ) from error
