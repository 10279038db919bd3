"""How samples are ordered: everything besides the seed and the version that decides it."""

from __future__ import annotations

from dataclasses import dataclass

from pyfactory.errors import InvalidInputError

__all__ = ["Recipe"]

_LARGEST = 2**31 - 2


@dataclass(frozen=True, slots=True)
class Recipe:
    """The order of samples, apart from the seed.

    Attributes:
        sequence_length: Input tokens of a sample.
        block_size: Samples that stay neighbours when blocks are shuffled; 1 is a full shuffle.
        window: Shuffled blocks among which samples are shuffled once more.
    """

    sequence_length: int = 2048
    block_size: int = 1
    window: int = 1

    def __post_init__(self) -> None:
        for name in ("sequence_length", "block_size", "window"):
            number = getattr(self, name)
            if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= _LARGEST:
                raise InvalidInputError(f"{name} is {number!r}", hint=f"it must be an integer from 1 to {_LARGEST}")

    def to_value(self) -> dict[str, str | int]:
        """Return the canonical value, which is part of the replay identity."""
        return {
            "packing": "concat",
            "sequence_length": self.sequence_length,
            "block_size": self.block_size,
            "window": self.window,
        }
