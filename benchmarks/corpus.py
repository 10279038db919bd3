"""A token table of a given size, for benchmarks: documents of realistic lengths with random tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa

from pyfactory.repo.objects import TableState
from pyfactory.repo.repository import Repository
from pyfactory.repo.version import Version
from pyfactory.shard.layout import schema_to_value, token_schema
from pyfactory.shard.manifest import Manifest, Part, new_batch, write_manifest
from pyfactory.shard.writer import encode_shard, make_side, token_batch

MEAN_DOCUMENT = 460  # tokens; that of Python's PEPs and tldr pages under the GPT-2 vocabulary
SHARD_TOKENS = 32 << 20


def make(folder: Path, tokens: int, seed: int = 1) -> Version:
    """Return a version of about `tokens` uint16 tokens in shards of 64 MB."""
    repo = Repository.create(folder)
    rng = np.random.default_rng(seed)
    parts, left, number = [], tokens, 0
    while left > 0:
        size = min(left, SHARD_TOKENS)
        lengths = rng.exponential(MEAN_DOCUMENT, max(1, size // MEAN_DOCUMENT)).astype(np.int64) + 1
        offsets = np.concatenate([[0], np.cumsum(lengths)])
        values = rng.integers(0, 50257, offsets[-1], dtype=np.uint16)
        content = encode_shard(token_batch(values, offsets))
        ids = pa.array([f"{number}-{row}" for row in range(len(lengths))], pa.large_string())
        shard, side = repo.objects.put(content), repo.objects.put(make_side(ids))
        parts.append(Part(shard, side, len(lengths), int(offsets[-1]), content.size))
        left, number = left - int(offsets[-1]), number + 1
    root = write_manifest(repo.objects, new_batch(parts, 1))
    held = Manifest(repo.objects, root)
    schema = tuple((name, kind, nullable) for name, kind, nullable in schema_to_value(token_schema(2)))
    attributes = {"width": 2, "append": -1, "vocab_size": 50257}
    state = TableState(root, schema, held.rows, held.tokens, held.nbytes, held.shards, {}, attributes)
    repo.commit({"corpus": state}, message="benchmark")
    return repo.version("corpus")
