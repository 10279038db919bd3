"""The one place that knows which gates there are. A gate is imported when a rule asks for it, with what it needs."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from pyfactory.core.digest import Digest
from pyfactory.errors import InvalidInputError
from pyfactory.repo.gates.base import Gate
from pyfactory.repo.gates.options import take_options
from pyfactory.repo.names import suggestion
from pyfactory.repo.rules import GateRule
from pyfactory.store.content import Objects

__all__ = ["GATES", "gate_class", "load_needed", "make_gate", "objects_of"]

_CLASSES = {
    "contamination": ("contamination", "Contamination"),
    "counts": ("counts", "Counts"),
    "drift": ("drift", "Drift"),
    "duplicates": ("duplicates", "Duplicates"),
    "function": ("function", "FunctionGate"),
    "images": ("images", "Images"),
    "language": ("language", "Language"),
    "lengths": ("lengths", "Lengths"),
    "nulls": ("nulls", "Nulls"),
    "pii": ("pii", "Pii"),
    "schema": ("schema", "Schema"),
    "sql": ("sql", "Sql"),
}
"""Module in this package and class of each gate."""

GATES: Mapping[str, str] = MappingProxyType(
    {
        "contamination": "share of added rows that share n words in a row with named evaluation sets",
        "counts": "rows, tokens and shards within bounds, and no more added or removed than a share of the table",
        "drift": "added rows look like the target's: PSI and Jensen-Shannon on lengths, tokens, bytes, a column",
        "duplicates": "share of added rows whose content occurs twice, or occurs in the target already",
        "function": "no row that a Python function of yours objects to",
        "images": "share of added rows whose picture decodes completely",
        "language": "languages of the added rows, or the mix of languages of the table",
        "lengths": "share of added rows shorter or longer than they may be",
        "nulls": "share of nulls and of blank texts in each column of the added rows",
        "pii": "share of added rows with addresses, phone and card numbers, or secrets in their texts",
        "schema": "the columns are those of the target, or those of a list",
        "sql": "a query over the added rows returns nothing",
    }
)
"""What each gate asks for, by name."""


def gate_class(name: str) -> type[Any]:
    """Return the class of a gate, whose fields are its options.

    Raises:
        InvalidInputError: There is no such gate.
    """
    if name not in _CLASSES:
        raise InvalidInputError(f"there is no gate {name!r}", hint=suggestion(name, _CLASSES))
    module, class_ = _CLASSES[name]
    found: type[Any] = getattr(importlib.import_module(f"pyfactory.repo.gates.{module}"), class_)
    return found


def make_gate(rule: GateRule) -> Gate:
    """Return the gate that a rule asks for.

    Raises:
        InvalidInputError: There is no such gate or option, or a value is not one that the option takes.
    """
    gate: Gate = take_options(gate_class(rule.gate), rule.options, f"the gate {rule.gate}")
    return gate


def objects_of(rule: GateRule) -> tuple[Digest, ...]:
    """Return the objects of the repository that a gate needs, as far as its options are well formed."""
    if rule.gate != "contamination":
        return ()
    from pyfactory.repo.gates.contamination import digests_in_options

    return digests_in_options(rule.options)


def load_needed(objects: Objects, rule: GateRule) -> tuple[Digest, ...]:
    """Read the objects of the repository that a gate needs, as it would itself, and return them.

    Raises:
        NotFoundError: One is not there.
        InvalidInputError: It does not suit the gate, or the rule is none; see `make_gate`.
        CorruptError: It is damaged, or not what the gate needs.
    """
    gate = make_gate(rule)
    if not (needed := objects_of(rule)):
        return ()
    from pyfactory.repo.gates.contamination import Contamination

    if isinstance(gate, Contamination):
        gate.load_sets(objects)
    return needed
