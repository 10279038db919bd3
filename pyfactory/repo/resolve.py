"""From what a person says (`main`, `v1`, `tag/v1`, `3fa94c1`) to a commit, once, with what it was resolved to kept."""

from __future__ import annotations

import re
from dataclasses import dataclass

from pyfactory.core.canonical import decode
from pyfactory.core.digest import Digest
from pyfactory.errors import CorruptError, InvalidInputError, NotFoundError
from pyfactory.repo.names import BRANCH, TAG, suggestion
from pyfactory.repo.objects import Commit
from pyfactory.repo.operation import View
from pyfactory.repo.oplog import OperationLog
from pyfactory.store.content import Objects

__all__ = ["Resolved", "resolve"]

_DIGEST = re.compile(r"[0-9a-f]{64}")
_PREFIX = re.compile(r"[0-9a-f]{7,63}")
_LOOK = "pyfactory log shows the commits"


@dataclass(frozen=True, slots=True)
class Resolved:
    """What a name stood for at one moment.

    Attributes:
        commit: The commit.
        ref: The full name: `branch/NAME`, `tag/NAME`, or the digest of the commit.
        asked: What was asked for.
    """

    commit: Digest
    ref: str
    asked: str


def resolve(log: OperationLog, objects: Objects, view: View, asked: str, *, strict: bool) -> Resolved:
    """Return the commit that a name stands for.

    Args:
        log: The log; read through (O(log)) only for the start of a digest.
        objects: Where commits are.
        view: The refs that count.
        asked: A branch, a tag (`branch/x` and `tag/x` say which), a commit digest, or 7 or more digits it starts with.
        strict: Take only what stands for the same commit for ever: a tag or a full digest.

    Raises:
        NotFoundError: There is no such name; the hint names near ones.
        InvalidInputError: It stands for several things, or may stand for another one tomorrow and `strict` is set.
    """
    ref = _ref_of(view, asked)
    if ref is not None:
        if strict and ref.startswith(BRANCH):
            raise InvalidInputError(f"{asked} is a branch, which moves", hint="name a tag or a full commit digest")
        return Resolved(view.refs[ref], ref, asked)
    if _DIGEST.fullmatch(asked):
        return _of_digest(objects, Digest(asked), asked)
    if _PREFIX.fullmatch(asked):
        full = _completed(log, view, asked)
        if strict:
            raise InvalidInputError(f"{asked} is only the start of a digest", hint=f"name it in full: {full}")
        return _of_digest(objects, full, asked)
    raise _unknown(log.store.url, view, asked)


def _ref_of(view: View, asked: str) -> str | None:
    if not isinstance(asked, str):
        raise InvalidInputError(f"{asked!r} is not the name of a branch, tag or commit")
    kinds = [""] if asked.startswith((BRANCH, TAG)) else [BRANCH, TAG]
    found = [kind + asked for kind in kinds if kind + asked in view.refs]
    if len(found) > 1:
        raise InvalidInputError(f"{asked} is both a branch and a tag", hint=f"say {' or '.join(found)}")
    return found[0] if found else None


def _of_digest(objects: Objects, digest: Digest, asked: str) -> Resolved:
    url = objects.store.url
    try:
        content = objects.get(digest)
    except NotFoundError as error:
        raise NotFoundError(f"{url}: there is no commit {digest}", hint=_LOOK) from error
    other = InvalidInputError(f"{url}: the object {digest} is not a commit", hint=_LOOK)
    try:
        value = decode(content, f"commit {digest}")
    except CorruptError as error:
        raise other from error
    if not isinstance(value, dict) or value.get("kind") != "commit":
        raise other
    Commit.from_value(value, f"commit {digest}")  # one that is damaged is not called something else
    return Resolved(digest, digest, asked)


def _completed(log: OperationLog, view: View, prefix: str) -> Digest:
    found = sorted(
        {
            digest
            for operation in log.history(view)
            for change in operation.changes
            for digest in (change.old, change.new)
            if digest is not None and digest.startswith(prefix) and change.ref.startswith((BRANCH, TAG))
        }
    )
    if not found:
        raise NotFoundError(f"{log.store.url}: no commit starts with {prefix}", hint=_LOOK)
    if len(found) > 1:
        raise InvalidInputError(
            f"{log.store.url}: {len(found)} commits start with {prefix}", hint=f"say more digits of {found[0]}, …"
        )
    return found[0]


def _unknown(url: str, view: View, asked: str) -> NotFoundError:
    refs = [ref for ref in view.refs if ref.startswith((BRANCH, TAG))]
    if asked.removeprefix(BRANCH) == "main":
        if not refs:
            return NotFoundError(f"{url}: main has no commit yet", hint="import a table first")
        hint = "pyfactory ops shows what deleted it, and undo takes that back; or pyfactory branch REPO main AT"
        return NotFoundError(f"{url}: there is no branch main any more", hint=hint)
    names = {ref if asked.startswith((BRANCH, TAG)) else ref.partition("/")[2] for ref in refs}
    shown = ascii(asked) if len(asked) <= 80 else f"{ascii(asked)[:77]}..."
    return NotFoundError(f"{url}: there is no branch, tag or commit {shown}", hint=suggestion(asked, names))
