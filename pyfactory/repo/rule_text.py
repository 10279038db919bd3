"""Gate rules as people type them: `nulls:corpus:max_share=0.05`."""

from __future__ import annotations

import re

from pyfactory.errors import InvalidInputError
from pyfactory.repo.gates.open import gate_class
from pyfactory.repo.gates.options import COUNT, FLAG, TEXTS, describe
from pyfactory.repo.names import suggestion
from pyfactory.repo.rules import GateRule, Option

__all__ = ["gate_from_text"]

_INTEGER = re.compile(r"\d{1,19}", re.ASCII)
_FLAGS = {"true": True, "false": False}


def gate_from_text(text: str) -> GateRule:
    """Return the gate rule of `NAME[:TABLE][:OPTION=VALUE,…]`.

    The texts of a list stand between commas (`kinds=email,phone`). In another text a comma is part of it, unless what
    follows names an option.

    Raises:
        InvalidInputError: It has another form, or there is no such gate or option.
    """
    name, _, rest = text.partition(":")
    table, colon, options = rest.partition(":")
    if not colon and "=" in table:
        table, options = "", table
    kinds = {described.name: described.kind for described in describe(gate_class(name))}
    return GateRule(name, table or "*", _options(options, kinds, f"the gate {name}"))


def _options(text: str, kinds: dict[str, str], what: str) -> dict[str, Option]:
    options: dict[str, Option] = {}
    for name, value in _pairs(text, kinds, what):
        if kinds[name] == TEXTS:
            before = options.get(name, [])
            options[name] = [*(before if isinstance(before, list) else []), value]
        elif name in options:
            raise InvalidInputError(f"{what}: the option {name} is given twice", hint="give it once")
        else:
            options[name] = _typed(value, kinds[name])
    return options


def _pairs(text: str, kinds: dict[str, str], what: str) -> list[tuple[str, str]]:
    pairs: list[tuple[str, str]] = []
    for piece in text.split(",") if text else ():
        name, equals, value = piece.partition("=")
        if equals and name.strip() in kinds:
            pairs.append((name.strip(), value.strip()))
        elif pairs and kinds[pairs[-1][0]] == TEXTS:
            pairs.append((pairs[-1][0], piece.strip()))
        elif pairs and kinds[pairs[-1][0]] not in (COUNT, FLAG):
            last, value = pairs.pop()
            pairs.append((last, f"{value},{piece}"))
        else:
            known = f"its options are {', '.join(kinds)}" if kinds else "it has none"
            hint = suggestion(name.strip(), kinds, otherwise=known)
            raise InvalidInputError(f"{what} has no option {name.strip()!r}", hint=hint)
    return pairs


def _typed(value: str, kind: str) -> Option:
    if kind == COUNT and _INTEGER.fullmatch(value):
        return int(value)
    return _FLAGS.get(value, value) if kind == FLAG else value  # make_gate says what is wrong with what is left
