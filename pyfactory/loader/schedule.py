"""Where train steps begin, where epochs end, and where a batch changes its shape: arithmetic over the phases."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from pyfactory.errors import InvalidInputError
from pyfactory.stream.stream import Stream

__all__ = ["Leg", "Schedule", "legs_of"]


@dataclass(frozen=True, slots=True)
class Leg:
    """What a loader knows of a phase.

    Attributes:
        start: Its first position.
        stop: One past its last position; None is endless.
        samples: Positions of an epoch.
        length: Input tokens of a sample.
    """

    start: int
    stop: int | None
    samples: int
    length: int


def legs_of(stream: Stream) -> tuple[Leg, ...]:
    """Return the phases of a stream as a loader sees them."""
    return tuple(Leg(phase.start, phase.stop, phase.samples, phase.recipe.sequence_length) for phase in stream.phases)


class Schedule:
    """The train steps over the phases of a stream.

    Train steps follow each other without gaps, across epochs and phases; each belongs to the epoch in which it begins.
    Each phase begins an epoch.

    Args:
        legs: The phases, each beginning where the one before stops.
        global_batch: Positions of a train step.

    Raises:
        InvalidInputError: A train step would take a sample twice, since an epoch has fewer, or the stream ends before
            the first step does.
    """

    def __init__(self, legs: Sequence[Leg], global_batch: int) -> None:
        self.legs = tuple(legs)
        self.global_batch = global_batch
        self._starts = [leg.start for leg in legs]
        self._first_epochs = [0]
        for leg in legs[:-1]:
            self._first_epochs.append(self._first_epochs[-1] + -(-(_stop(leg) - leg.start) // leg.samples))
        for leg in legs:
            repeats = leg.stop is None or leg.stop - leg.start > leg.samples
            if repeats and leg.samples < global_batch:
                raise InvalidInputError(
                    f"a train step takes {global_batch} samples and the stream has {leg.samples}{_where(leg)}",
                    hint="take a smaller batch, a smaller sequence_length or more data",
                )
        if self.end is not None and self.end < global_batch:
            raise InvalidInputError(
                f"a train step takes {global_batch} samples and the stream ends after {self.end}",
                hint="take a smaller batch or more epochs",
            )

    @property
    def end(self) -> int | None:
        """The position at which the stream ends; None if it does not."""
        return self.legs[-1].stop

    def leg_at(self, position: int) -> Leg:
        """Return the phase of a position; the last one for positions behind the end."""
        return self.legs[self._number(position)]

    def epoch_of(self, position: int) -> int:
        """Return the epoch of a position: full and begun ones are counted over all phases."""
        number = self._number(position)
        leg = self.legs[number]
        # Behind the end it is the last epoch still.
        within = min(position, (self.end or position + 1) - 1) - leg.start
        return self._first_epochs[number] + within // leg.samples

    def steps(self, cursor: int) -> range:
        """Return where the train steps that are still to come in the epoch of `cursor` begin.

        A last step that a stream's end would cut short is none.
        """
        stop = self._epoch(cursor)[1]
        if self.end is not None:
            stop = min(stop, self.end - self.global_batch + 1)
        return range(cursor, max(cursor, stop), self.global_batch)

    def steps_before(self, cursor: int) -> int:
        """Return how many of the train steps that led to `cursor` began in its epoch."""
        return (cursor - self._epoch(cursor)[0]) // self.global_batch

    def check(self, cursor: int) -> None:
        """Refuse, before it is walked into, a train step from `cursor` on whose samples differ in length.

        Raises:
            InvalidInputError: The sequence length changes in the middle of a train step.
        """
        for before, after in pairwise(self.legs):
            late = (after.start - cursor) % self.global_batch
            if before.length != after.length and after.start > cursor and late:
                start = after.start - late
                raise InvalidInputError(
                    f"sequence_length changes from {before.length} to {after.length} at position {after.start}, in "
                    f"the middle of the train step [{start}, {start + self.global_batch})",
                    hint=f"begin that phase at {start} or at {start + self.global_batch}",
                )

    def _number(self, position: int) -> int:
        return bisect_right(self._starts, position) - 1

    def _epoch(self, position: int) -> tuple[int, int]:
        """Return the first position of an epoch, and one past its last."""
        leg = self.leg_at(position)
        inside = position if leg.stop is None else min(position, leg.stop - 1)
        start = inside - (inside - leg.start) % leg.samples
        stop = start + leg.samples
        return start, stop if leg.stop is None else min(stop, leg.stop)


def _stop(leg: Leg) -> int:
    if leg.stop is None:  # the stream would not have been made
        raise InvalidInputError(f"the phase at {leg.start} has no end, and another follows it")
    return leg.stop


def _where(leg: Leg) -> str:
    return f" in the phase that begins at {leg.start}" if leg.start else ""
