"""The token shards that a stream reads, opened when first needed and held within a bound."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyfactory.core.digest import Digest
from pyfactory.core.forks import renew_in_children
from pyfactory.errors import CorruptError, NotFoundError
from pyfactory.native import ShardSet
from pyfactory.shard.manifest import Manifest, Part
from pyfactory.shard.reader import open_shard, token_buffers
from pyfactory.store.content import Masks
from pyfactory.stream.addresses import Addresses
from pyfactory.stream.masks import TableMasks, masks_of

__all__ = ["OpenShards"]

# Linux allows a process 65,530 memory maps. Shards that are not files are held in memory, so bytes are bounded as well.
_MOST_SHARDS = 4096
_MOST_BYTES = 1 << 30


class OpenShards:
    """Fills arrays from the shards of a table. Any number of threads may share one.

    Args:
        manifest: The shards of the table.
        table: Its name, for errors.
        refresh: Called when a shard is gone: it may have been redacted since, and this learns of it.
        most_shards: Shards held open, besides those of the batches at work.
    """

    def __init__(
        self, manifest: Manifest, table: str, refresh: Callable[[], object], *, most_shards: int = _MOST_SHARDS
    ) -> None:
        self._most_shards = most_shards
        self._refresh = refresh
        self._manifest = manifest
        self._table = table
        self._native = ShardSet()
        self._held: OrderedDict[int, int] = OrderedDict()  # shard -> bytes of memory it holds
        self._bytes = 0
        self._redirect: Mapping[Digest, Digest] = {}  # what the open shards were opened through
        self._masks: tuple[Masks, TableMasks] | None = None
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
                filled = self._native.fill(
                    addresses.shard, addresses.first, addresses.length, addresses.offsets, length, **outputs
                )
            except KeyError:
                continue  # another thread's shards took the place of ours between the two calls
            # Asked for only now: if a redacted shard was read just then, its masks are known.
            if self._manifest.objects.masks and len(masks := self.masks()):
                head = addresses.offsets[:-1]
                samples = self._manifest.token_starts(addresses.shard[head]) + addresses.first[head]
                masks.apply(samples, length, outputs.get("input_ids"), outputs.get("targets"))
            return filled

    def masks(self) -> TableMasks:
        """Return the forgotten tokens of the table, as far as this process knows of them."""
        now, known = self._manifest.objects.masks, self._masks
        if known is None or known[0] is not now:
            known = self._masks = now, masks_of(self._manifest, now)
        return known[1]

    def _open(self, shards: NDArray[np.int64]) -> None:
        with self._lock:
            self._close_redacted()
            wanted = shards.tolist()
            for shard in wanted:
                if shard in self._held:
                    self._held.move_to_end(shard)
                else:
                    self._add(shard)
            self._evict(keep=len(set(wanted)))

    def _close_redacted(self) -> None:
        """Let go of shards that were redacted after they were opened."""
        redirect = self._manifest.objects.redirect
        if redirect is not self._redirect:
            for shard in [*self._held]:
                digest = self._manifest.part(shard).shard
                if redirect.get(digest) != self._redirect.get(digest):
                    self._bytes -= self._held.pop(shard)
                    self._native.remove(shard)
            self._redirect = redirect

    def _add(self, shard: int) -> None:
        part = self._manifest.part(shard)
        objects = self._manifest.objects
        what = f"shard {part.shard} of table {self._table!r} in {objects.store.url}"
        tokens, documents = token_buffers(open_shard(self._content(part), what))
        if len(tokens) != part.tokens or len(documents) != part.rows + 1:
            raise CorruptError(f"{what} holds {len(tokens)} tokens where its manifest says {part.tokens}")
        self._native.add(shard, tokens, documents)
        mapped = objects.path(part.shard) is not None
        self._held[shard] = 0 if mapped else part.nbytes
        self._bytes += self._held[shard]

    def _content(self, part: Part) -> memoryview:
        objects = self._manifest.objects
        try:
            return objects.map(part.shard)
        except NotFoundError:
            before = objects.current(part.shard)
            self._refresh()
            if objects.current(part.shard) == before:
                raise
            return objects.map(part.shard)

    def _evict(self, keep: int) -> None:
        while len(self._held) > max(keep, 1) and (len(self._held) > self._most_shards or self._bytes > _MOST_BYTES):
            shard, size = self._held.popitem(last=False)
            self._native.remove(shard)
            self._bytes -= size
