"""The interface of an executor: a place where independent tasks run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol, TypeVar

from pyfactory.core.progress import Progress, no_progress

__all__ = ["Executor"]

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


class Executor(Protocol):
    """Runs functions over tasks. A context manager: leaving it waits for running tasks and frees the workers."""

    @property
    def workers(self) -> int:
        """How many tasks run at a time. It decides how long a job takes, never what comes out."""

    def map(
        self,
        function: Callable[[Item], Outcome],
        tasks: Sequence[Item],
        *,
        stage: str,
        progress: Progress = no_progress,
    ) -> list[Outcome]:
        """Return the outcome of each task, in the order of the tasks.

        Args:
            function: Called with each task, from any thread.
            tasks: Started in this order.
            stage: Names the work for `progress`, which is told after each task, from the calling thread.
            progress: Who listens.

        Raises:
            BaseException: Of the tasks that failed, the error of the first in order: it is the same for any number of
                workers. Tasks that have not started then never do; the running ones are waited for.
            KeyboardInterrupt: In the caller, at once; `close` waits for the running tasks.
        """

    def close(self) -> None:
        """Drop what has not started, wait for the rest, free the workers."""

    def __enter__(self) -> Executor: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
