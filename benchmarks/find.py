"""How long does it take to find a record in a stream, warm, on a local disk?

    python benchmarks/find.py [--rows 1000]

Tables of 10^2 and 10^4 shards in one batch, and of 10^3 batches of one shard. `find` goes from the id to all positions
of the first epoch: the record index, the side and the offsets of one shard, and the inverse of the order; each look-up
is of another record. *scan* is what it replaces: a look into every side. Shards share one content object.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.machine import describe
from pyfactory.core.digest import Buffer, Digest, digest_of
from pyfactory.repo.objects import TableState
from pyfactory.repo.record_index import rows_of_record
from pyfactory.repo.records import keys_of
from pyfactory.repo.repository import Repository
from pyfactory.shard.layout import schema_to_value, token_schema
from pyfactory.shard.manifest import Entry, Manifest, Part, new_batch, write_manifest
from pyfactory.shard.reader import open_side
from pyfactory.shard.writer import encode_shard, make_side, token_batch
from pyfactory.stream.find import find
from pyfactory.stream.stream import Stream

TABLES = ((100, 1), (10_000, 1), (1_000, 1_000))
LOOKS = 500
TOKENS = 40  # of a document


def _put(repo: Repository, content: Buffer) -> Digest:
    digest = digest_of(content)
    repo.store.replace(repo.objects.key(digest), content, durable=False)
    return digest


def make(folder: Path, shards: int, batches: int, rows: int) -> Repository:
    """Return a repository with a table of shards, in batches of equal size; row r of shard s is `doc-s-r`."""
    repo = Repository.create(folder)
    values = np.random.default_rng(0).integers(0, 1000, rows * TOKENS).astype(np.uint16)
    content = encode_shard(token_batch(values, np.arange(rows + 1) * TOKENS))
    shard = _put(repo, content)
    entries: list[Entry] = []
    for batch in range(batches):
        parts = []
        for number in range(batch * shards // batches, (batch + 1) * shards // batches):
            ids = pa.array([f"doc-{number}-{row}" for row in range(rows)], pa.large_string())
            parts.append(Part(shard, _put(repo, memoryview(make_side(ids))), rows, len(values), content.size))
        entries += new_batch(parts, batch + 1)
    manifest = Manifest(repo.objects, write_manifest(repo.objects, entries))
    schema = tuple((name, kind, nullable) for name, kind, nullable in schema_to_value(token_schema(2)))
    attributes = {"width": 2, "append": -1, "vocab_size": 1000}
    counts = manifest.rows, manifest.tokens, manifest.nbytes, manifest.shards
    repo.commit({"corpus": TableState(manifest.root, schema, *counts, {}, attributes)}, message="corpus")
    return repo


def measure(shards: int, batches: int, rows: int) -> str:
    """Return a line of the table."""
    with tempfile.TemporaryDirectory() as folder:
        repo = make(Path(folder) / "repository", shards, batches, rows)
        begin = time.perf_counter()
        segments = repo.version("corpus").record_index.build()
        built = time.perf_counter() - begin
        nbytes = sum(size for _, size in repo.store.list("index"))
        stream = Stream(repo.version("corpus"), seed=7, sequence_length=1024, block_size=64, window=64)
        records = [f"doc-{at * 7919 % shards}-{at * 104_729 % rows}" for at in range(LOOKS)]
        first = _seconds(lambda: find(stream, records[0]))
        taken = sorted(_seconds(lambda record=record: find(stream, record)) for record in records)
        rows_alone = statistics.median(
            _seconds(lambda r=record: rows_of_record(stream.version, r)) for record in records
        )
        key = keys_of(records[:1])
        sides = [part.side for part in stream.version.parts()]
        scan = _seconds(lambda: [open_side(repo.objects.map(side), "side").rows_of(key) for side in sides])
    times = f"{statistics.median(taken) * 1e6:.0f} | {taken[len(taken) * 99 // 100] * 1e6:.0f} | {rows_alone * 1e6:.0f}"
    index = f"{segments} | {nbytes / 1e6:.1f} | {built:.2f} | {first * 1e3:.1f}"
    return f"| {shards:,} | {batches:,} | {index} | {times} | {scan * 1e3:.0f} |"


def _seconds(action: object) -> float:
    begin = time.perf_counter()
    assert callable(action)
    action()
    return time.perf_counter() - begin


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1000, help="rows of a shard")
    rows = parser.parse_args().rows
    print(describe())
    print(f"{rows:,} rows in a shard")
    print(
        "| shards | batches | segments | index, MB | build, s | first, ms | find, us | p99, us | rows, us | scan, ms |"
    )
    print("|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|")
    for shards, batches in TABLES:
        print(measure(shards, batches, rows), flush=True)


if __name__ == "__main__":
    main()
