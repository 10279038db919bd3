"""Plain models for the tests of streams: tables whose tokens name themselves, and phases dealt out one by one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from pyfactory.order.permutation import SourceOrder
from pyfactory.repo.objects import TableState
from pyfactory.repo.repository import Repository
from pyfactory.shard.layout import schema_to_value, token_schema
from pyfactory.shard.manifest import Manifest, Part, extend_manifest, new_batch, write_manifest
from pyfactory.shard.writer import encode_shard, make_side, token_batch

WIDTH = 4
Document = tuple[str, Sequence[int]]


def part_of(repo: Repository, documents: Sequence[Document]) -> Part:
    """Store a shard of documents: ids and tokens."""
    offsets = np.cumsum([0, *(len(tokens) for _, tokens in documents)], dtype=np.int64)
    values = np.array([token for _, tokens in documents for token in tokens], np.uint32)
    content = encode_shard(token_batch(values, offsets))
    ids = pa.array([name for name, _ in documents], pa.large_string())
    shard, side = repo.objects.put(content), repo.objects.put(make_side(ids))
    return Part(shard, side, len(documents), len(values), content.size)


def commit_tokens(
    repo: Repository,
    table: str,
    shards: Sequence[Sequence[Document]],
    *,
    append: bool = False,
    tokenizer: bytes = b"",
    branch: str = "main",
) -> None:
    """Commit a table of documents, a list per shard, or append to it."""
    parts = [part_of(repo, documents) for documents in shards]
    if append:
        before = Manifest(repo.objects, repo.tables(branch)[table].manifest)
        root = extend_manifest(repo.objects, before.root, new_batch(parts, before.last_generation + 1))
    else:
        root = write_manifest(repo.objects, new_batch(parts, 1))
    manifest = Manifest(repo.objects, root)
    schema = tuple((name, kind, nullable) for name, kind, nullable in schema_to_value(token_schema(WIDTH)))
    attributes = {"width": WIDTH, "append": -1, "vocab_size": 2**31}
    counts = (manifest.rows, manifest.tokens, manifest.nbytes, manifest.shards)
    artifacts = {"tokenizer": repo.objects.put(tokenizer)} if tokenizer else {}
    state = TableState(root, schema, *counts, artifacts, attributes)
    repo.commit({table: state}, branch=branch, message=f"tokens of {table}")


def named_documents(name: str, lengths: Sequence[int], first: int) -> list[Document]:
    """Return documents of these lengths whose tokens count up from `first`: each token says where it is from."""
    bounds = np.cumsum([first, *lengths])
    return [(f"{name}-{i}", range(bounds[i], bounds[i + 1])) for i in range(len(lengths))]


def dealt(weights: Sequence[int]) -> Iterator[int]:
    """Yield the source of each position for ever, by the tree of the specification, node by node."""
    counts: dict[tuple[int, int], int] = {}
    while True:
        low, high = 0, len(weights)
        while high - low > 1:
            middle = low + (high - low) // 2
            w, a = sum(weights[low:high]), sum(weights[low:middle])
            seen = counts.get((low, high), 0)
            counts[low, high] = seen + 1
            left = ((seen + 1) * a + w // 2) // w > (seen * a + w // 2) // w
            low, high = (low, middle) if left else (middle, high)
        yield low


@dataclass
class PlainSource:
    """A source as the model sees it: its tokens in table order, and how far it has come."""

    name: str
    tokens: np.ndarray
    weight: int = 1
    cap: int | None = None
    index: int = 0


@dataclass
class PlainStream:
    """A stream of concatenated tables, dealt out one position after the other."""

    seed: int
    length: int
    shape: Mapping[str, int] = field(default_factory=dict)

    def samples(self, source: PlainSource) -> int:
        """Samples of an epoch."""
        return (len(source.tokens) - 1) // self.length

    def take(self, source: PlainSource) -> np.ndarray:
        """Return the next sample of a source."""
        order = SourceOrder(self.samples(source), self.seed, source.name, **self.shape)
        at = int(order.samples_at(np.array([source.index]))[0]) * self.length
        source.index += 1
        return source.tokens[at : at + self.length]

    def phase(self, sources: Sequence[PlainSource], count: int) -> list[np.ndarray]:
        """Deliver `count` positions of sources with weights, some of which may end on the way."""
        rows: list[np.ndarray] = []
        live = sorted(sources, key=lambda source: source.name.encode())
        while live and len(rows) < count:
            live = [source for source in live if source.cap is None or source.index < source.cap]
            for which in dealt([source.weight for source in live]) if live else ():
                if len(rows) == count:
                    break
                rows.append(self.take(live[which]))
                if live[which].cap is not None and live[which].index >= live[which].cap:
                    break
        return rows
