"""One value, one byte string: JSON with sorted keys, no white space, UTF-8, and no floats.

Everything that is hashed, signed or compared is encoded here. `decode` treats its input as hostile: bytes that are not
exactly what `encode` would write are corrupt.
"""

from __future__ import annotations

import json
from typing import Any, TypeAlias

from pyfactory.core.digest import Digest, digest_of
from pyfactory.errors import CorruptError, InternalError, InvalidInputError

__all__ = ["Value", "decode", "digest_of_value", "encode"]

# A recursive alias would need Python 3.12; the run-time check in _check is what guards the format.
Value: TypeAlias = Any

# Made once: `json.dumps` with options makes an encoder for each call.
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
_MAX_DEPTH = 64
_MAX_INTEGER = 2**64


def encode(value: Value) -> bytes:
    """Return the canonical bytes of a tree of dict, list, str, int, bool and None.

    Raises:
        InvalidInputError: A text is not Unicode (half a surrogate pair, as from undecodable command line arguments).
        InternalError: Something else has no canonical form.
    """
    _check(value, 0)
    text = _ENCODER.encode(value)
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        around = text[max(0, error.start - 20) : error.end]
        raise InvalidInputError(f"text is not valid Unicode: {around!r}") from error


def decode(content: bytes, what: str) -> Value:
    """Return the value of canonical bytes; `what` names them in a CorruptError."""
    try:
        value = json.loads(content)
        canonical = encode(value) == content
    except (ValueError, RecursionError, InternalError) as error:
        raise CorruptError(f"{what} cannot be read: {error}", hint="restore it from a copy") from error
    if not canonical:
        raise CorruptError(f"{what} is not in canonical form")
    return value


def digest_of_value(value: Value) -> Digest:
    """Return the digest of a value's canonical bytes."""
    return digest_of(encode(value))


def _check(value: Value, depth: int) -> None:
    if depth > _MAX_DEPTH:
        raise InternalError("a stored value is nested too deeply")
    if isinstance(value, dict):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise InternalError(f"a stored key must be text, not {key!r}")
            if type(inner) is not str:  # most are, and a call for each would cost more than the encoding
                _check(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            _check(inner, depth + 1)
    elif isinstance(value, int):
        if abs(value) > _MAX_INTEGER:
            raise InternalError("a stored integer exceeds 64 bits")
    elif value is not None and not isinstance(value, str):
        raise InternalError(f"{type(value).__name__} has no canonical form")
