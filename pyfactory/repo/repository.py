"""The repository: what a program does with versions of data, on top of objects and one operation log.

Tree and commit objects are stored first, then one log entry moves the branch: a kill at any instant leaves the old
view or the new one. A name becomes a commit once; what was asked and what it stood for are kept with the answer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pyfactory.core.digest import NO_DIGEST, Digest
from pyfactory.core.progress import Progress, no_progress
from pyfactory.errors import ConflictError, NotFoundError
from pyfactory.repo.combining import MergeResult, head_of, merge, revert
from pyfactory.repo.committing import Told, commit
from pyfactory.repo.diff import Diff, changed_records, diff_trees
from pyfactory.repo.format import check_writable, read_format, write_format
from pyfactory.repo.history import ancestors
from pyfactory.repo.moving import delete_branch, give_name, rollback, undo
from pyfactory.repo.names import BRANCH, TAG, check_ref_name, check_text, suggestion
from pyfactory.repo.objects import Commit, TableState, Tree, load_commit, load_tree
from pyfactory.repo.operation import Operation, View
from pyfactory.repo.oplog import OperationLog, log_key
from pyfactory.repo.publishing import CommitResult, check_takes_commits
from pyfactory.repo.redaction import Follower
from pyfactory.repo.resolve import Resolved, resolve
from pyfactory.repo.transaction import initialise
from pyfactory.repo.verify import VerifyReport, verify
from pyfactory.repo.version import Version
from pyfactory.store.base import Store, prove_put_if_absent
from pyfactory.store.content import Objects
from pyfactory.store.open import open_store

if TYPE_CHECKING:
    from pyfactory.repo.signing import Signer

__all__ = ["CommitResult", "Repository"]

_MAIN = "main"


class Repository:
    """Versions of tables in one store. Any number of threads may share one object, any number of machines one store.

    Use `Repository.create` and `Repository.open`.
    """

    def __init__(self, store: Store, writer_features: tuple[str, ...]) -> None:
        self.store = store
        self.objects = Objects(store)
        self.oplog = OperationLog(store)
        self._redactions = Follower()
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
            raise NotFoundError(
                f"no pyfactory repository at {where}", hint=f"check the place; pyfactory init {where} makes a new one"
            ) from error
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
        view = self.oplog.view()
        self._redactions.follow(self, view)
        return view

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
        check_ref_name(branch, "branch")
        return head_of(self, self.view(), branch) or NO_DIGEST

    def resolve(self, ref: str = _MAIN, strict: bool = False) -> Resolved:
        """Return the commit that a branch, tag or digest stands for; `strict` refuses what may move. See `resolve`."""
        return resolve(self.oplog, self.objects, self.view(), ref, strict=strict)

    def load(self, commit: Digest) -> Commit:
        """Return a commit by its digest."""
        return load_commit(self.objects, commit, self.url)

    def log(self, ref: str = _MAIN) -> Iterator[Commit]:
        """Yield a commit and all its ancestors, each once, later ones first."""
        resolved = self.resolve(ref)
        return ancestors(self.objects, resolved.commit, resolved.ref)

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
        signer: Signer | None = None,
    ) -> CommitResult:
        """Publish new states of tables as one commit on a branch.

        Args:
            changes: New states by table name; None removes a table. All other tables stay as they are.
            branch: An existing branch, or `main`, which its first commit makes.
            message: Why.
            author: Who.
            made_by: What made the tables: see the docs of the commit format.
            expected_head: The commit (NO_DIGEST: none yet) that the changes were made from; None takes what is there.
            signer: Signs the commit; needed where the rule of the branch asks for it.

        Raises:
            ConflictError: The branch moved since `expected_head`, or the same tables were changed meanwhile.
            NotFoundError: There is no such branch, or no such table to remove.
            InvalidInputError: A name or state is not one, or the first commit would be empty.
            RefusedError: A rule of the branch forbids it.
            UnavailableError, UnknownOutcomeError: The store failed; see `transaction.publish`.
        """
        self._check_writing(message, author)
        check_ref_name(branch, "branch")
        told = Told(message, author, made_by, signer)
        return commit(self, changes, branch, told, expected_head)

    def check_takes_commits(self, branch: str, *, author: str, signer: Signer | None = None) -> None:
        """Raise RefusedError now if a commit to a branch would be refused whatever is in it: before hours of work."""
        check_takes_commits(self, self.view(), branch, author, signer)

    def merge(
        self,
        source: str,
        into: str = _MAIN,
        *,
        choices: Mapping[str, str] = MappingProxyType({}),
        message: str = "",
        author: str = "unknown",
        signer: Signer | None = None,
    ) -> MergeResult:
        """Merge a branch, tag or commit into a branch. See `combining.merge`."""
        self._check_writing(message, author)
        check_ref_name(into, "branch")
        return merge(self, source, into, choices=choices, message=message, author=author, signer=signer)

    def revert(
        self,
        commit: str,
        branch: str = _MAIN,
        *,
        message: str = "",
        author: str = "unknown",
        signer: Signer | None = None,
    ) -> Digest:
        """Take back what one commit changed, by a new commit. See `combining.revert`."""
        self._check_writing(message, author)
        check_ref_name(branch, "branch")
        return revert(self, commit, branch, message=message, author=author, signer=signer)

    def rollback(self, branch: str, to: str, *, author: str = "unknown", message: str = "") -> Digest:
        """Let a branch name an earlier commit again. See `moving.rollback`."""
        self._check_writing(message, author)
        check_ref_name(branch, "branch")
        return rollback(self, branch, to, author, message)

    def undo(self, operation: int, *, author: str = "unknown", message: str = "") -> Operation:
        """Take back one operation on branches. See `moving.undo`."""
        self._check_writing(message, author)
        return undo(self, operation, author, message)

    def delete_branch(self, name: str, *, author: str = "unknown", message: str = "") -> Digest:
        """Remove a branch and return the commit that it named. See `moving.delete_branch`."""
        self._check_writing(message, author)
        check_ref_name(name, "branch")
        return delete_branch(self, name, author, message)

    def diff(self, a: str, b: str = _MAIN) -> Diff:
        """Return what is different at `b`, by table. O(change)."""
        return diff_trees(self.objects, *self._trees(a, b))

    def diff_records(self, a: str, b: str = _MAIN) -> Iterator[tuple[str, str, str]]:
        """Yield ("added" or "removed", table, record id) for the records of shards that only one side has."""
        before, after = self._trees(a, b)
        return changed_records(self.objects, before, after)

    def branch(self, name: str, at: str = _MAIN, *, author: str = "unknown", message: str = "") -> Digest:
        """Make a branch at a commit and return that commit; ConflictError if the branch exists."""
        self._check_writing(message, author)
        check_ref_name(name, "branch")
        return give_name(self, BRANCH + name, at, author, message or f"make branch {name}")

    def tag(
        self, name: str, at: str = _MAIN, message: str = "", *, author: str = "unknown", signer: Signer | None = None
    ) -> Digest:
        """Give a commit a name for ever and return the commit; ConflictError if the tag exists: tags never move."""
        self._check_writing(message, author)
        check_ref_name(name, "tag")
        return give_name(self, TAG + name, at, author, message or f"make tag {name}", signer)

    def verify(self, progress: Progress = no_progress) -> VerifyReport:
        """Read everything the log leads to and report all that is wrong. See `verify`."""
        return verify(self, progress)

    def _check_writing(self, message: str, author: str) -> None:
        check_writable(self.url, self._writer_features)
        check_text(message, "message")
        check_text(author, "author")

    def _refs(self, kind: str) -> dict[str, Digest]:
        refs = self.view().refs
        return {ref.removeprefix(kind): refs[ref] for ref in sorted(refs) if ref.startswith(kind)}

    def _tables(self, resolved: Resolved) -> Mapping[str, TableState]:
        commit = load_commit(self.objects, resolved.commit, resolved.ref)
        return load_tree(self.objects, commit.tree, f"commit {resolved.commit}").tables

    def _trees(self, *refs: str) -> list[Tree]:
        return [Tree(self._tables(self.resolve(ref))) for ref in refs]


def _has_log(store: Store) -> bool:
    # Entry 1 as well: a log that lost its first entry is a damaged one, not one to be started again.
    return any(store.size(log_key(n)) is not None for n in (0, 1))
