"""Batches made ahead of the training loop by threads of this process, delivered in order.

Threads, not processes: handing a batch to another process costs more than making it, and the copying holds no GIL.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["Threads"]

T = TypeVar("T")
R = TypeVar("R")


class Threads:
    """An ordered, bounded look-ahead.

    Args:
        num_workers: Threads; 0 makes each batch when it is asked for.
        ahead: Batches made in advance.
    """

    def __init__(self, num_workers: int, ahead: int) -> None:
        self.num_workers = num_workers
        self.ahead = ahead if num_workers else 0
        self._pool: ThreadPoolExecutor | None = None
        self._process = 0

    def map(self, make: Callable[[T], R], plans: Iterator[T]) -> Iterator[R]:
        """Yield make(plan) for each plan, in order; an exception of `make` is raised in its turn."""
        if not self.num_workers:
            yield from map(make, plans)
            return
        pool = self._started()
        waiting: deque[Future[R]] = deque()
        try:
            for planned in plans:
                waiting.append(pool.submit(make, planned))
                if len(waiting) > self.ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

    def close(self) -> None:
        """End the threads, after the batches they are at."""
        if self._pool is not None:
            self._pool.shutdown(wait=self._process == os.getpid(), cancel_futures=True)
            self._pool = None

    def _started(self) -> ThreadPoolExecutor:
        # Threads do not survive a fork: a child that waited for its parent's would wait for ever.
        if self._pool is None or self._process != os.getpid():
            self._pool = ThreadPoolExecutor(self.num_workers, thread_name_prefix="pyfactory-loader")
            self._process = os.getpid()
        return self._pool
