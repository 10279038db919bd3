"""Which train steps come next, and where the samples of one lane are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyfactory.core.meter import Meter
from pyfactory.order.lane import Lane
from pyfactory.stream.addresses import Addresses
from pyfactory.stream.stream import Stream

__all__ = ["Planned", "plan", "steps_of_epoch"]

# Samples planned at a time: enough to hide the cost of each NumPy call, few enough to begin at once.
_FIRST_SAMPLES = 64
_MOST_SAMPLES = 4096


@dataclass(frozen=True, slots=True)
class Planned:
    """What one lane delivers for one train step.

    Attributes:
        span: The positions of the train step, all lanes together.
        indices: int64[batch_size], the positions of this lane.
        addresses: Where their tokens are.
    """

    span: tuple[int, int]
    indices: NDArray[np.int64]
    addresses: Addresses


def steps_of_epoch(cursor: int, samples: int, global_batch: int) -> range:
    """Return where the train steps that are still to come in the epoch of `cursor` begin.

    A train step belongs to the epoch in which it begins, and may reach into the next one.
    """
    end = (cursor // samples + 1) * samples
    return range(cursor, end, global_batch)


def plan(stream: Stream, lane: Lane, cursor: int, meter: Meter) -> Iterator[Planned]:
    """Yield the batches of a lane from a position to the end of its epoch."""
    starts = steps_of_epoch(cursor, len(stream), lane.global_batch)
    size, done = _FIRST_SAMPLES, 0
    while done < len(starts):
        with meter.timed("plan"):
            chunk = starts[done : done + max(1, size // lane.batch_size)]
            firsts = np.fromiter((lane.start(start) for start in chunk), np.int64, len(chunk))
            indices = (firsts[:, None] + np.arange(lane.batch_size)).ravel()
            addresses = stream.addresses(indices)
        for i, start in enumerate(chunk):
            low, high = i * lane.batch_size, (i + 1) * lane.batch_size
            yield Planned((start, start + lane.global_batch), indices[low:high], addresses.slice(low, high))
        done += len(chunk)
        size = min(2 * size, _MOST_SAMPLES)
