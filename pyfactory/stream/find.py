"""Where a record is in a stream: from its id to tokens by the record index, from tokens to positions by arithmetic."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pyfactory.core.digest import Digest
from pyfactory.core.progress import Progress, no_progress
from pyfactory.errors import InvalidInputError
from pyfactory.order.lane import cut, seats_of
from pyfactory.repo.forgotten import missing_record
from pyfactory.repo.record_index import rows_of_record, tokens_of_rows
from pyfactory.repo.redaction import overlay_of
from pyfactory.stream.dropped import Dropped, why_dropped

if TYPE_CHECKING:
    from pyfactory.stream.feed import Feed
    from pyfactory.stream.phase import Phase
    from pyfactory.stream.stream import Stream
    from pyfactory.stream.unseen import TokenRuns

__all__ = ["Finding", "Found", "Seen", "find", "seen_between"]

Int64s = NDArray[np.int64]

_END = 1 << 62  # one past the last position of any stream
_MOST = 1 << 24  # positions looked at for one feed
_MOST_JOBS = 64  # that drop the twins of twins


@dataclass(frozen=True, slots=True)
class Found:
    """A position at which a stream delivers tokens of a record, as input or as target: its sample reads one of them.

    Attributes:
        position: The position.
        step: The train step, counted in global batches from position 0; None without a global batch.
        lane: The rank that takes it; None without a global batch.
        record: The record: the one that was asked for, or its kept twin.
        source: Name of the source.
        table: Name of its table.
        epoch: Epoch of the source.
        phase: Number of the phase.
    """

    position: int
    step: int | None
    lane: int | None
    record: str
    source: str
    table: str
    epoch: int
    phase: int


@dataclass(frozen=True, slots=True)
class Finding:
    """What is known of a record in a stream.

    Attributes:
        record: The record that was asked for.
        found: Where it is delivered, by position; if dedup dropped it, where its kept twin is.
        dropped: Why it is in no table of the stream: at most one for each job, the first about the record itself, each
            further one about the twin of the one before. Empty if it is there.
        searched: The spans of positions, (first, one past the last), that were looked through for it or its twin:
            `found` is all there is in them. Ascending, with holes where a source was in an epoch that nobody asked
            for; empty if no table of the stream has it, or `epochs` of its sources never come together.
    """

    record: str
    found: tuple[Found, ...]
    dropped: tuple[Dropped, ...]
    searched: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Seen:
    """Positions of one feed, ascending, each in its epoch: int64[m] both; all that it has of them in a span."""

    feed: Feed
    positions: Int64s
    epochs: Int64s
    searched: tuple[int, int]


def find(
    stream: Stream,
    record_id: str,
    *,
    epochs: range | None = None,
    start: int = 0,
    stop: int | None = None,
    global_batch: int | None = None,
    world_size: int | None = None,
    strided: bool = False,
    progress: Progress = no_progress,
) -> Finding:
    """Return where a stream delivers tokens of a record. Warm: two small reads for each source, then arithmetic.

    Without `epochs` and `stop`, of each source in each phase the epoch in which it is at `start`, or where the phase
    begins: each sample of a table once. With `stop`, all that is in [start, stop). With `epochs`, only those epochs of
    the sources. `searched` tells which positions that were. A record at the end of a table may be in no sample.

    Args:
        stream: The stream.
        record_id: The record.
        epochs: Epochs of the sources.
        start: The first position.
        stop: One past the last position.
        global_batch: Samples of a train step, to learn train steps and lanes; train step 0 begins at position 0.
        world_size: Lanes that share it.
        strided: Whether lanes are strided; see `order.lane`.
        progress: Told of sides indexed (`index`) and texts compared (`compare`), if there is anything to do.

    Raises:
        NotFoundError: No table of the stream has the record, and none that they were made from; or it was forgotten.
        InvalidInputError: The id is no text, the span is none, or too much is asked for at once.
    """
    _check_id(record_id)
    _check_span(start, stop)
    record, dropped = record_id, list[Dropped]()
    while (seen := _seen(stream, [record], epochs, start, stop, progress)) is None and len(dropped) < _MOST_JOBS:
        dropped.append(_dropped(stream, record, progress))
        if not dropped[-1].twin:
            break
        record = dropped[-1].twin
    found = [one for places in seen or [] for one in _told(places, record, global_batch, world_size or 1, strided)]
    searched = () if seen is None else _searched(stream, seen, start, stop)
    return Finding(record_id, tuple(sorted(found, key=lambda one: one.position)), tuple(dropped), searched)


def seen_between(
    stream: Stream, record_ids: Sequence[str], start: int, stop: int, progress: Progress = no_progress
) -> list[Seen]:
    """Return all positions of [start, stop) at which a stream delivers tokens of some records, by feed.

    Args:
        stream: The stream.
        record_ids: The records; that one is not in the stream is no error.
        start: The first position.
        stop: One past the last.
        progress: See `find`.

    Raises:
        InvalidInputError: The span is none, or holds too many epochs to be looked through at once.
    """
    _check_span(start, stop)
    return _seen(stream, record_ids, None, start, stop, progress) or []


def _seen(
    stream: Stream, record_ids: Sequence[str], epochs: range | None, start: int, stop: int | None, progress: Progress
) -> list[Seen] | None:
    """Return where records are delivered, None if no table of the stream has one of them."""
    tokens: dict[tuple[str, Digest], list[tuple[int, int]]] = {}
    found: list[Seen] = []
    for feed in stream.feeds:
        version = feed.version
        name = version.repository.url, version.digest
        if name not in tokens:
            rows = [row for record in record_ids for row in rows_of_record(version, record, progress)]
            tokens[name] = tokens_of_rows(version, rows)
        delivered = _not_removed(stream.tables[feed.table].removed, tokens[name])
        samples = [feed.geometry.samples_with(first, last) for first, last in delivered]
        if samples:
            found.append(_delivered(stream, feed, np.unique(np.concatenate(samples)), epochs, start, stop))
    return found if any(tokens.values()) else None


def _not_removed(removed: TokenRuns | None, records: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return the records, (first token, one past the last), that are not masked since a newer version lacks them."""
    if removed is None:
        return records
    stops = removed.firsts + removed.lengths
    runs = np.searchsorted(stops, [first for first, _ in records], side="right").tolist()
    starts = [*removed.firsts.tolist(), _END]
    return [record for record, run in zip(records, runs, strict=True) if record[0] < starts[run]]


