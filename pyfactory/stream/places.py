"""Positions of a stream <-> places in its tables, over all phases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pyfactory.errors import InvalidInputError
from pyfactory.stream.addresses import Addresses, joined
from pyfactory.stream.feed import Feed
from pyfactory.stream.phase import END, Delivered, Phase

__all__ = ["Places"]

Int64s = NDArray[np.int64]


class Places:
    """Where the samples of a stream are; the methods are those of `Stream`.

    Args:
        phases: By number.
        feeds: By number.
    """

    def __init__(self, phases: Sequence[Phase], feeds: Sequence[Feed]) -> None:
        self._phases = phases
        self._feeds = feeds
        self._starts = np.array([phase.start for phase in phases], np.int64)
        self._end = phases[-1].stop

    def addresses(self, positions: Sequence[int] | Int64s) -> Addresses:
        """Return where the samples at positions are."""
        array = self._checked(positions)
        feeds, samples, epochs = self._delivered(array)
        parts = []
        for number in np.unique(feeds).tolist() if len(array) else [0]:
            mine = np.flatnonzero(feeds == number)
            parts.append((mine, self._feeds[number].addresses(samples[mine], epochs[mine])))
        return joined(parts, len(array))

    def position_of(self, addresses: Addresses) -> Int64s:
        """Return the positions of samples at addresses."""
        found = np.full(len(addresses), -1)
        for number in np.unique(addresses.feed).tolist():
            mine = np.flatnonzero(addresses.feed == number)
            if not 0 <= number < len(self._feeds):
                break
            part = _taken(addresses, mine)
            samples = self._feeds[number].samples_at(part)
            there = samples >= 0
            found[mine[there]] = self.positions(number, samples[there], part.epoch[there])
        if (found < 0).any():
            raise InvalidInputError("an address is not the start of a sample", hint="ask the stream that gave it")
        return found

    def positions(self, feed: int, samples: Int64s, epochs: Int64s) -> Int64s:
        """Return where samples of a feed stand in epochs of it, -1 where its phase does not have them."""
        one = self._feeds[feed]
        return self._phases[one.phase].positions_of(one, samples, epochs)

    def phase_at(self, position: int) -> Phase:
        """Return the phase that a position belongs to."""
        self._checked([position])
        return self._phases[int(np.searchsorted(self._starts, position, side="right")) - 1]

    def _delivered(self, positions: Int64s) -> Delivered:
        if len(self._phases) == 1:
            return self._phases[0].at(positions)
        which = np.searchsorted(self._starts, positions, side="right") - 1
        found = np.empty((3, len(positions)), np.int64)
        for number in np.unique(which).tolist():
            mine = which == number
            found[:, mine] = self._phases[number].at(positions[mine])
        return found[0], found[1], found[2]

    def _checked(self, positions: Sequence[int] | Int64s) -> Int64s:
        array = np.asarray(positions)
        wrong = array.ndim != 1 or (array.size and (array.dtype.kind not in "iu" or array.dtype == np.uint64))
        if wrong:
            raise InvalidInputError("positions are not integers below 2^62", hint="positions are 0 to 2^62 - 1")
        end = self._end
        outside = array[(array < 0) | (array >= (END if end is None else end))]
        if outside.size:
            hint = "positions are 0 to 2^62 - 1" if end is None else f"the stream ends at position {end}"
            raise InvalidInputError(f"there is no position {outside[0]}", hint=hint)
        return array.astype(np.int64, copy=False)


def _taken(addresses: Addresses, samples: Int64s) -> Addresses:
    """Return the addresses of some samples, as far as `Feed.samples_at` looks: their first pieces."""
    head = addresses.offsets[samples]
    pieces = {name: getattr(addresses, name)[head] for name in ("table", "shard", "first", "length")}
    offsets = np.arange(len(samples) + 1)
    return replace(addresses, **pieces, offsets=offsets, feed=addresses.feed[samples], epoch=addresses.epoch[samples])
