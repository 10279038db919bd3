"""Verbs that move refs without making data: name, rollback, undo, delete. Each is one entry of the log."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pyfactory.core.digest import Digest
from pyfactory.errors import ConflictError, InvalidInputError, NotFoundError, RefusedError
from pyfactory.repo.combining import head_of
from pyfactory.repo.history import is_ancestor
from pyfactory.repo.home import Home
from pyfactory.repo.names import BRANCH, TAG
from pyfactory.repo.operation import Change, Operation, View
from pyfactory.repo.oplog import log_key
from pyfactory.repo.publishing import check_nameable, check_signed
from pyfactory.repo.refusal import refuse
from pyfactory.repo.resolve import resolve
from pyfactory.repo.rules import KEYS, RULE, branch_rule
from pyfactory.repo.signatures import sign_tag
from pyfactory.repo.swept import check_kept, sweep_guards
from pyfactory.repo.transaction import by_whom, publish

if TYPE_CHECKING:
    from pyfactory.repo.signing import Signer

__all__ = ["delete_branch", "give_name", "rollback", "undo"]


def give_name(home: Home, ref: str, at: str, author: str, message: str, signer: Signer | None = None) -> Digest:
    """Make a branch or tag at a commit and return the commit. A signer signs a tag.

    Raises:
        ConflictError: A branch or a tag of that name exists.
        RefusedError: There is a rule for that branch, and the commit does not satisfy it.
    """
    view = home.view()
    commit = resolve(home.oplog, home.objects, view, at, strict=False).commit
    other = _check_free(home, view, ref)
    check_kept(home, view, commit)
    guards: dict[str, Digest | None] = {**sweep_guards(view), other: None}
    if ref.startswith(BRANCH):
        check_nameable(home, view, ref.removeprefix(BRANCH), commit, author)
        guards |= _rules(view, ref.removeprefix(BRANCH))
    elif signer is not None:
        sign_tag(home, ref.removeprefix(TAG), commit, signer)
    publish(home.oplog, view, [Change(ref, None, commit)], author, message, guards=guards)
    return commit


def rollback(home: Home, branch: str, to: str, author: str, message: str) -> Digest:
    """Let a branch name one of its earlier commits again and return that commit; nothing is lost, `undo` leads back.

    Raises:
        InvalidInputError: The branch does not contain the commit.
        RefusedError: The branch takes signed commits, and no trusted key has signed this one.
        ConflictError: The branch moved meanwhile.
    """
    view = home.view()
    head = head_of(home, view, branch)
    commit = resolve(home.oplog, home.objects, view, to, strict=False).commit
    if head is None or not is_ancestor(home.objects, commit, head):
        hint = f"pyfactory log REPO {branch} shows what it contains; undo takes back a rollback"
        raise InvalidInputError(f"{home.url}: {branch} does not contain {to}, so it cannot go back to it", hint=hint)
    if commit != head:  # an ancestor of the head, which no sweep touches
        check_signed(home, view, branch, commit, author)
        why = message or f"roll {branch} back to {to}"
        guards = _rules(view, branch)
        publish(home.oplog, view, [Change(BRANCH + branch, head, commit)], author, why, guards=guards)
    return commit


def delete_branch(home: Home, branch: str, author: str, message: str) -> Digest:
    """Remove a branch and return the commit that it named, which stays until a sweep finds nothing else naming it.

    Raises:
        NotFoundError: There is no such branch.
        RefusedError: It is protected.
    """
    view = home.view()
    head = head_of(home, view, branch)
    if head is None:
        raise NotFoundError(f"{home.url}: there is no branch {branch}")
    _check_deletable(home, view, branch, author)
    guards = _rules(view, branch)
    changes = [Change(BRANCH + branch, head, None)]
    publish(home.oplog, view, changes, author, message or f"delete branch {branch}", guards=guards)
    return head


def undo(home: Home, number: int, author: str, message: str) -> Operation:
    """Take back one operation on branches: each goes back to what it named before. Returns the operation undone.

    Raises:
        NotFoundError: There is no such operation.
        InvalidInputError: It moved something else than branches.
        ConflictError: A branch has moved since, or would come back beside a tag of its name.
        RefusedError: It would delete a protected branch, or a branch that takes signed commits would name another.
    """
    view = home.view()
    operation = _operation(home, view, number)
    changes = [Change(change.ref, change.new, change.old) for change in operation.changes]
    guards = sweep_guards(view)
    for change in changes:
        if not change.ref.startswith(BRANCH):
            raise InvalidInputError(f"{home.url}: operation {number} {_fixed(change.ref)}", hint=_remedy(change.ref))
        found = view.refs.get(change.ref)
        if found != change.old:
            now = "is gone" if found is None else f"names {found}"
            raise ConflictError(
                f"{home.url}: {change.ref} has moved since operation {number}: it {now}",
                hint="undo the later operations first, or use pyfactory revert",
            )
        if change.new is None:
            _check_deletable(home, view, change.ref.removeprefix(BRANCH), author)
        else:
            check_kept(home, view, change.new)
            check_signed(home, view, change.ref.removeprefix(BRANCH), change.new, author)
            if change.old is None:
                instead = f"make another branch there: pyfactory branch REPO NAME {change.new[:12]}"
                guards[_check_free(home, view, change.ref, instead)] = None
    if not changes:
        raise InvalidInputError(f"{home.url}: operation {number} moved nothing", hint="pyfactory ops lists them")
    why = message or f"undo operation {number}: {operation.why}"[:200]
    for change in changes:
        guards |= _rules(view, change.ref.removeprefix(BRANCH))
    publish(home.oplog, view, changes, author, why, guards=guards)
    return operation


def _check_free(home: Home, view: View, ref: str, instead: str = "choose another name") -> str:
    """Return the ref that is of the other kind, branch or tag, and has the same name.

    Raises:
        ConflictError: There is one of them: the name alone would say nothing any more.
    """
    kind, _, name = ref.partition("/")
    other = (BRANCH if ref.startswith(TAG) else TAG) + name
    why = {ref: "tags never move" if kind == "tag" else "", other: "a branch and a tag cannot share one"}
    for taken, reason in why.items():
        if taken in view.refs:
            raise ConflictError(
                f"{home.url}: {taken} exists already: it names {view.refs[taken]}{by_whom(home.oplog, view, taken)}",
                hint=f"{instead}{f': {reason}' if reason else ''}",
            )
    return other


def _rules(view: View, branch: str) -> dict[str, Digest | None]:
    """Return the refs that must stay as they are until a move that they allowed is written."""
    return {ref: view.refs.get(ref) for ref in (RULE + branch, KEYS)}


def _operation(home: Home, view: View, number: int) -> Operation:
    if not 0 <= number <= view.n:
        hint = f"they are numbered from 0 to {view.n}: pyfactory ops lists them"
        raise NotFoundError(f"{home.url}: there is no operation {number}", hint=hint)
    return Operation.from_bytes(home.store.get(log_key(number)), f"{home.url}: log entry {number}")


def _fixed(ref: str) -> str:
    return f"made {ref}, and tags never move" if ref.startswith(TAG) else f"moved {ref}, which is no branch"


def _remedy(ref: str) -> str:
    if ref.startswith(TAG):
        return "make another tag"
    return "use pyfactory rule or key" if ref.startswith("rule/") else "only branches can be moved back"


def _check_deletable(home: Home, view: View, branch: str, author: str) -> None:
    if branch_rule(home, view, branch).protected:
        raise _refused(home, branch, author)


def _refused(home: Home, branch: str, author: str) -> RefusedError:
    what, why = f"deleting {branch}", f"{branch} is protected"
    return refuse(home, author, what, why, {"branch": branch}, "take the protection away first: pyfactory rule set")
