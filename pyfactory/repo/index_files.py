"""The files of record indexes in a store: mapped where there are files, else read in ranges. See `record_index`."""

from __future__ import annotations

import mmap
import tempfile
from functools import partial
from pathlib import Path

from pyfactory.core.digest import Buffer, Digest, parse_digest
from pyfactory.core.durable import translate_os_error
from pyfactory.errors import CorruptError, InvalidInputError, ReadOnlyError
from pyfactory.shard.key_index import Read, sides_of
from pyfactory.store.base import Store

__all__ = ["INDEX", "index_key", "index_sides", "open_index", "staging_of", "store_index"]

INDEX = "index"
"""The folder of all indexes."""

_WIDTH = 32


def index_key(name: Digest) -> str:
    """Return the key of the index of that name."""
    return f"{INDEX}/records/{name[:2]}/{name[2:]}"


def index_sides(store: Store, key: str) -> list[Digest]:
    """Return the side shards that a stored index lists.

    Raises:
        CorruptError: It is no index, or not the one that its key says.
        NotFoundError: There is none.
    """
    try:
        name = parse_digest("".join(key.split("/")[-2:]))
        packed = bytes(sides_of(partial(_ranged, store, key), name))
    except InvalidInputError as error:
        raise CorruptError(f"{store.url}: {key} is no record index") from error
    return [Digest(packed[at : at + _WIDTH].hex()) for at in range(0, len(packed), _WIDTH)]


def staging_of(store: Store) -> Path:
    """Return a folder for files that are to go into a store, or for what only this process needs."""
    try:
        return store.staging()
    except ReadOnlyError:
        return Path(tempfile.gettempdir())


def store_index(store: Store, key: str, path: Path, *, again: bool) -> Read:
    """Store an index that was made, and return what reads it: from here, where the store may not be written."""
    read = _mapped(path)
    try:
        if again:
            store.replace(key, read(0, path.stat().st_size))
        else:
            store.create_from_file(key, path)
    except ReadOnlyError:
        return read
    return open_index(store, key)


def open_index(store: Store, key: str) -> Read:
    """Return what reads an index that is there."""
    path = store.path(key)
    return partial(_ranged, store, key) if path is None else _mapped(path)


def _mapped(path: Path) -> Read:
    with translate_os_error(path), path.open("rb") as file:
        view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    return lambda start, stop: view[start:stop]


def _ranged(store: Store, key: str, start: int, stop: int) -> Buffer:
    try:
        return store.get_range(key, start, stop)
    except InvalidInputError as error:
        raise CorruptError(f"{store.url}: {key} is truncated") from error