def _delivered(stream: Stream, feed: Feed, samples: Int64s, epochs: range | None, start: int, stop: int | None) -> Seen:
    """Return the positions from start to stop at which a feed delivers samples."""
    (low, high), between = _epochs_between(stream, feed, start, stop)
    first, last = between
    if epochs is not None:
        first, last = max(first, epochs.start), min(last, epochs.stop)
    elif stop is None:
        last = min(last, first + 1)
    count = max(last - first, 0)
    if count * len(samples) > _MOST:
        hint = "take a smaller span from start to stop"
        raise InvalidInputError(f"source {feed.source!r} has {count} epochs in what is asked for", hint=hint)
    every = np.repeat(np.arange(first, first + count, dtype=np.int64), len(samples))
    at = stream.positions(feed.number, np.tile(samples, count), every)
    kept = np.flatnonzero((at >= low) & (at < high))
    kept = kept[np.argsort(at[kept])]
    looked = _looked_through(stream, feed, (low, high), between, (first, last))
    return Seen(feed, at[kept], every[kept], looked)


def _looked_through(
    stream: Stream, feed: Feed, span: tuple[int, int], between: tuple[int, int], chosen: tuple[int, int]
) -> tuple[int, int]:
    """Return the part of a span at which a feed, there in epochs `between`, is in the chosen ones or in none."""
    (low, high), (first, last), (begin, end) = span, between, chosen
    if first >= last:
        return span
    if begin >= end:
        return low, low
    begins = low if begin == first else _begin_of(stream, feed, begin)
    return begins, high if end == last else _begin_of(stream, feed, end)


