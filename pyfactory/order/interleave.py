"""The weights of a mixture: decimals -> the whole numbers that its tree deals by (docs/stream-spec.md, section 6).

The tree itself is `pyfactory.native.Interleave`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from decimal import Decimal

from pyfactory.errors import InvalidInputError

__all__ = ["MAX_SOURCES", "reduce_weights"]

MAX_SOURCES = 10_000
_DECIMALS = 9
_DIGITS = 100  # of a weight; the sum is refused long before
_END = 2**32  # the sum of reduced weights stays below
_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?")


def reduce_weights(weights: Mapping[str, str | int | Decimal]) -> dict[str, int]:
    """Return the weights as the smallest whole numbers in the same ratio, in the order of a phase.

    Args:
        weights: Weight of each source: digits, and perhaps a point and up to 9 digits more; an int, or a Decimal.

    Returns:
        The sources whose weight is not 0, ascending by the UTF-8 bytes of their names. O(k log k).

    Raises:
        InvalidInputError: No or too many sources; a weight is a float, negative, not a number or too long; all are 0;
            or the reduced weights add up to 2^32 or more.
    """
    if not 1 <= len(weights) <= MAX_SOURCES:
        raise InvalidInputError(
            f"a mixture of {len(weights):,} sources",
            hint=f"it takes 1 to {MAX_SOURCES:,}: merge small ones into one table",
        )
    scaled = {name: _scaled(name, weight) for name, weight in weights.items()}
    divisor = math.gcd(*scaled.values())
    if divisor == 0:
        raise InvalidInputError("all weights are zero", hint="give at least one source a weight above 0")
    reduced = {name: weight // divisor for name, weight in scaled.items() if weight}
    total = sum(reduced.values())
    if total >= _END:
        raise InvalidInputError(
            f"the weights are too fine: as whole numbers without a common divisor they add up to {total:,}",
            hint="the sum must be below 2^32 (about 4.3 * 10^9): round them to fewer digits",
        )
    return dict(sorted(reduced.items(), key=lambda item: _bytes_of(item[0])))


def _scaled(name: str, weight: object) -> int:
    """Return the weight times 10^9."""
    number = _decimal(name, weight)
    _, digits, exponent = number.as_tuple()
    if not isinstance(exponent, int) or number.is_signed():
        raise _not_a_weight(name, str(number))
    if exponent < -_DECIMALS:
        raise InvalidInputError(
            f"the weight of source {name!r} has {-exponent} digits behind the point", hint=f"round it to {_DECIMALS}"
        )
    # A few characters may stand for very many digits ("1E+999999"): those are not written out.
    if number.adjusted() >= _DIGITS:
        raise InvalidInputError(f"the weight of source {name!r} has more than {_DIGITS} digits", hint="write fewer")
    scale: int = 10 ** (exponent + _DECIMALS)
    return int("".join(map(str, digits))) * scale


def _decimal(name: str, weight: object) -> Decimal:
    if isinstance(weight, str):
        if _NUMBER.fullmatch(weight) is None:
            raise _not_a_weight(name, repr(weight[:_DIGITS]))
        return Decimal(weight)
    if isinstance(weight, int | Decimal) and not isinstance(weight, bool):
        return Decimal(weight)
    if isinstance(weight, float):
        raise InvalidInputError(
            f"the weight of source {name!r} is the float {weight!r}, and floats are not exact",
            hint=f'write it in quotes: "{weight if _NUMBER.fullmatch(repr(weight)) else 0.7}"',
        )
    raise _not_a_weight(name, f"of type {type(weight).__name__}")


def _not_a_weight(name: str, what: str) -> InvalidInputError:
    return InvalidInputError(
        f"the weight of source {name!r} is {what}: a weight is a decimal of 0 or more",
        hint='write digits, and perhaps a point and digits more: "3", "0.7"',
    )


def _bytes_of(name: str) -> bytes:
    try:
        return name.encode()
    except UnicodeEncodeError as error:
        raise InvalidInputError(f"the source name {name!r} has no UTF-8 form", hint="choose another name") from error
