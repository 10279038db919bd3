"""Which training runs saw a record: from its tokens forward to samples, positions, train steps and checkpoints.

A record stands somewhere in a token table; the order of a stream is a bijection, so the positions that deliver it
follow by arithmetic, and the ledger says which of them a run received.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from pyfactory.audit.replays import Replays, versions_of_run
from pyfactory.errors import (
    CorruptError,
    InvalidInputError,
    NewerFormatError,
    NotFoundError,
    PyfactoryError,
    ReadOnlyError,
    UnavailableError,
)
from pyfactory.ledger import read_run
from pyfactory.repo.fields import sound
from pyfactory.repo.record_index import rows_of_record
from pyfactory.repo.repository import Repository
from pyfactory.shard.blank import forgotten_id
from pyfactory.stream.find import Seen as Delivered
from pyfactory.stream.find import seen_between
from pyfactory.stream.phase import END
from pyfactory.stream.stream import Stream

__all__ = ["Seen", "runs_that_saw"]


@dataclass(frozen=True, slots=True)
class Seen:
    """That a run received a record.

    Attributes:
        record: The id.
        run: Run id.
        table: Table that the record stands in, where the run received it first; the first of the stream if only
            `through` tells of it.
        commit: The commit it was opened at.
        positions: Positions at which the run received tokens of the record, ascending.
        steps: The train steps of these, counted in the run's global batches from position 0, each once.
        exact: False if the run did not live to say how far it came: then it received these at most.
        checkpoints: Positions of the checkpoints whose model saw it: those of this run that were made after it.
        through: A run resumed from a checkpoint of a run that saw the record has seen it, too: that run, else "".
        unknown: Why nobody can say at which positions, else "": then the run may have received it anywhere.
    """

    record: str
    run: str
    table: str
    commit: str
    positions: tuple[int, ...]
    steps: tuple[int, ...]
    exact: bool
    checkpoints: tuple[int, ...]
    through: str = ""
    unknown: str = ""


def runs_that_saw(repo: Repository, record_ids: Sequence[str]) -> list[Seen]:
    """Return the runs in the ledger that saw records, oldest first; also after the records were forgotten.

    Records are looked for in all tables that runs streamed, also those of other repositories that can be opened. A look
    into the record index of each, and O(1) for each position.

    Args:
        repo: The repository of the data and the ledger.
        record_ids: The records.

    Raises:
        CorruptError: The ledger or a table cannot be read.
    """
    names = sorted({key.split("/")[1] for key, _ in repo.store.list("runs")})
    runs = {name: read_run(repo.store, name) for name in names}
    order = _parents_first(runs)
    found: list[Seen] = []
    places = _Places(repo)
    for record in dict.fromkeys(record_ids):
        tainted: dict[str, str] = {}  # digest of a checkpoint entry -> the run that made it
        for name in order:
            seen = _seen(places, record, name, runs[name], tainted)
            found += [seen] if seen is not None else []
    return found


def _parents_first(runs: Mapping[str, list[dict[str, Any]]]) -> list[str]:
    """Return the runs by time, each behind the one that it was resumed from: clocks differ, and seconds are long."""
    order: dict[str, None] = {}
    for name in sorted(runs, key=lambda name: (str(runs[name][0].get("time")), name)):
        line = [name]
        while line[-1] not in order:
            parent = runs[line[-1]][0].get("parent")
            before = parent.get("run") if isinstance(parent, dict) else None
            if not isinstance(before, str) or before not in runs or before in line:
                break
            line.append(before)
        order |= dict.fromkeys(reversed(line))
    return [*order]


def _seen(
    places: _Places, record: str, run: str, entries: list[dict[str, Any]], tainted: dict[str, str]
) -> Seen | None:
    """Return what one run saw of a record, and note which of its checkpoints did."""
    start = entries[0]
    with sound(f"{places.url}: run {run}"):
        version, batch = start["version"], start["global_batch"]
        parent = start["parent"]
        through = tainted.get(parent["digest"], "") if parent else ""
        spans, exact = _consumed(entries)
        place = places.of(record, start, spans)
        positions = place.positions
        made = [entry for entry in entries if entry["kind"] == "checkpoint"]
        after = [entry for entry in made if through or place.unknown or _any_within(positions, entry["spans"])]
        tainted |= {entry["digest"]: run for entry in after}
        if not positions and not through and not place.unknown:
            return None
        return Seen(
            record=record,
            run=run,
            table=place.table or version["table"],
            commit=place.commit or version["commit"],
            positions=tuple(positions),
            steps=tuple(sorted({position // batch for position in positions})),
            exact=exact and not place.unknown,
            checkpoints=tuple(entry["position"] for entry in after),
            through=through,
            unknown=place.unknown,
        )


def _consumed(entries: list[dict[str, Any]]) -> tuple[list[tuple[int, int]], bool]:
    """Return the spans that a run received, ascending, and whether it lived to say so; else it may have been less."""
    spans: list[tuple[int, int]] = []
    reached = int(entries[0]["position"])
    for entry in entries:
        if entry["kind"] == "checkpoint":
            spans = [(int(low), int(high)) for low, high in entry["spans"]]
            reached = int(entry["position"])
    last = entries[-1]
    end = int(last["position"]) if last["kind"] == "end" else max(int(entry["position"]) for entry in entries)
    if end > reached:
        spans.append((reached, end))
    return sorted(spans), last["kind"] == "end"


def _any_within(positions: Sequence[int], spans: Sequence[Sequence[int]]) -> bool:
    return any(bisect_left(positions, low) < bisect_left(positions, high) for low, high in spans)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a run received a record: positions, ascending; the table that it stands in, or why nobody can say."""

    positions: Sequence[int] = ()
    table: str = ""
    commit: str = ""
    unknown: str = ""


