"""Operations and views: what one entry of the log says, and what all of them up to a point add up to."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType

from pyfactory.core.canonical import Value, decode, encode
from pyfactory.core.digest import NO_DIGEST, Digest, digest_of
from pyfactory.errors import CorruptError
from pyfactory.repo.fields import read_fields, read_versioned

__all__ = ["Change", "Operation", "View", "follow", "utc_moment", "utc_now", "utc_text"]

# Wider than what users may choose: rules and redactions of later formats are refs too, of kinds of their own.
_REF = re.compile(r"[a-z][a-z-]{0,31}(/[A-Za-z0-9][A-Za-z0-9._-]{0,99}){1,50}", re.ASCII)
_TRANSACTION = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Change:
    """One ref that an operation moves.

    Attributes:
        ref: Full name, such as `branch/main`.
        old: What it named before, None if it did not exist.
        new: What it names afterwards, None if it is gone.
    """

    ref: str
    old: Digest | None
    new: Digest | None


@dataclass(frozen=True, slots=True)
class Operation:
    """One entry of the log.

    Attributes:
        n: Its number; the first is 0.
        previous: Digest of the bytes of entry n - 1; NO_DIGEST in entry 0.
        transaction: 32 random hexadecimal digits, by which a writer knows its own entry.
        time: When, in UTC, ISO 8601, whole seconds, `Z`.
        who: Who did it.
        why: Why.
        changes: What moved, sorted by ref, each ref once; all of it moved at once.
    """

    n: int
    previous: Digest
    transaction: str
    time: str
    who: str
    why: str
    changes: tuple[Change, ...]

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        changes = [{"new": change.new, "old": change.old, "ref": change.ref} for change in self.changes]
        return encode(
            {
                "changes": changes,
                "n": self.n,
                "previous": self.previous,
                "time": self.time,
                "transaction": self.transaction,
                "v": 1,
                "who": self.who,
                "why": self.why,
            }
        )

    @classmethod
    def from_bytes(cls, content: bytes, what: str) -> Operation:
        """Return the operation of hostile bytes; `what` names them in the CorruptError."""
        names = ("changes", "n", "previous", "time", "transaction", "who", "why")
        fields = read_versioned(decode(content, what), names, what)
        transaction = fields.text("transaction")
        if not _TRANSACTION.fullmatch(transaction):
            raise CorruptError(f"{what}: 'transaction' is not 32 hexadecimal digits")
        changes = tuple(_change(value, what) for value in fields.items("changes"))
        refs = [change.ref for change in changes]
        if refs != sorted(set(refs)):
            raise CorruptError(f"{what}: 'changes' is not sorted by ref, or names one twice")
        return cls(
            n=fields.count("n"),
            previous=fields.digest("previous"),
            transaction=transaction,
            time=fields.time("time"),
            who=fields.text("who"),
            why=fields.text("why"),
            changes=changes,
        )


@dataclass(frozen=True, slots=True)
class View:
    """All refs at one moment: the sum of the log up to an entry. A value, it never changes.

    Attributes:
        n: Number of the last entry that it includes.
        digest: Digest of that entry's bytes.
        refs: What each ref names, by full name; read-only.
    """

    n: int
    digest: Digest
    refs: Mapping[str, Digest]


def follow(view: View | None, contents: Iterable[bytes], url: str) -> View:
    """Return the view after further entries, each checked against all before it.

    Args:
        view: What precedes them; None when the first is entry 0.
        contents: Bytes of the entries, in order.
        url: Where they come from, for the CorruptError.
    """
    n, digest = (-1, NO_DIGEST) if view is None else (view.n, view.digest)
    refs = {} if view is None else dict(view.refs)
    for content in contents:
        n += 1
        what = f"{url}: log entry {n}"
        operation = Operation.from_bytes(content, what)
        _check_place(operation, n, digest, what)
        for change in operation.changes:
            if refs.get(change.ref) != change.old:
                raise CorruptError(f"{what} moves {change.ref} from {change.old}, but it was {refs.get(change.ref)}")
            if change.new is None:
                del refs[change.ref]
            else:
                refs[change.ref] = change.new
        digest = digest_of(content)
    return View(n, digest, MappingProxyType(refs))


def utc_now() -> str:
    """Return this moment as it is stored."""
    return utc_text(None)


def utc_text(moment: datetime | None) -> str:
    """Return a moment as it is stored, None standing for this one; fractions of a second are dropped."""
    return (moment or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def utc_moment(text: str, what: str) -> datetime:
    """Return the moment that a stored time tells; CorruptError, naming `what`, if there is no such moment."""
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError as error:
        raise CorruptError(f"{what}: {text!r} is no time") from error


def _change(value: Value, what: str) -> Change:
    fields = read_fields(value, ("new", "old", "ref"), f"{what}: a change")
    change = Change(fields.text("ref"), fields.digest_or_none("old"), fields.digest_or_none("new"))
    if not _REF.fullmatch(change.ref):
        raise CorruptError(f"{what} changes {ascii(change.ref)[:80]}, which is not a ref")
    if change.old == change.new:
        raise CorruptError(f"{what} does not change {change.ref}")
    return change


def _check_place(operation: Operation, n: int, previous: Digest, what: str) -> None:
    if operation.n != n:
        raise CorruptError(f"{what} says that it is entry {operation.n}")
    if operation.previous != previous:
        raise CorruptError(f"{what} does not follow entry {n - 1}: it names {operation.previous}, not {previous}")
    if n == 0 and operation.changes:
        raise CorruptError(f"{what} changes refs, though it only starts the log")
