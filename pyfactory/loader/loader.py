"""The loader that a training loop holds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch

from pyfactory.core.meter import Meter
from pyfactory.errors import InvalidInputError
from pyfactory.loader.batch import BufferPool, checked_fields
from pyfactory.loader.plan import Planned, plan
from pyfactory.loader.state import FORMAT, checked_position
from pyfactory.loader.workers.in_process import Threads
from pyfactory.loader.world import rank_and_world
from pyfactory.order.lane import Lane
from pyfactory.repo.leases import Held, reading
from pyfactory.stream.stream import Stream

__all__ = ["DataLoader"]

Batch = dict[str, Any]


class DataLoader:
    """Iterates over the batches of one rank; one `for` loop is one epoch, the next loop the next epoch.

    A train step takes `global_batch` consecutive positions, cut into one contiguous slice per rank; it belongs to the
    epoch in which it begins. Leaving a loop early and starting another goes on behind the last batch received.

    A batch is a dict: `input_ids`, `targets` (shifted by one; -100 where a document ends), `position_ids` (restarting
    at each document and sample) int64 [batch_size, length]; `doc_ids` int32 [batch_size, length], counted within each
    sample; `cu_seqlens` int32 [documents + 1] over the flattened batch and `max_seqlen`, an int; `indices` int64
    [batch_size], the positions of this rank; `span`, the (start, stop) of the train step over all ranks.

    Args:
        stream: What to iterate over.
        batch_size: Samples per rank and train step. Give this or `global_batch`.
        global_batch: Samples per train step over all ranks; the world size must divide it.
        rank: This process; default torch.distributed's, else 0. Give it with `world_size`.
        world_size: Number of processes.
        num_workers: Threads that make batches ahead; 0 makes them when asked.
        prefetch_factor: Batches made ahead by each thread.
        fields: Names of the batch entries wanted; None is all. What is not selected costs nothing.

    Raises:
        InvalidInputError: An argument is wrong, or a train step needs more samples than an epoch has.
    """

    def __init__(
        self,
        stream: Stream,
        batch_size: int | None = None,
        *,
        global_batch: int | None = None,
        rank: int | None = None,
        world_size: int | None = None,
        num_workers: int = 0,
        prefetch_factor: int = 2,
        fields: Iterable[str] | None = None,
    ) -> None:
        self.stream = stream
        self.lane = _lane(batch_size, global_batch, *rank_and_world(rank, world_size))
        if self.lane.global_batch > len(stream):
            raise InvalidInputError(
                f"a train step takes {self.lane.global_batch} samples and the stream has {len(stream)}",
                hint="take a smaller batch, a smaller sequence_length or more data",
            )
        if num_workers < 0 or prefetch_factor < 1:
            raise InvalidInputError(
                f"num_workers is {num_workers} and prefetch_factor {prefetch_factor}", hint="at least 0 and 1"
            )
        self.fields = checked_fields(fields)
        self._threads = Threads(num_workers, num_workers * prefetch_factor)
        # Two more than are under way: the batch that the loop works on, and the one it just let go of.
        shape = (self.lane.batch_size, stream.sequence_length)
        self._pool = BufferPool(self._threads.ahead + num_workers + 2, shape, self.fields)
        self._meter = Meter()
        self._cursor = 0
        self._iteration = 0
        self._listeners: list[Callable[[tuple[int, int]], None]] = []
        self._lease: Held | None = None

    @property
    def batch_size(self) -> int:
        """Samples per batch of this rank."""
        return self.lane.batch_size

    @property
    def cursor(self) -> int:
        """The next position: everything before it has been received."""
        return self._cursor

    @property
    def epoch(self) -> int:
        """The epoch of the next train step."""
        return self._cursor // len(self.stream)

    def __len__(self) -> int:
        """Batches of the current epoch, those already received included."""
        samples, step = len(self.stream), self.lane.global_batch
        before = (self._cursor - self.epoch * samples) // step
        return before + -(-((self.epoch + 1) * samples - self._cursor) // step)

    def __iter__(self) -> Iterator[Batch]:
        """Yield the remaining batches of the current epoch."""
        self._iteration += 1
        mine = self._iteration
        self._keep()
        batches = self._threads.map(self._make, plan(self.stream, self.lane, self._cursor, self._meter))
        try:
            while True:
                if mine != self._iteration:
                    raise InvalidInputError(
                        "this iteration ended: another was started, a state was loaded or the loader was closed",
                        hint="iterate over the loader anew",
                    )
                asked = time.perf_counter()
                if self._lease is not None:
                    self._lease.renew_if_due()
                made = next(batches, None)
                if made is None:
                    return
                batch, ready = made
                yield self._deliver(batch, asked, ready)
                self._meter.add_seconds("loop", time.perf_counter() - self._handed)
        finally:
            batches.close()  # type: ignore[attr-defined]  # a generator; it cancels what is under way

    def _keep(self) -> None:
        """Let no sweep take what is read until the loader is closed, even if the branch or tag goes.

        Rank 0 takes a reader's lease on the commit; where the repository cannot be written, there is none.
        """
        version = self.stream.version
        if self._lease is None and self.lane.rank == 0:
            self._lease = reading(version.repository, version.commit, f"loader of {version.table}")

    def on_step(self, listener: Callable[[tuple[int, int]], None]) -> None:
        """Call `listener(span)` before each train step's batch is handed out, in the training loop's thread."""
        self._listeners.append(listener)

    def state_dict(self) -> dict[str, Any]:
        """Return what resumes after the last batch received: under 1 KB and the same on all ranks."""
        return {"format": FORMAT, "position": self._cursor, "identity": self.stream.identity}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a loader of the same stream was, on any number of ranks, with any batch size.

        Raises:
            InvalidInputError: The state is of another stream; the message lists what differs. Records that were
                forgotten since are no difference; ones that were forgotten there but not here are.
        """
        self._cursor = checked_position(state, self.stream.identity, self.stream.redactions)
        self._iteration += 1

    def stats(self) -> dict[str, Any]:
        """Return counts and seconds since this loader was made.

        `stall_share` is the part of the time that the training loop waited for a batch. Of each stage, `busy` is the
        time it worked (summed over threads) and `blocked` the time that its results waited for the loop: the stage
        with no blocked time is the one that starves the GPU.
        """
        meter = self._meter
        stalled, loop = meter.seconds("stalled"), meter.seconds("loop")
        total = stalled + loop
        return {
            "batches": meter.count("batches"),
            "samples": meter.count("samples"),
            "tokens": meter.count("samples") * self.stream.sequence_length,
            "seconds": total,
            "tokens_per_second": meter.count("samples") * self.stream.sequence_length / total if total else 0.0,
            "samples_per_second": meter.count("samples") / total if total else 0.0,
            "stall_seconds": stalled,
            "stall_share": stalled / total if total else 0.0,
            "stages": {
                "plan": {"busy": meter.seconds("plan"), "blocked": 0.0},
                "fill": {"busy": meter.seconds("fill"), "blocked": meter.seconds("blocked")},
            },
            "num_workers": self._threads.num_workers,
            "backend": "cpu",
        }

    def close(self) -> None:
        """End the threads. Iterating again starts them anew."""
        self._iteration += 1
        self._threads.close()
        if self._lease is not None:
            self._lease.release()

    def __enter__(self) -> DataLoader:
        """Return the loader itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the loader."""
        self.close()

    def _make(self, planned: Planned) -> tuple[Batch, float]:
        start = time.perf_counter()
        buffers = self._pool.take()
        try:
            wants_documents = "cu_seqlens" in self.fields or "max_seqlen" in self.fields
            bounds, longest = self.stream.fill(planned.addresses, cu_seqlens=wants_documents, **buffers.outputs())
            batch: Batch = dict(buffers.tensors())
        finally:
            self._pool.give_back(buffers)
        if "cu_seqlens" in self.fields:
            batch["cu_seqlens"] = torch.from_numpy(bounds)
        if "max_seqlen" in self.fields:
            batch["max_seqlen"] = longest
        if "indices" in self.fields:
            batch["indices"] = torch.from_numpy(planned.indices)
        batch["span"] = planned.span
        ready = time.perf_counter()
        self._meter.add_seconds("fill", ready - start)
        return batch, ready

    def _deliver(self, batch: Batch, asked: float, ready: float) -> Batch:
        now = time.perf_counter()
        self._meter.add_seconds("stalled", now - asked)
        self._meter.add_seconds("blocked", max(0.0, asked - ready))
        self._meter.add_count("batches", 1)
        self._meter.add_count("samples", self.lane.batch_size)
        for listener in self._listeners:
            listener(batch["span"])
        # The state counts what the loop has received; it gets this batch with the next instruction.
        self._cursor = batch["span"][1]
        self._handed = time.perf_counter()
        return batch


def _lane(batch_size: int | None, global_batch: int | None, rank: int, world_size: int) -> Lane:
    for size in (batch_size, global_batch):
        if size is not None and (isinstance(size, bool) or not isinstance(size, int)):
            raise InvalidInputError(f"a batch of {size!r} samples", hint="it must be a whole number of at least 1")
    if (batch_size is None) == (global_batch is None):
        raise InvalidInputError("give batch_size (per rank) or global_batch (of all ranks), not both or neither")
    if global_batch is None:
        return Lane(rank, world_size, batch_size or 0)
    if global_batch < 1 or world_size < 1 or global_batch % world_size:
        raise InvalidInputError(
            f"a global_batch of {global_batch} cannot be shared by {world_size} ranks",
            hint="take a multiple of the world size",
        )
    return Lane(rank, world_size, global_batch // world_size)
