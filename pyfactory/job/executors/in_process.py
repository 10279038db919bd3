"""Tasks on threads of this process.

Threads and not processes: Arrow, gigatoken, `tokenizers` (in batches) and NumPy release the GIL while they work,
memory maps and warm tokenizers are shared, nothing is pickled. A filter function written in Python is the exception:
it holds the GIL, so more workers do not make it faster.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice
from types import TracebackType
from typing import TypeVar

from pyfactory.core.progress import Progress, no_progress

__all__ = ["ThreadExecutor"]

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")

_QUEUED_PER_WORKER = 2  # one running, one waiting: workers never idle, and little is there to be cancelled


class ThreadExecutor:
    """An executor of threads in this process.

    Args:
        workers: Number of threads, at least 1.
    """

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix="pyfactory-job")

    @property
    def workers(self) -> int:
        """How many tasks run at a time."""
        return self._workers

    def map(
        self,
        function: Callable[[Item], Outcome],
        tasks: Sequence[Item],
        *,
        stage: str,
        progress: Progress = no_progress,
    ) -> list[Outcome]:
        """Return the outcome of each task, in order; see `Executor.map`."""
        futures: list[Future[Outcome]] = []
        waiting = iter(tasks)
        pending: set[Future[Outcome]] = set()

        def submit(count: int) -> None:
            for task in islice(waiting, count):
                futures.append(self._threads.submit(function, task))
                pending.add(futures[-1])

        try:
            progress(stage, 0, len(tasks))
            submit(_QUEUED_PER_WORKER * self._workers)
            while pending:
                for future in wait(pending, return_when=FIRST_COMPLETED).done:
                    pending.discard(future)
                    future.result()
                    progress(stage, len(futures) - len(pending), len(tasks))
                submit(_QUEUED_PER_WORKER * self._workers - len(pending))
            return [future.result() for future in futures]
        except BaseException as error:
            failure = _settle(futures, error)
        raise failure

    def close(self) -> None:
        """Drop what has not started, wait for the rest, free the threads."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> ThreadExecutor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _settle(futures: list[Future[Outcome]], error: BaseException) -> BaseException:
    """Cancel what has not started, wait for the rest, and return what to raise.

    Tasks start in order, so every task before the first that fails has started, whatever the number of workers.
    """
    for future in reversed(futures):
        future.cancel()
    if isinstance(error, KeyboardInterrupt):
        return error  # at once: whoever made the tasks may tell them to end; closing the executor waits for them
    # `exception` waits for what runs.
    failures = [future.exception() for future in futures if not future.cancelled()]
    if any(failure is error for failure in failures):
        return next(failure for failure in failures if failure is not None)
    return error  # of the caller itself: its progress, or a KeyboardInterrupt
