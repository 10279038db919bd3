"""The arrays of a batch, and the pool that reuses them.

Every batch on its way owns one `Buffers`. Its tensors share memory with NumPy arrays, and PyTorch holds a reference to
such an array for as long as any tensor, view or saved activation uses the memory. So a buffer is free exactly when
nobody but the pool refers to its arrays: batches that somebody keeps are never written to again.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from pyfactory.core.forks import renew_in_children
from pyfactory.errors import InvalidInputError

__all__ = ["FIELDS", "BufferPool", "Buffers", "checked_fields"]

_ARRAYS: dict[str, type[np.generic]] = {
    "input_ids": np.int64,
    "targets": np.int64,
    "position_ids": np.int64,
    "doc_ids": np.int32,
}
FIELDS = (*_ARRAYS, "cu_seqlens", "max_seqlen", "indices")
"""What `fields=` may select; `span` is always there."""


def checked_fields(fields: Iterable[str] | None) -> tuple[str, ...]:
    """Return the selected fields in the order of FIELDS; None selects all."""
    wanted = set(FIELDS if fields is None else [fields] if isinstance(fields, str) else fields)
    unknown = sorted(wanted - set(FIELDS) - {"span"})
    if unknown:
        raise InvalidInputError(f"a batch has no field {unknown[0]!r}", hint=f"fields are {', '.join(FIELDS)}, span")
    return tuple(name for name in FIELDS if name in wanted)


class Buffers:
    """The arrays [batch_size, length] of one batch."""

    def __init__(self, shape: tuple[int, int], fields: Sequence[str]) -> None:
        names = [name for name in fields if name in _ARRAYS]
        self.names = tuple(names)
        self.arrays = tuple(np.empty(shape, _ARRAYS[name]) for name in names)
        self.lent = False  # somebody is filling it

    def outputs(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return the arrays by name, to be filled."""
        return dict(zip(self.names, self.arrays, strict=True))

    def tensors(self) -> dict[str, torch.Tensor]:
        """Return tensors over the arrays, without copying."""
        return {name: torch.from_numpy(array) for name, array in zip(self.names, self.arrays, strict=True)}

    def is_free(self) -> bool:
        """Tell whether nobody fills it or holds a tensor of it."""
        return not self.lent and _most_references(self.arrays) <= _OWN_REFERENCES


def _most_references(arrays: tuple[np.ndarray[Any, Any], ...]) -> int:
    return max((sys.getrefcount(array) for array in arrays), default=0)


# How many references this way of asking counts for an array that nobody else has; it differs between Python versions.
_OWN_REFERENCES = _most_references((np.empty(0),))


class BufferPool:
    """Buffers of one shape, at most `capacity` of them remembered. Thread-safe.

    Args:
        capacity: Batches that may be under way at once, with those the training loop holds.
        shape: [batch_size, length].
        fields: What a batch holds.
    """

    def __init__(self, capacity: int, shape: tuple[int, int], fields: Sequence[str]) -> None:
        self._capacity = capacity
        self._shape = shape
        self._fields = tuple(fields)
        self._buffers: list[Buffers] = []
        self.renew_lock()
        renew_in_children(self)

    def renew_lock(self) -> None:
        """Take a new lock; see `core.forks`."""
        self._lock = threading.Lock()

    def take(self) -> Buffers:
        """Return a buffer that nobody uses, lent to the caller until `give_back`."""
        with self._lock:
            for buffers in self._buffers:
                if buffers.is_free():
                    break
            else:
                buffers = Buffers(self._shape, self._fields)
                # A training loop that keeps many batches owns their memory; the pool forgets the oldest.
                self._buffers = [*self._buffers, buffers][-self._capacity :]
            buffers.lent = True
            return buffers

    @staticmethod
    def give_back(buffers: Buffers) -> None:
        """End the loan; the buffer is reused once no tensor of it is left."""
        buffers.lent = False
