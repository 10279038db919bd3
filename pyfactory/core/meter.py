"""Where time goes: seconds and counts by name, cheap enough for every batch."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from pyfactory.core.forks import renew_in_children

__all__ = ["Meter"]


class Meter:
    """Sums of seconds and of counts, added to by any thread."""

    def __init__(self) -> None:
        self.renew_lock()
        renew_in_children(self)
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._counts: defaultdict[str, int] = defaultdict(int)

    def renew_lock(self) -> None:
        """Take a new lock; see `core.forks`."""
        self._lock = threading.Lock()

    def add_seconds(self, name: str, seconds: float) -> None:
        """Add an interval, in seconds."""
        with self._lock:
            self._seconds[name] += seconds

    def add_count(self, name: str, count: int) -> None:
        """Add to a counter."""
        with self._lock:
            self._counts[name] += count

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Add the time that the block takes."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add_seconds(name, time.perf_counter() - start)

    def seconds(self, name: str) -> float:
        """Return the sum of intervals under a name, in seconds."""
        with self._lock:
            return self._seconds[name]

    def count(self, name: str) -> int:
        """Return a counter."""
        with self._lock:
            return self._counts[name]
