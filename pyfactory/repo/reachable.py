"""Reachability: every object that somebody may still ask for, found from the refs, the log, the runs and the leases.

    branch, tag -> commits -> trees -> tables -> manifest nodes -> shards and their sides
                      |-> what made them: sources, job, the commits that a job read
                      `-> artifacts of the tables -> ranges of packing tables
    rule, keys, redaction, refusal -> the object, also of earlier operations: they are the record of who allowed what
      `-> evaluation sets that gates of a rule need, also of earlier rules: whoever goes back to one finds them

A shard that a redaction replaces is not reachable, its replacement is. A digest costs 32 bytes; nodes and commits,
which are visited once, cost about 150.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from pyfactory.core.canonical import Value, decode
from pyfactory.core.digest import NO_DIGEST, Digest
from pyfactory.core.progress import Progress, no_progress
from pyfactory.errors import CorruptError, NotFoundError
from pyfactory.repo.consumed import commits_of_run, run_starts
from pyfactory.repo.home import Home
from pyfactory.repo.listing import EMPTY, WIDTH, Digests, DigestSet, contains, digests_of, packed_digests
from pyfactory.repo.names import BRANCH, TAG
from pyfactory.repo.objects import Commit, Tree
from pyfactory.repo.operation import View, utc_moment
from pyfactory.repo.rules import RULE
from pyfactory.shard.node import parse_node
from pyfactory.shard.packing_format import decode_index, packing_artifacts
from pyfactory.store.base import Store
from pyfactory.store.content import Objects

__all__ = ["GC", "KINDS", "REDACTION", "Overlaid", "Reachable", "digests_in", "overlaid"]

GC = "gc/"
"""What the full names of a sweep's own refs start with."""

REDACTION = "redaction/"
"""What the full name of a redaction starts with."""

KINDS = ("shards", "sides", "nodes", "commits", "trees", "artifacts", "other")
"""Kinds of objects that are told apart."""

_MADE_FROM = ("sources", "skipped_list", "job")  # fields of a commit's `made_by` that name objects
_NAMED = re.compile(r"(?:[^=]*=)?([0-9a-f]{64})")  # also `name=digest`, as options of gates have it
_LONGEST_DOCUMENT = 1 << 20


