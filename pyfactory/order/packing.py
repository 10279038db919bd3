"""How the tokens of a table become samples: concatenate and cut. What needs a table is in `shard.packing_table`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pyfactory.errors import InvalidInputError

__all__ = ["Concat", "Geometry", "Runs"]

Int64s = NDArray[np.int64]


class Geometry(Protocol):
    """Which tokens of a table each sample reads. Any number of threads may share one."""

    @property
    def samples(self) -> int:
        """Samples of an epoch."""

    def pieces(self, samples: Int64s) -> tuple[Int64s, Int64s, Int64s]:
        """Return the pieces of samples, in order.

        Args:
            samples: int64[m], each in [0, samples).

        Returns:
            first: int64[p], the first token of each piece in the table.
            length: int64[p], its tokens.
            offsets: int64[m + 1]: sample i has the pieces [offsets[i], offsets[i + 1]).
        """

    def samples_with(self, first: int, stop: int) -> Int64s:
        """Return the samples that read some of the table's tokens [first, stop), as input or target, ascending."""

    def sample_at(self, first_tokens: Int64s) -> Int64s:
        """Return the samples whose first pieces begin at tokens of the table, -1 where none does: int64[m]."""


@dataclass(frozen=True, slots=True)
class Concat:
    """Documents one after the other, cut every `sequence_length` tokens. See `Geometry`; all of it is arithmetic.

    Sample i reads tokens [i * length, i * length + length], the last of which is only a target, so neighbours share
    one.

    Attributes:
        tokens: Tokens of the table.
        sequence_length: Input tokens of a sample.
    """

    tokens: int
    sequence_length: int

    def __post_init__(self) -> None:
        if self.tokens <= self.sequence_length:
            raise InvalidInputError(
                f"{self.tokens} tokens do not fill one sample of {self.sequence_length}",
                hint=f"a sample reads sequence_length + 1 tokens: take sequence_length below {max(self.tokens, 1)}",
            )

    @property
    def samples(self) -> int:
        """Samples of an epoch."""
        return (self.tokens - 1) // self.sequence_length

    @property
    def tokens_left(self) -> int:
        """Tokens at the end that no sample has as input."""
        return self.tokens - self.samples * self.sequence_length

    def pieces(self, samples: Int64s) -> tuple[Int64s, Int64s, Int64s]:
        """Return the one piece of each sample; see `Geometry.pieces`."""
        count = len(samples)
        return samples * self.sequence_length, np.full(count, self.sequence_length + 1), np.arange(count + 1)

    def samples_with(self, first: int, stop: int) -> Int64s:
        """Return the samples that read some of the tokens [first, stop); see `Geometry.samples_with`."""
        return _samples_with(first, min(stop, self.tokens), self.sequence_length, self.samples)

    def sample_at(self, first_tokens: Int64s) -> Int64s:
        """Return the samples that begin at tokens; see `Geometry.sample_at`."""
        return _sample_at(first_tokens, self.sequence_length, self.samples)


class Runs:
    """Runs of a table's tokens one after the other, cut every `sequence_length` tokens. See `Geometry`.

    It may have no samples: then the runs do not fill one. A look-up costs O(log runs).

    Args:
        firsts: int64[r], the first token of each run in the table, ascending.
        lengths: int64[r], its tokens; runs do not overlap.
        sequence_length: Input tokens of a sample.

    Raises:
        InvalidInputError: The runs do not ascend.
    """

    def __init__(self, firsts: Int64s, lengths: Int64s, sequence_length: int) -> None:
        if len(firsts) != len(lengths) or (lengths < 0).any() or (firsts[:-1] + lengths[:-1] > firsts[1:]).any():
            raise InvalidInputError("the runs of tokens do not ascend, or overlap")
        self.sequence_length = sequence_length
        self._firsts = firsts[lengths > 0]
        # Where each run begins among the tokens of all of them, and where the last one ends.
        self._starts = np.concatenate([[0], np.cumsum(lengths[lengths > 0])]).astype(np.int64)

    @property
    def tokens(self) -> int:
        """Tokens of all runs."""
        return int(self._starts[-1])

    @property
    def samples(self) -> int:
        """Samples of an epoch, 0 or more."""
        return max(self.tokens - 1, 0) // self.sequence_length

    def pieces(self, samples: Int64s) -> tuple[Int64s, Int64s, Int64s]:
        """Return the pieces of samples, one for each run that a sample reads; see `Geometry.pieces`."""
        start = samples * self.sequence_length
        stop = start + self.sequence_length + 1
        low = np.searchsorted(self._starts, start, side="right") - 1
        count = np.searchsorted(self._starts, stop, side="left") - low
        offsets = np.concatenate([[0], np.cumsum(count)]).astype(np.int64)
        of = np.repeat(np.arange(len(samples)), count)  # which sample a piece is of
        run = np.arange(offsets[-1]) - offsets[of] + low[of]
        begin = np.maximum(self._starts[run], start[of])
        length = np.minimum(self._starts[run + 1], stop[of]) - begin
        return self._firsts[run] + begin - self._starts[run], length, offsets

    def samples_with(self, first: int, stop: int) -> Int64s:
        """Return the samples that read some of the tokens [first, stop); see `Geometry.samples_with`."""
        low, high = (int(place) for place in self._places(np.array([first, stop])))
        return _samples_with(low, high, self.sequence_length, self.samples)

    def sample_at(self, first_tokens: Int64s) -> Int64s:
        """Return the samples that begin at tokens; see `Geometry.sample_at`."""
        places = self._places(first_tokens)
        found = _sample_at(places, self.sequence_length, self.samples)
        # What is in no run has the place of the next token that is in one.
        return np.where(self._places(first_tokens + 1) > places, found, -1)

    def _places(self, tokens: Int64s) -> Int64s:
        """Return how many tokens of the runs stand before tokens of the table."""
        if not len(self._firsts):
            return np.zeros(len(tokens), np.int64)
        run = np.maximum(np.searchsorted(self._firsts, tokens, side="right") - 1, 0)
        inside = np.clip(tokens - self._firsts[run], 0, np.diff(self._starts)[run])
        places: Int64s = self._starts[run] + inside
        return places


def _samples_with(first: int, stop: int, length: int, samples: int) -> Int64s:
    """Return the samples i of [0, samples) of which [i * length, i * length + length] meets [first, stop)."""
    if first >= stop:
        return np.zeros(0, np.int64)
    # A token that begins a sample is also the last target of the one before.
    return np.arange(max(0, -(-first // length) - 1), min(samples, (stop - 1) // length + 1))


def _sample_at(tokens: Int64s, length: int, samples: int) -> Int64s:
    sample, inside = np.divmod(tokens, length)
    return np.where((inside == 0) & (sample >= 0) & (sample < samples), sample, -1)
