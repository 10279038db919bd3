"""Publishing: the one write that moves refs, and what it does when it is not told how it went.

`create` of entry n + 1 either lands or does not, but its answer may be lost, late or wrong. So the answer is believed
only when it says "created"; after any other, the entry is read back and its bytes, which hold a random transaction
id, decide.
"""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from itertools import islice
from types import MappingProxyType

from pyfactory.core.digest import NO_DIGEST, Digest
from pyfactory.errors import (
    ConflictError,
    CorruptError,
    InternalError,
    NotFoundError,
    PyfactoryError,
    UnavailableError,
    UnknownOutcomeError,
)
from pyfactory.repo.operation import Change, Operation, View, follow, utc_now, utc_text
from pyfactory.repo.oplog import OperationLog, log_key
from pyfactory.store.base import Store

__all__ = ["check_expected", "initialise", "publish"]

_TRIES = 5
_PATIENCE = 4  # a writer waits for 2^4 tries of others at most
_SEARCHED = 128  # operations looked through for the one that moved a ref: enough for every race


def initialise(log: OperationLog, who: str) -> View:
    """Create entry 0, which changes nothing but starts the log.

    Raises:
        ConflictError: There is one already, not ours.
        UnavailableError, UnknownOutcomeError: See `publish`.
    """
    operation = Operation(0, NO_DIGEST, secrets.token_hex(16), utc_now(), who, "initialise", ())
    content = operation.to_bytes()
    if _place(log.store, 0, content) is not None:
        raise ConflictError(f"{log.store.url} already holds a pyfactory repository")
    return _done(log, follow(None, [content], log.store.url))


def publish(
    log: OperationLog,
    view: View,
    changes: Iterable[Change],
    who: str,
    why: str,
    *,
    guards: Mapping[str, Digest | None] = MappingProxyType({}),
    exact: bool = False,
    now: datetime | None = None,
) -> View:
    """Move refs, all of them at once or none, and return the view that shows it.

    Another writer's operation on other refs is no obstacle: ours is placed after it.

    Args:
        log: The log.
        view: What the changes were decided on; a newer one is found by itself.
        changes: The refs that move, with their old values.
        who: Who does it.
        why: Why.
        guards: Refs that do not move, but must still name this at the very entry that is written.
        exact: Publish as the entry right after the view or not at all: the decision holds for this view only.
        now: The moment that the entry tells, by default this one.

    Raises:
        ConflictError: A ref no longer has its old value; the message says who moved it. Or `exact` is asked for, and
            there is another entry already. Nothing was published.
        UnavailableError: The store did not take the entry in several tries, and does not show it.
        UnknownOutcomeError: The entry may or may not have landed: the store could not be read afterwards.
        CorruptError: The log is damaged.
    """
    ordered = tuple(sorted(changes, key=lambda change: change.ref))
    transaction, when = secrets.token_hex(16), utc_text(now)
    expected = [*ordered, *(Change(ref, digest, None) for ref, digest in guards.items())]
    losses = 0
    while True:
        began = time.monotonic()
        check_expected(log, view, expected)
        content = Operation(view.n + 1, view.digest, transaction, when, who, why, ordered).to_bytes()
        newer = _as_read(view, content, log.store.url)
        theirs = _place(log.store, view.n + 1, content)
        if theirs is None:
            return _done(log, newer)
        if exact:
            raise ConflictError(
                f"{log.store.url}: {log_key(view.n + 1)} was written by somebody else meanwhile", hint="run it again"
            )
        log.remember(follow(view, [theirs], log.store.url))  # it has been read: the next view starts after it
        _step_aside(losses, time.monotonic() - began)
        view = log.view()
        losses += 1


def _as_read(view: View, content: bytes, url: str) -> View:
    """Return the view after an entry, as every reader will see it: one that none would take ends the log for all."""
    try:
        return follow(view, [content], url)
    except CorruptError as error:
        raise InternalError(f"an operation that nobody could read was not written: {error.message}") from error


def _step_aside(losses: int, seconds: float) -> None:
    """Wait for a random share of some tries' time, so that of many writers most do not try in vain.

    Nothing relies on it but the number of requests; `seconds` is what one try takes on this store.
    """
    if losses:
        time.sleep(random.uniform(0, seconds * 2 ** min(losses, _PATIENCE)))


def check_expected(log: OperationLog, view: View, changes: Sequence[Change]) -> None:
    """Raise ConflictError, saying who moved it, unless every ref still has its old value in the view."""
    for change in changes:
        found = view.refs.get(change.ref)
        if found != change.old:
            raise ConflictError(
                f"{log.store.url}: {change.ref} {_moved(change.old, found)}{by_whom(log, view, change.ref)}",
                hint="look at what it is now, then try again",
            )


def _moved(expected: Digest | None, found: Digest | None) -> str:
    if expected is None:
        return f"exists already: it names {found}"
    return f"no longer names {expected}, " + ("it is gone" if found is None else f"it names {found}")


def by_whom(log: OperationLog, view: View, ref: str) -> str:
    """Return who changed a ref last, when and why, to be put behind a message; "" if that is not found soon."""
    with suppress(PyfactoryError):  # that it moved is what matters; who did it is a courtesy
        for operation in islice(log.history(view), _SEARCHED):
            if any(change.ref == ref for change in operation.changes):
                return f"; last changed by {operation.who} at {operation.time}: {operation.why}"
    return ""


def _place(store: Store, n: int, content: bytes) -> bytes | None:
    """Create entry n; return None when it is there and ours, else the bytes of somebody else's."""
    failure: PyfactoryError | None = None
    for _ in range(_TRIES):
        try:
            if store.create(log_key(n), content):
                return None
        except PyfactoryError as error:
            failure = error
        found = _read_back(store, n, failure)
        if found is not None:
            return None if found == content else found
        if failure is not None and not isinstance(failure, UnavailableError):
            raise failure
    why = failure.message if failure else "it says that the entry exists, but it does not"
    raise UnavailableError(
        f"{store.url} did not take {log_key(n)} in {_TRIES} tries: {why}",
        hint=(failure and failure.hint) or "run the command again when the store works",
    ) from failure


def _read_back(store: Store, n: int, failure: PyfactoryError | None) -> bytes | None:
    try:
        return store.get(log_key(n))
    except NotFoundError:
        return None
    except PyfactoryError as error:
        first = failure or "it was refused"
        raise UnknownOutcomeError(
            f"{store.url}: nobody knows whether {log_key(n)} was written: {first}, and then {error}",
            hint="look at the log when the store works again, then rerun if the change is not there",
        ) from error


def _done(log: OperationLog, newer: View) -> View:
    log.remember(newer)
    log.leave_hints(newer)
    return newer
