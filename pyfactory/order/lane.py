"""Which positions a rank takes. The stream knows nothing of ranks: only this cut does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pyfactory.errors import InvalidInputError

__all__ = ["Lane", "Seats", "cut", "seats_of"]

Int64s = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Lane:
    """The part of every train step that one rank takes, in micro-batches.

    Contiguous lanes are slices of the step, side by side in rank order. Of strided lanes, rank r takes every
    `world_size`-th position from the r-th on. Either way the lanes together are the step, each position once.

    Attributes:
        rank: This lane's number in [0, world_size).
        world_size: Number of lanes.
        batch_size: Samples of a micro-batch.
        accumulation: Micro-batches per lane and train step.
        strided: Whether lanes are strided, not contiguous.
    """

    rank: int
    world_size: int
    batch_size: int
    accumulation: int = 1
    strided: bool = False

    def __post_init__(self) -> None:
        if self.world_size < 1 or not 0 <= self.rank < self.world_size:
            raise InvalidInputError(
                f"rank {self.rank} of world_size {self.world_size}", hint="rank must lie in [0, world_size)"
            )
        for name in ("batch_size", "accumulation"):
            if getattr(self, name) < 1:
                raise InvalidInputError(f"{name} is {getattr(self, name)}", hint="it must be at least 1")

    @property
    def global_batch(self) -> int:
        """Samples of a train step over all lanes."""
        return self.batch_size * self.accumulation * self.world_size

    def indices(self, step_starts: ArrayLike, micro: ArrayLike) -> Int64s:
        """Return the positions of micro-batches. O(k * batch_size).

        Args:
            step_starts: int64[k], the first position of the train step that each belongs to.
            micro: int64[k], the number of each in its step, in [0, accumulation).

        Returns:
            int64[k, batch_size], ascending within each.
        """
        starts, numbers = np.asarray(step_starts, np.int64), np.asarray(micro, np.int64)
        own = numbers[:, None] * self.batch_size + np.arange(self.batch_size)  # in this lane's part of the step
        if self.strided:
            return starts[:, None] + self.rank + own * self.world_size
        return starts[:, None] + self.rank * self.batch_size * self.accumulation + own


@dataclass(frozen=True, slots=True)
class Seats:
    """Where positions are delivered; each array is int64[m].

    Attributes:
        step: Number of the train step, from 0.
        rank: The lane.
        micro: Number of the micro-batch in the step.
        row: Row of that micro-batch.
    """

    step: Int64s
    rank: Int64s
    micro: Int64s
    row: Int64s


def seats_of(positions: ArrayLike, lane: Lane, start: int = 0) -> Seats:
    """Return where positions are delivered: the inverse of `Lane.indices`. O(1) each.

    Args:
        positions: int64[m], none before `start`.
        lane: Any lane of the run; its rank is not used.
        start: The position at which train step 0 begins.

    Raises:
        InvalidInputError: A position lies before `start`.
    """
    array = np.asarray(positions, np.int64)
    if array.size and array.min() < start:
        raise InvalidInputError(
            f"position {array.min()} lies before {start}", hint="ask for positions that the train steps reach"
        )
    step, within = np.divmod(array - start, lane.global_batch)
    if lane.strided:
        own, rank = np.divmod(within, lane.world_size)
    else:
        rank, own = np.divmod(within, lane.batch_size * lane.accumulation)
    micro, row = np.divmod(own, lane.batch_size)
    return Seats(step, rank, micro, row)


def cut(
    rank: int,
    world_size: int,
    batch_size: int | None = None,
    global_batch: int | None = None,
    *,
    strided: bool = False,
) -> Lane:
    """Return the lane of a rank whose train steps have `global_batch` samples, in micro-batches of `batch_size`.

    With one of the two, the lane takes its part of a train step as one batch; with both, as
    global_batch / (world_size * batch_size) micro-batches.

    Raises:
        InvalidInputError: Neither is given, or the parts are not whole.
    """
    for size in (batch_size, global_batch):
        if size is not None and (isinstance(size, bool) or not isinstance(size, int) or size < 1):
            raise InvalidInputError(f"a batch of {size!r} samples", hint="it must be a whole number of at least 1")
    if batch_size is None and global_batch is None:
        raise InvalidInputError("give batch_size (per rank), global_batch (of all ranks) or both, not neither")
    if global_batch is None:
        return Lane(rank, world_size, batch_size or 0, strided=strided)
    if world_size < 1 or global_batch % world_size:
        raise InvalidInputError(
            f"a global_batch of {global_batch} cannot be shared by {world_size} ranks",
            hint="take a multiple of the world size",
        )
    share = global_batch // world_size
    if batch_size is None:
        return Lane(rank, world_size, share, strided=strided)
    if share % batch_size:
        raise InvalidInputError(
            f"a global_batch of {global_batch} over {world_size} ranks is {share} samples for each, "
            f"which is no whole number of batches of {batch_size}",
            hint="global_batch must be a multiple of world_size * batch_size",
        )
    return Lane(rank, world_size, batch_size, share // batch_size, strided)
