"""Tables and trees for the tests of gates, from rows written down in a test or a fixture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

import numpy as np
import pyarrow as pa

from pyfactory.repo.gates.base import Verdict
from pyfactory.repo.gates.contamination import DEFAULT_N
from pyfactory.repo.gates.contamination_sets import make_set
from pyfactory.repo.gates.run import judge
from pyfactory.repo.objects import TableState, Tree
from pyfactory.repo.rules import GateRule
from pyfactory.shard.layout import raw_schema, schema_from_value, schema_to_value
from pyfactory.shard.manifest import Entry, Manifest, Part, extend_manifest, new_batch, write_manifest
from pyfactory.shard.writer import encode_shard, make_side, token_batch
from pyfactory.store.content import Objects
from pyfactory.store.memory import MemoryStore

Rows = Sequence[Any]
"""Texts, lists of tokens, or mappings of column to value."""


def batch_of(rows: Rows, columns: Sequence[Any] = ()) -> pa.RecordBatch:
    """Rows as a batch; `columns` are those of a raw table beside `text`, as [name, type, nullable]."""
    if rows and isinstance(rows[0], list):
        offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
        return token_batch(np.array([token for row in rows for token in row], np.uint16), offsets)
    schema = raw_schema(schema_from_value([list(column) for column in columns]))
    filled = [{"text": row} if isinstance(row, str) else {"text": "", **row} for row in rows]
    return pa.RecordBatch.from_pylist(filled, schema=schema)


def part_of(objects: Objects, rows: Rows, columns: Sequence[Any] = (), ids: Sequence[str] = ()) -> Part:
    """Store a shard; without ids the rows are named by shard and row."""
    batch = batch_of(rows, columns)
    shard = encode_shard(batch)
    digest = objects.put(memoryview(shard))
    names = list(ids) or [f"{digest[:8]}-{row}" for row in range(batch.num_rows)]
    side = objects.put(memoryview(make_side(pa.array(names, pa.large_string()))))
    tokens = int(batch.column(0).value_lengths().to_numpy().sum()) if batch.schema.names == ["tokens"] else 0
    return Part(digest, side, batch.num_rows, tokens, shard.size)


def state_of(objects: Objects, parts: Sequence[Part], schema: pa.Schema) -> TableState:
    """The state of a table that is written at once."""
    return _state(objects, write_manifest(objects, entries_of(parts)), schema)


def grown(objects: Objects, state: TableState, parts: Sequence[Part], generation: int = 1) -> TableState:
    """A table with parts appended."""
    schema = schema_from_value([list(column) for column in state.schema])
    return _state(objects, extend_manifest(objects, state.manifest, new_batch(parts, generation)), schema)


def entries_of(parts: Sequence[Part]) -> list[Entry]:
    return new_batch(parts, 0)


def _state(objects: Objects, root: Any, schema: pa.Schema) -> TableState:
    manifest = Manifest(objects, root)
    columns = tuple((name, type_, nullable) for name, type_, nullable in schema_to_value(schema))
    totals = (manifest.rows, manifest.tokens, manifest.nbytes, manifest.shards)
    return TableState(manifest.root, columns, *totals, {}, {})


def table(objects: Objects, *shards: Rows, columns: Sequence[Any] = (), prefix: str = "r") -> TableState:
    """A table of shards, whose ids are r0, r1, ... through all of them."""
    numbers = count()
    parts = [part_of(objects, rows, columns, [f"{prefix}{next(numbers)}" for _ in rows]) for rows in shards]
    return state_of(objects, parts, batch_of(shards[0], columns).schema)


def verdict_on(
    gate: str,
    options: Mapping[str, Any],
    before: Rows | None,
    added: Rows,
    *,
    base: Mapping[str, Rows] | None = None,
    columns: Sequence[Any] = (),
    columns_before: Sequence[Any] | None = None,
    sets: Mapping[str, Sequence[str]] | None = None,
) -> Verdict:
    """Judge rows that are appended to a table of rows (or, with other columns, that replace it); ids are r0, r1, ...

    `sets` are evaluation sets, stored first and named in the options.
    """
    objects = Objects(MemoryStore())
    if sets is not None:
        named = {name: objects.put(make_set(texts, DEFAULT_N).to_bytes()) for name, texts in sets.items()}
        options = {**options, "sets": [f"{name}={digest}" for name, digest in named.items()]}
    others = {name: table(objects, rows, prefix=f"{name}-") for name, rows in (base or {}).items()}
    changed = columns_before is not None and list(columns_before) != list(columns)
    target = {**others}
    if before is not None:
        target["t"] = table(objects, before, columns=columns if columns_before is None else columns_before, prefix="b")
    new = table(objects, added, columns=columns)
    if before is not None and not changed:
        parts = [part_of(objects, added, columns, [f"r{row}" for row in range(len(added))])] if added else []
        new = grown(objects, target["t"], parts)
    (verdict,) = judge(objects, [GateRule(gate, "t", options)], Tree(target), Tree({**others, "t": new}))
    return verdict
