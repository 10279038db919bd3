"""The plain commit: new states of some tables, on top of what the branch has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pyfactory.core.digest import NO_DIGEST, Digest
from pyfactory.errors import ConflictError, InvalidInputError
from pyfactory.repo.combining import head_of
from pyfactory.repo.home import Home
from pyfactory.repo.names import BRANCH
from pyfactory.repo.objects import TableState, load_commit, load_tree
from pyfactory.repo.operation import Change
from pyfactory.repo.publishing import CommitResult, Proposed, propose
from pyfactory.repo.states import replaced
from pyfactory.repo.transaction import check_expected

if TYPE_CHECKING:
    from pyfactory.repo.signing import Signer

__all__ = ["Told", "commit"]

_TRIES = 20


@dataclass(frozen=True, slots=True)
class Told:
    """What a commit says of itself, and what signs it."""

    message: str
    author: str
    made_by: Mapping[str, Any] | None
    signer: Signer | None


def commit(
    home: Home, changes: Mapping[str, TableState | None], branch: str, told: Told, expected_head: Digest | None
) -> CommitResult:
    """Publish new states of tables; see `Repository.commit`.

    If others commit to the branch meanwhile and leave these tables as they were, it is placed after theirs, unless a
    head was expected.
    """
    seen: Mapping[str, TableState] = {}
    overtaken: ConflictError | None = None
    for _ in range(_TRIES):
        view = home.view()
        head = head_of(home, view, branch)
        if expected_head is not None:
            expected = None if expected_head == NO_DIGEST else expected_head
            check_expected(home.oplog, view, [Change(BRANCH + branch, expected, None)])
        if head is None and not changes:
            raise InvalidInputError(f"{home.url}: the first commit of {branch} has no tables")
        since, before = _at(home, head, branch)
        if overtaken is not None and any(seen.get(name) != before.get(name) for name in changes):
            raise overtaken
        seen = before
        tables = replaced(home, before, changes, branch)
        if head is not None and tables == before:
            return CommitResult(head, created=False)
        proposal = Proposed(branch, head, before, tables, told.message, told.author, told.made_by, since)
        try:
            return propose(home, view, proposal, told.signer)
        except ConflictError as conflict:
            if expected_head is not None or home.view().refs.get(BRANCH + branch) == head:
                raise
            overtaken = conflict
    raise ConflictError(f"{home.url}: {branch} moves all the time", hint="run it again")


def _at(home: Home, head: Digest | None, branch: str) -> tuple[str, Mapping[str, TableState]]:
    """Return the time of the head of a branch, and its tables."""
    if head is None:
        return "", {}
    found = load_commit(home.objects, head, BRANCH + branch)
    return found.time, load_tree(home.objects, found.tree, f"branch {branch}").tables
