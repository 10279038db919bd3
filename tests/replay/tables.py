"""Tables of given documents, for the tests of what streams deliver of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pyfactory.repo.objects import TableState
from pyfactory.repo.repository import Repository
from pyfactory.shard.layout import schema_to_value, token_schema
from pyfactory.shard.manifest import Manifest, Part, new_batch, write_manifest
from pyfactory.shard.writer import encode_shard, make_side, token_batch


def state_of(repo: Repository, documents: Sequence[tuple[str, NDArray[Any]]], cut: int = 7) -> TableState:
    """A table of documents, each a record id and tokens, in shards of `cut` rows."""
    parts = []
    for low in range(0, len(documents), cut):
        rows = documents[low : low + cut]
        offsets = np.cumsum([0, *(len(tokens) for _, tokens in rows)], dtype=np.int64)
        content = encode_shard(token_batch(np.concatenate([tokens for _, tokens in rows]).astype(np.uint16), offsets))
        side = repo.objects.put(make_side(pa.array([record for record, _ in rows], pa.large_string())))
        parts.append(Part(repo.objects.put(content), side, len(rows), int(offsets[-1]), content.size))
    found = Manifest(repo.objects, write_manifest(repo.objects, new_batch(parts, 1)))
    schema = tuple((name, kind, nullable) for name, kind, nullable in schema_to_value(token_schema(2)))
    counts = found.rows, found.tokens, found.nbytes, found.shards
    return TableState(found.root, schema, *counts, {}, {"width": 2, "append": -1, "vocab_size": 1000})
