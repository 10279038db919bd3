"""A planned micro-batch -> tensors."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch

from pyfactory.core.meter import Meter
from pyfactory.loader.batch import BufferPool
from pyfactory.loader.context import ContextSlice
from pyfactory.loader.plan import Planned
from pyfactory.stream.stream import Stream

__all__ = ["Batch", "Maker"]

Batch = dict[str, Any]


class Maker:
    """Makes the batches of one shape. Any number of threads may share one.

    Args:
        stream: Whose samples.
        rows: Samples of a batch.
        length: Input tokens of a sample.
        fields: What a batch holds; see `checked_fields`.
        context: The part of each sequence that is wanted; None is all of it.
        under_way: Batches that may be under way at once, with those the training loop holds.
        threads: Threads that make batches at once.
        meter: Where the time spent is counted.
    """

    def __init__(
        self,
        stream: Stream,
        rows: int,
        length: int,
        fields: Sequence[str],
        *,
        context: ContextSlice | None,
        under_way: int,
        threads: int,
        meter: Meter,
    ) -> None:
        self.length = length
        self.tokens = rows * (length // context.size if context else length)
        self._stream = stream
        self._fields = fields
        self._context = context
        self._meter = meter
        self._pool = BufferPool(under_way, (rows, self.tokens // rows), fields)
        # Whole sequences only pass through on their way to the part that is delivered.
        self._whole = None if context is None else BufferPool(max(threads, 1), (rows, length), fields)

    def make(self, planned: Planned) -> tuple[Batch, Planned, float]:
        """Return a batch, its plan, and the time at which it was ready."""
        start = time.perf_counter()
        wants_documents = "cu_seqlens" in self._fields or "max_seqlen" in self._fields
        buffers = self._pool.take()
        try:
            bounds, longest = self._fill(planned, buffers.outputs(), wants_documents)
            batch: Batch = dict(buffers.tensors())
        finally:
            self._pool.give_back(buffers)
        if "cu_seqlens" in self._fields:
            batch["cu_seqlens"] = torch.from_numpy(bounds)
        if "max_seqlen" in self._fields:
            batch["max_seqlen"] = longest
        if "indices" in self._fields:
            batch["indices"] = torch.from_numpy(planned.indices)
        batch["span"] = planned.span
        ready = time.perf_counter()
        self._meter.add_seconds("fill", ready - start)
        return batch, planned, ready

    def _fill(self, planned: Planned, outputs: dict[str, Any], wants_documents: bool) -> tuple[Any, int]:
        if self._context is None or self._whole is None:
            return self._stream.fill(planned.addresses, cu_seqlens=wants_documents, **outputs)
        buffers = self._whole.take()
        try:
            whole = buffers.outputs()
            filled = self._stream.fill(planned.addresses, cu_seqlens=wants_documents, **whole)
            for name, part in outputs.items():
                self._context.copy(whole[name], part)
        finally:
            self._whole.give_back(buffers)
        return filled
