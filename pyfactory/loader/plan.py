"""What one lane delivers, micro-batch after micro-batch, and where its samples are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyfactory.core.meter import Meter
from pyfactory.order.lane import Lane
from pyfactory.stream.addresses import Addresses
from pyfactory.stream.stream import Stream

__all__ = ["Planned", "plan"]

# Samples planned at a time: enough to hide the cost of each NumPy call, few enough to begin at once.
_FIRST_SAMPLES = 64
_MOST_SAMPLES = 4096


@dataclass(frozen=True, slots=True)
class Planned:
    """A micro-batch of one lane.

    Attributes:
        span: The positions of its train step, all lanes together.
        is_last: Whether it is the last micro-batch of the train step.
        indices: int64[batch_size], its positions.
        addresses: Where their tokens are.
    """

    span: tuple[int, int]
    is_last: bool
    indices: NDArray[np.int64]
    addresses: Addresses


def plan(stream: Stream, lane: Lane, starts: range, meter: Meter) -> Iterator[Planned]:
    """Yield the micro-batches of a lane for the train steps that begin at `starts`, in order."""
    count, size, done = len(starts) * lane.accumulation, _FIRST_SAMPLES, 0
    while done < count:
        with meter.timed("plan"):
            numbers = range(done, min(count, done + max(1, size // lane.batch_size)))
            steps = [starts[number // lane.accumulation] for number in numbers]
            micro = [number % lane.accumulation for number in numbers]
            indices = lane.indices(steps, micro)
            addresses = stream.addresses(indices.ravel())
        for i, start in enumerate(steps):
            yield Planned(
                (start, start + lane.global_batch),
                micro[i] == lane.accumulation - 1,
                indices[i],
                addresses.slice(i * lane.batch_size, (i + 1) * lane.batch_size),
            )
        done += len(numbers)
        size = min(2 * size, _MOST_SAMPLES)
