"""Verification of the log: every entry, its place in the chain, and what the hints remember of it.

Unlike a reader, it goes on after a fault, so it takes nothing for granted: a ref whose value is lost with an entry is
unknown until it moves again.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field

from pyfactory.core.digest import NO_DIGEST, Digest, digest_of
from pyfactory.errors import NotFoundError, PyfactoryError
from pyfactory.repo.findings import Findings
from pyfactory.repo.names import BRANCH, TAG
from pyfactory.repo.operation import Operation, View
from pyfactory.repo.oplog import HINT, SUMMARY_EVERY, log_key, summary_key, summary_view
from pyfactory.repo.reachable import GC
from pyfactory.store.base import Store

__all__ = ["LogCheck"]

_WIDEST_GAP = 1000  # entries looked for behind one that is missing


@dataclass
class LogCheck:
    """One pass over the log of a store, from its first entry on.

    Attributes:
        store: Where the log is.
        findings: Takes the problems.
        operations: Entries read so far.
        commits: Every commit that a branch or tag ever named, in order, with the ref that named it.
        documents: Every object that another ref ever named, in order, with that ref; of a sweep's own refs, which let
            their lists go, only what they name now.
        swept: Whether there was ever a sweep, so that what no ref leads to may be gone.
    """

    store: Store
    findings: Findings
    operations: int = 0
    commits: dict[Digest, str] = field(default_factory=dict)
    documents: dict[Digest, str] = field(default_factory=dict)
    swept: bool = False
    _previous: Digest | None = NO_DIGEST  # None: lost
    _refs: dict[str, Digest | None] = field(default_factory=dict)
    _whole: bool = True  # all refs are known
    _tagged: dict[str, Digest] = field(default_factory=dict)

    def run(self) -> None:
        """Read the log to its end."""
        hint = self._remembered(HINT)
        n = 0
        while True:
            content = self._read(n)
            if content is not None:
                self._take(n, content, hint)
                n += 1
                continue
            beyond = self._beyond(n, hint)
            if beyond is None:
                break
            if log_key(n) not in self.findings.names():
                self._note(n, f"entries {n} to {beyond - 1} are missing, though entry {beyond} exists")
            self._lose()
            n = beyond
        if hint is not None and hint.n >= n:
            self._note(n, f"the log ends at entry {n - 1}, but the hint remembers entry {hint.n}: its end is missing")

    def refs(self) -> dict[str, Digest]:
        """Return what the refs name now, as far as it is known."""
        return {ref: new for ref, new in self._refs.items() if new is not None}

    def view(self) -> View:
        """Return the refs as a view, to be used for nothing but looking up refs."""
        return View(max(self.operations - 1, 0), self._previous or NO_DIGEST, self.refs())

    def _read(self, n: int) -> bytes | None:
        """Return the bytes of an entry, None if there is none; one that exists but cannot be read is noted."""
        with self.findings.noting(log_key(n)), suppress(NotFoundError):
            return self.store.get(log_key(n))
        return None

    def _beyond(self, n: int, hint: View | None) -> int | None:
        """Return the first entry found after a missing one, or None if the log ends there."""
        last = n + 1
        with suppress(PyfactoryError):
            if hint is not None and hint.n > n and self.store.size(log_key(hint.n)) is not None:
                last = hint.n
        for candidate in range(n + 1, min(last, n + _WIDEST_GAP) + 1):
            with suppress(PyfactoryError):
                if self.store.size(log_key(candidate)) is not None:
                    return candidate
        return last if last > n + 1 else None

    def _take(self, n: int, content: bytes, hint: View | None) -> None:
        self.operations += 1
        operation = self._parsed(n, content)
        if operation is None:
            self._lose()
            return
        if operation.n != n:
            self._note(n, f"it says that it is entry {operation.n}")
        if self._previous is not None and operation.previous != self._previous:
            self._note(
                n, f"entry {n} does not follow the bytes of entry {n - 1}: one of the two is not as it was written"
            )
        for change in operation.changes:
            self._move(n, change.ref, change.old, change.new)
        self._previous = digest_of(content)
        self._compare(n, hint if hint is not None and hint.n == n else None, HINT)
        if n % SUMMARY_EVERY == 0:
            self._compare(n, self._remembered(summary_key(n)), summary_key(n))

    def _parsed(self, n: int, content: bytes) -> Operation | None:
        with self.findings.noting(log_key(n)):
            return Operation.from_bytes(content, f"{self.store.url}: log entry {n}")
        return None

    def _move(self, n: int, ref: str, old: Digest | None, new: Digest | None) -> None:
        if ref in self._refs or self._whole:
            found = self._refs.get(ref)
            if found != old:
                self._note(n, f"it moves {ref} from {old}, but entries before say {found}")
        self._refs[ref] = new
        if ref.startswith(TAG) and new is not None and self._tagged.setdefault(ref, new) != new:
            self._note(n, f"it moves {ref}, and tags never move")
        if ref.startswith((BRANCH, TAG)):
            for digest in (old, new):
                if digest is not None:
                    self.commits.setdefault(digest, ref)
        elif ref.startswith(GC):
            self.swept = True
        elif new is not None:
            self.documents.setdefault(new, ref)

    def _compare(self, n: int, remembered: View | None, key: str) -> None:
        """Compare what a hint or summary says of the log up to entry n with what was read."""
        if remembered is None:
            return
        if remembered.n != n or remembered.digest != self._previous:
            self._note(n, f"{key} remembers another entry {n}: the log was rewritten, or the hint is wrong")
        elif self._whole and dict(remembered.refs) != {ref: new for ref, new in self._refs.items() if new is not None}:
            self.findings.add("log", key, f"{self.store.url}: {key} holds other refs than the log up to entry {n}")

    def _remembered(self, key: str) -> View | None:
        # A hint that cannot be read costs readers time and nothing else: no problem.
        with suppress(PyfactoryError):
            return summary_view(self.store.get(key), key)
        return None

    def _lose(self) -> None:
        """Forget what an entry that cannot be read would have said."""
        self._previous = None
        self._refs.clear()
        self._whole = False

    def _note(self, n: int, what: str) -> None:
        self.findings.add("log", log_key(n), f"{self.store.url}: log entry {n}: {what}")
