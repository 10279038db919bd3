"""Locks in forked children."""

from __future__ import annotations

import os
import threading

from pyfactory.core.meter import Meter


def test_a_lock_that_a_thread_held_is_open_in_the_child():
    """Catches: a child that waits for ever for a thread that only its parent has."""
    meter = Meter()
    held, release = threading.Event(), threading.Event()

    def hold() -> None:
        with meter._lock:
            held.set()
            release.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(60)
    child = os.fork()
    if child == 0:
        meter.add_count("batches", 1)
        os._exit(0 if meter.count("batches") == 1 else 1)
    _, status = os.waitpid(child, 0)
    release.set()
    thread.join()
    assert status == 0
