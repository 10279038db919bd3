"""Side shards, written when the ids of all records are known."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pyfactory.core.digest import Digest
from pyfactory.shard.importers.rows import HASH_BYTES
from pyfactory.shard.importers.staging import StagedShard, content_id, read_spill
from pyfactory.shard.manifest import Part
from pyfactory.shard.writer import make_side
from pyfactory.store.content import Objects

__all__ = ["write_side"]

_HEX = np.frombuffer(b"0123456789abcdef", np.uint8)


def write_side(
    objects: Objects, shard: StagedShard, digests: Sequence[Digest] | None, numbers: NDArray[np.uint32] | None
) -> Part:
    """Store the side of a content shard and return the pair.

    Args:
        objects: Where it goes.
        shard: The content shard.
        digests: Digests of all files of the import; None: records come from no file.
        numbers: uint32[rows], occurrence numbers; None when the rows brought ids.
    """
    spill = read_spill(shard.spill)
    base = spill.column("base")
    ids = base if numbers is None else _content_ids(base, numbers)
    if digests is None:
        side = make_side(ids.cast(pa.large_string()))
    else:
        used, file = np.unique(spill.column("file").to_numpy(), return_inverse=True)
        files = [digests[number] for number in used.tolist()]
        side = make_side(ids, files, file.astype(np.int32), spill.column("line").to_numpy())
    return Part(shard.shard, objects.put(memoryview(side)), shard.rows, 0, shard.nbytes)


def _content_ids(hashes: pa.FixedSizeBinaryArray, numbers: NDArray[np.uint32]) -> pa.LargeStringArray:
    again = np.flatnonzero(numbers).tolist()
    if again:
        octets = hashes.to_pylist()
        return pa.array(list(map(content_id, octets, numbers.tolist())), pa.large_string())
    octets = np.frombuffer(hashes.buffers()[1], np.uint8, len(hashes) * HASH_BYTES).reshape(-1, HASH_BYTES)
    text = np.empty((len(hashes), len(content_id(bytes(HASH_BYTES)))), np.uint8)
    text[:, :3] = np.frombuffer(b"b3:", np.uint8)
    text[:, 3::2] = _HEX[octets >> 4]
    text[:, 4::2] = _HEX[octets & 15]
    offsets = np.arange(len(hashes) + 1, dtype=np.int64) * text.shape[1]
    return pa.LargeStringArray.from_buffers(len(hashes), pa.py_buffer(offsets), pa.py_buffer(text))
