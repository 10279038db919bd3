"""Three-way merge of trees: what one side changed is taken, what both changed differently is a conflict.

Tables that are equal on both sides, or that only one side changed, are taken without opening them. Where both changed
a table, its columns, artifacts and attributes are merged by name, and its rows by shard.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import TypeVar

from pyfactory.core.digest import Digest
from pyfactory.repo.choices import OURS, THEIRS, Choices
from pyfactory.repo.merge_rows import RowChanges, ids_of_both, rewrote, shown_key
from pyfactory.repo.objects import TableState, Tree
from pyfactory.shard.packing_format import other_artifacts, packing_artifacts
from pyfactory.store.content import Objects

__all__ = ["Conflict", "Merged", "MergedTable", "merge_table_states", "merge_trees"]

Found = TypeVar("Found")


@dataclass(frozen=True, slots=True)
class Conflict:
    """One thing that both sides changed in different ways.

    Attributes:
        table: The table.
        key: The shard's place, `generation/start of the batch/ordinal`; empty for the table as a whole.
        reason: What both did.
        base: What stood there before: the digest of the shard, or of the state of the table; None if nothing.
        ours: What we made of it.
        theirs: What they made of it.
        ours_commit: Our commit.
        theirs_commit: Theirs.
    """

    table: str
    key: str
    reason: str
    base: Digest | None
    ours: Digest | None
    theirs: Digest | None
    ours_commit: str
    theirs_commit: str

    @property
    def place(self) -> str:
        """How a choice names it: `table` or `table:key`."""
        return f"{self.table}:{self.key}" if self.key else self.table


@dataclass(frozen=True, slots=True)
class MergedTable:
    """What became of one table.

    Attributes:
        state: Its merged state, None if it is gone; ours if there are conflicts.
        conflicts: All that nobody decided.
        only_added: Neither side took away or changed rows that were there.
    """

    state: TableState | None
    conflicts: tuple[Conflict, ...] = ()
    only_added: bool = False


@dataclass(frozen=True, slots=True)
class Merged:
    """What became of all tables.

    Attributes:
        tree: The merged tables; tables with conflicts are ours.
        conflicts: All that nobody decided, by table, in the order of keys; the tree holds only if there are none.
        used: The choices that decided something.
    """

    tree: Tree
    conflicts: tuple[Conflict, ...]
    used: Mapping[str, str]


def merge_trees(
    objects: Objects,
    base: Tree | None,
    ours: Tree,
    theirs: Tree,
    choices: Mapping[str, str] = MappingProxyType({}),
    *,
    ours_commit: str = "",
    theirs_commit: str = "",
) -> Merged:
    """Merge two trees that come from one. O(changes * log shards); ours and theirs may change places.

    Args:
        objects: Where the manifests are; new nodes are stored there.
        base: What both started from, None if they share nothing.
        ours: The one side.
        theirs: The other.
        choices: "ours" or "theirs" for conflicts, by `table:key`, `table` or `*`.
        ours_commit: Names our side in conflicts.
        theirs_commit: Names theirs.

    Raises:
        InvalidInputError: A choice has no such form, or is about no conflict.
        CorruptError: A manifest or side shard is missing or damaged.
    """
    decisions = Choices(choices)
    before = {} if base is None else base.tables
    tables: dict[str, TableState] = {}
    conflicts: list[Conflict] = []
    for name in sorted({*before, *ours.tables, *theirs.tables}):
        merged = merge_table_states(
            objects,
            name,
            before.get(name),
            ours.tables.get(name),
            theirs.tables.get(name),
            decisions,
            ours_commit=ours_commit,
            theirs_commit=theirs_commit,
        )
        conflicts += merged.conflicts
        if merged.state is not None:
            tables[name] = merged.state
    decisions.check_used(conflict.place for conflict in conflicts)
    return Merged(Tree(tables), tuple(conflicts), decisions.used)


def merge_table_states(
    objects: Objects,
    table: str,
    base: TableState | None,
    ours: TableState | None,
    theirs: TableState | None,
    choices: Choices | None = None,
    *,
    ours_commit: str = "",
    theirs_commit: str = "",
) -> MergedTable:
    """Merge one table; None is a table that is not there. See `merge_trees`."""
    if _same(ours, theirs) or _same(theirs, base):
        return MergedTable(ours)
    if _same(ours, base):
        return MergedTable(theirs)
    merge = _TableMerge(objects, table, (base, ours, theirs), (ours_commit, theirs_commit), choices or Choices({}))
    if base is None:
        return merge.whole(["both made it"])
    if ours is None or theirs is None:
        return merge.whole(
            ["ours removed it, theirs changed it" if ours is None else "ours changed it, theirs removed it"]
        )
    return merge.parts(base, ours, theirs)


@dataclass(frozen=True, slots=True)
class _TableMerge:
    objects: Objects
    table: str
    states: tuple[TableState | None, TableState | None, TableState | None]
    commits: tuple[str, str]
    choices: Choices

    def whole(self, reasons: list[str]) -> MergedTable:
        """Let the choice for the table decide, if there is one, else return a conflict for each reason."""
        _, ours, theirs = self.states
        side = self.choices.of_table(self.table)
        if side is not None:
            return MergedTable(ours if side == OURS else theirs)
        digests = [None if state is None else state.digest for state in self.states]
        return MergedTable(ours, tuple(self._conflict("", reason, *digests) for reason in reasons))

    def parts(self, base: TableState, ours: TableState, theirs: TableState) -> MergedTable:
        """Merge what the states consist of."""
        rows = RowChanges(self.objects, base.manifest, ours.manifest, theirs.manifest)
        schema, reasons = _settled("columns", base.schema, ours.schema, theirs.schema)
        lasting = (other_artifacts(state.artifacts) for state in (base, ours, theirs))
        artifacts, more = _by_name("artifact", *lasting)
        attributes, most = _by_name("attribute", base.attributes, ours.attributes, theirs.attributes)
        reasons += [*more, *most, *_of_rows(rows), *_of_meaning(rows, base, ours, theirs)]
        if reasons:
            merged = self.whole(reasons)
            return replace(merged, conflicts=merged.conflicts + self._of_keys(rows)[1]) if merged.conflicts else merged
        decided, conflicts = self._of_keys(rows)
        if conflicts:
            return MergedTable(ours, conflicts, rows.only_added)
        root = rows.merged(decided)
        for side in (ours, theirs):  # a packing table fits the rows that it was made for
            artifacts |= packing_artifacts(side.artifacts) if side.manifest == root else {}
        shards, count, tokens, nbytes = rows.totals(root)
        state = TableState(root, schema, count, tokens, nbytes, shards, artifacts, attributes)
        return MergedTable(state, (), rows.only_added)

    def _of_keys(self, rows: RowChanges) -> tuple[dict[bytes, str], tuple[Conflict, ...]]:
        decided: dict[bytes, str] = {}
        conflicts: list[Conflict] = []
        for ours, theirs in rows.conflicts():
            key = shown_key(ours)
            side = self.choices.of_key(self.table, key)
            if side is not None:
                decided[ours.key] = side
                continue
            entries = (ours.before, ours.after, theirs.after)
            digests = [None if entry is None else entry.part.shard for entry in entries]
            did = [_did(entries[0] is None, entry is None) for entry in entries[1:]]
            conflicts.append(self._conflict(key, f"ours {did[0]} this shard, theirs {did[1]} it", *digests))
        return decided, tuple(conflicts)

    def _conflict(
        self, key: str, reason: str, base: Digest | None, ours: Digest | None, theirs: Digest | None
    ) -> Conflict:
        return Conflict(self.table, key, reason, base, ours, theirs, *self.commits)


def _same(one: TableState | None, other: TableState | None) -> bool:
    return one is other or (one is not None and other is not None and one.digest == other.digest)


def _did(was_absent: bool, is_absent: bool) -> str:
    return "removed" if is_absent else "added" if was_absent else "changed"


def _settled(what: str, base: Found, ours: Found, theirs: Found) -> tuple[Found, list[str]]:
    """Return what a three-way merge of one value gives, and why it does not settle."""
    if theirs in (base, ours):
        return ours, []
    return theirs, [] if ours == base else [f"both changed its {what}"]


def _by_name(
    what: str, base: Mapping[str, Found], ours: Mapping[str, Found], theirs: Mapping[str, Found]
) -> tuple[dict[str, Found], list[str]]:
    merged: dict[str, Found] = {}
    reasons: list[str] = []
    for name in sorted({*base, *ours, *theirs}):
        value, why = _settled(f"{what} {name!r}", base.get(name), ours.get(name), theirs.get(name))
        reasons += why
        if value is not None:
            merged[name] = value
    return merged, reasons


def _of_rows(rows: RowChanges) -> Iterator[str]:
    if rows.both_replaced:
        yield "both replaced its rows"
        return  # the same ids are expected then
    count, first = ids_of_both(rows.objects, rows.added(OURS), rows.added(THEIRS))
    if count:
        shown = ", ".join(repr(record_id if len(record_id) <= 100 else f"{record_id[:97]}...") for record_id in first)
        more = f" and {count - len(first)} more" if count > len(first) else ""
        yield f"both added records with the ids {shown}{more}"


def _of_meaning(rows: RowChanges, base: TableState, ours: TableState, theirs: TableState) -> Iterator[str]:
    """Say why rows of one side cannot stand beside what the other side made: columns, or another tokenizer."""
    sides = ((OURS, ours, rows.by_us), (THEIRS, theirs, rows.by_them))
    for (one, state, changes), (other, beside, added) in (sides, sides[::-1]):
        if state.schema != base.schema and beside.schema == base.schema and added:
            yield f"{one} changed its columns, {other} its rows"
        names = _changed(base, state, beside)
        if names and rewrote(changes) and any(change.after is not None for change in added.values()):
            yield f"{one} made its rows anew with another {names[0]}, {other} added rows made with the old one"


def _changed(base: TableState, state: TableState, beside: TableState) -> list[str]:
    """Return the artifacts and attributes of the base that a state has otherwise and another one still has."""
    facts: list[tuple[str, Mapping[str, object], Mapping[str, object], Mapping[str, object]]] = [
        ("artifact", base.artifacts, state.artifacts, beside.artifacts),
        ("attribute", base.attributes, state.attributes, beside.attributes),
    ]
    return [
        f"{what} {name!r}"
        for what, before, after, other in facts
        for name in before
        if after.get(name) != before[name] == other.get(name)
    ]
