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

from pyfactory.core.digest import parse_digest
from pyfactory.errors import CorruptError, InvalidInputError, NotFoundError
from pyfactory.ledger import read_run
from pyfactory.order.packing import Concat
from pyfactory.order.permutation import SourceOrder
from pyfactory.repo.fields import sound
from pyfactory.repo.record_index import rows_of_record, tokens_of_rows
from pyfactory.repo.repository import Repository
from pyfactory.repo.version import Version
from pyfactory.shard.blank import forgotten_id

__all__ = ["Seen", "runs_that_saw"]

_MOST_EPOCHS = 2**16  # that a run went through between two checkpoints: what a forged claim may cost


@dataclass(frozen=True, slots=True)
class Seen:
    """That a run received a record.

    Attributes:
        record: The id.
        run: Run id.
        table: Table of the stream.
        commit: The commit it was opened at.
        positions: Positions at which the run received tokens of the record, ascending.
        steps: The train steps of these, counted in the run's global batches from position 0, each once.
        exact: False if the run did not live to say how far it came: then it received these at most.
        checkpoints: Positions of the checkpoints whose model saw it: those of this run that were made after it.
        through: A run resumed from a checkpoint of a run that saw the record has seen it, too: that run, else "".
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


def runs_that_saw(repo: Repository, record_ids: Sequence[str]) -> list[Seen]:
    """Return the runs in the ledger that saw records, oldest first; also after the records were forgotten.

    A look into the record index of each table that runs streamed, and O(1) for each position.

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
        version, identity, batch = start["version"], start["identity"], start["global_batch"]
        parent = start["parent"]
        through = tainted.get(parent["digest"], "") if parent else ""
        spans, exact = _consumed(entries)
        positions = places.positions(record, version, identity, spans)
        made = [entry for entry in entries if entry["kind"] == "checkpoint"]
        after = [entry for entry in made if through or _any_within(positions, entry["spans"])]
        tainted |= {entry["digest"]: run for entry in after}
        if not positions and not through:
            return None
        return Seen(
            record=record,
            run=run,
            table=version["table"],
            commit=version["commit"],
            positions=tuple(positions),
            steps=tuple(sorted({position // batch for position in positions})),
            exact=exact,
            checkpoints=tuple(entry["position"] for entry in after),
            through=through,
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


class _Places:
    """Where records stand in the tables that runs streamed."""

    def __init__(self, repo: Repository) -> None:
        self._repo = repo
        self.url = repo.url
        self._versions: dict[tuple[str, str], Version | None] = {}

    def positions(
        self, record: str, named: dict[str, Any], identity: dict[str, Any], spans: Sequence[tuple[int, int]]
    ) -> list[int]:
        """Return the positions within spans at which a stream delivers tokens of a record, ascending."""
        version = self._version(str(named["table"]), str(named["commit"]))
        if version is None:
            return []
        # A record that was forgotten stands there under another name.
        rows = [row for name in {record, forgotten_id(record)} for row in rows_of_record(version, name)]
        recipe = identity["recipe"]
        packing = Concat(version.tokens, recipe["sequence_length"])
        order = SourceOrder(
            packing.samples, identity["seed"], version.table, block_size=recipe["block_size"], window=recipe["window"]
        )
        read = [packing.samples_with(first, stop) for first, stop in tokens_of_rows(version, rows)]
        samples = np.unique(np.concatenate([np.zeros(0, np.int64), *read]))
        found: list[int] = []
        for low, high in spans:
            if not 0 <= high - low < _MOST_EPOCHS * packing.samples:
                raise CorruptError(f"{self.url}: a run claims to have received the positions {low} to {high}")
            epochs = np.arange(low // packing.samples, (max(high, low + 1) - 1) // packing.samples + 1)
            at = order.positions_of(np.tile(samples, len(epochs)), np.repeat(epochs, len(samples)))
            found += at[(at >= low) & (at < high)].tolist()
        return sorted(set(found))

    def _version(self, table: str, commit: str) -> Version | None:
        """Return the table at a commit, None if it is not here."""
        name = table, commit
        if name not in self._versions:
            self._versions[name] = None
            with suppress(NotFoundError, InvalidInputError):
                self._versions[name] = self._repo.version(table, parse_digest(commit))
        return self._versions[name]
