"""How samples are ordered and cut: everything besides the seed, the sources and their weights that decides a phase."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from operator import index
from typing import Any

from pyfactory.core.canonical import Value
from pyfactory.errors import InvalidInputError

__all__ = ["PACKINGS", "Recipe"]

PACKINGS = ("concat", "best_fit", "padded", "documents")
"""How the documents of a table become samples; docs/packing.md compares them."""

_LARGEST = 2**31 - 2
_LONGEST_TEMPLATE = 256
_TOKENS = "give tokens, from 0 to 2^32 - 1, not text: those that the tokenizer makes of it"
_SHOWN = 60


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
        response_template: Tokens behind which the targets of a sample begin, with packing "documents"; () is none. A
            list or an array is taken as well and becomes a tuple; an empty one is refused.
    """

    sequence_length: int = 2048
    block_size: int = 1
    window: int = 1
    packing: str = "concat"
    across_documents: bool = False
    fill: int = 0
    response_template: Sequence[int] = ()

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
        object.__setattr__(self, "response_template", _tokens(self.response_template))
        self._check_template()

    def _check_template(self) -> None:
        template = self.response_template
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


def _tokens(template: object) -> tuple[int, ...]:
    if isinstance(template, str | bytes) or not isinstance(template, Iterable):
        raise InvalidInputError(f"response_template is {_shown(template)}", hint=_TOKENS)
    given = tuple(template)
    if not given and not isinstance(template, tuple):
        raise InvalidInputError("response_template has no tokens", hint="leave it out for none")
    return tuple(_token(token) for token in given)


def _token(token: Any) -> int:
    with suppress(TypeError):
        number = index(token)  # of NumPy as well
        if not isinstance(token, bool) and 0 <= number < 2**32:
            return number
    raise InvalidInputError(f"response_template has {_shown(token)} in it", hint=_TOKENS)


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."


def _is_integer(number: object, least: int, most: int) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and least <= number <= most
