"""Small repositories of tokens, made without the job engine: for tests of what stands above it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pyarrow as pa

from pyfactory.repo.objects import TableState
from pyfactory.repo.repository import Repository
from pyfactory.shard.layout import schema_to_value, token_schema
from pyfactory.shard.manifest import Manifest, Part, new_batch, write_manifest
from pyfactory.shard.writer import encode_shard, make_side, token_batch
from pyfactory.store.memory import MemoryStore
from pyfactory.stream.stream import Stream


def documents_of(lengths: Sequence[int], seed: int = 0, vocabulary: int = 250) -> list[np.ndarray]:
    """Random documents of given lengths."""
    rng = np.random.default_rng(seed)
    return [rng.integers(0, vocabulary, length) for length in lengths]


def token_repository(
    where: object, documents: Sequence[np.ndarray], cuts: Sequence[int] = (), width: int = 2
) -> Repository:
    """A repository with the table `corpus`, tagged v1: documents, cut into shards before the numbers in `cuts`."""
    repo = Repository.create(where)  # type: ignore[arg-type]
    bounds = [0, *cuts, len(documents)]
    parts = []
    for low, high in pairwise(bounds):
        rows = documents[low:high]
        offsets = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
        values = np.concatenate([*rows, np.empty(0, np.int64)]).astype(f"u{width}")
        content = encode_shard(token_batch(values, offsets))
        ids = pa.array([f"doc-{i}" for i in range(low, high)], pa.large_string())
        shard, side = repo.objects.put(content), repo.objects.put(make_side(ids))
        parts.append(Part(shard, side, len(rows), len(values), content.size))
    root = write_manifest(repo.objects, new_batch(parts, 1))
    manifest = Manifest(repo.objects, root)
    schema = tuple((name, kind, nullable) for name, kind, nullable in schema_to_value(token_schema(width)))
    attributes = {"width": width, "append": -1, "vocab_size": 256}
    state = TableState(root, schema, manifest.rows, manifest.tokens, manifest.nbytes, manifest.shards, {}, attributes)
    repo.commit({"corpus": state}, message="tokens")
    repo.tag("v1")
    return repo


def memory_stream(documents: Sequence[np.ndarray], cuts: Sequence[int] = (), width: int = 2, **recipe: int) -> Stream:
    """A stream over such a repository in memory."""
    repo = token_repository(MemoryStore(), documents, cuts, width)
    return Stream(repo.version("corpus", "v1"), **recipe)
