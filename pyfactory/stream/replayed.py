"""The stream that a replay identity names: what a run wrote down, made again from the versions of its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any

from pyfactory.core.rng import SPEC_VERSION
from pyfactory.errors import CorruptError, InvalidInputError, NewerFormatError
from pyfactory.order.recipe import Recipe
from pyfactory.repo.fields import sound
from pyfactory.repo.version import Version
from pyfactory.stream.asking import AskedPhase, AskedSource
from pyfactory.stream.feed import open_geometry
from pyfactory.stream.identity import differences
from pyfactory.stream.mixture import Source
from pyfactory.stream.phase import END
from pyfactory.stream.stream import Stream

__all__ = ["digests_named", "open_identity"]

_RECIPE = tuple(Recipe.__dataclass_fields__)
_WHAT = "the replay identity"


def digests_named(identity: Mapping[str, Any]) -> list[str]:
    """Return the version digests that a replay identity names, each once, in order.

    Raises:
        CorruptError: It is no replay identity.
    """
    with sound(_WHAT):
        sources = [source for phase in _phases(identity) for source in phase["sources"]]
        named = [str(source[key]) for source in sources for key in ("version", "unseen_since") if key in source]
        return [*dict.fromkeys(named)]


def open_identity(identity: Mapping[str, Any], versions: Mapping[str, Version]) -> Stream:
    """Return the stream of a replay identity.

    Args:
        identity: What `Stream.identity` returned; what it says of redactions does not matter.
        versions: By their digests, all that `digests_named` returns.

    Raises:
        CorruptError: It is no replay identity, or the stream of these versions has another one.
        InvalidInputError: A version is not given.
        NewerFormatError: It is of a newer specification.
    """
    missing = [digest for digest in digests_named(identity) if digest not in versions]
    if missing:
        raise InvalidInputError(f"{_WHAT} names version {missing[0]}, which is not given", hint="give all it names")
    if (spec := identity.get("spec")) != SPEC_VERSION:
        kind = NewerFormatError if isinstance(spec, int) and spec > SPEC_VERSION else CorruptError
        raise kind(f"{_WHAT} is of specification {spec!r}; this pyfactory knows {SPEC_VERSION}")
    try:
        with sound(_WHAT):
            asked = tuple(_phase(value, versions) for value in _phases(identity))
            _check_ascending([phase.at for phase in asked])
            stream = Stream.of_phases(asked, identity["seed"])
    except InvalidInputError as error:
        raise CorruptError(f"{_WHAT} is of no stream: {error.message}") from error
    _check_same(identity, stream)
    return stream


def _phases(identity: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [{"at": 0, "recipe": identity["recipe"], "sources": identity["sources"]}, *identity.get("then", [])]


def _phase(value: Mapping[str, Any], versions: Mapping[str, Version]) -> AskedPhase:
    given = {name: value["recipe"][name] for name in _RECIPE if name in value["recipe"]}
    recipe = Recipe(**given | {"response_template": tuple(given.get("response_template", ()))})
    sources = tuple(_source(source, recipe, versions) for source in value["sources"])
    names = [source.name.encode() for source in sources]
    if names != sorted(set(names)):
        raise InvalidInputError("sources do not ascend by name")
    return AskedPhase(_whole(value["at"]), recipe, sources)


def _source(value: Mapping[str, Any], recipe: Recipe, versions: Mapping[str, Version]) -> AskedSource:
    version, cap = versions[value["version"]], value.get("cap")
    epochs = None
    if cap is not None:
        samples = open_geometry(version, recipe)[0].samples
        # No share of an epoch is too small to be asked for, and 0 of them is one that gives no sample.
        epochs = Fraction(_whole(cap), samples) or Fraction(1, 2 * samples)
    since = versions[value["unseen_since"]] if "unseen_since" in value else None
    return AskedSource(value["name"], Source(version, epochs=epochs), _whole(value.get("weight", 1)), since)


def _whole(number: Any) -> int:
    if type(number) is not int or number < 0:
        raise InvalidInputError(f"{number!r} is no position, cap or weight")
    return number


def _check_ascending(starts: Sequence[int]) -> None:
    for before, after in pairwise([*starts, END]):
        if before >= after:
            raise InvalidInputError(f"a phase begins at {before}, and the next one or the end is at {after}")


def _check_same(identity: Mapping[str, Any], stream: Stream) -> None:
    here = {name: value for name, value in stream.identity.items() if name != "redactions"}
    there = {name: value for name, value in identity.items() if name != "redactions"}
    for name, mine, other in differences(here, there):
        raise CorruptError(f"{_WHAT} is of no stream of these versions: {name} is {other!r}, and there {mine!r}"[:400])
