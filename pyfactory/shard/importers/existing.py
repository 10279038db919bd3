"""Ids that tables have already, looked up in bulk by the sorted keys of their side shards."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pyfactory.core.durable import translate_os_error
from pyfactory.shard.importers.staging import KEY_DTYPE, Keys, keys_of_partition
from pyfactory.shard.reader import Side

__all__ = ["Existing", "SideSource"]

SideSource = Side | Callable[[], Side]
"""A side shard, or what opens it; one that opens it keeps nothing in memory meanwhile."""


class Existing:
    """The keys of all records of existing tables.

    Args:
        sides: Side shards of the tables.
        partitions: How many ranges of keys will be asked for. If more than one, the keys are copied once to a file, so
            that a side shard on a remote store is not fetched again for each.
        folder: For that file.
    """

    def __init__(self, sides: Iterable[SideSource], partitions: int, folder: Path) -> None:
        self._sides = list(sides)
        self._partitions = partitions
        self._ends: list[int] = []
        self._keys: Keys | None = None
        if partitions > 1 and self._sides:
            self._keys = self._copied(folder / "existing.keys")

    def __bool__(self) -> bool:
        return bool(self._sides)

    def side(self, number: int) -> Side:
        """Return a side shard by its place among all."""
        side = self._sides[number]
        return side if isinstance(side, Side) else side()

    def find(self, keys: Keys, partition: int | None = None) -> NDArray[np.int32]:
        """Return for each key the number of the first side shard that has it, or -1.

        Args:
            keys: Ascending.
            partition: The partition that holds all of them; None: any.
        """
        found = np.full(len(keys), -1, np.int32)
        for number, known in self._runs(partition):
            hits = _hits(keys, known)
            found[hits[found[hits] < 0]] = number
        return found

    def _runs(self, partition: int | None) -> Iterator[tuple[int, Keys]]:
        if self._keys is None:
            for number in range(len(self._sides)):
                yield number, self.side(number).keys.view(KEY_DTYPE)
            return
        start = 0
        for number, end in enumerate(self._ends):
            run, start = self._keys[start:end], end
            yield number, run if partition is None else keys_of_partition(run, partition, self._partitions)[0]

    def _copied(self, path: Path) -> Keys:
        with translate_os_error(path), path.open("wb") as file:
            for number in range(len(self._sides)):
                keys = self.side(number).keys
                file.write(np.ascontiguousarray(keys).view(np.uint8).data if len(keys) else b"")
                self._ends.append((self._ends[-1] if self._ends else 0) + len(keys))
        with translate_os_error(path):
            return np.memmap(path, KEY_DTYPE, "r") if self._ends[-1] else np.zeros(0, KEY_DTYPE)


def _hits(keys: Keys, known: Keys) -> NDArray[np.int64]:
    """Return the places of the keys that are known; both ascend. The shorter one is looked up in the longer one."""
    if not len(keys) or not len(known):
        return np.zeros(0, np.int64)
    if len(keys) <= len(known):
        at = np.minimum(np.searchsorted(known, keys), len(known) - 1)
        return np.flatnonzero(known[at] == keys)
    at = np.searchsorted(keys, known)
    inside = at < len(keys)
    hits: NDArray[np.int64] = at[inside][keys[at[inside]] == known[inside]]
    return hits
