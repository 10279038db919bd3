"""The token shards that a stream reads, opened when first needed and held within a bound."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyfactory.core.digest import Digest
from pyfactory.core.forks import renew_in_children
from pyfactory.errors import CorruptError, NotFoundError
from pyfactory.native import ShardSet
from pyfactory.order.recipe import Recipe
from pyfactory.repo.version import Version
from pyfactory.shard.manifest import Part
from pyfactory.shard.reader import open_shard, token_buffers
from pyfactory.store.content import Masks
from pyfactory.stream.addresses import Addresses
from pyfactory.stream.feed import StreamTable
from pyfactory.stream.masks import Pieces, TableMasks, apply_ranges, masks_of
from pyfactory.stream.unseen import TokenRuns

__all__ = ["OpenShards"]

# Linux allows a process 65,530 memory maps. Shards that are not files are held in memory, so bytes are bounded as well.
_MOST_SHARDS = 4096
_MOST_BYTES = 1 << 30
# A shard is known to the extension by one number: that of its table, and its own.
_TABLE_BITS = 40
_SHARD_MASK = (1 << _TABLE_BITS) - 1
_NOTHING: Mapping[Digest, Digest] = MappingProxyType({})


class OpenShards:
    """Fills arrays from the shards of the tables of a stream. Any number of threads may share one.

    Args:
        tables: The tables, by number.
        most_shards: Shards held open, besides those of the batches at work.
    """

    def __init__(self, tables: Sequence[StreamTable], *, most_shards: int = _MOST_SHARDS) -> None:
        self._most_shards = most_shards
        self._tables = tuple(tables)
        self._native = ShardSet()
        self._held: OrderedDict[int, int] = OrderedDict()  # shard -> bytes of memory it holds
        self._bytes = 0
        # Tables of one repository share it; what their open shards were opened through.
        self._stores = [*{id(store): store for store in (table.version.manifest.objects for table in tables)}.values()]
        self._redirects: list[Mapping[Digest, Digest]] = [_NOTHING] * len(self._stores)
        self._any_removed = any(table.removed for table in tables)
        self._masks: dict[int, tuple[Masks, TableMasks]] = {}
        self.renew_lock()
        renew_in_children(self)

    def renew_lock(self) -> None:
        """Take a new lock; see `core.forks`."""
        self._lock = threading.Lock()

    def fill(self, addresses: Addresses, recipe: Recipe, **outputs: Any) -> tuple[NDArray[np.int32] | None, int]:
        """Fill arrays [m, length] with the samples at addresses, as `native.ShardSet.fill` does; no GIL while copying.

        Raises:
            CorruptError: A shard is damaged, or not what the manifest says.
            NotFoundError: A shard is gone.
        """
        shards = (addresses.table << _TABLE_BITS) + addresses.shard
        first, count, offsets = addresses.first, addresses.length, addresses.offsets
        length, delivery = recipe.sequence_length, _delivery(recipe)
        while True:
            self._open(shards)
            try:
                filled = self._native.fill(shards, first, count, offsets, length, **delivery, **outputs)
            except KeyError:
                continue  # another thread's shards took the place of ours between the two calls
            # Asked for only now: if a redacted shard was read just then, its masks are known.
            self._mask(addresses, recipe.fill, outputs.get("input_ids"), outputs.get("targets"))
            return filled

    def masks(self, table: int) -> TableMasks:
        """Return the forgotten tokens of a table, as far as this process knows of them."""
        manifest = self._tables[table].version.manifest
        now, known = manifest.objects.masks, self._masks.get(table)
        if known is None or known[0] is not now:
            known = self._masks[table] = now, masks_of(manifest, now)
        return known[1]

    def _mask(self, addresses: Addresses, fill: int, input_ids: Any, targets: Any) -> None:
        if not self._any_removed and not any(objects.masks for objects in self._stores):
            return
        for number in np.unique(addresses.table).tolist():
            table = self._tables[number]
            manifest, mine = table.version.manifest, addresses.table == number
            masked: list[TableMasks | TokenRuns] = [] if table.removed is None else [table.removed]
            if manifest.objects.masks and len(forgotten := self.masks(number)):
                masked.append(forgotten)
            if masked:
                firsts = manifest.token_starts(addresses.shard[mine]) + addresses.first[mine]
                where = addresses.rows()[mine], addresses.inner_starts()[mine]
                for each in masked:
                    apply_ranges(each, Pieces(*where, firsts, addresses.length[mine]), fill, input_ids, targets)

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
        for at, objects in enumerate(self._stores):
            redirect, before = objects.redirect, self._redirects[at]
            if redirect is not before:
                for shard in [*self._held]:
                    manifest = self._tables[shard >> _TABLE_BITS].version.manifest
                    digest = manifest.part(shard & _SHARD_MASK).shard
                    if manifest.objects is objects and redirect.get(digest) != before.get(digest):
                        self._bytes -= self._held.pop(shard)
                        self._native.remove(shard)
                self._redirects[at] = redirect

    def _add(self, shard: int) -> None:
        version = self._tables[shard >> _TABLE_BITS].version
        part = version.manifest.part(shard & _SHARD_MASK)
        objects = version.manifest.objects
        what = f"shard {part.shard} of table {version.table!r} in {objects.store.url}"
        tokens, documents = token_buffers(open_shard(_content(version, part), what))
        if len(tokens) != part.tokens or len(documents) != part.rows + 1:
            raise CorruptError(f"{what} holds {len(tokens)} tokens where its manifest says {part.tokens}")
        self._native.add(shard, tokens, documents)
        mapped = objects.path(part.shard) is not None
        self._held[shard] = 0 if mapped else part.nbytes
        self._bytes += self._held[shard]

    def _evict(self, keep: int) -> None:
        while len(self._held) > max(keep, 1) and (len(self._held) > self._most_shards or self._bytes > _MOST_BYTES):
            shard, size = self._held.popitem(last=False)
            self._native.remove(shard)
            self._bytes -= size


def _content(version: Version, part: Part) -> memoryview:
    objects = version.manifest.objects
    try:
        return objects.map(part.shard)
    except NotFoundError:
        # It may have been redacted since; a new view learns of it.
        before = objects.current(part.shard)
        version.repository.view()
        if objects.current(part.shard) == before:
            raise
        return objects.map(part.shard)


def _delivery(recipe: Recipe) -> dict[str, Any]:
    """Return what a recipe says of documents, padding and prompts, as `native.ShardSet.fill` takes it."""
    template = np.array(recipe.response_template, np.int64) if recipe.response_template else None
    return {"across": recipe.across_documents, "fill": recipe.fill, "template": template}
