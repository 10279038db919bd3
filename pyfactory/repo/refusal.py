"""Refusals: what the rules did not allow is written down, so that the log shows attempts as well as deeds.

A refusal is an object and one entry of the log, which moves `refusal/last` to it; the entry says who, when and why for
ever, and sweeps leave the object with the details.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice

from pyfactory.core.canonical import Value, decode, encode
from pyfactory.core.digest import Digest
from pyfactory.errors import ConflictError, CorruptError, NewerFormatError, NotFoundError, PyfactoryError, RefusedError
from pyfactory.repo.fields import read_versioned
from pyfactory.repo.format import check_writable, read_format
from pyfactory.repo.home import Home
from pyfactory.repo.operation import Change, View, utc_now
from pyfactory.repo.swept import sweep_guards
from pyfactory.repo.transaction import publish

__all__ = ["LAST_REFUSAL", "Refusal", "list_refusals", "record_refusal", "refuse"]

LAST_REFUSAL = "refusal/last"
"""Full name of the ref that each refusal moves."""

_TRIES = 20
_LONGEST_WHY = 200
_START = "refused: "


@dataclass(frozen=True, slots=True)
class Refusal:
    """Something that a rule did not allow.

    Attributes:
        n: Number of the log entry that tells of it.
        time: When, in UTC.
        who: Who tried.
        what: What was tried, such as `commit to main`; "" if the object is gone.
        why: Why it was refused.
        details: More about it, by name; empty if the object is gone.
    """

    n: int
    time: str
    who: str
    what: str
    why: str
    details: Mapping[str, Value]

    def to_value(self) -> dict[str, Value]:
        """Return it as plain values."""
        said = {"n": self.n, "time": self.time, "what": self.what, "who": self.who, "why": self.why}
        return {**said, "details": dict(self.details)}


def refuse(home: Home, who: str, what: str, why: str, details: Mapping[str, Value], hint: str) -> RefusedError:
    """Write a refusal down, if that is possible, and return the error to raise. Arguments as of `record_refusal`."""
    record_refusal(home, who, what, why, details)
    return RefusedError(f"{home.url}: {what} refused: {why}", hint=hint)


def record_refusal(home: Home, who: str, what: str, why: str, details: Mapping[str, Value]) -> Digest | None:
    """Write a refusal down: an object, and a log entry whose reason begins with "refused: ".

    Nothing that goes wrong here is raised, since it would hide the refusal itself.

    Args:
        home: The repository.
        who: Who tried.
        what: What was tried, such as `commit to main`.
        why: Why it is refused.
        details: More about it, such as the verdicts of gates: a canonical value, without text of records.

    Returns:
        The object, or None if the repository cannot be written.
    """
    with suppress(PyfactoryError):
        check_writable(home.url, read_format(home.store))
        reason = f"{_START}{what}: {why}".partition("\n")[0][:_LONGEST_WHY]
        for _ in range(_TRIES):
            view = home.view()
            # The number of the view makes each refusal an object of its own, also two of the same second.
            value = {"details": dict(details), "kind": "refusal", "time": utc_now(), "v": 1, "view": view.n}
            digest = home.objects.put(encode({**value, "what": what, "who": who, "why": why}))
            with suppress(ConflictError):  # somebody else was refused at the same moment, or a sweep may have taken it
                change = Change(LAST_REFUSAL, view.refs.get(LAST_REFUSAL), digest)
                publish(home.oplog, view, [change], who, reason, guards=sweep_guards(view))
                return digest
    return None


def list_refusals(home: Home, view: View, limit: int) -> list[Refusal]:
    """Return the last refusals of a view, newest first. O(log entries behind the oldest that is returned).

    Raises:
        CorruptError: The log is damaged.
    """
    return list(islice(_refusals(home, view), limit))


def _refusals(home: Home, view: View) -> Iterator[Refusal]:
    if LAST_REFUSAL not in view.refs:
        return
    for operation in home.oplog.history(view):
        for change in operation.changes:
            if change.ref == LAST_REFUSAL and change.new is not None:
                told = (operation.n, operation.time, operation.who)
                found = _details(home, change.new)
                yield Refusal(*told, *(found or ("", operation.why.removeprefix(_START), {})))
                if change.old is None:
                    return  # it was the first


def _details(home: Home, digest: Digest) -> tuple[str, str, Mapping[str, Value]] | None:
    """Return what, why and the details of a refusal, or None if its object is swept or damaged."""
    names = ("details", "time", "view", "what", "who", "why")
    what = f"{home.url}: refusal {digest}"
    with suppress(NotFoundError, CorruptError, NewerFormatError):
        fields = read_versioned(decode(home.objects.get(digest), what), names, what, kind="refusal")
        return fields.text("what"), fields.text("why"), fields.mapping("details")
    return None
