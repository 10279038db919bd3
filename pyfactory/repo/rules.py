"""Rules: what a commit must satisfy before a branch may name it, and whose signatures count.

Rules are refs like branches (`rule/branch/main`, `rule/keys`), so the log tells who changed them, when and why; `undo`
is for branches and leaves them alone. They bind every writer of this version and later ones; whoever may write to the
store itself can go around them, which `verify --signatures` shows afterwards.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pyfactory.core.canonical import Value, decode, encode
from pyfactory.core.digest import Digest
from pyfactory.errors import CorruptError, NotFoundError
from pyfactory.repo.fields import Fields, read_fields, read_versioned
from pyfactory.repo.home import Home
from pyfactory.repo.operation import View

__all__ = [
    "KEYS",
    "NO_RULE",
    "RULE",
    "BranchRule",
    "GateRule",
    "branch_rule",
    "keys_value",
    "load_keys",
    "load_rule",
    "trusted_keys",
]

RULE = "rule/branch/"
"""What the full name of a branch's rule starts with."""

KEYS = "rule/keys"
"""Full name of the ref of the trusted keys."""

Option = int | str | bool | list[str]

_PUBLIC = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class GateRule:
    """One gate that commits must pass.

    Attributes:
        gate: Name of the gate.
        table: The table that it looks at, "*" for all.
        options: Its thresholds and other parameters, by name; fractions are decimals as text.
    """

    gate: str
    table: str = "*"
    options: Mapping[str, Option] = field(default_factory=dict)

    def to_value(self) -> dict[str, Value]:
        """Return the canonical value."""
        return {"gate": self.gate, "options": dict(self.options), "table": self.table}


@dataclass(frozen=True, slots=True)
class BranchRule:
    """What is asked of the commits of one branch.

    Attributes:
        protected: Commits come by merge, revert and rollback only, and the branch cannot be deleted.
        signed: Commits need the signature of a trusted key.
        gates: Gates that they must pass.
    """

    protected: bool = False
    signed: bool = False
    gates: tuple[GateRule, ...] = ()

    def to_value(self) -> dict[str, Value]:
        """Return the canonical value."""
        return {
            "gates": [gate.to_value() for gate in self.gates],
            "kind": "rule",
            "protected": self.protected,
            "signed": self.signed,
            "v": 1,
        }

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        return encode(self.to_value())


NO_RULE = BranchRule()
"""What holds for a branch that nobody made a rule for."""


def branch_rule(home: Home, view: View, branch: str) -> BranchRule:
    """Return the rule of a branch in a view."""
    digest = view.refs.get(RULE + branch)
    return NO_RULE if digest is None else load_rule(home, digest)


def trusted_keys(home: Home, view: View) -> dict[str, str]:
    """Return the public keys whose signatures count in a view: 64 hexadecimal digits by name."""
    digest = view.refs.get(KEYS)
    return {} if digest is None else load_keys(home, digest)


def load_rule(home: Home, digest: Digest) -> BranchRule:
    """Return the rule that an object holds; CorruptError if it is missing or none."""
    what = f"{home.url}: rule {digest}"
    fields = read_versioned(_read(home, digest, what), ("gates", "protected", "signed"), what, kind="rule")
    gates = tuple(_gate(value, what) for value in fields.items("gates"))
    return BranchRule(_flag(fields, "protected", what), _flag(fields, "signed", what), gates)


def load_keys(home: Home, digest: Digest) -> dict[str, str]:
    """Return the keys that an object holds; CorruptError if it is missing or none."""
    what = f"{home.url}: keys {digest}"
    keys = read_versioned(_read(home, digest, what), ("keys",), what, kind="keys").mapping("keys")
    for name, key in keys.items():
        if not isinstance(key, str) or not _PUBLIC.fullmatch(key):
            raise CorruptError(f"{what}: {name!r} is no Ed25519 public key")
    return keys


def keys_value(keys: Mapping[str, str]) -> dict[str, Value]:
    """Return the canonical value of trusted keys."""
    return {"keys": dict(keys), "kind": "keys", "v": 1}


def _read(home: Home, digest: Digest, what: str) -> Value:
    try:
        return decode(home.objects.get(digest), what)
    except NotFoundError as error:
        raise CorruptError(f"{what} is missing", hint="put the object back from a copy of the repository") from error


def _gate(value: Value, what: str) -> GateRule:
    fields = read_fields(value, ("gate", "options", "table"), f"{what}: a gate")
    options: dict[str, Any] = fields.mapping("options")
    for name, option in options.items():
        texts = isinstance(option, list) and all(isinstance(item, str) for item in option)
        if not (texts or isinstance(option, int | str)):
            raise CorruptError(f"{what}: the option {name!r} is neither a number nor text nor a list of texts")
    return GateRule(fields.text("gate"), fields.text("table"), options)


def _flag(fields: Fields, name: str, what: str) -> bool:
    value = fields.value(name)
    if not isinstance(value, bool):
        raise CorruptError(f"{what}: {name!r} is neither true nor false")
    return value
