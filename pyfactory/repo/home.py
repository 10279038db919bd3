"""What the parts of a repository need of it: the bytes, the log, and where they are."""

from __future__ import annotations

from typing import Protocol

from pyfactory.repo.operation import View
from pyfactory.repo.oplog import OperationLog
from pyfactory.store.base import Store
from pyfactory.store.content import Objects

__all__ = ["Home"]


class Home(Protocol):
    """A repository, as its own parts see it."""

    @property
    def url(self) -> str:
        """Where the repository is; never contains credentials."""

    @property
    def store(self) -> Store:
        """The bytes by key."""

    @property
    def objects(self) -> Objects:
        """The bytes by digest."""

    @property
    def oplog(self) -> OperationLog:
        """The operation log."""

    def view(self) -> View:
        """Return all refs as they are now."""
