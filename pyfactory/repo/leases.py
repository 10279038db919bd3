"""Leases: what tells a sweep that somebody is reading or writing right now.

A reader's lease keeps the commit that it reads, a writer's lease keeps a sweep from deleting anything, and the lease
of a sweep keeps a second one from finishing it while the first still deletes. A lease is a small object under
`leases/` that ends by itself: a killed process blocks a sweep until then and no longer. No commit's safety rests on
writers' leases: what is published is compared with what a sweep deletes. They spare a long build that surprise.
"""

from __future__ import annotations

import math
import os
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from pyfactory.core.canonical import decode, encode
from pyfactory.core.digest import Digest
from pyfactory.core.progress import Progress
from pyfactory.errors import CorruptError, NotFoundError, PyfactoryError
from pyfactory.repo.fields import read_versioned
from pyfactory.repo.home import Home
from pyfactory.repo.operation import utc_moment, utc_text

__all__ = ["LEASES", "Held", "Lease", "all_leases", "live", "reading", "take", "writing"]

LEASES = "leases"
"""Folder of the leases."""

_PURPOSES = ("reader", "sweeper", "writer")
_LENGTH = timedelta(hours=1)
_PATIENCE_SECONDS = 30.0
_NAMES = ("began", "commit", "expires", "for", "who")


@dataclass(frozen=True, slots=True)
class Lease:
    """Somebody who is at work.

    Attributes:
        id: Its name: 32 random hexadecimal digits.
        purpose: `reader`, `writer` or `sweeper`.
        commit: What a reader reads, None for the others.
        who: Who holds it.
        began: When it was taken: UTC, as stored.
        expires: When it ends unless it is renewed.
    """

    id: str
    purpose: str
    commit: Digest | None
    who: str
    began: str
    expires: str

    @property
    def key(self) -> str:
        """Where it is stored."""
        return f"{LEASES}/{self.id}"

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        told = (self.began, self.commit, self.expires, self.purpose, self.who)
        return encode({"kind": "lease", "v": 1, **dict(zip(_NAMES, told, strict=True))})

    @classmethod
    def from_bytes(cls, content: bytes, key: str, url: str) -> Lease:
        """Return the lease of hostile bytes; key and URL name it in the CorruptError."""
        what = f"{url}: the lease {key}"
        fields = read_versioned(decode(content, what), _NAMES, what, kind="lease")
        purpose, commit = fields.text("for"), fields.digest_or_none("commit")
        if purpose not in _PURPOSES or (commit is None) == (purpose == "reader"):
            raise CorruptError(f"{what} is for {ascii(purpose)[:40]}, and its commit does not suit that")
        began, expires = fields.time("began"), fields.time("expires")
        for moment in (began, expires):
            utc_moment(moment, what)
        return cls(key.removeprefix(f"{LEASES}/"), purpose, commit, fields.text("who"), began, expires)

    def is_live(self, now: datetime) -> bool:
        """Tell whether it still holds."""
        return utc_moment(self.expires, self.key) > now


class Held:
    """A lease of ours. Use it as a context: leaving it gives the lease back.

    Args:
        home: The repository.
        lease: The lease, stored already.
        length: How long it holds from each renewal on.
    """

    def __init__(self, home: Home, lease: Lease, length: timedelta) -> None:
        self._store = home.store
        self._length = length
        self._owner = os.getpid()
        self._renewed = _elapsed()
        self.lease = lease

    @property
    def is_due(self) -> bool:
        """Whether a quarter of its time is over. One look at the clock."""
        return _elapsed() - self._renewed > self._length.total_seconds() / 4

    @property
    def is_safe(self) -> bool:
        """Whether less than half of its time is over, so that nobody can take it for ended for a good while."""
        return _elapsed() - self._renewed < self._length.total_seconds() / 2

    def renew(self, now: datetime | None = None) -> None:
        """Let it hold for its whole length from now on."""
        began = _elapsed()
        expires = utc_text((now or datetime.now(UTC)) + self._length)
        lease = self.lease
        self.lease = Lease(lease.id, lease.purpose, lease.commit, lease.who, lease.began, expires)
        self._store.replace(lease.key, self.lease.to_bytes())
        self._renewed = began

    def renew_if_due(self) -> None:
        """Renew it once a quarter of its time is over; after a failure, try again in half a minute."""
        if self.is_due:
            try:
                self.renew()
            except PyfactoryError:
                self._renewed = max(self._renewed, _elapsed() - self._length.total_seconds() / 4 + _PATIENCE_SECONDS)

    def release(self) -> None:
        """Give it back; what cannot be deleted ends by itself. A fork of its holder leaves it alone.

        Renewed again, it holds again: whoever closes a loader may go on with it.
        """
        if self._owner == os.getpid() and self._renewed != -math.inf:
            self._renewed = -math.inf
            with suppress(PyfactoryError):
                self._store.delete(self.lease.key)

    def __enter__(self) -> Held:
        """Return the lease itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Give it back."""
        self.release()


def take(
    home: Home,
    purpose: str,
    who: str,
    *,
    commit: Digest | None = None,
    now: datetime | None = None,
    length: timedelta = _LENGTH,
) -> Held:
    """Take a lease. One request.

    Args:
        home: The repository.
        purpose: `reader`, `writer` or `sweeper`.
        who: Who takes it, for the report of the sweep that meets it.
        commit: What a reader reads.
        now: The moment from which it holds, by default this one.
        length: How long it holds.

    Raises:
        ReadOnlyError, UnavailableError: It could not be stored.
    """
    began = now or datetime.now(UTC)
    told = (utc_text(began), utc_text(began + length))
    lease = Lease(secrets.token_hex(16), purpose, commit, who, *told)
    home.store.create(lease.key, lease.to_bytes())
    return Held(home, lease, length)


def reading(home: Home, commit: Digest, who: str) -> Held | None:
    """Take a reader's lease if the store lets us: whoever may only read reads without one, and a sweep cannot know."""
    with suppress(PyfactoryError):
        return take(home, "reader", who, commit=commit)
    return None


@contextmanager
def writing(home: Home, who: str, progress: Progress) -> Iterator[Progress]:
    """Hold a writer's lease while the block writes, renewed as the work tells its progress.

    Args:
        home: The repository.
        who: Who writes.
        progress: Who listens to the work.

    Yields:
        What the work must tell its progress to: it passes everything on.

    Raises:
        ReadOnlyError, UnavailableError: The lease could not be stored, and neither could anything else.
    """
    with take(home, "writer", who) as held:

        def told(stage: str, done: int, total: int | None) -> None:
            held.renew_if_due()
            progress(stage, done, total)

        yield told


def all_leases(home: Home) -> Iterator[Lease]:
    """Yield all leases that are stored, ended ones too, as they are listed; CorruptError if one is none."""
    for key, _ in home.store.list(LEASES):
        with suppress(NotFoundError):  # given back meanwhile
            yield Lease.from_bytes(home.store.get(key), key, home.url)


def live(home: Home, now: datetime) -> list[Lease]:
    """Return the leases that hold now; CorruptError if one is none: it may protect what somebody reads."""
    return [lease for lease in all_leases(home) if lease.is_live(now)]


def _elapsed() -> float:
    """Return seconds that no change of the wall clock moves, and that a machine's sleep counts into where it can."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
