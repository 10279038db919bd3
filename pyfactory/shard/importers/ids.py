"""Ids of all records of an import, whatever their number: 16-byte keys are worked through partition by partition.

Ids given by a field must be new. Ids made from the content (`b3:` and the content hash in hex) are made unique by an
occurrence number: a record takes the smallest number, from 0 up, that neither a record of an existing table nor an
earlier record of the import has; a number other than 0 is appended after a dot. In a table from which nothing was
removed, that is the count of equal records before it. Tasks, shards and workers do not matter.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pyfactory.core.durable import translate_os_error
from pyfactory.errors import InvalidInputError
from pyfactory.shard.importers.existing import Existing
from pyfactory.shard.importers.rows import HASH_BYTES, Int64s
from pyfactory.shard.importers.sources import SourceFile
from pyfactory.shard.importers.staging import (
    KEY_DTYPE,
    Keys,
    StagedShard,
    content_id,
    key_array,
    keys_of_partition,
    read_spill,
)
from pyfactory.shard.layout import key_of_id

__all__ = ["PARTITION_ROWS", "IdResolver", "partitions_for"]

PARTITION_ROWS = 1 << 20
"""About how many keys are held at a time."""

_MAX_WINDOW = 1 << 16

Numbers = NDArray[np.uint32]


def partitions_for(rows: int) -> int:
    """Return into how many partitions the keys of so many rows are cut."""
    return max(1, -(-rows // PARTITION_ROWS))


class IdResolver:
    """Sees that ids are unique.

    Args:
        shards: All shards of the import, in order.
        existing: What tables have already.
        partitions: See `partitions_for`.
        block_rows: A partition that many equal records make larger is worked through in blocks of about so many rows.
    """

    def __init__(
        self,
        shards: Sequence[StagedShard],
        existing: Existing,
        partitions: int,
        block_rows: int = 2 * PARTITION_ROWS,
    ) -> None:
        self._shards = shards
        self._existing = existing
        self._partitions = partitions
        self._block_rows = block_rows
        self.starts: Int64s = np.cumsum([0, *(shard.rows for shard in shards)], dtype=np.int64)

    def refuse_duplicates(self, files: Sequence[SourceFile]) -> None:
        """Raise InvalidInputError if an id occurs twice or is taken; of several, the first in import order is named."""
        first: _Duplicate | None = None
        count = 0
        for partition in range(self._partitions):
            seen = _Seen()
            for block in self._blocks(partition):
                found, duplicate = _duplicates(block, seen, self._existing.find(block.keys, partition))
                count += found
                first = min((one for one in (first, duplicate) if one is not None), default=None)
        if first is not None:
            raise self._refusal(first, count, files)

    def occurrence_numbers(self, path: Path) -> Numbers:
        """Return the occurrence numbers of all rows: uint32[rows], in a file at `path`."""
        rows = max(int(self.starts[-1]), 1)
        with translate_os_error(path), path.open("wb") as file:
            # Space first: a full disk, met through a map, kills the process (SIGBUS).
            os.posix_fallocate(file.fileno(), 0, rows * np.dtype(np.uint32).itemsize)
            numbers: Numbers = np.memmap(path, np.uint32, "r+", shape=(rows,))
        for partition in range(self._partitions):
            seen = _Seen()
            for block in self._blocks(partition):
                found, following = self._numbers(block, np.maximum(seen.find(block.keys), 0), partition)
                again = found > 0
                numbers[block.rows[again]] = found[again]
                seen.put(block.keys, following)
        return numbers

    def _blocks(self, partition: int) -> Iterator[_Block]:
        """Yield the keys of a partition, all at once unless one content fills it."""
        keys: list[Keys] = []
        rows: list[Int64s] = []
        held = 0
        for shard, start in zip(self._shards, self.starts.tolist(), strict=False):
            spill = read_spill(shard.spill)
            mine, first = keys_of_partition(_column(spill, "key", KEY_DTYPE), partition, self._partitions)
            keys.append(mine.copy())
            rows.append(_column(spill, "row", np.dtype(np.uint32))[first : first + len(mine)] + np.int64(start))
            held += len(mine)
            if held >= self._block_rows:
                yield _block(keys, rows)
                keys, rows, held = [], [], 0
        if held:
            yield _block(keys, rows)

    def _numbers(self, block: _Block, next_: Int64s, partition: int) -> tuple[Int64s, Int64s]:
        """Return the number of each row of a block, and the lowest number that each key has left.

        Args:
            block: Keys and rows.
            next_: int64[keys], the lowest number that earlier blocks have left.
            partition: Where the keys are.
        """
        sizes = block.sizes
        numbers = np.repeat(next_, sizes) + block.ranks()
        following = next_ + sizes
        if self._existing:
            taken = self._existing.find(block.keys, partition) >= 0
            next_ = np.where((next_ == 0) & taken, 1, next_)
            unsure = np.flatnonzero(taken | (following > 1))
            hashes = self._hashes(block.rows[block.starts[unsure]])
            free = self._free(hashes, next_[unsure], sizes[unsure])
            ends = np.cumsum(sizes[unsure])
            places = np.repeat(block.starts[unsure] - ends + sizes[unsure], sizes[unsure]) + np.arange(len(free))
            numbers[places] = free
            following[unsure] = free[ends - 1] + 1
        return numbers, following

    def _free(self, hashes: list[bytes], next_: Int64s, need: Int64s) -> Int64s:
        """Return the `need` smallest numbers from `next_` up that no table has with each content, in order."""
        next_, need, window = next_.copy(), need.copy(), need.copy()
        found: list[tuple[Int64s, Int64s]] = []
        while len(active := np.flatnonzero(need)):
            group = np.repeat(active, window[active])
            starts = np.cumsum(window[active]) - window[active]
            number = next_[group] + np.arange(len(group)) - np.repeat(starts, window[active])
            free = self._is_free([hashes[at] for at in group.tolist()], number)
            count = np.cumsum(free, dtype=np.int64)
            rank = count - np.repeat((count - free)[starts], window[active])  # from 1 in each group
            accepted = free & (rank <= need[group])
            found.append((group[accepted], number[accepted]))
            need -= np.bincount(group[accepted], minlength=len(need))
            next_ += window
            window = np.maximum(need, np.minimum(2 * window, _MAX_WINDOW))
        groups = np.concatenate([np.zeros(0, np.int64), *(pair[0] for pair in found)])
        numbers = np.concatenate([np.zeros(0, np.int64), *(pair[1] for pair in found)])
        return numbers[np.lexsort((numbers, groups))]

    def _is_free(self, hashes: Sequence[bytes], numbers: Int64s) -> NDArray[np.bool_]:
        ids = map(content_id, hashes, numbers.tolist())
        keys = key_array(b"".join(map(key_of_id, ids)))
        order = np.argsort(keys)
        free = np.empty(len(keys), bool)
        free[order] = self._existing.find(keys[order]) < 0
        return free

    def _hashes(self, rows: Int64s) -> list[bytes]:
        """Return the content hashes of rows, opening each shard's spill once."""
        hashes = np.zeros(len(rows), KEY_DTYPE)
        owners = np.searchsorted(self.starts, rows, side="right") - 1
        for owner in np.unique(owners).tolist():
            mine = owners == owner
            base = _column(read_spill(self._shards[owner].spill), "base", KEY_DTYPE)
            hashes[mine] = base[rows[mine] - self.starts[owner]]
        octets = hashes.tobytes()
        return [octets[at : at + HASH_BYTES] for at in range(0, len(octets), HASH_BYTES)]

    def _refusal(self, duplicate: _Duplicate, count: int, files: Sequence[SourceFile]) -> InvalidInputError:
        record_id, place = self._record(duplicate.row, files)
        shown = repr(record_id if len(record_id) <= 100 else f"{record_id[:97]}...")
        if duplicate.side >= 0:
            message = f"id {shown} of {place} is in the table already{self._origin(duplicate.side, record_id)}"
        else:
            message = f"id {shown} occurs twice: {self._record(duplicate.earlier, files)[1]} and {place}"
        more = f"; {count} records have an id that is taken" if count > 1 else ""
        hint = "make the ids unique, take another field, or leave the field out and let ids be made from the content"
        return InvalidInputError(message + more, hint=hint)

    def _record(self, row: int, files: Sequence[SourceFile]) -> tuple[str, str]:
        owner = int(np.searchsorted(self.starts, row, side="right")) - 1
        spill, at = read_spill(self._shards[owner].spill), row - int(self.starts[owner])
        place = f"{files[spill.column('file')[at].as_py()].path}:{spill.column('line')[at].as_py()}"
        return spill.column("base")[at].as_py(), place

    def _origin(self, side: int, record_id: str) -> str:
        found = self._existing.side(side)
        row = found.find(record_id)
        origin = None if row is None else found.origin(row)
        return "" if origin is None else f" (from line {origin[1]} of the file with digest {origin[0]})"


