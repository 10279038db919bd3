"""Which positions a rank takes. The stream knows nothing of ranks: only this cut does."""

from __future__ import annotations

from dataclasses import dataclass

from pyfactory.errors import InvalidInputError

__all__ = ["Lane"]


@dataclass(frozen=True, slots=True)
class Lane:
    """A contiguous slice of every train step.

    Attributes:
        rank: This lane's number in [0, world_size).
        world_size: Number of lanes.
        batch_size: Samples per lane and train step.
    """

    rank: int
    world_size: int
    batch_size: int

    def __post_init__(self) -> None:
        if self.world_size < 1 or not 0 <= self.rank < self.world_size:
            raise InvalidInputError(
                f"rank {self.rank} of world_size {self.world_size}", hint="rank must lie in [0, world_size)"
            )
        if self.batch_size < 1:
            raise InvalidInputError(f"batch_size is {self.batch_size}", hint="it must be at least 1")

    @property
    def global_batch(self) -> int:
        """Samples of a train step over all lanes."""
        return self.batch_size * self.world_size

    def start(self, step_start: int) -> int:
        """Return the first position that this lane takes of the train step that begins at `step_start`."""
        return step_start + self.rank * self.batch_size
