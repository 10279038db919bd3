"""The reader's leases of a loader: from its first batch until it is closed, let go of, or the program ends."""

from __future__ import annotations

import weakref
from collections.abc import Iterable

from pyfactory.repo.leases import Held, reading
from pyfactory.stream.stream import Stream

__all__ = ["ReadingLeases"]


class ReadingLeases:
    """Keeps sweeps from taking what a stream reads, even if the branch or tag goes.

    One lease for each commit; where a repository cannot be written, there is none.

    Args:
        stream: What is read.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._held: list[Held] | None = None

    def begin(self, owner: object) -> None:
        """Take the leases, unless they were taken; they end with the owner or the program if `end` is not called."""
        if self._held is None:
            versions = {(feed.version.repository.url, feed.version.commit): feed.version for feed in self._stream.feeds}
            found = (reading(each.repository, each.commit, f"loader of {each.table}") for each in versions.values())
            self._held = [lease for lease in found if lease is not None]
            # It refers to the leases alone, so that it does not keep the owner alive; it runs at exit as well. In a
            # forked child it does nothing: a lease is released only by the process that took it.
            weakref.finalize(owner, _release, self._held)

    def renew(self) -> None:
        """Renew those that are due."""
        for lease in self._held or ():
            lease.renew_if_due()

    def end(self) -> None:
        """Give them back; `renew` takes them again."""
        _release(self._held or ())


def _release(held: Iterable[Held]) -> None:
    for lease in held:
        lease.release()
