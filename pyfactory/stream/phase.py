"""Phases: which source, and which of its samples, stands at each position between two positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pyfactory.native import Interleave, TwoWay
from pyfactory.native import Mixture as FusedMixture
from pyfactory.order.recipe import Recipe
from pyfactory.stream.feed import Feed

__all__ = ["END", "Delivered", "Leaf", "Phase", "Taken", "UnseenLeaf", "WholeLeaf"]

Int64s = NDArray[np.int64]

END = 2**62
"""One past the last position of any stream."""

Delivered = tuple[Int64s, Int64s, Int64s]
"""Feed number, sample ordinal and epoch of the feed, int64[m] each."""

Taken = tuple[Feed, int, int]
"""A feed, and the first index of its order and one past the last."""


class Leaf(Protocol):
    """A source within a phase. Its samples are numbered from 0 in each phase."""

    @property
    def name(self) -> str:
        """Name of the source."""

    @property
    def weight(self) -> int:
        """Its whole weight."""

    @property
    def limit(self) -> int | None:
        """The number before which it ends, None if it does not."""

    @property
    def samples(self) -> int:
        """Samples of an epoch."""

    @property
    def feeds(self) -> Sequence[Feed]:
        """What it delivers from."""

    def at(self, numbers: Int64s) -> Delivered:
        """Return what stands at numbers of this source."""

    def numbers_of(self, feed: Feed, samples: Int64s, epochs: Int64s) -> Int64s:
        """Return the numbers at which a feed's samples stand in epochs; those of other phases are out of range."""

    def taken(self, start: int, stop: int) -> list[Taken]:
        """Return what the samples of numbers [start, stop) are of each feed."""


@dataclass(frozen=True, eq=False)
class WholeLeaf:
    """A source that delivers one table, epoch after epoch; see `Leaf`.

    Attributes:
        name: Name of the source.
        weight: Its whole weight.
        begin: The index of its first sample in the phase.
        limit: The number before which it ends, None if it does not.
        feed: The table.
    """

    name: str
    weight: int
    begin: int
    limit: int | None
    feed: Feed

    @property
    def samples(self) -> int:
        """Samples of an epoch."""
        return self.feed.geometry.samples

    @property
    def feeds(self) -> Sequence[Feed]:
        """The one feed."""
        return (self.feed,)

    def at(self, numbers: Int64s) -> Delivered:
        """Return what stands at numbers of this source."""
        indexes = numbers + self.begin
        return np.full(len(numbers), self.feed.number), self.feed.order.samples_at(indexes), indexes // self.samples

    def numbers_of(self, feed: Feed, samples: Int64s, epochs: Int64s) -> Int64s:
        """Return the numbers at which samples stand in epochs."""
        numbers: Int64s = feed.order.positions_of(samples, epochs) - self.begin
        return numbers

    def taken(self, start: int, stop: int) -> list[Taken]:
        """Return what the samples of numbers [start, stop) are of its feed."""
        return [(self.feed, self.begin + start, self.begin + stop)]


