"""Cutting rows into content shards, which are stored at once, and spilling what their side shards will need.

The spill of a shard is an Arrow file in the import's folder with the columns

    base   each row's id, or its content hash when ids are made from the content
    file   number of its file in the import        line   line or row number in it
    key    16-byte keys, ascending                 row    row of each key; equal keys in row order
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pyfactory.core.digest import Digest
from pyfactory.core.durable import translate_os_error
from pyfactory.shard.importers.rows import HASH_BYTES, Rows, content_hashes, row_bytes
from pyfactory.shard.layout import KEY_BYTES, key_of_id
from pyfactory.shard.writer import encode_shard
from pyfactory.store.content import Objects

__all__ = [
    "KEY_DTYPE",
    "MAX_SHARD_ROWS",
    "Keys",
    "ShardCutter",
    "StagedShard",
    "content_id",
    "content_keys",
    "hash_array",
    "key_array",
    "keys_of_partition",
    "read_spill",
    "write_spill",
]

MAX_SHARD_ROWS = 1 << 20
"""A shard of very short rows is cut here, so that its ids stay small too."""

# Fixed strings of NumPy compare as bytes and, unlike raw bytes, can be sorted and searched.
KEY_DTYPE = np.dtype(f"S{KEY_BYTES}")

Keys = NDArray[np.bytes_]


@dataclass(frozen=True, slots=True)
class StagedShard:
    """A stored content shard whose side is still to be written.

    Attributes:
        shard: Digest of its file.
        rows: Number of its rows.
        nbytes: Size of its file.
        spill: What its side needs.
    """

    shard: Digest
    rows: int
    nbytes: int
    spill: Path


class ShardCutter:
    """Collects rows and stores a content shard whenever there are about `target_bytes` of content; no row is split.

    Args:
        objects: Where shards go.
        folder: Where spills go.
        task: Number of the task, which names its spills.
        target_bytes: Content of a shard; the row that reaches it is its last.
        with_ids: Rows bring ids; otherwise these are made from the content.
        key_of_content: Whether keys are those of the ids made from the content, to be looked up in side shards;
            otherwise content hashes serve as keys, which is faster.
    """

    def __init__(
        self, objects: Objects, folder: Path, task: int, target_bytes: int, *, with_ids: bool, key_of_content: bool
    ) -> None:
        self.staged: list[StagedShard] = []
        self._objects = objects
        self._prefix = folder / f"task-{task:08d}"
        self._target = target_bytes
        self._with_ids = with_ids
        self._key_of_content = key_of_content
        self._pieces: list[Rows] = []
        self._held_bytes = 0
        self._held_rows = 0

    def add(self, rows: Rows) -> None:
        """Add rows, storing every shard that becomes full."""
        ends = np.cumsum(row_bytes(rows.content))
        start, count = 0, rows.content.num_rows
        while start < count:
            before = int(ends[start - 1]) if start else 0
            stop = int(np.searchsorted(ends, before + self._target - self._held_bytes)) + 1
            stop = min(stop, count, start + MAX_SHARD_ROWS - self._held_rows)
            self._pieces.append(_cut(rows, start, stop))
            self._held_rows += stop - start
            self._held_bytes += int(ends[stop - 1]) - before
            if self._held_bytes >= self._target or self._held_rows >= MAX_SHARD_ROWS:
                self.flush()
            start = stop

    def flush(self) -> None:
        """Store the rows held as a shard, if there are any."""
        if not self._pieces:
            return
        pieces, self._pieces, self._held_bytes, self._held_rows = self._pieces, [], 0, 0
        content = pa.concat_batches([piece.content for piece in pieces])
        if self._with_ids:
            base: pa.Array = pa.concat_arrays([piece.ids for piece in pieces])
        else:
            base = _fixed(content_hashes(content))
        spill = self._prefix.with_name(f"{self._prefix.name}-{len(self.staged):06d}.arrow")
        file = np.concatenate([piece.file for piece in pieces])
        line = np.concatenate([piece.line for piece in pieces])
        keys = self._keys(base)
        write_spill(spill, base, keys, file, line)
        del pieces, base, keys
        encoded = encode_shard(content)
        rows = content.num_rows
        del content
        self.staged.append(StagedShard(self._objects.put(memoryview(encoded)), rows, encoded.size, spill))

    def _keys(self, base: pa.Array) -> bytes:
        if self._with_ids:
            return b"".join(map(key_of_id, base.to_pylist()))
        return content_keys(base.buffers()[1].to_pybytes(), self._key_of_content)


def content_keys(hashes: bytes, key_of_content: bool) -> bytes:
    """Return the keys of content hashes that follow one another; see ShardCutter about `key_of_content`."""
    if not key_of_content:
        return hashes
    starts = range(0, len(hashes), HASH_BYTES)
    return b"".join([key_of_id(content_id(hashes[at : at + HASH_BYTES])) for at in starts])


def hash_array(hashes: bytes) -> pa.FixedSizeBinaryArray:
    """Return content hashes that follow one another as the base of a spill."""
    return _fixed(hashes)


def write_spill(path: Path, base: pa.Array, keys: bytes, file: NDArray[np.int32], line: NDArray[np.int64]) -> None:
    """Write what the side of a shard will need; see the top of this module."""
    unsorted = key_array(keys)
    order = np.argsort(unsorted, kind="stable")
    key = _fixed(unsorted[order].tobytes())
    columns = {"base": base, "file": file, "line": line, "key": key, "row": order.astype(np.uint32)}
    batch = pa.RecordBatch.from_pydict(columns)
    with translate_os_error(path), pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, batch.schema) as writer:
        writer.write_batch(batch)


def read_spill(path: Path) -> pa.RecordBatch:
    """Return a spill as a map of its file."""
    with translate_os_error(path):
        return pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)


def content_id(content_hash: bytes, number: int = 0) -> str:
    """Return the id of a record made from its content hash and its occurrence number (0: the first)."""
    return f"b3:{content_hash.hex()}.{number}" if number else f"b3:{content_hash.hex()}"


def key_array(keys: bytes) -> Keys:
    """Return keys that follow one another as an array."""
    return np.frombuffer(keys, KEY_DTYPE)


def keys_of_partition(keys: Keys, partition: int, partitions: int) -> tuple[Keys, int]:
    """Return the keys of a partition, out of ascending ones, and where they start.

    The partitions cut the range of all keys, which are spread evenly, into equal parts.
    """
    bounds = [(edge << 64) // partitions for edge in (partition, partition + 1)]
    start, stop = (
        len(keys) if bound >> 64 else int(np.searchsorted(keys, key_array(bound.to_bytes(8, "big") + bytes(8)))[0])
        for bound in bounds
    )
    return keys[start:stop], start


def _fixed(octets: bytes) -> pa.Array:
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(octets) // 16, [None, pa.py_buffer(octets)])


def _cut(rows: Rows, start: int, stop: int) -> Rows:
    size = stop - start
    ids = None if rows.ids is None else rows.ids.slice(start, size)
    return Rows(rows.content.slice(start, size), ids, rows.file[start:stop], rows.line[start:stop])
