"""The token shards that a stream reads, opened when first needed and held within a bound."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyfactory.core.digest import Digest
from pyfactory.core.forks import renew_in_children
from pyfactory.errors import CorruptError
from pyfactory.native import ShardSet
from pyfactory.shard.manifest import Manifest
from pyfactory.shard.reader import open_shard, token_buffers
from pyfactory.stream.addresses import Addresses

__all__ = ["OpenShards"]

# Linux allows a process 65,530 memory maps. Shards that are not files are held in memory, so bytes are bounded as well.
_MOST_SHARDS = 4096
_MOST_BYTES = 1 << 30


class OpenShards:
    """Fills arrays from the shards of a table. Any number of threads may share one.

    Args:
        manifest: The shards of the table.
        table: Its name, for errors.
        most_shards: Shards held open, besides those of the batches at work.
    """

    def __init__(self, manifest: Manifest, table: str, *, most_shards: int = _MOST_SHARDS) -> None:
        self._most_shards = most_shards
        self._manifest = manifest
        self._table = table
        self._native = ShardSet()
        self._held: OrderedDict[int, int] = OrderedDict()  # shard -> bytes of memory it holds
        self._bytes = 0
        self.renew_lock()
        renew_in_children(self)

    def renew_lock(self) -> None:
        """Take a new lock; see `core.forks`."""
        self._lock = threading.Lock()

    def fill(self, addresses: Addresses, length: int, **outputs: Any) -> tuple[NDArray[np.int32] | None, int]:
        """Fill arrays [m, length] with the samples at addresses, as `native.ShardSet.fill` does; no GIL while copying.

        Raises:
            CorruptError: A shard is damaged, or not what the manifest says.
            NotFoundError: A shard is gone.
        """
        while True:
            self._open(addresses.shard)
            try:
                return self._native.fill(
                    addresses.shard, addresses.first, addresses.length, addresses.offsets, length, **outputs
                )
            except KeyError:
                continue  # another thread's shards took the place of ours between the two calls

    def _open(self, shards: NDArray[np.int64]) -> None:
        with self._lock:
            wanted = shards.tolist()
            for shard in wanted:
                if shard in self._held:
                    self._held.move_to_end(shard)
                else:
                    self._add(shard)
            self._evict(keep=len(set(wanted)))

    def _add(self, shard: int) -> None:
        part = self._manifest.part(shard)
        objects = self._manifest.objects
        what = f"shard {part.shard} of table {self._table!r} in {objects.store.url}"
        tokens, documents = token_buffers(open_shard(objects.map(part.shard), what))
        if len(tokens) != part.tokens or len(documents) != part.rows + 1:
            raise CorruptError(f"{what} holds {len(tokens)} tokens where its manifest says {part.tokens}")
        self._native.add(shard, tokens, documents)
        mapped = objects.store.path(objects.key(Digest(part.shard))) is not None
        self._held[shard] = 0 if mapped else part.nbytes
        self._bytes += self._held[shard]

    def _evict(self, keep: int) -> None:
        while len(self._held) > max(keep, 1) and (len(self._held) > self._most_shards or self._bytes > _MOST_BYTES):
            shard, size = self._held.popitem(last=False)
            self._native.remove(shard)
            self._bytes -= size
