"""What Ctrl-C does: the first one ends the command tidily, the second one at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["interruptible"]

# A command that is killed by `timeout` or loses its terminal cleans up as well: the demo has processes of its own.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

_PATIENCE_SECONDS = 1.0
_WAITING = b"stopping as soon as the running tasks end; Ctrl-C again stops at once\n"


@contextmanager
def interruptible(*, quiet: bool) -> Iterator[None]:
    """Raise KeyboardInterrupt in the block at the first signal; end the program at the second.

    Work that cannot be cut short, such as the training of a tokenizer, is waited for after the first, and stderr says
    so. Ending at once is safe as well: a repository survives a kill at any moment.

    Args:
        quiet: Say nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set signal handlers
        return
    asked: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        if asked:
            os._exit(1)
        asked.append(number)
        signal.setitimer(signal.ITIMER_REAL, _PATIENCE_SECONDS)
        raise KeyboardInterrupt

    def tell(number: int, frame: FrameType | None) -> None:
        if not quiet:
            os.write(2, _WAITING)  # a stream may be in the middle of a write

    before = {number: signal.getsignal(number) for number in (*_SIGNALS, signal.SIGALRM)}
    try:
        signal.signal(signal.SIGALRM, tell)
        for number in _SIGNALS:
            # `nohup` and the like ignore a signal on purpose.
            if before[number] in (signal.SIG_DFL, signal.default_int_handler):
                signal.signal(number, stop)
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, action in before.items():
            if action is not None:  # not set from Python
                signal.signal(number, action)
