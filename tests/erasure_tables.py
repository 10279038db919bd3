"""Small repositories of several tables that share records, for the tests of erasure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa

from pyfactory.core.digest import Digest
from pyfactory.repo.objects import TableState
from pyfactory.repo.proof import prove
from pyfactory.repo.redaction import overlay_of
from pyfactory.repo.repository import Repository
from pyfactory.shard.layout import raw_schema, schema_to_value, token_schema
from pyfactory.shard.manifest import Manifest, Part, extend_manifest, new_batch, write_manifest
from pyfactory.shard.reader import open_shard, open_side
from pyfactory.shard.writer import encode_shard, make_side, token_batch
from pyfactory.store.content import Objects

COLUMNS = (pa.field("n", pa.int64()), pa.field("kept", pa.bool_(), nullable=False))


def text_of(number: int) -> str:
    """The text of record `doc-<number>`."""
    return f"this is the text of number {number}, " * (1 + number % 3)


def raw_part(objects: Objects, numbers: Sequence[int], prefix: str = "doc") -> Part:
    """Store texts with two more columns and their ids, with origins."""
    texts = pa.array([text_of(number) for number in numbers], pa.large_string())
    columns = [texts, pa.array(numbers, pa.int64()), pa.array([True] * len(numbers))]
    shard = encode_shard(pa.RecordBatch.from_arrays(columns, schema=raw_schema(COLUMNS)))
    ids = pa.array([f"{prefix}-{number}" for number in numbers], pa.large_string())
    count = len(numbers)
    lines = np.arange(1, count + 1, dtype=np.int64)
    side = make_side(ids, [Digest("ab" * 32)], np.zeros(count, np.int32), lines)
    return Part(objects.put(memoryview(shard)), objects.put(memoryview(side)), count, 0, shard.size)


def token_part(objects: Objects, numbers: Sequence[int]) -> Part:
    """Store documents of 1 to 12 tokens, none of them 0, and their ids."""
    rows = [np.random.default_rng(number).integers(1, 250, 1 + number * 5 % 12) for number in numbers]
    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    shard = encode_shard(token_batch(np.concatenate([*rows, np.empty(0, np.int64)]).astype(np.uint16), offsets))
    side = make_side(pa.array([f"doc-{number}" for number in numbers], pa.large_string()))
    return Part(objects.put(memoryview(shard)), objects.put(memoryview(side)), len(rows), int(offsets[-1]), shard.size)


def table_of(
    objects: Objects, parts: Sequence[Part], *, tokens: bool = False, after: TableState | None = None
) -> TableState:
    """Return the state of a table of parts, behind those that it has."""
    if after is None:
        root = write_manifest(objects, new_batch(parts, 1))
    else:
        old = Manifest(objects, after.manifest)
        root = extend_manifest(objects, old.root, new_batch(parts, old.last_generation + 1))
    found = Manifest(objects, root)
    schema = token_schema(2) if tokens else raw_schema(COLUMNS)
    columns = tuple((name, kind, nullable) for name, kind, nullable in schema_to_value(schema))
    attributes = {"width": 2, "append": -1, "vocab_size": 250} if tokens else {}
    return TableState(root, columns, found.rows, found.tokens, found.nbytes, found.shards, {}, attributes)


def shared_repository(where: object, documents: int = 24, cuts: Sequence[int] = (7, 15)) -> Repository:
    """`raw`, `docs` (the even ones) and `corpus` with the same records; v1 has less; a commit was rolled back."""
    repo = Repository.create(where)  # type: ignore[arg-type]
    objects = repo.objects
    pieces = [range(low, high) for low, high in pairwise([0, *cuts, documents])]
    first = {
        "raw": table_of(objects, [raw_part(objects, piece) for piece in pieces[:-1]]),
        "docs": table_of(objects, [raw_part(objects, piece[::2]) for piece in pieces]),
        "corpus": table_of(objects, [token_part(objects, piece) for piece in pieces], tokens=True),
    }
    repo.commit(first, message="first")
    repo.tag("v1")
    more = table_of(objects, [raw_part(objects, pieces[-1])], after=first["raw"])
    repo.commit({"raw": more}, message="second")
    repo.branch("side")
    gone = table_of(objects, [raw_part(objects, [3, 200, 201])])
    repo.commit({"gone": gone}, "side", message="a table that only the past has")
    return repo


def rows_of(repo: Repository, table: str, ref: str) -> dict[str, object]:
    """The rows of a table as anybody reads them, by id, without the shards: text and columns, or tokens."""
    found: dict[str, object] = {}
    for part in repo.version(table, ref).parts():
        ids = open_side(repo.objects.map(part.side), "side", verify=True).ids.to_pylist()
        batch = open_shard(repo.objects.map(part.shard), "shard", verify=True)
        assert len(ids) == batch.num_rows == part.rows
        found |= dict(zip(ids, batch.to_pylist(), strict=True))
    return found


def delete_replaced(repo: Repository, *, marks: bool = True) -> int:
    """Delete what redactions have replaced and completion marks, as a sweep does; return how many objects."""
    old = overlay_of(repo, repo.view()).redirect
    for digest in old:
        repo.store.delete(repo.objects.raw.key(digest))
    for key, _ in [*repo.store.list("memo")] if marks else ():
        repo.store.delete(key)
    return len(old)


def messages(repo: Repository, *records: str) -> list[str]:
    """Why there is no proof."""
    return [failure.message for failure in prove(repo, records).failures]
