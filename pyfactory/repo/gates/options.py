"""The options of gates: declared once, as fields of the gate; read strictly, written back into verdicts.

    @dataclass(frozen=True)
    class Lengths:
        min: int | None = option(None, COUNT, "fewest characters")

Fractions are decimals as text, since stored values have no floats.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any, TypeVar

from pyfactory.errors import InvalidInputError
from pyfactory.repo.names import suggestion

__all__ = ["COUNT", "DECIMAL", "FLAG", "SHARE", "TEXT", "TEXTS", "Described", "describe", "in_force", "option", "ratio"]
__all__ += ["rounded", "take_options"]

COUNT = "a whole number, 0 or more"
SHARE = 'a decimal from "0" to "1", as text'
DECIMAL = 'a decimal, 0 or more, as text such as "0.25"'
TEXT = "text"
TEXTS = "a list of texts"
FLAG = "true or false"

_DECIMAL = re.compile(r"\d{1,9}(\.\d{1,9})?", re.ASCII)
_MAX_COUNT = 2**63 - 1
_PLACES = Decimal("0.000001")

_Made = TypeVar("_Made")


@dataclass(frozen=True, slots=True)
class Described:
    """An option, as people are told of it.

    Attributes:
        name: Its name.
        kind: What its value must be.
        default: Its value if the rule does not give it, as text; "" if there is none.
        help: What it does.
    """

    name: str
    kind: str
    default: str
    help: str


def option(default: Any, kind: str, help: str) -> Any:
    """Declare an option as a dataclass field; shares and decimals have a text default and become Decimal."""
    made = None if default is None else _read(default, kind)
    return dataclasses.field(default=made, metadata={"kind": kind, "help": help})


def describe(gate: type[Any]) -> list[Described]:
    """Return the options of a gate, in the order of their declaration."""
    return [
        Described(field.name, field.metadata["kind"], _text(field.default), field.metadata["help"])
        for field in dataclasses.fields(gate)
        if "kind" in field.metadata
    ]


def take_options(gate: type[_Made], options: Mapping[str, Any], what: str) -> _Made:
    """Return a gate made with options; `what` names it in errors.

    Raises:
        InvalidInputError: There is no such option, or its value is not of its kind.
    """
    kinds = {described.name: described.kind for described in describe(gate)}
    taken = {}
    for name, value in options.items():
        if name not in kinds:
            known = f"its options are {', '.join(kinds)}" if kinds else "it has none"
            raise InvalidInputError(f"{what} has no option {name!r}", hint=suggestion(name, kinds, otherwise=known))
        taken[name] = _read(value, kinds[name])
        if taken[name] is None:
            raise InvalidInputError(f"{what}: the option {name!r} is {value!r}", hint=f"it must be {kinds[name]}")
    return gate(**taken)


def in_force(gate: Any) -> dict[str, str | int]:
    """Return the options of a gate that are set, as verdicts keep them."""
    values = {described.name: getattr(gate, described.name) for described in describe(type(gate))}
    given = {name: value for name, value in values.items() if value not in (None, (), "")}
    return {name: value if type(value) is int else _text(value) for name, value in given.items()}


def ratio(part: int, whole: int) -> Decimal:
    """Return part / whole to six places, 0 of nothing."""
    return (Decimal(part) / Decimal(whole)).quantize(_PLACES, ROUND_HALF_EVEN) if whole else Decimal(0)


def rounded(number: Decimal) -> str:
    """Return a decimal as the shortest text: no trailing zeros, no exponent."""
    text = f"{number:f}"
    return text.rstrip("0").rstrip(".") or "0" if "." in text else text


def _read(value: Any, kind: str) -> Any:
    """Return a value as the gate has it, None if it is not of its kind."""
    if kind == COUNT:
        return value if type(value) is int and 0 <= value <= _MAX_COUNT else None
    if kind == FLAG:
        return value if isinstance(value, bool) else None
    if kind == TEXT:
        return value if isinstance(value, str) else None
    if kind == TEXTS:
        texts = isinstance(value, list | tuple) and all(isinstance(item, str) for item in value)
        return tuple(value) if texts else None
    if not isinstance(value, str) or not _DECIMAL.fullmatch(value):
        return None
    number = Decimal(value)
    return None if kind == SHARE and number > 1 else number


def _text(value: Any) -> str:
    if value is None or value is dataclasses.MISSING:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return ", ".join(value)
    return rounded(value) if isinstance(value, Decimal) else str(value)