@dataclass(frozen=True, slots=True, order=True)
class _Duplicate:
    """A row whose id an earlier row of the import has, or a side shard (-1: none)."""

    row: int
    earlier: int
    side: int


@dataclass(frozen=True, slots=True)
class _Block:
    """Rows grouped by key: distinct ascending keys, where the rows of each start, and the rows, in order for each."""

    keys: Keys
    starts: Int64s
    rows: Int64s

    @property
    def sizes(self) -> Int64s:
        return np.diff(self.starts, append=len(self.rows))

    def ranks(self) -> Int64s:
        """Return the place of each row among those with its key."""
        return np.arange(len(self.rows)) - np.repeat(self.starts, self.sizes)


def _block(keys: Sequence[Keys], rows: Sequence[Int64s]) -> _Block:
    joined, all_rows = np.concatenate(keys), np.concatenate(rows)
    order = np.argsort(joined, kind="stable")
    joined = joined[order]
    starts = np.flatnonzero(np.concatenate([[True], joined[1:] != joined[:-1]]))
    return _Block(joined[starts], starts, all_rows[order])


class _Seen:
    """What earlier blocks of a partition said about keys."""

    def __init__(self) -> None:
        self._keys: Keys = np.zeros(0, KEY_DTYPE)
        self._values: Int64s = np.zeros(0, np.int64)

    def find(self, keys: Keys) -> Int64s:
        """Return the value of each key, or -1."""
        if not len(self._keys):
            return np.full(len(keys), -1, np.int64)
        at = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.where(self._keys[at] == keys, self._values[at], -1)

    def put(self, keys: Keys, values: Int64s) -> None:
        """Set the values of keys."""
        old = self.find(keys) < 0
        fresh = np.concatenate([self._keys, keys[old]])
        merged = np.concatenate([self._values, values[old]])
        order = np.argsort(fresh, kind="stable")
        self._keys, self._values = fresh[order], merged[order]
        self._values[np.searchsorted(self._keys, keys)] = values


def _duplicates(block: _Block, seen: _Seen, sides: NDArray[np.int32]) -> tuple[int, _Duplicate | None]:
    """Return how many rows have an id that is taken, and the first of them; remember the first row of each key."""
    firsts = block.rows[block.starts]
    earlier = seen.find(block.keys)
    earlier = np.where(earlier < 0, firsts, earlier)
    seen.put(block.keys, earlier)
    owners = np.repeat(np.arange(len(block.keys)), block.sizes)
    taken = np.flatnonzero((block.rows != earlier[owners]) | (sides[owners] >= 0))
    if not len(taken):
        return 0, None
    at = int(taken[np.argmin(block.rows[taken])])
    return len(taken), _Duplicate(int(block.rows[at]), int(earlier[owners[at]]), int(sides[owners[at]]))


def _column(spill: pa.RecordBatch, name: str, dtype: np.dtype[Any]) -> NDArray[Any]:
    """View a column of values of fixed width."""
    return np.frombuffer(spill.column(name).buffers()[1], dtype, spill.num_rows)
