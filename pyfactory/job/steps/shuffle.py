"""shuffle: the rows in a random order that depends on the seed and their number alone.

Row k of the new table is row perm(k) of the old one, where perm is the keyed bijection of `pyfactory.native`. Nothing
is done here: the step only tells `write` the seed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from pydantic import Field

from pyfactory.core.canonical import Value
from pyfactory.job.steps.base import Bench, Parameters, Report, State

__all__ = ["VERSION", "Shuffle", "ShuffleParameters"]

VERSION = 1


class ShuffleParameters(Parameters):
    """Parameters of `shuffle`.

    Attributes:
        seed: Chooses the order, in [0, 2^64).
    """

    seed: Annotated[int, Field(ge=0, lt=2**64)]

    def bind(self, folder: Path) -> Shuffle:
        """Return the step."""
        return Shuffle(self.seed)


@dataclass(frozen=True, slots=True)
class Shuffle:
    """The step `shuffle`; see the module."""

    seed: int
    name = "shuffle"

    def value(self) -> Value:
        """Return the parameters as a canonical value."""
        return {"seed": self.seed}

    def run(self, bench: Bench, state: State) -> tuple[State, Report]:
        """Note the seed for `write`."""
        return replace(state, seed=self.seed), Report(self.name, VERSION, state.rows, state.rows)
