"""What Ctrl-C does: the first one ends the command tidily, the second one at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["interruptible"]

# A command that is killed by `timeout` or loses its terminal cleans up as well: the demo has processes of its own.
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def interruptible(say: Callable[[str], None]) -> Iterator[None]:
    """Raise KeyboardInterrupt in the block at the first signal; end the program at the second.

    Work that cannot be cut short, such as the training of a tokenizer, is waited for after the first. Ending at once is
    safe as well: a repository survives a kill at any moment.

    Args:
        say: Told after the first signal, which may take a while to show.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set signal handlers
        return
    asked: list[int] = []

    def stop(number: int, frame: FrameType | None) -> None:
        if asked:
            os._exit(1)
        asked.append(number)
        say("stopping as soon as the running tasks end; Ctrl-C again stops at once")
        raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in _SIGNALS}
    # `nohup` and the like ignore a signal on purpose.
    ours = [number for number in _SIGNALS if before[number] in (signal.SIG_DFL, signal.default_int_handler)]
    try:
        for number in ours:
            signal.signal(number, stop)
        yield
    finally:
        for number in ours:
            signal.signal(number, before[number])