class _Places:
    """Where records stand in the streams of runs."""

    def __init__(self, repo: Repository) -> None:
        self.url = repo.url
        self._replays = Replays(repo)

    def of(self, record: str, start: Mapping[str, Any], spans: Sequence[tuple[int, int]]) -> _Place:
        """Return where a run received a record, given its first entry and the spans it received."""
        # A record that was forgotten stands there under another name.
        names = [record, forgotten_id(record)]
        try:
            stream = self._replays.stream(start)
        except (CorruptError, NewerFormatError):
            raise
        except PyfactoryError as error:
            return self._unknown(names, start, error)
        seen = [one for low, high in spans for one in self._within(stream, names, low, high)]
        seen = [one for one in seen if len(one.positions)]
        if not seen:
            return _Place()
        version = min(seen, key=lambda one: int(one.positions[0])).feed.version
        positions = np.unique(np.concatenate([one.positions for one in seen]))
        return _Place(positions.tolist(), version.table, version.commit)

    def _within(self, stream: Stream, names: Sequence[str], low: int, high: int) -> list[Delivered]:
        try:
            if not 0 <= low <= high <= END:
                raise InvalidInputError("there are no such positions")
            return seen_between(stream, names, low, high)
        except InvalidInputError as error:  # also for more work than any run makes
            raise CorruptError(
                f"{self.url}: a run claims to have received the positions {low} to {high}: {error.message}"
            ) from error

    def _unknown(self, names: Sequence[str], start: Mapping[str, Any], error: PyfactoryError) -> _Place:
        """Return what can be said of a stream that cannot be opened: whether a table of it has the record."""
        for named in versions_of_run(start):
            with suppress(NotFoundError, InvalidInputError, UnavailableError, ReadOnlyError):
                version = self._replays.version(named)
                if any(rows_of_record(version, name) for name in names):
                    return _Place((), named.table, named.commit, f"its stream cannot be opened: {error.message}")
        return _Place()
