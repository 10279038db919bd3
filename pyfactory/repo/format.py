"""`format.json`: what a program must understand before it may read or write a repository.

It lists features by name: those that readers need and those that only writers need. A program that does not know one of
them stays out. What a feature brings is used only where `format.json` lists it; `pyfactory upgrade` adds to the list
of an older repository. The ref `rule/format` keeps the history of that, and says what `format.json` is to become when
an upgrade was cut off.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pyfactory.core.canonical import Value, decode, encode
from pyfactory.core.digest import Digest
from pyfactory.errors import CorruptError, InvalidInputError, NewerFormatError, NotFoundError
from pyfactory.repo.fields import Fields, read_fields, read_versioned
from pyfactory.repo.home import Home
from pyfactory.repo.oplog import log_key
from pyfactory.store.base import NoPlaceError, Store

__all__ = [
    "FORMAT_KEY",
    "FORMAT_REF",
    "KNOWN",
    "Features",
    "FormatObject",
    "check_writable",
    "declare",
    "load_format_object",
    "read_features",
    "read_format",
    "require_feature",
    "write_format",
]

FORMAT_KEY = "format.json"
"""Key of the format object."""

FORMAT_REF = "rule/format"
"""Full name of the ref that an upgrade moves."""

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Features:
    """What programs must know.

    Attributes:
        reader: Features that readers and writers must know, ascending.
        writer: Features that writers must know besides, ascending.
    """

    reader: tuple[str, ...] = ()
    writer: tuple[str, ...] = ()

    def __contains__(self, name: str) -> bool:
        """Tell whether a feature is among them."""
        return name in self.reader or name in self.writer

    def __or__(self, other: Features) -> Features:
        """Return the features of both."""
        reader, writer = {*self.reader, *other.reader}, {*self.writer, *other.writer}
        return Features(tuple(sorted(reader)), tuple(sorted(writer)))

    def to_value(self) -> dict[str, Value]:
        """Return the canonical value."""
        return {"reader": list(self.reader), "writer": list(self.writer)}


KNOWN = Features(("redactions",), ("rules", "sweep"))
"""What this program knows. Redactions change what readers see; rules and sweeps ask something of writers only."""


@dataclass(frozen=True, slots=True)
class FormatObject:
    """What an upgrade, or taking it back, made of the format.

    Attributes:
        features: What `format.json` lists from then on.
        before: What it listed before; None if this took an upgrade back.
    """

    features: Features
    before: Features | None

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        before = None if self.before is None else self.before.to_value()
        return encode({"before": before, "kind": "format", "v": 1, **self.features.to_value()})


def write_format(store: Store) -> None:
    """Declare a store to be a repository of this format; one that is declared already must be writable by us."""
    if not store.create(FORMAT_KEY, _content(KNOWN)):
        check_writable(store.url, read_format(store))


def read_format(store: Store) -> tuple[str, ...]:
    """Check that this program may read a repository, and return the features that writers must have.

    Raises:
        NotFoundError: There is no repository.
        NewerFormatError: It needs a newer pyfactory.
        CorruptError: The format object is damaged.
    """
    return read_features(store).writer


def read_features(store: Store) -> Features:
    """Return the features that `format.json` lists, all of which readers need being known. Raises as `read_format`."""
    what = f"{store.url}/{FORMAT_KEY}"
    try:
        value = decode(store.get(FORMAT_KEY), what)
    except NoPlaceError:
        raise
    except NotFoundError as error:
        if store.size(log_key(0)) is not None:
            raise CorruptError(f"{what} is missing, though there is a log", hint="restore it from a copy") from error
        hint = f"check the place; pyfactory init {store.url} makes a new one"
        raise NotFoundError(f"no pyfactory repository at {store.url}", hint=hint) from error
    match value:
        case {"format": int(number)} if number > _FORMAT:
            raise _newer(store.url, f"format {number}")
        case {"format": 1, "reader": [*reader], "writer": [*writer]} if len(value) == 3 and value["format"] is not True:
            _check(store.url, _texts(reader, what), KNOWN.reader)
            return Features(_texts(reader, what), _texts(writer, what))
    raise CorruptError(f"{what} does not describe a format")


def check_writable(url: str, writer: tuple[str, ...]) -> None:
    """Raise NewerFormatError unless this program has the features that writers must have."""
    _check(url, writer, KNOWN.writer)


def require_feature(home: Home, name: str) -> None:
    """Make sure that no program which does not know a feature can get in the way of using it. One or two requests.

    An upgrade that was cut off before `format.json` was written is finished.

    Raises:
        InvalidInputError: The repository does not have the feature.
        NewerFormatError: It has features that this program does not know.
    """
    listed = read_features(home.store)
    ref = home.view().refs.get(FORMAT_REF)
    features = listed if ref is None else load_format_object(home, ref).features
    if name not in features:
        raise InvalidInputError(
            f"{home.url} was made by an older pyfactory, which does not know {name}",
            hint=f"pyfactory upgrade {home.url}, once all who write to it have the new one",
        )
    if name not in listed:
        declare(home, features)


def declare(home: Home, features: Features) -> None:
    """Let `format.json` list these features."""
    check_writable(home.url, read_features(home.store).writer)
    home.store.replace(FORMAT_KEY, _content(features))


def load_format_object(home: Home, digest: Digest) -> FormatObject:
    """Return the format object of a digest; CorruptError if it is missing or none."""
    what = f"{home.url}: format object {digest}"
    try:
        value = decode(home.objects.get(digest), what)
    except NotFoundError as error:
        raise CorruptError(f"{what} is missing", hint="put the object back from a copy of the repository") from error
    fields = read_versioned(value, ("before", "reader", "writer"), what, kind="format")
    before = None
    if fields.value("before") is not None:
        before = _features(read_fields(fields.value("before"), ("reader", "writer"), what), what)
    return FormatObject(_features(fields, what), before)


def _features(fields: Fields, what: str) -> Features:
    return Features(_texts(fields.value("reader"), what), _texts(fields.value("writer"), what))


def _content(features: Features) -> bytes:
    return encode({"format": _FORMAT, **features.to_value()})


def _check(url: str, needed: tuple[str, ...], known: tuple[str, ...]) -> None:
    unknown = sorted(set(needed) - set(known))
    if unknown:
        raise _newer(url, f"the feature{'s' if len(unknown) > 1 else ''} {', '.join(unknown)}")


def _newer(url: str, what: str) -> NewerFormatError:
    return NewerFormatError(f"{url} has {what}, which this pyfactory does not know", hint="upgrade pyfactory")


def _texts(values: Any, what: str) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise CorruptError(f"{what}: a feature is not text")
    return tuple(values)