def _begin_of(stream: Stream, feed: Feed, epoch: int) -> int:
    """Return the position at which an epoch of a feed begins, which must be one of its phase."""
    sample = feed.order.samples_at(np.array([epoch * feed.order.samples]))
    return int(stream.positions(feed.number, sample, np.array([epoch]))[0])


def _searched(stream: Stream, seen: Sequence[Seen], start: int, stop: int | None) -> tuple[tuple[int, int], ...]:
    """Return the spans in which every source that has the records was looked through, joined where they meet."""
    spans: list[tuple[int, int]] = []
    for phase in stream.phases:
        low, high = _within(phase, start, stop)
        for one in seen:
            if one.feed.phase == phase.number:
                low, high = max(low, one.searched[0]), min(high, one.searched[1])
        if low < high and spans and spans[-1][1] == low:
            spans[-1] = spans[-1][0], high
        elif low < high:
            spans.append((low, high))
    return tuple(spans)


def _within(phase: Phase, start: int, stop: int | None) -> tuple[int, int]:
    """Return what a phase has of a span."""
    return max(start, phase.start), min(_END if stop is None else stop, _END if phase.stop is None else phase.stop)


def _epochs_between(
    stream: Stream, feed: Feed, start: int, stop: int | None
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the positions (low, high) of a span in the phase of a feed, and the epochs (first, one past the last)."""
    phase = stream.phases[feed.phase]
    low, high = _within(phase, start, stop)
    if low >= high:
        return (low, low), (0, 0)
    which = next(at for at, leaf in enumerate(phase.leaves) if any(mine is feed for mine in leaf.feeds))
    numbers = np.array([phase.counts(low)[which], phase.counts(high)[which] - 1])
    if numbers[0] > numbers[1]:  # the source has nothing there
        return (low, high), (0, 0)
    _, _, epochs = phase.leaves[which].at(numbers)
    return (low, high), (int(epochs[0]), int(epochs[1]) + 1)


def _told(seen: Seen, record: str, global_batch: int | None, world_size: int, strided: bool) -> Iterator[Found]:
    steps: list[int | None] = [None] * len(seen.positions)
    lanes = steps
    if global_batch is not None:
        seats = seats_of(seen.positions, cut(0, world_size, global_batch=global_batch, strided=strided))
        steps, lanes = seats.step.tolist(), seats.rank.tolist()
    feed = seen.feed
    for position, epoch, step, lane in zip(seen.positions.tolist(), seen.epochs.tolist(), steps, lanes, strict=True):
        yield Found(position, step, lane, record, feed.source, feed.version.table, epoch, feed.phase)


def _dropped(stream: Stream, record: str, progress: Progress) -> Dropped:
    """Return why no table of a stream has a record; NotFoundError if nothing behind them has it either."""
    versions = {(feed.version.repository.url, feed.version.digest): feed.version for feed in stream.feeds}
    for version in versions.values():
        reason = why_dropped(version, record, progress)
        if reason is not None:
            return reason
    homes = {version.repository.url: version.repository for version in versions.values()}
    forgot = [home for home in homes.values() if overlay_of(home, home.view()).redaction_of(record) is not None]
    raise missing_record((forgot or [*homes.values()])[0], record, "the tables of the stream or behind them")


def _check_id(record_id: object) -> None:
    if not isinstance(record_id, str):
        hint = "stream.records(start, stop) tells the ids of the records at positions"
        raise InvalidInputError(f"the id of a record is a text, not {type(record_id).__name__}", hint=hint)


def _check_span(start: int, stop: int | None) -> None:
    if start < 0 or (stop is not None and stop < start):
        raise InvalidInputError(f"[{start}, {stop}) is not a span of positions", hint="positions are 0 to 2^62 - 1")
