"""Stores around a store: one counts requests, one lets a test fail or kill at any of them."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Lock
from typing import TypeAlias, TypeVar

from pyfactory.core.digest import Buffer
from pyfactory.store.base import Store

__all__ = ["Counted", "Faulty", "Hook"]

Result = TypeVar("Result")
Hook: TypeAlias = Callable[[int, str, str], None]
"""Called with the running number of the call (from 0), the method's name and the key ("" where there is none)."""


class _Around(ABC):
    """A store that passes every call on to another one, by way of `_call`."""

    def __init__(self, inner: Store) -> None:
        self.inner = inner

    @abstractmethod
    def _call(self, method: str, key: str, action: Callable[[], Result]) -> Result: ...

    @property
    def url(self) -> str:
        """Where the inner store is."""
        return self.inner.url

    def get(self, key: str) -> bytes:
        """Return the whole object."""
        return self._call("get", key, lambda: self.inner.get(key))

    def get_range(self, key: str, start: int, stop: int) -> bytes:
        """Return bytes start (included) to stop (excluded)."""
        return self._call("get_range", key, lambda: self.inner.get_range(key, start, stop))

    def size(self, key: str) -> int | None:
        """Return the object's size in bytes, or None when there is no such object."""
        return self._call("size", key, lambda: self.inner.size(key))

    def create(self, key: str, content: Buffer) -> bool:
        """Store an object under a key that must be free; return False when it is taken."""
        return self._call("create", key, lambda: self.inner.create(key, content))

    def create_from_file(self, key: str, path: Path) -> bool:
        """Do as `create` with the content of a local file, which is consumed."""
        return self._call("create_from_file", key, lambda: self.inner.create_from_file(key, path))

    def replace(self, key: str, content: Buffer, *, durable: bool = True) -> None:
        """Store an object whether or not the key is taken."""
        return self._call("replace", key, lambda: self.inner.replace(key, content, durable=durable))

    def delete(self, key: str) -> None:
        """Remove an object; an absent one is fine."""
        return self._call("delete", key, lambda: self.inner.delete(key))

    def list(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Yield (key, size in bytes) of all objects below a folder; the listing counts as one call."""
        return self._call("list", prefix, lambda: self.inner.list(prefix))

    def path(self, key: str) -> Path | None:
        """Return the local file of an object, if the inner store has files."""
        return self._call("path", key, lambda: self.inner.path(key))

    def staging(self) -> Path:
        """Return the inner store's folder for temporary files."""
        return self._call("staging", "", self.inner.staging)


class Counted(_Around):
    """A store that counts calls, so that a test can state what an operation costs.

    Args:
        inner: The store that does the work.
    """

    def __init__(self, inner: Store) -> None:
        super().__init__(inner)
        self.calls: Counter[str] = Counter()
        self._lock = Lock()

    def _call(self, method: str, key: str, action: Callable[[], Result]) -> Result:
        with self._lock:
            self.calls[method] += 1
        return action()


class Faulty(_Around):
    """A store whose every call is surrounded by hooks, which may raise (a failure) or end the process (a crash).

    A raise in `before` is a request that never arrived, one in `after` an answer that was lost: the call has happened.

    Args:
        inner: The store that does the work.
        before: Called before each call.
        after: Called after each call that succeeded, with the same number.
    """

    def __init__(self, inner: Store, before: Hook | None = None, after: Hook | None = None) -> None:
        super().__init__(inner)
        self.before = before
        self.after = after
        self._numbers = itertools.count()  # `next` of it is atomic

    def _call(self, method: str, key: str, action: Callable[[], Result]) -> Result:
        number = next(self._numbers)
        if self.before is not None:
            self.before(number, method, key)
        result = action()
        if self.after is not None:
            self.after(number, method, key)
        return result

    def list(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Yield (key, size in bytes) of all objects below a folder; all are listed between the two hooks."""
        return self._call("list", prefix, lambda: iter([*self.inner.list(prefix)]))
