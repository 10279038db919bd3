"""Many small requests at once, with the results in the order of what was asked."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["in_order"]

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

_WINDOW = 64


def in_order(function: Callable[[Item], Outcome], items: Iterable[Item], workers: int) -> Iterator[Outcome]:
    """Yield the outcome of each item, in order, working ahead on up to 64 items.

    How far it works ahead does not depend on the number of workers, so neither does the order in which `items` is
    drawn and outcomes are yielded.

    Args:
        function: Called with each item, from other threads.
        items: Drawn from the calling thread.
        workers: Number of threads.

    Raises:
        BaseException: What `function` or `items` raised, at its place; what has not started then never does.
    """
    pending: deque[Future[Outcome]] = deque()
    threads = ThreadPoolExecutor(workers, thread_name_prefix="pyfactory-repo")
    try:
        for item in items:
            pending.append(threads.submit(function, item))
            if len(pending) >= _WINDOW:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        threads.shutdown(wait=True, cancel_futures=True)
