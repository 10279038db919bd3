"""How samples are ordered and cut: everything besides the seed, the sources and their weights that decides a phase."""

from __future__ import annotations

from dataclasses import dataclass

from pyfactory.core.canonical import Value
from pyfactory.errors import InvalidInputError

__all__ = ["PACKINGS", "Recipe"]

PACKINGS = ("concat", "best_fit", "padded", "documents")
"""How the documents of a table become samples; docs/packing.md compares them."""

_LARGEST = 2**31 - 2
_LONGEST_TEMPLATE = 256


@dataclass(frozen=True, slots=True)
class Recipe:
    """The order and the cut of samples, apart from the seed.

    Attributes:
        sequence_length: Input tokens of a sample.
        block_size: Samples that stay neighbours when blocks are shuffled; 1 is a full shuffle.
        window: Shuffled blocks among which samples are shuffled once more.
        packing: One of PACKINGS.
        across_documents: Whether attention and targets reach over the documents of a sample.
        fill: The token that stands where there is none: padding, and what was forgotten.
        response_template: Tokens behind which the targets of a sample begin, with packing "documents"; () is none.
    """

    sequence_length: int = 2048
    block_size: int = 1
    window: int = 1
    packing: str = "concat"
    across_documents: bool = False
    fill: int = 0
    response_template: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("sequence_length", "block_size", "window"):
            number = getattr(self, name)
            if not _is_integer(number, 1, _LARGEST):
                raise InvalidInputError(f"{name} is {number!r}", hint=f"it must be an integer from 1 to {_LARGEST}")
        if self.packing not in PACKINGS:
            raise InvalidInputError(f"packing is {self.packing!r}", hint=f"it is one of {', '.join(PACKINGS)}")
        if not isinstance(self.across_documents, bool):
            raise InvalidInputError(f"across_documents is {self.across_documents!r}", hint="it is true or false")
        if not _is_integer(self.fill, 0, 2**32 - 1):
            raise InvalidInputError(f"fill is {self.fill!r}", hint="it must be a token, from 0 to 2^32 - 1")
        self._check_template()

    def _check_template(self) -> None:
        template = self.response_template
        if not isinstance(template, tuple) or not all(_is_integer(token, 0, 2**32 - 1) for token in template):
            raise InvalidInputError(f"response_template is {template!r}", hint="it must be a tuple of tokens")
        if len(template) > _LONGEST_TEMPLATE:
            raise InvalidInputError(
                f"response_template has {len(template)} tokens", hint=f"{_LONGEST_TEMPLATE} at most"
            )
        if template and self.packing != "documents":
            raise InvalidInputError(
                f"response_template says nothing with packing {self.packing!r}",
                hint='take packing="documents", one record per sample',
            )

    def to_value(self) -> dict[str, Value]:
        """Return the canonical value, which is part of the replay identity."""
        value: dict[str, Value] = {
            "packing": self.packing,
            "sequence_length": self.sequence_length,
            "block_size": self.block_size,
            "window": self.window,
        }
        if self.across_documents:
            value["across_documents"] = True
        if self.fill:
            value["fill"] = self.fill
        if self.response_template:
            value["response_template"] = [*self.response_template]
        return value


def _is_integer(number: object, least: int, most: int) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and least <= number <= most
