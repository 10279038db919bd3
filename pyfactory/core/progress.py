"""How long work tells how far it is, without knowing who listens."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Progress", "no_progress"]


class Progress(Protocol):
    """Called now and then, from any thread, by work that takes long."""

    def __call__(self, stage: str, done: int, total: int | None) -> None:
        """Tell that `done` of `total` units (None: not known) of a stage are complete."""


def no_progress(stage: str, done: int, total: int | None) -> None:
    """Listen to nothing."""
