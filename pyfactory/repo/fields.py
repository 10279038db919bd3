"""Strict reading of stored values: exactly these fields, each of its type, or a CorruptError that says what is wrong.

`canonical.decode` has made sure of the form before; what is checked here is the meaning. Nothing stored is trusted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pyfactory.core.canonical import Value
from pyfactory.core.digest import Digest, parse_digest
from pyfactory.errors import CorruptError, InvalidInputError, NewerFormatError, NotFoundError

__all__ = ["Fields", "digests_by_name", "read_fields", "read_versioned", "sound"]

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
_MAX_COUNT = 2**63 - 1


def read_fields(value: Value, names: Iterable[str], what: str) -> Fields:
    """Return a stored value as an object with exactly the fields `names`; `what` names it in the CorruptError."""
    wanted = set(names)
    if not isinstance(value, dict) or value.keys() != wanted:
        raise CorruptError(f"{what} is not an object with the fields {', '.join(sorted(wanted))}")
    return Fields(value, what)


def read_versioned(value: Value, names: Iterable[str], what: str, *, kind: str = "") -> Fields:
    """Return a stored value that says its format in `v` (and its `kind`, if it has one) as fields.

    Raises:
        CorruptError: It is of another kind or has other fields.
        NewerFormatError: Its format is newer than 1.
    """
    if not isinstance(value, dict) or (kind and value.get("kind") != kind):
        raise CorruptError(f"{what} is not a {kind or 'stored object'}")
    version = value.get("v")
    if type(version) is int and version > 1:
        raise NewerFormatError(f"{what} has format {version}; this pyfactory reads format 1", hint="upgrade pyfactory")
    if type(version) is not int or version != 1:
        raise CorruptError(f"{what} does not say its format")
    return read_fields(value, {*names, "v", *(["kind"] if kind else [])}, what)


class Fields:
    """The fields of one stored object, taken out one by one with their type.

    Args:
        value: The object; a field that is not there is corrupt.
        what: Names the object in errors.
    """

    def __init__(self, value: Mapping[str, Value], what: str) -> None:
        self._value = value
        self.what = what

    def value(self, name: str) -> Value:
        """Return the value as it is stored."""
        return self._value.get(name)

    def count(self, name: str) -> int:
        """Return an integer from 0 to 2^63 - 1."""
        value = self._value.get(name)
        if type(value) is not int or not 0 <= value <= _MAX_COUNT:
            raise self._wrong(name, "a count")
        return value

    def text(self, name: str) -> str:
        """Return text."""
        value = self._value.get(name)
        if not isinstance(value, str):
            raise self._wrong(name, "text")
        return value

    def time(self, name: str) -> str:
        """Return a moment as it is stored: UTC, ISO 8601, whole seconds, `Z`."""
        value = self._value.get(name)
        if not isinstance(value, str) or not _TIME.fullmatch(value):
            raise self._wrong(name, "a time")
        return value

    def digest(self, name: str) -> Digest:
        """Return a digest."""
        try:
            return parse_digest(self._value.get(name))
        except InvalidInputError as error:
            raise self._wrong(name, "a digest") from error

    def digest_or_none(self, name: str) -> Digest | None:
        """Return a digest, or None for null."""
        return None if name in self._value and self._value[name] is None else self.digest(name)

    def items(self, name: str) -> list[Any]:
        """Return a list."""
        value = self._value.get(name)
        if not isinstance(value, list):
            raise self._wrong(name, "a list")
        return value

    def mapping(self, name: str) -> dict[str, Any]:
        """Return an object."""
        value = self._value.get(name)
        if not isinstance(value, dict):
            raise self._wrong(name, "an object")
        return value

    def _wrong(self, name: str, type_: str) -> CorruptError:
        return CorruptError(f"{self.what}: {name!r} is not {type_}")


def digests_by_name(value: Mapping[str, Any], what: str) -> dict[str, Digest]:
    """Return a stored object whose values are all digests."""
    fields = Fields(value, what)
    return {name: fields.digest(name) for name in value}


@contextmanager
def sound(what: str) -> Iterator[None]:
    """Let code take values out of a free-form stored value as if they were there; `what` names it if they are not.

    For what is only ever shown or compared, such as what a commit says of how it was made.

    Raises:
        CorruptError: A value was missing, or of another type.
    """
    try:
        yield
    except (NewerFormatError, NotFoundError):
        raise
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise CorruptError(f"{what} does not say what it should: {str(error)[:200] or repr(error)}") from error
