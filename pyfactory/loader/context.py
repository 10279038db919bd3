"""The part of each sequence that one context-parallel rank works on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from pyfactory.errors import InvalidInputError

__all__ = ["LAYOUTS", "ContextSlice"]

LAYOUTS = ("zigzag", "contiguous")
"""How sequences are shared between context-parallel ranks."""


@dataclass(frozen=True, slots=True)
class ContextSlice:
    """What one of `size` context-parallel ranks takes of every sequence: always length / size tokens.

    With causal attention the end of a sequence is more work than its beginning. So the usual layout, `zigzag`, cuts a
    sequence into 2 * size chunks and gives rank r the chunks r and 2 * size - 1 - r, in this order: the head-tail
    layout of torch's context parallelism with load balancing, and that of Megatron. `contiguous` gives it chunk r of
    `size` chunks.

    Attributes:
        rank: In [0, size).
        size: Number of context-parallel ranks.
        layout: One of LAYOUTS.
    """

    rank: int
    size: int
    layout: str = "zigzag"

    def __post_init__(self) -> None:
        if self.layout not in LAYOUTS:
            raise InvalidInputError(f"cp_layout is {self.layout!r}", hint=f"it is one of {', '.join(LAYOUTS)}")
        if self.size < 1 or not 0 <= self.rank < self.size:
            raise InvalidInputError(f"cp_rank {self.rank} of cp_size {self.size}", hint="it must lie in [0, cp_size)")

    def check(self, lengths: Iterable[int]) -> None:
        """Refuse sequence lengths that cannot be shared evenly.

        Raises:
            InvalidInputError: A length is no multiple of `size`, or of 2 * size with `zigzag`.
        """
        parts = len(self._chunks)
        for length in lengths:
            if length % parts:
                raise InvalidInputError(
                    f"a sequence_length of {length} cannot be cut into {parts} chunks for {self.size} context-parallel "
                    f"ranks ({self.layout})",
                    hint=f"take a multiple of {parts}",
                )

    def copy(self, whole: np.ndarray[Any, Any], part: np.ndarray[Any, Any]) -> None:
        """Copy this rank's part of sequences.

        Args:
            whole: [m, length].
            part: [m, length / size], which is written.
        """
        size = whole.shape[1] // len(self._chunks)
        for i, chunk in enumerate(self._own):
            part[:, i * size : (i + 1) * size] = whole[:, chunk * size : (chunk + 1) * size]

    @property
    def _chunks(self) -> range:
        return range(2 * self.size if self.layout == "zigzag" else self.size)

    @property
    def _own(self) -> tuple[int, ...]:
        return (self.rank, self._chunks[-1 - self.rank]) if self.layout == "zigzag" else (self.rank,)
