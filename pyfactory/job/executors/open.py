"""The one place that chooses where tasks run."""

from __future__ import annotations

import os

from pyfactory.errors import InvalidInputError
from pyfactory.job.executors.base import Executor

__all__ = ["open_executor"]


def open_executor(workers: int | None = None) -> Executor:
    """Return an executor on this machine.

    Args:
        workers: Tasks that run at a time; by default as many as there are CPUs.

    Raises:
        InvalidInputError: `workers` is not a positive integer.
    """
    from pyfactory.job.executors.in_process import ThreadExecutor

    if workers is not None and (isinstance(workers, bool) or not isinstance(workers, int) or workers < 1):
        raise InvalidInputError(f"{workers!r} workers cannot run a job", hint="give a number of at least 1, or none")
    return ThreadExecutor(workers or os.cpu_count() or 1)
