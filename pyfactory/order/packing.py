"""How the tokens of a table become samples: concatenate and cut."""

from __future__ import annotations

from dataclasses import dataclass

from pyfactory.errors import InvalidInputError

__all__ = ["Concat"]


@dataclass(frozen=True, slots=True)
class Concat:
    """Documents one after the other, cut every `sequence_length` tokens.

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