@dataclass(frozen=True, eq=False)
class UnseenLeaf:
    """A source on its way from an old version to a new one: what is left of the old epoch, and what was added.

    Attributes:
        name: Name of the source.
        weight: Its whole weight.
        begin: The number, counted from where it left the old version, of its first sample in the phase.
        index: The index of the old version that comes next where it leaves it.
        tail: The old version, None if its epoch is complete.
        added: What only the new version has, None if that fills no sample.
        tail_samples: Samples left of the old epoch.
        epoch: The epoch that is completed.
    """

    name: str
    weight: int
    begin: int
    index: int
    tail: Feed | None
    added: Feed | None
    tail_samples: int
    epoch: int

    @property
    def samples(self) -> int:
        """Samples of both together: what a position of the source counts as an epoch."""
        return self.tail_samples + (0 if self.added is None else self.added.geometry.samples)

    @property
    def limit(self) -> int:
        """The number before which it ends."""
        return self.samples - self.begin

    @property
    def feeds(self) -> Sequence[Feed]:
        """The old version's and the added samples, those that there are."""
        return tuple(feed for feed in (self.tail, self.added) if feed is not None)

    def at(self, numbers: Int64s) -> Delivered:
        """Return what stands at numbers of this source."""
        sides, inner = TwoWay(self.tail_samples, self.samples).split(numbers + self.begin)
        feeds, samples = np.empty_like(inner), np.empty_like(inner)
        for side, feed, before in self._sides():
            mine = sides == side
            feeds[mine] = feed.number
            samples[mine] = feed.order.samples_at(inner[mine] + before)
        return feeds, samples, np.full(len(numbers), self.epoch)

    def numbers_of(self, feed: Feed, samples: Int64s, epochs: Int64s) -> Int64s:
        """Return the numbers at which samples stand in epochs."""
        numbers = np.full(len(samples), -1)
        for side, mine, before in self._sides():
            if mine is feed:
                inner = feed.order.positions_of(samples, epochs) - before
                count = self.tail_samples if side == 0 else self.samples - self.tail_samples
                there = (inner >= 0) & (inner < count) & (epochs == self.epoch)
                joined = TwoWay(self.tail_samples, self.samples).join(np.full(int(there.sum()), side), inner[there])
                numbers[there] = joined - self.begin
        return numbers

    def taken(self, start: int, stop: int) -> list[Taken]:
        """Return what the samples of numbers [start, stop) are of each feed."""
        numbers = (self.begin + start, self.begin + stop)
        old = [(number * self.tail_samples + self.samples // 2) // self.samples for number in numbers]
        counts = (old, [number - before for number, before in zip(numbers, old, strict=True)])
        return [(feed, before + counts[side][0], before + counts[side][1]) for side, feed, before in self._sides()]

    def _sides(self) -> list[tuple[int, Feed, int]]:
        """Return (side of the split, feed, index of its first sample in its order) of what there is."""
        sides = []
        if self.tail is not None:
            sides.append((0, self.tail, self.index))
        if self.added is not None:
            sides.append((1, self.added, self.epoch * self.added.geometry.samples))
        return sides


class Phase:
    """The part of a stream from one position to another in which sources, weights and recipe stay the same.

    Args:
        number: Its number in `Stream.phases`.
        start: Its first position.
        stop: One past its last position, None if it has no end.
        recipe: How samples are cut and ordered.
        leaves: Its sources, in the order of the specification.
        split: How positions are dealt to them.

    Attributes:
        samples: Positions of an epoch: samples of all its sources.
    """

    def __init__(
        self, number: int, start: int, stop: int | None, recipe: Recipe, leaves: Sequence[Leaf], split: Interleave
    ) -> None:
        self.number = number
        self.start = start
        self.stop = stop
        self.recipe = recipe
        self.leaves = tuple(leaves)
        self.samples = sum(leaf.samples for leaf in leaves)
        self._split = split
        self._fused = _fused(self.leaves)

    @property
    def sources(self) -> tuple[str, ...]:
        """The names of its sources."""
        return tuple(leaf.name for leaf in self.leaves)

    def at(self, positions: Int64s) -> Delivered:
        """Return what stands at positions of the stream, all of this phase: int64[m] -> int64[m] each."""
        inner = positions - self.start
        if len(self.leaves) == 1:
            return self.leaves[0].at(inner)
        if self._fused is not None:
            numbers, mixture = self._fused
            leaf, sample, epoch = mixture.samples_at(inner)
            return numbers[leaf], sample, epoch
        leaf, number = self._split.split(inner)
        feeds, samples, epochs = np.empty_like(inner), np.empty_like(inner), np.empty_like(inner)
        for which in np.unique(leaf).tolist():
            mine = leaf == which
            feeds[mine], samples[mine], epochs[mine] = self.leaves[which].at(number[mine])
        return feeds, samples, epochs

    def positions_of(self, feed: Feed, samples: Int64s, epochs: Int64s) -> Int64s:
        """Return where samples of one of its feeds stand in epochs of it: int64[m]; -1 where not in this phase."""
        which = next(at for at, leaf in enumerate(self.leaves) if any(feed is mine for mine in leaf.feeds))
        numbers = self.leaves[which].numbers_of(feed, samples, epochs)
        positions = np.full(len(samples), -1)
        there = (numbers >= 0) & (numbers < self._most(which))
        found = self._split.join(np.full(int(there.sum()), which), numbers[there]) + self.start
        positions[there] = found
        return positions

    def counts(self, stop: int) -> list[int]:
        """Return how many samples each source delivers before a position, O(sources)."""
        counted: list[int] = self._split.counts(stop - self.start).tolist()
        return counted

    def taken(self, start: int, stop: int) -> list[Taken]:
        """Return which samples of each feed stand at the positions [start, stop) of the stream, O(sources).

        Positions outside of the phase count for nothing.
        """
        low = max(start, self.start)
        high = max(low, min(stop, END if self.stop is None else self.stop))
        numbers = zip(self.leaves, self.counts(low), self.counts(high), strict=True) if high > low else ()
        return [taken for leaf, first, last in numbers for taken in leaf.taken(first, last)]

    def _most(self, leaf: int) -> int:
        """Return the number before which a source ends in this phase."""
        return int(self._split.counts((END if self.stop is None else self.stop) - self.start)[leaf])


def _fused(leaves: Sequence[Leaf]) -> tuple[Int64s, FusedMixture] | None:
    """Return feed numbers by leaf, and one call for all of them; None if some source is not whole."""
    whole = [leaf for leaf in leaves if isinstance(leaf, WholeLeaf)]
    if len(whole) < max(len(leaves), 2):
        return None
    weights = np.array([leaf.weight for leaf in whole], np.uint64)
    begins = np.array([leaf.begin for leaf in whole], np.int64)
    numbers = np.array([leaf.feed.number for leaf in whole], np.int64)
    return numbers, FusedMixture(weights, [leaf.feed.order.native for leaf in whole], begins)
