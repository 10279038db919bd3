"""What differs between two trees: tables, shards, rows and tokens at the cost of what differs; ids on demand."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TypeVar

from pyfactory.core.digest import NO_DIGEST, Digest
from pyfactory.errors import CorruptError, NotFoundError
from pyfactory.repo.objects import TableState, Tree
from pyfactory.shard.diff import changed_blocks
from pyfactory.shard.manifest import Part
from pyfactory.shard.node import QUANTITIES, Records
from pyfactory.shard.nodes import Nodes
from pyfactory.shard.reader import open_side
from pyfactory.shard.tree import entries_in
from pyfactory.store.content import Objects

__all__ = ["Diff", "TableDiff", "changed_records", "diff_trees"]

Found = TypeVar("Found")
Columns = tuple[tuple[str, str, bool], ...]
Counts = tuple[int, int, int, int]

ADDED, REMOVED, CHANGED = "added", "removed", "changed"

_READ_ROWS = 4096  # ids made into text at a time


@dataclass(frozen=True, slots=True)
class TableDiff:
    """What differs in one table; a shard that another one replaced in its place counts as removed and as added.

    Attributes:
        name: The table.
        kind: "added", "removed" or "changed".
        shards_added: Content shards that only the second tree has.
        shards_removed: Content shards that only the first tree has.
        rows_added: Their rows.
        rows_removed: Their rows.
        tokens_added: Their tokens.
        tokens_removed: Their tokens.
        bytes_added: Their bytes.
        bytes_removed: Their bytes.
        schema_before: Columns, None if the table was not there.
        schema_after: Columns, None if the table is gone.
        artifacts: (before, after) of those that differ, by name.
        attributes: (before, after) of those that differ, by name.
    """

    name: str
    kind: str
    shards_added: int
    shards_removed: int
    rows_added: int
    rows_removed: int
    tokens_added: int
    tokens_removed: int
    bytes_added: int
    bytes_removed: int
    schema_before: Columns | None
    schema_after: Columns | None
    artifacts: Mapping[str, tuple[Digest | None, Digest | None]]
    attributes: Mapping[str, tuple[int | str | None, int | str | None]]


@dataclass(frozen=True, slots=True)
class Diff:
    """What differs between two trees.

    Attributes:
        tables: The tables that differ, by name, ascending.
    """

    tables: tuple[TableDiff, ...]


def diff_trees(objects: Objects, before: Tree, after: Tree) -> Diff:
    """Compare two trees. O(differing shards * log shards) reads and time; no content is read.

    Raises:
        CorruptError: A manifest is damaged.
    """
    return Diff(tuple(_table_diff(objects, *found) for found in _differing(before, after)))


def changed_records(objects: Objects, before: Tree, after: Tree) -> Iterator[tuple[str, str, str]]:
    """Yield ("removed" or "added", table, record id) for the rows of all shards that only one tree has.

    A shard that only moved to another place is in both trees. A row that moved from one shard into another one is
    removed and added. Of shards without ids nothing is yielded. Memory of 64 bytes for each differing shard.

    Raises:
        CorruptError: A manifest or a side shard is missing or damaged.
    """
    for name, old, new in _differing(before, after):
        found = _changed_shards(objects, old, new)
        for kind, shards in zip((REMOVED, ADDED), found, strict=True):
            for part in shards:
                for record_id in _ids(objects, part):
                    yield kind, name, record_id


def _differing(before: Tree, after: Tree) -> Iterator[tuple[str, TableState | None, TableState | None]]:
    for name in sorted({*before.tables, *after.tables}):
        old, new = before.tables.get(name), after.tables.get(name)
        if old is None or new is None or old.digest != new.digest:
            yield name, old, new


def _table_diff(objects: Objects, name: str, old: TableState | None, new: TableState | None) -> TableDiff:
    removed, added = _counts(objects, old, new)
    return TableDiff(
        name=name,
        kind=ADDED if old is None else REMOVED if new is None else CHANGED,
        shards_added=added[0],
        shards_removed=removed[0],
        rows_added=added[1],
        rows_removed=removed[1],
        tokens_added=added[2],
        tokens_removed=removed[2],
        bytes_added=added[3],
        bytes_removed=removed[3],
        schema_before=None if old is None else old.schema,
        schema_after=None if new is None else new.schema,
        artifacts=_pairs({} if old is None else old.artifacts, {} if new is None else new.artifacts),
        attributes=_pairs({} if old is None else old.attributes, {} if new is None else new.attributes),
    )


def _counts(objects: Objects, old: TableState | None, new: TableState | None) -> tuple[Counts, Counts]:
    """Return shards, rows, tokens and bytes that only each of two states has."""
    if old is None or new is None:
        return _whole(old), _whole(new)
    removed = added = (0, 0, 0, 0)
    for gone, come in changed_blocks(Nodes(objects), old.manifest, new.manifest):
        removed, added = _plus(removed, gone), _plus(added, come)
    return removed, added


def _plus(counts: Counts, records: Records) -> Counts:
    rows, tokens, nbytes = (int(records[name].sum()) for name in QUANTITIES[1:])
    return counts[0] + len(records), counts[1] + rows, counts[2] + tokens, counts[3] + nbytes


def _whole(state: TableState | None) -> Counts:
    return (0, 0, 0, 0) if state is None else (state.shards, state.rows, state.tokens, state.nbytes)


def _pairs(before: Mapping[str, Found], after: Mapping[str, Found]) -> dict[str, tuple[Found | None, Found | None]]:
    names = sorted({*before, *after})
    return {name: (before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)}


def _changed_shards(
    objects: Objects, old: TableState | None, new: TableState | None
) -> tuple[Iterator[Part], Iterator[Part]]:
    """Return the shards that each has more often than the other, in order."""
    roots = (None if old is None else old.manifest, None if new is None else new.manifest)
    nodes = Nodes(objects)
    sides: tuple[Counter[bytes], Counter[bytes]] = (Counter(), Counter())
    for block in changed_blocks(nodes, *roots):
        for side, records in zip(sides, block, strict=True):
            side.update(_names(records))
    gone, come = sides[0] - sides[1], sides[1] - sides[0]

    def left(of: int, wanted: Counter[bytes]) -> Iterator[Part]:
        for block in changed_blocks(nodes, *roots) if wanted else ():
            for name, entry in zip(_names(block[of]), entries_in(block[of]), strict=True):
                if wanted[name] > 0:
                    wanted[name] -= 1
                    yield entry.part

    return left(0, gone), left(1, come)


def _names(records: Records) -> list[bytes]:
    """Return what names a shard and its side, for each record."""
    return [shard + side for shard, side in zip(_octets(records, "shard"), _octets(records, "side"), strict=True)]


def _octets(records: Records, field: str) -> list[bytes]:
    octets = records[field].tobytes()
    return [octets[at : at + 32] for at in range(0, len(octets), 32)]


def _ids(objects: Objects, part: Part) -> Iterator[str]:
    """Yield the ids of the rows of a shard."""
    if part.side == NO_DIGEST:
        return
    what = f"side {part.side} of shard {part.shard}"
    try:
        ids = open_side(objects.map(part.side), what).ids
    except NotFoundError as error:
        raise CorruptError(f"{objects.store.url}: {what} is missing") from error
    for start in range(0, len(ids), _READ_ROWS):
        try:
            yield from ids.slice(start, _READ_ROWS).to_pylist()
        except UnicodeDecodeError as error:
            raise CorruptError(f"{what} holds an id that is not valid UTF-8") from error
