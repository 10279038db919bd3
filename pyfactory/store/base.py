"""The interface of a store, the rules of its keys, and the proof that it can hold a repository.

A key is a relative path such as `objects/ab/cdef` or `log/00000000000000000042`. Its alphabet is what every disk and
every cloud store takes as it is, so that a repository can be copied anywhere. `tmp/` belongs to the stores themselves.
"""

from __future__ import annotations

import re
import secrets
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Protocol

from pyfactory.core.digest import Buffer
from pyfactory.core.durable import translate_os_error
from pyfactory.errors import InvalidInputError, NotFoundError, PyfactoryError, UnavailableError

__all__ = [
    "RESERVED",
    "NoPlaceError",
    "Scratch",
    "Store",
    "check_key",
    "check_prefix",
    "check_range",
    "is_key",
    "is_key_segment",
    "prove_put_if_absent",
]

RESERVED = "tmp"
"""First segment of what stores keep for themselves; no key begins with it."""

# No leading dot: that also rules out `.`, `..` and the litter of file systems (.nfs*, .DS_Store).
_SEGMENT = re.compile(r"[A-Za-z0-9_=+@-][A-Za-z0-9._=+@-]{0,254}")
_LONGEST_KEY = 900  # S3 takes 1,024 bytes, a prefix included
_CONTENDERS = 8


class NoPlaceError(NotFoundError):
    """It is not one object that is missing, but what holds them all, such as a bucket."""


class Store(Protocol):
    """Bytes by key. Safe to use from several threads, and from several machines at once.

    Every method raises errors of `pyfactory.errors` only: InvalidInputError for a malformed key or range, NotFoundError
    for an absent object that is read, ReadOnlyError without permission, UnavailableError when disk or network fail.
    """

    @property
    def url(self) -> str:
        """Where the store is, as `open_store` takes it; never contains credentials."""

    def get(self, key: str) -> bytes:
        """Return the whole object."""

    def get_range(self, key: str, start: int, stop: int) -> bytes:
        """Return bytes start (included) to stop (excluded); a range beyond the object is InvalidInputError."""

    def size(self, key: str) -> int | None:
        """Return the object's size in bytes, or None when there is no such object. One request."""

    def create(self, key: str, content: Buffer) -> bool:
        """Store an object under a key that must be free; durable when it returns.

        Returns:
            True when this call created the object, False when the key is taken (its content is then durable as well).

        Raises:
            UnavailableError: It failed, or its outcome is not known: read back before believing anything.
        """

    def create_from_file(self, key: str, path: Path) -> bool:
        """Do as `create` with the content of a local file, which is consumed (gone when this returns).

        A file on the store's own disk, such as one in `staging()`, is named and not copied.
        """

    def replace(self, key: str, content: Buffer, *, durable: bool = True) -> None:
        """Store an object whether or not the key is taken, atomically; nothing that is lost with it may matter.

        `durable=False` is for what carries its own check sum: it need neither wait for the disk nor be atomic, so that
        others may see rubbish while it is written, and after a kill or a power loss.
        """

    def delete(self, key: str) -> None:
        """Remove an object; an absent one is fine."""

    def list(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Yield (key, size in bytes) of all objects below a folder ("" for all), ascending by code point.

        `log` does not list `logs/1`: whole segments match. What killed writers left behind is never shown.
        """

    def path(self, key: str) -> Path | None:
        """Return the local file of an object, to be mapped and never written, or None when the store has no files."""

    def staging(self) -> Path:
        """Return an existing folder for temporary files, on the store's own disk if it has one."""


def check_key(key: str) -> str:
    """Return the key, or raise InvalidInputError when no store may hold it."""
    if not is_key(key):
        raise InvalidInputError(
            f"{key!r} cannot be the key of an object",
            hint=f"segments of A-Z a-z 0-9 . _ = + @ - between slashes, no dot before any, not {RESERVED} as the first",
        )
    return key


def check_prefix(prefix: str) -> str:
    """Return a folder prefix without a slash at its end ("" for the root), or raise InvalidInputError."""
    folder = prefix.removesuffix("/")
    return check_key(folder) if prefix else ""


def check_range(key: str, start: int, stop: int, size: int | None = None) -> None:
    """Raise InvalidInputError unless 0 <= start <= stop (<= size, where the size is known)."""
    if not 0 <= start <= stop or (size is not None and stop > size):
        of = "" if size is None else f", which has {size} bytes"
        raise InvalidInputError(f"bytes {start} to {stop} are not a range of {key}{of}")


def is_key(key: str) -> bool:
    """Tell whether an object may have this key; whatever else lies in a store is litter."""
    segments = key.split("/")
    return len(key) <= _LONGEST_KEY and segments[0] != RESERVED and all(map(is_key_segment, segments))


def is_key_segment(name: str) -> bool:
    """Tell whether a name may stand between the slashes of a key."""
    return _SEGMENT.fullmatch(name) is not None


class Scratch:
    """A temporary folder made on first use and removed with its owner, for stores that have no disk of their own."""

    def __init__(self) -> None:
        self._folder: Path | None = None

    def folder(self) -> Path:
        """Return the folder, which exists."""
        if self._folder is None or not self._folder.is_dir():
            with translate_os_error("the folder for temporary files"):
                self._folder = Path(tempfile.mkdtemp(prefix="pyfactory-"))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
        return self._folder


def prove_put_if_absent(store: Store) -> None:
    """Race threads for one fresh key and see that exactly one creates it: without that a store loses commits.

    Raises:
        UnavailableError: More than one thread was told that it created the object, or none was.
        PyfactoryError: The store failed in another way, such as ReadOnlyError.
    """
    key = f"probe/{secrets.token_hex(16)}"
    together = Barrier(_CONTENDERS)

    def contend(contender: int) -> bool | PyfactoryError:
        together.wait()
        try:
            return store.create(key, bytes([contender]))
        except PyfactoryError as error:
            return error

    try:
        with ThreadPoolExecutor(_CONTENDERS) as threads:
            answers = list(threads.map(contend, range(_CONTENDERS)))
        _judge(store, key, answers)
    finally:
        store.delete(key)


def _judge(store: Store, key: str, answers: list[bool | PyfactoryError]) -> None:
    winners = [bytes([contender]) for contender, answer in enumerate(answers) if answer is True]
    if len(winners) == 1 and store.get(key) == winners[0]:
        return
    for answer in answers:
        if isinstance(answer, PyfactoryError):
            raise answer
    raise UnavailableError(
        f"{store.url} has no put-if-absent: {len(winners)} of {len(answers)} writers were told that they created {key}",
        hint="it cannot hold a repository; use a local disk, S3, Google Cloud Storage or Azure",
    )
