"""The loader that a training loop holds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pyfactory.core.meter import Meter
from pyfactory.errors import InvalidInputError
from pyfactory.loader.batch import checked_fields
from pyfactory.loader.making import Batch, Maker
from pyfactory.loader.plan import Planned, plan
from pyfactory.loader.reading import ReadingLeases
from pyfactory.loader.schedule import Schedule, legs_of
from pyfactory.loader.state import FORMAT, checked_position
from pyfactory.loader.workers.in_process import Threads
from pyfactory.loader.world import place_of
from pyfactory.order.lane import cut
from pyfactory.stream.stream import Stream

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh

__all__ = ["DataLoader"]


class DataLoader:
    """Iterates over the batches of one rank; one `for` loop is one epoch, the next loop the next epoch.

    A train step takes `global_batch` consecutive positions, cut into one lane per data-parallel rank and each lane into
    `accumulation` micro-batches, which are the batches delivered; it belongs to the epoch in which it begins. All that
    is counted and saved counts train steps: a step is received with its last micro-batch, when `cursor` becomes its
    `span[1]`. Leaving a loop early and starting another goes on behind the last step received. So with accumulation
    the `loader.accumulation` batches of a step share their `span`, and `loader.cursor == batch["span"][1]` tells that
    the step is complete: time for the optimizer.

    A batch is a dict: `input_ids`, `targets` (shifted by one; -100 where nothing is to be predicted), `position_ids`
    (restarting at each document and sample) int64 [batch_size, length]; `doc_ids` int32 [batch_size, length], counted
    within each sample; `cu_seqlens` int32 [documents + 1] over the flattened batch and `max_seqlen`, an int; `indices`
    int64 [batch_size], the positions of the batch; `span`, the (start, stop) of the train step over all ranks.

    A `for` loop ends with the epoch, and where a phase of the stream begins: that begins an epoch. To train up to a
    position, loop `while loader.cursor < end` around it. From a phase with another sequence_length on batches have
    another shape; a train step may not reach over such a place. A stream that ends ends the loop, and further loops
    yield nothing; samples at the end that do not fill a train step are not delivered, and no `cursor` gets past them.

    Args:
        stream: What to iterate over.
        batch_size: Samples of a batch. Alone, every batch is a train step of this rank.
        global_batch: Samples per train step over all ranks, a multiple of the world size. Alone, each rank's part is
            one batch; with `batch_size`, it is global_batch / (world_size * batch_size) of them.
        rank: The data-parallel rank of this process; default torch.distributed's, else 0. Give it with `world_size`.
        world_size: Number of data-parallel ranks.
        strided: Rank r takes every world_size-th position from the r-th on, not a slice of neighbours. What a train
            step holds over all ranks is the same.
        mesh: A DeviceMesh with named dimensions, instead of `rank` and `world_size`. Ranks that differ only along
            other than data-parallel dimensions (tensor, context, pipeline) get the same batches.
        dp_dims: The data-parallel dimensions of the mesh; by default they are found by their usual names.
        cp_dim: The context-parallel dimension of the mesh. If given, each of its ranks gets its part of every
            sequence: of `input_ids`, `targets`, `position_ids` and `doc_ids`, [batch_size, length / cp_size].
            `cu_seqlens` and `max_seqlen` stay those of whole sequences. Do without where the training cuts sequences
            itself, as torch's `context_parallel` does.
        cp_rank: The same without a mesh. Give it with `cp_size`, `rank` and `world_size`.
        cp_size: Number of context-parallel ranks.
        cp_layout: Which part: `zigzag` (default) or `contiguous`; see `context.ContextSlice`.
        num_workers: Threads that make batches ahead; 0 makes them when asked.
        prefetch_factor: Batches made ahead by each thread.
        fields: Names of the batch entries wanted; None is all. What is not selected costs nothing.

    Attributes:
        stream: What it iterates over.
        lane: Which positions it takes: `order.lane.Lane`.
        leads: Whether this is the one process that writes for all.

    Raises:
        InvalidInputError: An argument is wrong, a train step needs more samples than an epoch has, or a
            sequence_length cannot be shared by the context-parallel ranks.
    """

    def __init__(
        self,
        stream: Stream,
        batch_size: int | None = None,
        *,
        global_batch: int | None = None,
        rank: int | None = None,
        world_size: int | None = None,
        strided: bool = False,
        mesh: DeviceMesh | None = None,
        dp_dims: Sequence[str] | None = None,
        cp_dim: str | None = None,
        cp_rank: int | None = None,
        cp_size: int | None = None,
        cp_layout: str = "zigzag",
        num_workers: int = 0,
        prefetch_factor: int = 2,
        fields: Iterable[str] | None = None,
    ) -> None:
        place = place_of(
            rank,
            world_size,
            mesh=mesh,
            dp_dims=dp_dims,
            cp_dim=cp_dim,
            cp_rank=cp_rank,
            cp_size=cp_size,
            cp_layout=cp_layout,
        )
        self.stream = stream
        self.leads = place.leads
        self.lane = cut(place.rank, place.world_size, batch_size, global_batch, strided=strided)
        self._context = place.context
        self._schedule = Schedule(legs_of(stream), self.lane.global_batch)
        if self._context is not None:
            self._context.check(leg.length for leg in self._schedule.legs)
        if num_workers < 0 or prefetch_factor < 1:
            raise InvalidInputError(
                f"num_workers is {num_workers} and prefetch_factor {prefetch_factor}", hint="at least 0 and 1"
            )
        self.fields = checked_fields(fields)
        self._threads = Threads(num_workers, num_workers * prefetch_factor)
        self._maker: Maker | None = None
        self._meter = Meter()
        self._cursor = 0
        self._iteration = 0
        self._listeners: list[Callable[[tuple[int, int]], None]] = []
        self._announced: tuple[int, int] | None = None
        # The leading process takes them for all.
        self._leases = ReadingLeases(stream) if self.leads else None

    @property
    def batch_size(self) -> int:
        """Samples per batch of this rank."""
        return self.lane.batch_size

    @property
    def accumulation(self) -> int:
        """Batches per train step of this rank."""
        return self.lane.accumulation

    @property
    def cursor(self) -> int:
        """The next position: every train step before it has been received."""
        return self._cursor

    @property
    def epoch(self) -> int:
        """The epoch of the next train step, counted over all phases."""
        return self._schedule.epoch_of(self._cursor)

    def __len__(self) -> int:
        """Batches of the current epoch, those of train steps already received included."""
        steps = self._schedule.steps_before(self._cursor) + len(self._schedule.steps(self._cursor))
        return steps * self.accumulation

    def __iter__(self) -> Iterator[Batch]:
        """Yield the remaining batches of the current epoch.

        Raises:
            InvalidInputError: The sequence length will change in the middle of a train step, be it in a later epoch.
        """
        self._schedule.check(self._cursor)
        self._iteration += 1
        mine = self._iteration
        if self._leases is not None:
            self._leases.begin(self)
        starts = self._schedule.steps(self._cursor)
        maker = self._maker_at(self._cursor)
        batches = self._threads.map(maker.make, plan(self.stream, self.lane, starts, self._meter))
        try:
            while True:
                if mine != self._iteration:
                    raise InvalidInputError(
                        "this iteration ended: another was started, a state was loaded or the loader was closed",
                        hint="iterate over the loader anew",
                    )
                asked = time.perf_counter()
                if self._leases is not None:
                    self._leases.renew()
                made = next(batches, None)
                if made is None:
                    return
                batch, planned, ready = made
                yield self._deliver(batch, planned, maker.tokens, asked, ready)
                self._meter.add_seconds("loop", time.perf_counter() - self._handed)
        finally:
            batches.close()  # type: ignore[attr-defined]  # a generator; it cancels what is under way

    def on_step(self, listener: Callable[[tuple[int, int]], None]) -> None:
        """Call `listener(span)` before each train step's first batch is handed out, in the training loop's thread."""
        self._listeners.append(listener)
        self._announced = None

    def state_dict(self) -> dict[str, Any]:
        """Return what resumes after the last train step received: small, and the same on all ranks.

        In the middle of a train step it is the state before that step.
        """
        return {"format": FORMAT, "position": self._cursor, "identity": self.stream.identity}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a loader of the same stream was, on any number of ranks, with any batch size.

        The stream may have got further phases since, behind the position of the state.

        Raises:
            InvalidInputError: The state is of another stream; the message lists what differs. Records that were
                forgotten since are no difference; ones that were forgotten there but not here are. Or a train step from
                there on would have two sequence lengths.
        """
        cursor = checked_position(state, self.stream.identity, self.stream.redactions)
        # Not in __init__: train steps lie on the grid of the cursor, and the one of a state to come may be another,
        # when the global batch has changed in between.
        self._schedule.check(cursor)
        self._cursor = cursor
        self._announced = None
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
            "tokens": meter.count("tokens"),
            "seconds": total,
            "tokens_per_second": meter.count("tokens") / total if total else 0.0,
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
        """End the threads and the reader's lease, which keeps `gc` from what is read. Iterating again begins both anew.

        The lease of a loader that is not closed ends when the loader is let go of or the program exits; that of a
        killed program ends within the hour.
        """
        self._iteration += 1
        self._threads.close()
        if self._leases is not None:
            self._leases.end()

    def __enter__(self) -> DataLoader:
        """Return the loader itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the loader."""
        self.close()

    def _maker_at(self, position: int) -> Maker:
        length = self._schedule.leg_at(position).length
        if self._maker is None or self._maker.length != length:
            threads = self._threads.num_workers
            self._maker = Maker(
                self.stream,
                self.lane.batch_size,
                length,
                self.fields,
                context=self._context,
                # Two more than are under way: the batch that the loop works on, and the one it just let go of.
                under_way=self._threads.ahead + threads + 2,
                threads=threads,
                meter=self._meter,
            )
        return self._maker

    def _deliver(self, batch: Batch, planned: Planned, tokens: int, asked: float, ready: float) -> Batch:
        now = time.perf_counter()
        self._meter.add_seconds("stalled", now - asked)
        self._meter.add_seconds("blocked", max(0.0, asked - ready))
        self._meter.add_count("batches", 1)
        self._meter.add_count("samples", self.lane.batch_size)
        self._meter.add_count("tokens", tokens)
        # Once for a train step, also if the loop left it half done and takes it up again from its start.
        if planned.span != self._announced:
            for listener in self._listeners:
                listener(planned.span)
            self._announced = planned.span
        # The state counts what the loop has received; it gets this batch with the next instruction.
        if planned.is_last:
            self._cursor = planned.span[1]
        self._handed = time.perf_counter()
        return batch
