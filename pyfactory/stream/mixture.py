"""What a phase draws from: named sources, each a table at a version, with weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import Any

from pyfactory.errors import InvalidInputError
from pyfactory.order.interleave import reduce_weights
from pyfactory.repo.names import check_table_name
from pyfactory.repo.version import Version

__all__ = ["Mixture", "Source", "Weight", "as_mixture"]

Weight = str | int | Decimal
"""A share: a decimal in quotes, such as "0.7", or an integer."""


@dataclass(frozen=True, slots=True)
class Source:
    """One source of a mixture.

    Attributes:
        version: A table of tokens at a commit.
        weight: Its share in samples, relative to the others: a decimal in quotes, such as "0.7", or an integer.
        epochs: How often its samples may come, a decimal in quotes or an integer; None is without end. Once it has
            given so many, the stream goes on with the other sources, and ends if there is none.
    """

    version: Version
    weight: Weight = 1
    epochs: str | int | Decimal | Fraction | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.version, Version):
            raise InvalidInputError(
                f"a source is a version of a table, not {type(self.version).__name__}",
                hint='take repo.version("corpus", "v1")',
            )
        self.limit(1)

    def limit(self, samples: int) -> int | None:
        """Return the index before which it ends, given its samples of an epoch; None is never."""
        if self.epochs is None:
            return None
        try:
            epochs = Fraction(0) if isinstance(self.epochs, bool | float) else Fraction(self.epochs)
        except (ValueError, OverflowError, TypeError, ZeroDivisionError):
            epochs = Fraction(0)
        if not 0 < epochs <= 2**32:
            raise InvalidInputError(
                f"epochs is {self.epochs!r}", hint='it must be a positive decimal in quotes, such as "1.5"'
            )
        return int(epochs * samples)


@dataclass(frozen=True)
class Mixture:
    """Sources by name. Their names decide, with the seed, how each is shuffled.

    >>> Mixture({"web": (web, "0.7"), "code": Source(code, "0.3", epochs=4)})

    Attributes:
        sources: By name, at most 10,000; each a `Source`, a pair (version, weight), or a version of weight 1. Shares
            count samples; those of weight 0 are left out.

    Raises:
        InvalidInputError: No source, a name that is not text, or weights that are negative, all zero, no decimals, or
            too fine: more than 9 digits behind the point, or a sum of 2^32 when they are reduced.
    """

    sources: Mapping[str, Any]
    weights: Mapping[str, int] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not isinstance(self.sources, Mapping):
            raise InvalidInputError("a mixture is a mapping of names to sources", hint='{"web": (version, "0.7")}')
        made = {name: _source(name, given) for name, given in self.sources.items()}
        weights = reduce_weights({name: source.weight for name, source in made.items()})
        object.__setattr__(self, "weights", weights)
        object.__setattr__(self, "sources", {name: made[name] for name in weights})

    def __iter__(self) -> Iterator[str]:
        """Yield the names in the order of the specification."""
        return iter(self.weights)

    def __len__(self) -> int:
        return len(self.weights)


def as_mixture(given: object) -> Mixture:
    """Return what a stream is to be made of as a mixture: itself, or one of a single version.

    Raises:
        InvalidInputError: It is neither.
    """
    if isinstance(given, Mixture):
        return given
    if isinstance(given, Version):
        return Mixture({given.table: given})
    hint = 'take repo.version("corpus", "v1")'
    if isinstance(given, str):
        table, _, ref = given.partition("@")
        hint = f'take repo.version("{table}", "{ref or "main"}")'
    raise InvalidInputError(f"a stream is of a version of a table or a Mixture, not {type(given).__name__}", hint=hint)


def _source(name: object, given: object) -> Source:
    try:
        check_table_name(name)
    except InvalidInputError as error:
        raise InvalidInputError(error.message.replace("a table", "a source", 1), hint=error.hint) from error
    if isinstance(given, Source):
        return given
    if isinstance(given, Version):
        return Source(given)
    if isinstance(given, tuple) and len(given) == 2:
        return Source(given[0], given[1])
    raise InvalidInputError(f"source {name!r} is {type(given).__name__}", hint='give (version, "0.7") or a Source')
