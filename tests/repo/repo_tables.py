"""Small real tables for the tests of repositories, and stores that fail in the ways that networks do."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from pyfactory.core.digest import Buffer, Digest
from pyfactory.errors import UnavailableError
from pyfactory.repo.objects import TableState
from pyfactory.shard.layout import raw_schema, schema_to_value, token_schema
from pyfactory.shard.manifest import Manifest, Part, new_batch, write_manifest
from pyfactory.shard.writer import encode_shard, make_side, token_batch
from pyfactory.store.content import Objects
from pyfactory.store.memory import MemoryStore


def raw_part(objects: Objects, texts: Sequence[str]) -> Part:
    """Store a shard of texts and its side."""
    batch = pa.record_batch([pa.array(texts, pa.large_string())], schema=raw_schema())
    return _part(objects, batch, len(texts), 0)


def token_part(objects: Objects, documents: Sequence[Sequence[int]]) -> Part:
    """Store a shard of 16-bit tokens and its side."""
    offsets = np.cumsum([0, *map(len, documents)], dtype=np.int64)
    values = np.array([token for document in documents for token in document], np.uint16)
    return _part(objects, token_batch(values, offsets), len(documents), len(values))


def _part(objects: Objects, batch: pa.RecordBatch, rows: int, tokens: int) -> Part:
    shard = encode_shard(batch)
    digest = objects.put(memoryview(shard))
    side = make_side(pa.array([f"{digest[:8]}-{row}" for row in range(rows)], pa.large_string()))
    return Part(digest, objects.put(memoryview(side)), rows, tokens, shard.size)


def state_of(objects: Objects, parts: Sequence[Part], width: int = 0, artifact: bytes = b"") -> TableState:
    """Store the manifest of parts and return the state of their table."""
    manifest = Manifest(objects, write_manifest(objects, new_batch(parts, 0)))
    schema = token_schema(width) if width else raw_schema()
    return TableState(
        manifest=manifest.root,
        schema=tuple((name, type_, nullable) for name, type_, nullable in schema_to_value(schema)),
        rows=manifest.rows,
        tokens=manifest.tokens,
        nbytes=manifest.nbytes,
        shards=manifest.shards,
        artifacts={"tokenizer": objects.put(artifact)} if artifact else {},
        attributes={"width": width, "append": -1, "vocab_size": 50257} if width else {},
    )


def raw_state(objects: Objects, label: str, rows: int = 2) -> TableState:
    """Store a table of one shard whose content depends on the label."""
    return state_of(objects, [raw_part(objects, [f"{label} {row}" for row in range(rows)])])


def made_by_import(table: str, sources: Digest, skipped_list: Digest | None = None) -> dict[str, Any]:
    """What a commit says that an import made."""
    counts = {"records": 2, "skipped": 0, "skipped_list": skipped_list}
    return {"kind": "import", "table": table, "sources": sources, "options": {}, "code": {"python": "3"}, **counts}


def made_by_job(output: str, job: Digest, *inputs: Digest) -> dict[str, Any]:
    """What a commit says that a job made from tables at other commits."""
    used = [{"asked": "v1", "commit": at, "resolved": "tag/v1", "table": "raw", "version": at} for at in inputs]
    step = {"dropped": {"empty": 1}, "rows_in": 3, "rows_out": 2, "step": "filter", "version": 1}
    return {"kind": "job", "output": output, "job": job, "inputs": used, "steps": [step], "code": {"python": "3"}}


class Treacherous(MemoryStore):
    """A store whose next creates of log entries go as a list says; when the list is empty it works.

    ok       it works
    lost     it lands, but the answer is a failure
    unsent   it does not land, and the answer is a failure
    refused  it does not land, and the answer is that the key is taken (S3's 409)
    late     the answer is a failure, and it lands just before the next create
    blind    it lands, the answer is a failure, and the next read fails too
    dark     it does not land, the answer is a failure, and the next read fails too
    """

    def __init__(self, faults: Sequence[str] = ()) -> None:
        super().__init__()
        self.faults = list(faults)
        self._late: list[tuple[str, bytes]] = []
        self._unreadable = 0

    def create(self, key: str, content: Buffer) -> bool:
        for late in self._late:
            super().create(*late)
        self._late.clear()
        if not key.startswith("log/"):
            return super().create(key, content)
        fault = self.faults.pop(0) if self.faults else "ok"
        if fault == "late":
            self._late.append((key, bytes(content)))
        elif fault in ("ok", "lost", "blind"):
            created = super().create(key, content)
            if fault == "ok":
                return created
        elif fault == "refused":
            return False
        self._unreadable = int(fault in ("blind", "dark"))
        raise UnavailableError(f"{key}: {fault}")

    def get(self, key: str) -> bytes:
        if key.startswith("log/") and self._unreadable:
            self._unreadable -= 1
            raise UnavailableError(f"{key} cannot be read")
        return super().get(key)