def digests_in(value: Value) -> Iterator[Digest]:
    """Yield every digest that a text in a stored value is, or names as `name=digest`."""
    if isinstance(value, str):
        if match := _NAMED.fullmatch(value):
            yield Digest(match[1])
    elif isinstance(value, Mapping):
        for key, inner in value.items():
            yield from digests_in(key)
            yield from digests_in(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from digests_in(inner)


@dataclass(frozen=True, slots=True)
class Overlaid:
    """What the redactions of a view replace.

    Attributes:
        old: Shards and sides that are replaced, and that nobody reads who began before that.
        new: What stands for anything that is replaced.
        spared: Shards and sides that are replaced, but may be read still by who began before that.
    """

    old: Digests
    new: Digests
    spared: int


def overlaid(home: Home, view: View, began: datetime | None) -> Overlaid:
    """Return what the redactions of a view replace; one look at the refs if there are none.

    Args:
        home: The repository.
        view: The refs that count.
        began: When the oldest of those began who are at work now, None if nobody is.
    """
    if not any(ref.startswith(REDACTION) for ref in view.refs):
        return Overlaid(EMPTY, EMPTY, 0)
    from pyfactory.repo.redaction import overlay_of  # here: most repositories need none of it

    overlay = overlay_of(home, view)
    old: set[Digest] = set()
    new: set[Digest] = set(overlay.redirect.values())
    for digest, redaction in overlay.redactions.items():
        if began is None or utc_moment(redaction.time, f"redaction {digest}") < began:
            old.update(redaction.shards, redaction.sides)
        new.update(replacement.shard for replacement in redaction.shards.values())
        new.update(redaction.sides.values())
    old &= overlay.redirect.keys()  # a shard that held nothing of it stands for itself
    packed = [digests_of(packed_digests(digests)) for digests in (old, new)]
    return Overlaid(packed[0], packed[1], len(overlay.redirect.keys() - old))


class Reachable:
    """The objects that are reachable from what it was told to mark. It only grows.

    Args:
        store: The bytes of the repository, without redactions.
        progress: Told of each commit, as stage `mark`.
    """

    def __init__(self, store: Store, progress: Progress = no_progress) -> None:
        self._objects = Objects(store)
        self._progress = progress
        self._found = {kind: DigestSet() for kind in KINDS}
        self._commits: set[bytes] = set()
        self._trees: set[bytes] = set()
        self._documents: set[Digest] = set()
        self._nodes: set[bytes] = set()
        self._runs: set[str] = set()
        self._history = -1  # the log entry up to which the history is marked
        self._noted: list[Digest] = []  # commits that may be missing, marked after those that may not

    def mark_view(self, view: View) -> None:
        """Mark what the refs of a view lead to.

        Raises:
            CorruptError: Something that they need is missing or damaged: nobody knows what it would lead to.
        """
        for ref, digest in sorted(view.refs.items()):
            if ref.startswith((BRANCH, TAG)):
                self.mark_commit(digest, f"{ref}")
            elif ref.startswith(GC):
                self.keep([digest])
            else:
                self._mark_document(ref, digest, ref)

    def mark_history(self, home: Home, view: View, since: datetime) -> None:
        """Mark what operations after a moment moved from and to, so that they can be undone, and the record for ever.

        What an earlier sweep with a shorter grace period has deleted is gone, and no error.
        """
        for operation in home.oplog.history(view):
            if operation.n <= self._history:
                break
            young = utc_moment(operation.time, f"{home.url}: log entry {operation.n}") > since
            for change in operation.changes:
                named = [digest for digest in (change.old, change.new) if digest is not None]
                if not change.ref.startswith((BRANCH, TAG, GC)):
                    self.keep(named)
                    for digest in named if change.ref.startswith(RULE) else ():
                        self._mark_document(change.ref, digest)
                elif young and not change.ref.startswith(GC):
                    self._noted += named
        self._history = view.n

    def mark_runs(self, store: Store) -> None:
        """Mark what training runs consumed: for ever, as far as it is in this repository."""
        for key, value in run_starts(store, self._runs):
            self._runs.add(key)
            self.keep(digests_in(value))
            for commit in commits_of_run(value):
                self._note_commit(commit)

    def mark_commit(self, digest: Digest, named_by: str = "") -> None:
        """Mark a commit and all that it leads to.

        Args:
            digest: The commit.
            named_by: What names it and makes it an error that something is missing; "" lets that pass.
        """
        waiting = [digest]
        for digest, content in self._unmarked(waiting, self._commits, named_by):
            what = f"commit {digest}"
            commit = Commit.from_value(decode(content, what), what)
            self._commits.add(bytes.fromhex(digest))
            self._progress("mark", len(self._commits), None)
            self._found["commits"].add(digest)
            made_by = commit.made_by or {}
            self.keep(digests_in([made_by, list(commit.gates)]))
            for named in digests_in([made_by.get(name) for name in _MADE_FROM]):
                self._found["artifacts"].add(named)
            self._mark_tree(commit.tree, named_by and what)
            waiting += commit.parents
            for source in (made_by.get("inputs"), made_by.get("took")):
                for used in source if isinstance(source, list) else ():
                    self._note_commit(used.get("commit") if isinstance(used, dict) else None)

    def mark_manifest(self, root: Digest, named_by: str = "") -> None:
        """Mark the nodes, shards and sides of a manifest; see `mark_commit`."""
        waiting = [root]
        for digest, content in self._unmarked(waiting, self._nodes, named_by):
            node = parse_node(content, f"the manifest node {digest}")
            self._nodes.add(bytes.fromhex(digest))
            self._found["nodes"].add(digest)
            if node.level:
                packed = node.records["child"].tobytes()
                waiting += [Digest(packed[at : at + WIDTH].hex()) for at in range(0, len(packed), WIDTH)]
            else:
                self._found["shards"].add_packed(node.records["shard"].tobytes())
                self._found["sides"].add_packed(node.records["side"].tobytes())

    def keep(self, digests: Iterable[Digest]) -> None:
        """Mark objects that lead nowhere; whether there are such objects does not matter."""
        for digest in digests:
            self._found["other"].add(digest)

    def of_kind(self, kind: str) -> Digests:
        """Return the objects of a kind, one of `KINDS`, without regard to redactions. `other` may repeat the rest."""
        found = self._found[kind].array()
        absent = digests_of(bytes.fromhex(NO_DIGEST))
        return found[~contains(absent, found)]

    def array(self, overlay: Overlaid) -> Digests:
        """Return everything reachable, through the redactions."""
        while self._noted:
            self.mark_commit(self._noted.pop())
        packed = b"".join([*(self.of_kind(kind).tobytes() for kind in KINDS), overlay.new.tobytes()])
        found = digests_of(packed)
        return found[~contains(overlay.old, found)]

    def has_commit(self, digest: Digest) -> bool:
        """Tell whether a commit was marked."""
        return bytes.fromhex(digest) in self._commits

    def _mark_tree(self, digest: Digest, named_by: str) -> None:
        name = bytes.fromhex(digest)
        content = None if name in self._trees else self._get(digest, named_by)
        if content is None:
            return
        what = f"tree {digest}"
        tree = Tree.from_value(decode(content, what), what)
        self._trees.add(name)
        self._found["trees"].add(digest)
        for table, state in tree.tables.items():
            held_by = named_by and f"table {table!r} of {what}"
            for artifact in state.artifacts.values():
                self._found["artifacts"].add(artifact)
            for packing in packing_artifacts(state.artifacts).values():
                self._mark_packing(packing, held_by)
            self.mark_manifest(state.manifest, held_by)

    def _mark_packing(self, digest: Digest, named_by: str) -> None:
        """Mark the ranges of a packing table; see `mark_commit`."""
        content = None if digest in self._documents else self._get(digest, named_by)
        if content is not None:
            self._documents.add(digest)
            for entry in decode_index(content, f"the packing table {digest}").ranges:
                self._found["artifacts"].add(entry.digest)

    def _mark_document(self, ref: str, digest: Digest, named_by: str = "") -> None:
        """Mark an object of the rules and what it names directly; see `mark_commit`."""
        self.keep([digest])
        content = None if digest in self._documents else self._get(digest, named_by)
        if content is None:
            return
        self._documents.add(digest)
        if ref.startswith(RULE) or (content[:1] == b"{" and len(content) <= _LONGEST_DOCUMENT):
            self.keep(digests_in(decode(content, f"object {digest} of {ref}")))

    def _note_commit(self, commit: object) -> None:
        if isinstance(commit, str) and "=" not in commit:
            self._noted += digests_in(commit)

    def _unmarked(self, waiting: list[Digest], marked: set[bytes], named_by: str) -> Iterator[tuple[Digest, bytes]]:
        """Yield what waits and is not marked, with its bytes, until nothing waits; who reads it marks it."""
        while waiting:
            digest = waiting.pop()
            content = None if bytes.fromhex(digest) in marked else self._get(digest, named_by)
            if content is not None:
                yield digest, content

    def _get(self, digest: Digest, named_by: str) -> bytes | None:
        """Return the bytes of an object, None if it is missing and nothing that must be whole names it."""
        try:
            return self._objects.get(digest)
        except NotFoundError as error:
            if not named_by:
                return None
            raise CorruptError(
                f"{self._objects.store.url}: {digest}, named by {named_by}, is missing",
                hint="put it back from a copy; pyfactory verify lists what else is wrong",
            ) from error
