"""Rows of shards for gates: content verified as it is read, ids from the side shards."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from operator import itemgetter

import pyarrow as pa

from pyfactory.core.digest import NO_DIGEST
from pyfactory.errors import CorruptError, NotFoundError
from pyfactory.repo.gates.base import EVIDENCE, Proposal, Tally
from pyfactory.shard.manifest import Part
from pyfactory.shard.reader import Side, open_shard, open_side
from pyfactory.store.content import Objects

__all__ = [
    "ID",
    "Gathered",
    "evidence",
    "gather",
    "known_ids",
    "open_content",
    "record_ids",
    "rows_with_ids",
    "sound_rows",
]

ID = "id"
"""Name of the column of record ids in `rows_with_ids`."""


def open_content(objects: Objects, part: Part) -> pa.RecordBatch:
    """Return the rows of a shard, its bytes checked against its digest.

    Raises:
        CorruptError: The shard is missing or damaged, or has other rows than its manifest says.
    """
    what = f"shard {part.shard} in {objects.store.url}"
    try:
        batch = open_shard(objects.map(part.shard, verify=True), what)
    except NotFoundError as error:
        raise CorruptError(f"{what} is missing", hint="put the object back from a copy of the repository") from error
    if batch.num_rows != part.rows:
        raise CorruptError(f"{what} has {batch.num_rows} rows, and {part.rows} by its manifest")
    return batch


def record_ids(objects: Objects, part: Part, rows: Iterable[int]) -> list[str]:
    """Return the ids of rows of a shard; a shard without ids names its rows `SHARD/ROW`, counted from 0."""
    side = _open_side(objects, part)
    if side is None:
        return [f"{part.shard[:16]}/{row}" for row in rows]
    return [side.id(row) for row in rows]


@dataclass
class Gathered:
    """What a tally found in the added shards.

    Attributes:
        counts: Counts by name.
        rows: By name the first rows, at most `EVIDENCE`, each as (index of the shard, row in it, shard).
    """

    counts: dict[str, int] = field(default_factory=dict)
    rows: dict[str, list[tuple[int, int, Part]]] = field(default_factory=dict)


def gather(proposal: Proposal, measure: Tally, parts: Sequence[Part] | None = None) -> Gathered:
    """Return what a tally finds in the added shards, or in others; one pass, one shard in memory for each thread."""
    found = Gathered()
    shards = proposal.added if parts is None else parts
    for index, (part, value) in enumerate(proposal.sketches.over(measure, shards)):
        for name, count in value["counts"].items():
            found.counts[name] = found.counts.get(name, 0) + count
        for name, rows in value["rows"].items():
            kept = found.rows.setdefault(name, [])
            kept += [(index, row, part) for row in rows[: EVIDENCE - len(kept)]]
    return found


def evidence(objects: Objects, rows: Iterable[tuple[int, int, Part]]) -> tuple[str, ...]:
    """Return the ids of rows in the order of their shards, each once, at most `EVIDENCE`; see `Gathered.rows`."""
    first = heapq.nsmallest(EVIDENCE, {(index, row): part for index, row, part in rows}.items(), key=itemgetter(0))
    ids: list[str] = []
    for _, group in groupby(first, key=lambda found: found[0][0]):
        found = [*group]
        ids += record_ids(objects, found[0][1], [row for (_, row), _ in found])
    return tuple(ids)


def known_ids(objects: Objects, parts: Iterable[Part], ids: Iterable[str]) -> set[str]:
    """Return those of some ids that rows of shards have; what a query or a function calls an id may be anything."""
    open_ids, known = set(ids), set[str]()
    for part in parts:
        if not open_ids:
            break
        side = _open_side(objects, part)
        if side is None:
            here = open_ids.intersection(record_ids(objects, part, range(part.rows)))
        else:
            here = {record_id for record_id in open_ids if side.find(record_id) is not None}
        known |= here
        open_ids -= here
    return known


def rows_with_ids(objects: Objects, part: Part) -> pa.RecordBatch:
    """Return the rows of a shard with their record ids as the column `id`, which hides one of that name."""
    batch = open_content(objects, part)
    side = _open_side(objects, part)
    ids = pa.array(record_ids(objects, part, range(part.rows)), pa.large_string()) if side is None else side.ids
    if ID in batch.schema.names:
        batch = batch.drop_columns([ID])
    return batch.append_column(pa.field(ID, pa.large_string(), nullable=False), ids)


@contextmanager
def sound_rows(what: str) -> Iterator[None]:
    """Translate what Arrow and Python raise over text that is not UTF-8."""
    try:
        yield
    except (pa.ArrowException, UnicodeDecodeError) as error:
        raise CorruptError(f"{what} holds a value that is none: {str(error)[:200]}") from error


def _open_side(objects: Objects, part: Part) -> Side | None:
    if part.side == NO_DIGEST:
        return None
    what = f"side shard {part.side} in {objects.store.url}"
    try:
        side = open_side(objects.map(part.side, verify=True), what)
    except NotFoundError as error:
        raise CorruptError(f"{what} is missing", hint="put the object back from a copy of the repository") from error
    if len(side) != part.rows:
        raise CorruptError(f"{what} has {len(side)} rows, and {part.rows} by its manifest")
    return side
