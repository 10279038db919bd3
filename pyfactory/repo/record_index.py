"""Where the records of a table are: a sorted list of keys for every few batches of shards, found by name.

A table is cut into *segments*, runs of consecutive shards, by its batches: each batch begins as a segment, and eight
segments of about the same size become one, so that a table of any number of batches has few of them, an append makes
a small one, and a record is written again only as often as the table grows eightfold. A segment is named by the side
shards in it as they are read now (`shard.key_index`): versions share them, and a redaction gives it another name. They
are kept under `index/records/`, made when they are first asked for, and advice: what is missing or damaged is made
again, and what names a side that is swept goes with it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pyfactory.core.digest import NO_DIGEST, Digest
from pyfactory.core.durable import translate_os_error
from pyfactory.core.progress import Progress, no_progress
from pyfactory.errors import CorruptError, NotFoundError
from pyfactory.repo.home import Home
from pyfactory.repo.index_files import index_key, open_index, staging_of, store_index
from pyfactory.repo.segments import segments_of
from pyfactory.repo.threads import in_order
from pyfactory.shard.key_index import Read, Shape, Sorted, find_key, name_of, write_key_index
from pyfactory.shard.layout import KEY_BYTES, key_of_id
from pyfactory.shard.manifest import Manifest
from pyfactory.shard.reader import open_shard, open_side, token_buffers

if TYPE_CHECKING:
    from pyfactory.repo.version import Version

__all__ = ["RecordIndex", "rows_of_record", "tokens_of_rows"]

Int64s = NDArray[np.int64]

_THREADS = 8


def rows_of_record(version: Version, record_id: str, progress: Progress = no_progress) -> list[tuple[int, int]]:
    """Return where a record stands in a table: (number of the shard in the table, row in the shard), ascending.

    An id that several rows have gives all of them; () if no row has it. Warm it is two small reads in each of a few
    segments and one look at the side of each row; the first look into a table walks its manifest, and makes what is
    missing of the index, which reads all its sides.

    Args:
        version: The table.
        record_id: The id; that of a forgotten record is in no table (see `forgotten.missing_record`).
        progress: Told of each side indexed, as stage `index`.

    Raises:
        CorruptError: A side or node of the table is damaged.
        NotFoundError: A side is gone.
    """
    return version.record_index.rows_of(record_id, progress)


def tokens_of_rows(version: Version, rows: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the tokens of rows of a token table: (first, one past the last), counted in the whole table.

    Args:
        version: The table.
        rows: (number of the shard, row in it).
    """
    found: list[tuple[int, int]] = []
    manifest = version.manifest
    bounds: dict[int, tuple[int, Int64s]] = {}
    for shard, row in rows:
        if shard not in bounds:
            part = manifest.part(shard)
            what = f"shard {part.shard} of table {version.table!r} in {version.repository.url}"
            _, offsets = token_buffers(open_shard(manifest.objects.map(part.shard), what))
            if len(offsets) != part.rows + 1:
                raise CorruptError(f"{what} has {len(offsets) - 1} rows, and its manifest says {part.rows}")
            bounds[shard] = int(manifest.token_starts(np.array([shard]))[0]), offsets
        start, offsets = bounds[shard]
        found.append((start + int(offsets[row]), start + int(offsets[row + 1])))
    return found


@dataclass(frozen=True, slots=True)
class _Named:
    """A segment without the list of its sides, of which a large table has many."""

    name: Digest
    first: int
    shape: Shape


