"""What a model saw of each source: counted by arithmetic, from the spans that its runs received."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pyfactory.audit.replays import NamedVersion, Replays, versions_of_run
from pyfactory.errors import CorruptError, NewerFormatError, PyfactoryError
from pyfactory.stream.stats import input_tokens
from pyfactory.stream.stream import Stream

__all__ = ["Consumed", "TracedSource", "traced_sources"]

_Source = tuple[str, str]  # name, version digest


@dataclass(frozen=True, slots=True)
class Consumed:
    """A span of positions, and the run that received it.

    Attributes:
        run: Run id.
        start: First position.
        stop: One past the last.
        world_size: Ranks that shared it; 0 where the run did not live to say.
    """

    run: str
    start: int
    stop: int
    world_size: int


@dataclass(frozen=True, slots=True)
class TracedSource:
    """A version that a source of a stream delivers.

    Attributes:
        name: Name of the source.
        repository: URL of the repository that the table is in.
        table: The table.
        version: Its version digest.
        commit: The commit it was opened at.
        asked: The name it was opened by.
        tags: Tags of that commit.
        samples: Samples of it that the model saw; None if a table that was seen cannot be opened.
        tokens: Input tokens of these, without padding; None likewise.
    """

    name: str
    repository: str
    table: str
    version: str
    commit: str
    asked: str
    tags: list[str]
    samples: int | None
    tokens: int | None


def traced_sources(
    replays: Replays, runs: Sequence[tuple[Mapping[str, Any], Sequence[Consumed]]], unknown: list[str]
) -> list[TracedSource]:
    """Return what runs received of each version of their streams; call it within `sound`.

    Args:
        replays: Opens the streams.
        runs: The first entry of each run and the spans it received, oldest first.
        unknown: Gets a sentence for each stream that cannot be opened.

    Raises:
        CorruptError: A run received positions that its stream has not.
    """
    names: dict[_Source, NamedVersion] = {}
    samples: Counter[_Source] = Counter()
    tokens: Counter[_Source] = Counter()
    counted = True
    for start, spans in runs:
        named = versions_of_run(start)
        names |= {source: _named(source, named) for source in _sources_of(start["identity"])}
        try:
            stream = replays.stream(start)
        except (CorruptError, NewerFormatError):
            raise
        except PyfactoryError as error:
            counted = counted and not spans
            gap = f"what came of each source cannot be counted: {error.message}"
            unknown += [gap] if spans and gap not in unknown else []
            continue
        for span in spans:
            _count(stream, span, samples, tokens)
    return [
        TracedSource(
            name=source[0],
            repository=replays.url_of(found),
            table=found.table,
            version=found.version,
            commit=found.commit,
            asked=found.asked,
            tags=_tags(replays, found),
            samples=samples[source] if counted else None,
            tokens=tokens[source] if counted else None,
        )
        for source, found in names.items()
    ]


def _sources_of(identity: Mapping[str, Any]) -> Iterator[_Source]:
    for phase in (identity, *identity.get("then", [])):
        for source in phase["sources"]:
            yield source["name"], source["version"]  # one that it moves from was named before


def _named(source: _Source, named: Sequence[NamedVersion]) -> NamedVersion:
    """Return which of the versions of a run a source delivers; tables of one digest hold the same."""
    found = [each for each in named if each.version == source[1]]
    if not found:
        raise CorruptError(f"a run does not say where version {source[1]} of source {source[0]!r} is")
    return next((each for each in found if each.table == source[0]), found[0])


def _count(stream: Stream, span: Consumed, samples: Counter[_Source], tokens: Counter[_Source]) -> None:
    left = span.stop - span.start
    for phase in stream.phases:
        for feed, first, last in phase.taken(span.start, span.stop):
            source = feed.source, feed.version.digest
            samples[source] += last - first
            tokens[source] += input_tokens(feed, phase.recipe.sequence_length, first, last)
            left -= last - first
    if left:
        raise CorruptError(f"run {span.run} received the positions {span.start} to {span.stop}, which no stream has")


def _tags(replays: Replays, named: NamedVersion) -> list[str]:
    try:
        tags = replays.repository(named.repository).tags()
    except PyfactoryError:
        if not named.repository:
            raise
        return []
    return sorted(name for name, target in tags.items() if target == named.commit)
