"""`format.json`: what a program must understand before it may read or write a repository."""

from __future__ import annotations

from typing import Any

from pyfactory.core.canonical import decode, encode
from pyfactory.errors import CorruptError, NewerFormatError, NotFoundError
from pyfactory.repo.oplog import log_key
from pyfactory.store.base import Store

__all__ = ["FORMAT_KEY", "check_writable", "read_format", "write_format"]

FORMAT_KEY = "format.json"
"""Key of the format object."""

_FORMAT = 1
_READER_FEATURES: frozenset[str] = frozenset()
_WRITER_FEATURES: frozenset[str] = frozenset()


def write_format(store: Store) -> None:
    """Declare a store to be a repository of this format; one that is declared already must be readable by us."""
    if not store.create(FORMAT_KEY, encode({"format": _FORMAT, "reader": [], "writer": []})):
        check_writable(store.url, read_format(store))


def read_format(store: Store) -> tuple[str, ...]:
    """Check that this program may read a repository, and return the features that writers must have.

    Raises:
        NotFoundError: There is no repository.
        NewerFormatError: It needs a newer pyfactory.
        CorruptError: The format object is damaged.
    """
    what = f"{store.url}/{FORMAT_KEY}"
    try:
        value = decode(store.get(FORMAT_KEY), what)
    except NotFoundError as error:
        if store.size(log_key(0)) is not None:
            raise CorruptError(f"{what} is missing, though there is a log", hint="restore it from a copy") from error
        raise NotFoundError(f"no pyfactory repository at {store.url}", hint=f"pyfactory init {store.url}") from error
    match value:
        case {"format": int(number)} if number > _FORMAT:
            raise _newer(store.url, f"format {number}")
        case {"format": 1, "reader": [*reader], "writer": [*writer]} if len(value) == 3 and value["format"] is not True:
            _check(store.url, _texts(reader, what), _READER_FEATURES)
            return _texts(writer, what)
    raise CorruptError(f"{what} does not describe a format")


def check_writable(url: str, writer: tuple[str, ...]) -> None:
    """Raise NewerFormatError unless this program has the features that writers must have."""
    _check(url, writer, _WRITER_FEATURES)


def _check(url: str, needed: tuple[str, ...], known: frozenset[str]) -> None:
    unknown = sorted(set(needed) - known)
    if unknown:
        raise _newer(url, f"the feature{'s' if len(unknown) > 1 else ''} {', '.join(unknown)}")


def _newer(url: str, what: str) -> NewerFormatError:
    return NewerFormatError(f"{url} has {what}, which this pyfactory does not know", hint="upgrade pyfactory")


def _texts(values: list[Any], what: str) -> tuple[str, ...]:
    if not all(isinstance(value, str) for value in values):
        raise CorruptError(f"{what}: a feature is not text")
    return tuple(values)