class RecordIndex:
    """The record index of one table. Any number of threads may share one.

    Args:
        home: The repository.
        manifest: The shards of the table.
        table: Its name, for errors.
    """

    def __init__(self, home: Home, manifest: Manifest, table: str) -> None:
        self._home = home
        self._manifest = manifest
        self._table = table
        self._planned: tuple[Mapping[Digest, Digest], list[_Named]] | None = None
        self._open: dict[Digest, Read] = {}

    def rows_of(self, record_id: str, progress: Progress = no_progress) -> list[tuple[int, int]]:
        """Return (number of the shard, row) of all rows with an id; see `rows_of_record`."""
        before = self._home.objects.redirect
        try:
            return self._rows_of(record_id, progress)
        except NotFoundError:
            self._home.view()  # a side is gone: it may have been redacted, and this learns of it
            if self._home.objects.redirect is before:
                raise
            return self._rows_of(record_id, progress)

    def build(self, progress: Progress = no_progress) -> int:
        """Make what is missing of the index; return the number of segments of the table."""
        segments = self._segments()
        for named in segments:
            self._reader(named, progress)
        return len(segments)

    def _rows_of(self, record_id: str, progress: Progress) -> list[tuple[int, int]]:
        key = key_of_id(record_id)
        return [place for named in self._segments() for place in self._within(named, key, record_id, progress)]

    def _segments(self) -> list[_Named]:
        planned, redirect = self._planned, self._home.objects.redirect
        if planned is None or planned[0] is not redirect:
            found = segments_of(self._manifest.entries(), lambda side: redirect.get(side, side))
            named = [_Named(name_of(one.packed), one.first, Shape(one.shards, one.rows)) for one in found if one.rows]
            planned = self._planned = redirect, named
        return planned[1]

    def _within(self, named: _Named, key: bytes, record_id: str, progress: Progress) -> list[tuple[int, int]]:
        found = self._found(named, key, self._reader(named, progress))
        if found is None:  # damaged, or swept meanwhile
            found = self._found(named, key, self._made(named, progress, again=True))
        if found is None:
            raise CorruptError(f"{self._home.url}: the record index {named.name} is damaged as soon as it is made")
        return [place for place, record in found if record == record_id]

    def _found(self, named: _Named, key: bytes, read: Read) -> list[tuple[tuple[int, int], str]] | None:
        """Return all rows of a segment with a key, and their ids; None if the index does not tell the truth."""
        try:
            found = find_key(read, named.name, named.shape, key)
        except (CorruptError, NotFoundError):
            return None
        places = []
        for side, row in found:
            record = self._id(named, side, row)
            if record is None or key_of_id(record) != key:
                return None
            places.append(((named.first + side, row), record))
        return places

    def _id(self, named: _Named, side: int, row: int) -> str | None:
        if side >= named.shape.sides:
            return None
        digest = self._manifest.part(named.first + side).side
        what = f"the side {digest} of table {self._table!r} in {self._home.url}"
        opened = open_side(self._home.objects.map(digest), what)
        return opened.id(row) if row < len(opened) else None

    def _reader(self, named: _Named, progress: Progress) -> Read:
        """Return what reads a segment, which is made if it is not there."""
        read = self._open.get(named.name)
        if read is None:
            nbytes = self._home.store.size(index_key(named.name))
            if nbytes == named.shape.nbytes:
                read = self._open[named.name] = open_index(self._home.store, index_key(named.name))
            else:
                read = self._made(named, progress, again=nbytes is not None)
        return read

    def _made(self, named: _Named, progress: Progress, *, again: bool) -> Read:
        """Write a segment; `again`: over one that is damaged."""
        store = self._home.store
        folder = staging_of(store)
        with translate_os_error(folder):
            handle, name = tempfile.mkstemp(dir=folder)
            os.close(handle)
        path = Path(name)
        try:
            with translate_os_error(path), path.open("wb") as file:
                self._write(file, folder, named, progress)
            read = self._open[named.name] = store_index(store, index_key(named.name), path, again=again)
        finally:
            with suppress(OSError):
                path.unlink(missing_ok=True)
        return read

    def _write(self, file: IO[bytes], scratch: Path, named: _Named, progress: Progress) -> None:
        shards = range(named.first, named.first + named.shape.sides)
        redirect = self._planned[0] if self._planned is not None else self._home.objects.redirect
        digests = [redirect.get(side, side) for side in (self._manifest.part(shard).side for shard in shards)]
        packed = bytes.fromhex("".join(digests))
        if name_of(packed) != named.name:
            raise NotFoundError(f"{self._home.url}: records were forgotten while they were indexed", hint="ask again")
        sides = in_order(partial(_keys_in, self._home), digests, _THREADS)
        write_key_index(file, scratch, packed, named.shape.rows, _told(sides, len(digests), progress))


def _keys_in(home: Home, digest: Digest) -> Sorted:
    if digest == NO_DIGEST:
        return np.zeros(0, f"V{KEY_BYTES}"), np.zeros(0, np.uint32)
    what = f"the side {digest} in {home.url}"
    return open_side(home.objects.raw.map(digest, verify=True), what).sorted_keys()


def _told(sides: Iterator[Sorted], total: int, progress: Progress) -> Iterator[Sorted]:
    for done, side in enumerate(sides, 1):
        yield side
        progress("index", done, total)
