"""The operation log: one entry after the other under `log/`, the only place where writers meet.

Entry n + 1 is created with put-if-absent and names the digest of entry n, so the log has one order, no gaps, and
shows every later change of its past. Refs are the sum of all entries. Two kinds of object make that sum cheap, and
nothing relies on them: `hint/tip` (the newest view its writer knew) and `summary/N` (the view at every 64th entry). A
wrong one costs time.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import suppress
from types import MappingProxyType

from pyfactory.core.canonical import decode, digest_of_value, encode
from pyfactory.core.digest import digest_of
from pyfactory.errors import CorruptError, NotFoundError, PyfactoryError
from pyfactory.repo.fields import digests_by_name, read_versioned
from pyfactory.repo.operation import Operation, View, follow
from pyfactory.store.base import Store

__all__ = ["HINT", "SUMMARY_EVERY", "OperationLog", "log_key", "summary_bytes", "summary_key", "summary_view"]

HINT = "hint/tip"
"""Key of the hint."""

SUMMARY_EVERY = 64
"""Entries between two summaries."""


def log_key(n: int) -> str:
    """Return the key of entry n."""
    return f"log/{n:020d}"


def summary_key(n: int) -> str:
    """Return the key of the summary of entries 0 to n."""
    return f"summary/{n:020d}"


def summary_bytes(view: View) -> bytes:
    """Return the canonical bytes of a view: `n`, the digest of entry n, the refs, and a check sum over these."""
    value = {"entry": view.digest, "n": view.n, "refs": dict(view.refs), "v": 1}
    # A flipped bit in a ref would otherwise go unseen: the digest of entry n does not cover the refs. They may be many,
    # so they are encoded once: `check` sorts before all else.
    content = encode(value)
    return b'{"check":"' + digest_of(content).encode() + b'",' + content[1:]


def summary_view(content: bytes, what: str) -> View:
    """Return the view of hostile bytes; `what` names them in the CorruptError."""
    value = decode(content, what)
    fields = read_versioned(value, ("check", "entry", "n", "refs"), what)
    refs = digests_by_name(fields.mapping("refs"), what)
    if fields.digest("check") != digest_of_value({name: value[name] for name in ("entry", "n", "refs", "v")}):
        raise CorruptError(f"{what} is damaged")
    return View(fields.count("n"), fields.digest("entry"), MappingProxyType(refs))


class OperationLog:
    """The log of one repository. Any number of threads may share it.

    Args:
        store: Where the repository is.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._lock = threading.Lock()
        self._newest: View | None = None

    def view(self) -> View:
        """Return the newest view: one request if nothing has happened since the last call, else O(log n) and the news.

        Raises:
            NotFoundError: There is no log.
            CorruptError: An entry is damaged, missing, or does not follow the ones before it.
        """
        known = self._newest or self.hinted() or follow(None, [self._read(0)], self.store.url)
        tip = self._tip(known.n)
        view = self._folded(self._nearest(known, tip), tip)
        self.remember(view)
        return view

    def history(self, view: View) -> Iterator[Operation]:
        """Yield the operations of a view, newest first, each proved by the digest that its follower holds."""
        expected = view.digest
        for n in range(view.n, -1, -1):
            content = self._read(n)
            what = f"{self.store.url}: log entry {n}"
            if digest_of(content) != expected:
                raise CorruptError(f"{what} is not the one that entry {n + 1} follows")
            operation = Operation.from_bytes(content, what)
            expected = operation.previous
            yield operation

    def remember(self, view: View) -> None:
        """Keep a view from which the next one is found fast."""
        with self._lock:
            if self._newest is None or view.n > self._newest.n:
                self._newest = view

    def leave_hints(self, view: View) -> None:
        """Store what spares readers time; a failure is nobody's loss."""
        content = summary_bytes(view)
        if view.n % SUMMARY_EVERY == 0:
            with suppress(PyfactoryError):
                self.store.create(summary_key(view.n), content)
        with suppress(PyfactoryError):
            self.store.replace(HINT, content, durable=False)  # rubbish in its place is recognised

    def hinted(self) -> View | None:
        """Return the view that the hint holds, if it is whole and stands on an entry of this log."""
        return self._summary(HINT)

    def _summary(self, key: str) -> View | None:
        with suppress(PyfactoryError):
            view = summary_view(self.store.get(key), key)
            if digest_of(self.store.get(log_key(view.n))) == view.digest:
                return view
        return None

    def _tip(self, known: int) -> int:
        """Return the number of the last entry, given one that exists: gallop upwards, then search by halves."""
        low, step = known, 1
        while self.store.size(log_key(low + step)) is not None:
            low += step
            step *= 2
        high = low + step
        while high - low > 1:
            middle = (low + high) // 2
            if self.store.size(log_key(middle)) is None:
                high = middle
            else:
                low = middle
        return low

    def _nearest(self, known: View, tip: int) -> View:
        """Return the newest view from which the tip can be reached: a summary, or the one that is known."""
        # Using a summary takes two requests, so it must save more.
        for n in range(tip - tip % SUMMARY_EVERY, known.n + 2, -SUMMARY_EVERY):
            view = self._summary(summary_key(n))
            if view is not None:
                return view
        return known

    def _folded(self, view: View, tip: int) -> View:
        return follow(view, (self._read(n) for n in range(view.n + 1, tip + 1)), self.store.url)

    def _read(self, n: int) -> bytes:
        try:
            return self.store.get(log_key(n))
        except NotFoundError as error:
            if n == 0:
                raise
            raise CorruptError(
                f"{self.store.url}: log entry {n} is missing, though there are later ones",
                hint=f"put {log_key(n)} back from a copy of the repository",
            ) from error
