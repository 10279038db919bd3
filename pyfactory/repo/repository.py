"""The repository: what a program does with versions of data, on top of objects and one operation log.

Tree and commit objects are stored first, then one log entry moves the branch: a kill at any instant leaves the old
view or the new one. A name becomes a commit once; what was asked and what it stood for are kept with the answer.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from pyfactory.core.canonical import Value, encode
from pyfactory.core.digest import NO_DIGEST, Digest, digest_of
from pyfactory.core.progress import Progress, no_progress
from pyfactory.errors import ConflictError, CorruptError, InvalidInputError, NotFoundError
from pyfactory.repo.format import check_writable, read_format, write_format
from pyfactory.repo.names import BRANCH, TAG, check_ref_name, check_table_name, check_text, suggestion
from pyfactory.repo.objects import Commit, TableState, Tree, load_commit, load_tree
from pyfactory.repo.operation import Change, Operation, View, utc_now
from pyfactory.repo.oplog import OperationLog, log_key
from pyfactory.repo.resolve import Resolved, resolve
from pyfactory.repo.transaction import check_expected, initialise, publish
from pyfactory.repo.verify import VerifyReport, verify
from pyfactory.repo.version import Version
from pyfactory.shard.manifest import Manifest
from pyfactory.store.base import Store, prove_put_if_absent
from pyfactory.store.content import Objects
from pyfactory.store.open import open_store

__all__ = ["CommitResult", "Repository"]

_MAIN = "main"
_LONGEST_WHY = 200


@dataclass(frozen=True, slots=True)
class CommitResult:
    """What `commit` did.

    Attributes:
        digest: The commit that the branch now names.
        created: False when the tables were that already, and nothing was written.
    """

    digest: Digest
    created: bool


class Repository:
    """Versions of tables in one store. Any number of threads may share one object, any number of machines one store.

    Use `Repository.create` and `Repository.open`.
    """

    def __init__(self, store: Store, writer_features: tuple[str, ...]) -> None:
        self.store = store
        self.objects = Objects(store)
        self.oplog = OperationLog(store)
        self._writer_features = writer_features

    @classmethod
    def create(cls, where: str | Path | Store, *, author: str = "unknown") -> Repository:
        """Make a repository in a store; one whose making was cut off is finished.

        Raises:
            ConflictError: There is a repository already.
            UnavailableError: The store has no put-if-absent, or it fails.
        """
        check_text(author, "author")
        store = open_store(where, create=True) if isinstance(where, str | Path) else where
        if _has_log(store):
            raise ConflictError(
                f"{store.url} already holds a pyfactory repository", hint="open it, or choose another place"
            )
        prove_put_if_absent(store)
        write_format(store)
        repository = cls(store, ())
        initialise(repository.oplog, author)
        return repository

    @classmethod
    def open(cls, where: str | Path | Store) -> Repository:
        """Open the repository in a store.

        Raises:
            NotFoundError: There is none.
            NewerFormatError: It needs a newer pyfactory.
        """
        try:
            store = open_store(where) if isinstance(where, str | Path) else where
        except NotFoundError as error:
            raise NotFoundError(f"no pyfactory repository at {where}", hint=f"pyfactory init {where}") from error
        writer_features = read_format(store)
        if not _has_log(store):
            raise NotFoundError(f"the repository at {store.url} was never finished", hint=f"pyfactory init {store.url}")
        return cls(store, writer_features)  # the log is not read yet: what is damaged must still open, to be verified

    @property
    def url(self) -> str:
        """Where the repository is; never contains credentials."""
        return self.store.url

    def view(self) -> View:
        """Return all refs as they are now."""
        return self.oplog.view()

    def operations(self) -> Iterator[Operation]:
        """Yield what happened, newest first."""
        return self.oplog.history(self.view())

    def branches(self) -> dict[str, Digest]:
        """Return the commit that each branch names now, by name; `main` is missing until its first commit."""
        return self._refs(BRANCH)

    def tags(self) -> dict[str, Digest]:
        """Return the commit that each tag names, by name."""
        return self._refs(TAG)

    def head(self, branch: str = _MAIN) -> Digest:
        """Return the commit that a branch names now, NO_DIGEST for `main` before its first commit."""
        return self._head(self.view(), branch) or NO_DIGEST

    def resolve(self, ref: str = _MAIN, strict: bool = False) -> Resolved:
        """Return the commit that a branch, tag or digest stands for; `strict` refuses what may move. See `resolve`."""
        return resolve(self.oplog, self.objects, self.view(), ref, strict=strict)

    def load(self, commit: Digest) -> Commit:
        """Return a commit by its digest."""
        return load_commit(self.objects, commit, self.url)

    def log(self, ref: str = _MAIN) -> Iterator[Commit]:
        """Yield a commit and all its ancestors, each once, later ones first."""
        resolved = self.resolve(ref)
        waiting: list[tuple[int, int, Commit]] = []
        arrivals = count()  # of commits of one second, the one that was named first comes first
        met = {resolved.commit}
        arriving = [(resolved.commit, resolved.ref)]
        while arriving or waiting:
            for digest, named_by in arriving:
                commit = load_commit(self.objects, digest, named_by)
                when = int("".join(filter(str.isdigit, commit.time)))
                heapq.heappush(waiting, (-when, next(arrivals), commit))
            _, _, latest = heapq.heappop(waiting)
            yield latest
            arriving = [(parent, f"commit {latest.digest}") for parent in latest.parents if parent not in met]
            met.update(latest.parents)

    def tables(self, ref: str = _MAIN) -> dict[str, TableState]:
        """Return all tables at a commit, by name, ascending."""
        return dict(sorted(self._tables(self.resolve(ref)).items()))

    def version(self, table: str, ref: str = _MAIN, strict: bool = False) -> Version:
        """Return one table at one commit; `strict` refuses names that may move."""
        resolved = self.resolve(ref, strict)
        tables = self._tables(resolved)
        if table not in tables:
            what = f"{self.url}: there is no table {table!r} at {ref}"
            raise NotFoundError(what, hint=suggestion(table, tables))
        return Version(self, table, tables[table], resolved)

    def commit(
        self,
        changes: Mapping[str, TableState | None],
        branch: str = _MAIN,
        *,
        message: str,
        author: str = "unknown",
        made_by: Mapping[str, Any] | None = None,
        expected_head: Digest | None = None,
    ) -> CommitResult:
        """Publish new states of tables as one commit on a branch.

        Args:
            changes: New states by table name; None removes a table. All other tables stay as they are.
            branch: An existing branch, or `main`, which its first commit makes.
            message: Why.
            author: Who.
            made_by: What made the tables: see the docs of the commit format.
            expected_head: The commit (NO_DIGEST: none yet) that the changes were made from; None takes what is there.

        Raises:
            ConflictError: The branch moved since `expected_head`, or meanwhile. Nothing was published.
            NotFoundError: There is no such branch, or no such table to remove.
            InvalidInputError: A name or state is not one, or the first commit would be empty.
            UnavailableError, UnknownOutcomeError: The store failed; see `transaction.publish`.
        """
        self._check_writing(message, author)
        view = self.view()
        head = self._head(view, branch)
        if expected_head is not None:
            expected = None if expected_head == NO_DIGEST else expected_head
            check_expected(self.oplog, view, [Change(BRANCH + branch, expected, None)])
        parent = None if head is None else load_commit(self.objects, head, BRANCH + branch)
        tree = self._encoded(Tree(self._replaced(parent, changes, branch)).to_value())
        if head is not None and parent is not None and parent.tree == digest_of(tree):
            return CommitResult(head, created=False)
        parents = () if head is None else (head,)
        commit = Commit(digest_of(tree), parents, author, utc_now(), message, made_by)
        content = self._encoded(commit.to_value())
        self.objects.put(tree)
        digest = self.objects.put(content)
        why = message.partition("\n")[0][:_LONGEST_WHY]
        publish(self.oplog, view, [Change(BRANCH + branch, head, digest)], author, why)
        return CommitResult(digest, created=True)

    def branch(self, name: str, at: str = _MAIN, *, author: str = "unknown", message: str = "") -> Digest:
        """Make a branch at a commit and return that commit; ConflictError if the branch exists."""
        check_ref_name(name, "branch")
        return self._name(BRANCH + name, at, author, message or f"make branch {name}")

    def tag(self, name: str, at: str = _MAIN, message: str = "", *, author: str = "unknown") -> Digest:
        """Give a commit a name for ever and return the commit; ConflictError if the tag exists: tags never move."""
        check_ref_name(name, "tag")
        return self._name(TAG + name, at, author, message or f"make tag {name}")

    def verify(self, progress: Progress = no_progress) -> VerifyReport:
        """Read everything the log leads to and report all that is wrong. See `verify`."""
        return verify(self.oplog, progress)

    def _name(self, ref: str, at: str, author: str, message: str) -> Digest:
        self._check_writing(message, author)
        view = self.view()
        commit = resolve(self.oplog, self.objects, view, at, strict=False).commit
        publish(self.oplog, view, [Change(ref, None, commit)], author, message)
        return commit

    def _check_writing(self, message: str, author: str) -> None:
        check_writable(self.url, self._writer_features)
        check_text(message, "message")
        check_text(author, "author")

    def _refs(self, kind: str) -> dict[str, Digest]:
        refs = self.view().refs
        return {ref.removeprefix(kind): refs[ref] for ref in sorted(refs) if ref.startswith(kind)}

    def _head(self, view: View, branch: str) -> Digest | None:
        check_ref_name(branch, "branch")
        head = view.refs.get(BRANCH + branch)
        if head is None and branch != _MAIN:
            names = [ref.removeprefix(BRANCH) for ref in view.refs if ref.startswith(BRANCH)]
            raise NotFoundError(
                f"{self.url}: there is no branch {branch}",
                hint=suggestion(branch, names, otherwise="only main is made by its first commit"),
            )
        return head

    def _tables(self, resolved: Resolved) -> Mapping[str, TableState]:
        commit = load_commit(self.objects, resolved.commit, resolved.ref)
        return load_tree(self.objects, commit.tree, f"commit {resolved.commit}").tables

    def _replaced(
        self, parent: Commit | None, changes: Mapping[str, TableState | None], branch: str
    ) -> Mapping[str, TableState]:
        if parent is None and not changes:
            raise InvalidInputError(f"{self.url}: the first commit of {branch} has no tables")
        tables = {} if parent is None else dict(load_tree(self.objects, parent.tree, f"branch {branch}").tables)
        for name, state in changes.items():
            check_table_name(name)
            if state is not None:
                self._check_state(name, state)
                tables[name] = state
            elif tables.pop(name, None) is None:
                raise NotFoundError(
                    f"{self.url}: there is no table {name!r} on {branch}", hint=suggestion(name, tables)
                )
        return tables

    def _check_state(self, name: str, state: TableState) -> None:
        """Raise InvalidInputError for a state that no reader could use: better no commit than a broken one."""
        what = f"table {name!r}"
        try:
            TableState.from_value(state.to_value(), what)
            manifest = Manifest(self.objects, state.manifest)
            missing = [artifact for artifact, digest in state.artifacts.items() if not self.objects.exists(digest)]
        except (CorruptError, NotFoundError) as error:
            raise InvalidInputError(f"{self.url}: {what} cannot be committed: {error.message}") from error
        if missing:
            raise InvalidInputError(f"{self.url}: {what} names objects that are not stored: {', '.join(missing)}")
        said = (state.shards, state.rows, state.tokens, state.nbytes)
        held = (manifest.shards, manifest.rows, manifest.tokens, manifest.nbytes)
        if said != held:
            raise InvalidInputError(f"{self.url}: {what} claims {said} shards, rows, tokens, bytes, but holds {held}")

    def _encoded(self, value: Value) -> bytes:
        try:
            return encode(value)
        except UnicodeEncodeError as error:
            raise InvalidInputError(
                f"{self.url}: a commit cannot hold {ascii(error.object)[:80]}: not Unicode"
            ) from error


def _has_log(store: Store) -> bool:
    # Entry 1 as well: a log that lost its first entry is a damaged one, not one to be started again.
    return any(store.size(log_key(n)) is not None for n in (0, 1))
