"""The entries of a run in the repository: written one after the other, read, and what one left behind."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from pyfactory.core import canonical
from pyfactory.core.digest import NO_DIGEST, Digest, digest_of
from pyfactory.errors import ConflictError, CorruptError, NotFoundError, UnavailableError
from pyfactory.store.base import Store

__all__ = ["Chain", "continued", "read_run"]


class Chain:
    """The entries of one run, each naming the digest of the one before."""

    def __init__(self, store: Store, run: str) -> None:
        self._store = store
        self._run = run
        self._next = 0
        self._previous = NO_DIGEST

    def append(self, kind: str, entry: dict[str, Any]) -> tuple[int, Digest]:
        """Write an entry; return its number and digest."""
        now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        whole = {"v": 1, "n": self._next, "previous": self._previous, "time": now, "kind": kind, **entry}
        content = canonical.encode(whole)
        key = _key(self._run, self._next)
        # Nobody else writes this run: a key that is taken holds either these bytes, from a try whose answer was lost,
        # or a fault.
        if not self._created(key, content) and self._store.get(key) != content:
            raise ConflictError(f"{key} in {self._store.url} was written by somebody else")
        number, self._previous = self._next, digest_of(content)
        self._next += 1
        return number, self._previous

    def _created(self, key: str, content: bytes) -> bool:
        try:
            return self._store.create(key, content)
        except UnavailableError:
            if self._store.size(key) is None:
                raise
            return False  # it landed, and the answer was lost


def read_run(store: Store, run: str) -> list[dict[str, Any]]:
    """Return the entries of a run, oldest first.

    Raises:
        NotFoundError: No such run.
        CorruptError: The chain of entries is broken.
    """
    entries: list[dict[str, Any]] = []
    previous = NO_DIGEST
    while store.size(key := _key(run, len(entries))) is not None:
        content = store.get(key)
        entry = canonical.decode(content, f"{key} in {store.url}")
        if not isinstance(entry, dict) or entry.get("n") != len(entries) or entry.get("previous") != previous:
            raise CorruptError(f"{key} in {store.url} does not follow the entry before it")
        previous = digest_of(content)
        entries.append(entry | {"digest": previous})
    if not entries:
        raise NotFoundError(f"there is no run {run} in {store.url}")
    return entries


def continued(store: Store, record: dict[str, Any]) -> dict[str, Any]:
    """Tell which checkpoint a run continues, and what was handed out after it, which is now in no model.

    That is what the run of the checkpoint did next, and what others did that were resumed from the same checkpoint.
    """
    tried = [record["run"], *_resumed_from(store, record)]
    abandoned = [lost for run in tried if (lost := _lost(store, run, record["position"])) is not None]
    return {"run": record["run"], "entry": record["entry"], "digest": record["digest"], "abandoned": abandoned}


def _resumed_from(store: Store, record: dict[str, Any]) -> Iterator[str]:
    for key, _ in store.list("runs"):
        _, run, number = key.split("/")
        if number == f"{0:08d}" and run != record["run"]:
            parent = canonical.decode(store.get(key), key).get("parent")
            if parent is not None and parent["digest"] == record["digest"]:
                yield run


def _lost(store: Store, run: str, position: int) -> dict[str, Any] | None:
    """Return what a run handed out behind a position: exactly if it wrote its end, at most if it did not live to."""
    entries = read_run(store, run)
    ended = entries[-1]["kind"] == "end"
    reached = entries[-1]["position"] if ended else max(entry["position"] for entry in entries)
    return {"run": run, "span": [position, reached], "exact": ended} if reached > position else None


def _key(run: str, number: int) -> str:
    return f"runs/{run}/{number:08d}"
