"""What a user asks of a stream, phase by phase: checked, and completed by what the stream does already."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from pyfactory.errors import InvalidInputError
from pyfactory.order.interleave import reduce_weights
from pyfactory.order.recipe import Recipe
from pyfactory.repo.names import suggestion
from pyfactory.repo.version import Version
from pyfactory.stream.mixture import Mixture, Source, Weight

if TYPE_CHECKING:
    from pyfactory.stream.planning import Plan

__all__ = ["AskedPhase", "AskedSource", "Change", "asked_phase", "changed_phase", "check_tokenizers"]

_RECIPE = tuple(Recipe.__dataclass_fields__)


@dataclass(frozen=True, slots=True)
class AskedSource:
    """A source of a phase that was asked for.

    Attributes:
        name: Its name.
        source: Version, and how often it may come.
        weight: Its whole weight, reduced.
        unseen_since: The old version, of which what is unseen comes first; None if there is none.
    """

    name: str
    source: Source
    weight: int
    unseen_since: Version | None = None


@dataclass(frozen=True, slots=True)
class AskedPhase:
    """A phase that was asked for: its first position, and its sources in the order of the specification."""

    at: int
    recipe: Recipe
    sources: tuple[AskedSource, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """What a new phase does otherwise than the one before; see `Stream.then`."""

    weights: Mapping[str, Weight] | None
    version: Version | None
    versions: Mapping[str, Version] | None
    mixture: Mixture | None
    unseen_only: bool
    recipe: Mapping[str, Any]


def asked_phase(at: int, recipe: Recipe, mixture: Mixture) -> AskedPhase:
    """Return the phase that begins with a mixture."""
    sources = (AskedSource(name, mixture.sources[name], weight) for name, weight in mixture.weights.items())
    return AskedPhase(at, recipe, tuple(sources))


def changed_phase(asked: Sequence[AskedPhase], plan: Plan, at: int, change: Change) -> AskedPhase:
    """Return the phase that a change makes of what a stream does at a position.

    Raises:
        InvalidInputError: The change is none, contradicts itself, names what there is not, or comes too early.
    """
    for name, given in (("weights", change.weights), ("versions", change.versions)):
        if given is not None and not isinstance(given, Mapping):
            raise InvalidInputError(f"{name} are {type(given).__name__}", hint="give a mapping by name of source")
    now = _sources_at(asked, plan, at)
    sources = now
    if change.mixture is not None:
        if not isinstance(change.mixture, Mixture):
            raise InvalidInputError(f"the mixture is {type(change.mixture).__name__}", hint="give a pf.Mixture")
        if change.weights or change.version or change.versions:
            raise InvalidInputError("mixture tells the sources whole", hint="leave out weights, version and versions")
        sources = asked_phase(at, asked[-1].recipe, change.mixture).sources
        sources = tuple(_continued(source, now) for source in sources)
    sources = _moved(sources, _new_versions(sources, change))
    if change.weights is not None:
        ended = {source.name for phase in asked for source in phase.sources} - {source.name for source in sources}
        sources = _weighted(sources, change.weights, ended)
    if change.unseen_only:
        sources = _unseen(sources, now)
    recipe = _recipe(asked[-1].recipe, change.recipe)
    if recipe == asked[-1].recipe and sources == now:
        raise InvalidInputError(f"nothing changes at position {at}", hint="say what does: weights, version, mixture …")
    return AskedPhase(at, recipe, sources)


def check_tokenizers(asked: Sequence[AskedPhase]) -> None:
    """Raise InvalidInputError if two tables mean different things by the same token."""
    known: dict[str, tuple[Any, Version]] = {}
    for source in (source for phase in asked for source in phase.sources):
        version = source.source.version
        for kind, value in (
            ("tokenizer", version.artifacts.get("tokenizer")),
            ("vocab_size", version.attributes.get("vocab_size")),
        ):
            before, first = known.setdefault(kind, (value, version)) if value is not None else (value, version)
            if before != value:
                raise InvalidInputError(
                    f"{first.table}@{first.asked} and {version.table}@{version.asked} have different tokenizers",
                    hint="build both with one tokenizer: name it in the job of the second",
                )


def _sources_at(asked: Sequence[AskedPhase], plan: Plan, at: int) -> tuple[AskedSource, ...]:
    if isinstance(at, bool) or not isinstance(at, int) or not 0 < at < 2**62:
        raise InvalidInputError(f"a phase cannot begin at {at!r}", hint="a position is an integer from 1 to 2^62 - 1")
    last = asked[-1].at
    if at <= last:
        raise InvalidInputError(
            f"a phase at position {at} would change what the phase at {last} delivers",
            hint=f"begin it behind {last}: phases are added in order",
        )
    for phase, sources in zip(plan.phases, plan.asked, strict=True):
        if phase.start <= at and (phase.stop is None or at < phase.stop):
            return sources
    raise InvalidInputError(
        f"the stream ends at position {plan.phases[-1].stop}, so no phase can begin at {at}",
        hint="let its sources come more often: raise their epochs",
    )


def _continued(source: AskedSource, now: Sequence[AskedSource]) -> AskedSource:
    """Return a source as it goes on: if it is on the way from an older version, it stays on it."""
    for before in now:
        if before.name == source.name and before.source.version.digest == source.source.version.digest:
            return replace(source, unseen_since=before.unseen_since)
    return source


def _new_versions(sources: Sequence[AskedSource], change: Change) -> Mapping[str, Version]:
    if change.version is None:
        return change.versions or {}
    if change.versions is not None or len(sources) != 1:
        names = ", ".join(source.name for source in sources[:8])
        raise InvalidInputError(f"version= speaks of one source, and there are {names}", hint="give versions= by name")
    return {sources[0].name: change.version}


def _moved(sources: Sequence[AskedSource], versions: Mapping[str, Version]) -> tuple[AskedSource, ...]:
    _check_known(versions, sources)
    for name, version in versions.items():
        if not isinstance(version, Version):
            raise InvalidInputError(f"the new version of {name!r} is {type(version).__name__}", hint="give a version")
    return tuple(
        replace(source, source=replace(source.source, version=versions[source.name]), unseen_since=None)
        if source.name in versions
        else source
        for source in sources
    )


def _weighted(
    sources: Sequence[AskedSource], weights: Mapping[str, Weight], ended: Set[str]
) -> tuple[AskedSource, ...]:
    # Who writes a curriculum does not know when a source with a cap will have ended: its weight then says nothing.
    weights = {name: weight for name, weight in weights.items() if name not in ended}
    _check_known(weights, sources)
    left = [source.name for source in sources if source.name not in weights]
    if left:
        raise InvalidInputError(f"weights do not name source {left[0]!r}", hint='say "0" to leave it out')
    reduced = reduce_weights(weights)
    return tuple(replace(source, weight=reduced[source.name]) for source in sources if source.name in reduced)


def _unseen(sources: Sequence[AskedSource], now: Sequence[AskedSource]) -> tuple[AskedSource, ...]:
    before = {source.name: source for source in now}
    marked = tuple(
        replace(source, unseen_since=before[source.name].source.version)
        if source.name in before and before[source.name].source.version.digest != source.source.version.digest
        else source
        for source in sources
    )
    if marked == tuple(sources):
        raise InvalidInputError("unseen_only, but no source has a new version", hint="give version= or versions=")
    return marked


def _recipe(before: Recipe, changes: Mapping[str, Any]) -> Recipe:
    for name in changes:
        if name not in _RECIPE:
            raise InvalidInputError(f"a phase has no {name!r}", hint=suggestion(name, _RECIPE))
    given = {name: value for name, value in changes.items() if value is not None}
    return replace(before, **given)


def _check_known(names: Iterable[str], sources: Sequence[AskedSource]) -> None:
    known = {source.name for source in sources}
    for name in names:
        if name not in known:
            raise InvalidInputError(f"the stream has no source {name!r} there", hint=suggestion(str(name), known))
