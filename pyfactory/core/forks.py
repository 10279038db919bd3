"""Locks after a fork: a child inherits them as they are; those that threads of the parent held stay shut for ever."""

from __future__ import annotations

import os
import weakref
from typing import Protocol

__all__ = ["LockHolder", "renew_in_children"]


class LockHolder(Protocol):
    """Something with a lock of its own."""

    def renew_lock(self) -> None:
        """Take a new lock, nobody else being there."""


_holders: weakref.WeakSet[LockHolder] = weakref.WeakSet()


def renew_in_children(holder: LockHolder) -> None:
    """Call `holder.renew_lock()` in every child that this process forks, as long as the holder lives."""
    _holders.add(holder)


def _renew() -> None:
    for holder in list(_holders):
        holder.renew_lock()


os.register_at_fork(after_in_child=_renew)
