"""Reading a repository folder, written from docs/format.md alone."""

from __future__ import annotations

import json
import struct
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from functools import cache
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from delivery import blake3, canonical

Piece = tuple[int, int]
"""[first, stop) of a table's tokens."""


class Repository:
    """A repository folder: its refs, its objects, and what its redactions put in place of shards."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.refs: dict[str, str | None] = {}
        for path in sorted((folder / "log").iterdir()):
            for change in json.loads(path.read_bytes())["changes"] if path.name.isdigit() else ():
                self.refs[change["ref"]] = change["new"]
        self.redactions: list[dict[str, Any]] = []  # the oldest first
        digest = self.refs.get("redaction/last")
        while digest:
            self.redactions.insert(0, self.value(digest))
            digest = self.redactions[0]["previous"]

    def path(self, digest: str) -> Path:
        return self.folder / "objects" / digest[:2] / digest[2:]

    def value(self, digest: str) -> dict[str, Any]:
        return json.loads(self.path(digest).read_bytes())

    def commit(self, ref: str) -> dict[str, Any]:
        """The commit that a branch, a tag or its own digest names."""
        found = (self.refs[name] for name in (ref, f"branch/{ref}", f"tag/{ref}") if self.refs.get(name))
        return self.value(next(found, ref))

    def replaced(self, digest: str, what: str) -> str:
        """What is read in place of a shard ("shards") or of a side shard ("sides")."""
        for redaction in self.redactions:
            if digest in redaction[what]:
                new = redaction[what][digest]
                digest = new["shard"] if what == "shards" else new
        return digest

    def masked(self, digest: str) -> list[list[Piece]]:
        """The ranges of a shard's tokens that each redaction masks, the oldest redaction first."""
        found = []
        for redaction in self.redactions:
            entry = redaction["shards"].get(digest)
            found.append([(first, stop) for first, stop in entry["masked"]] if entry else [])
            digest = entry["shard"] if entry else digest
        return found

    def leaves(self, digest: str) -> Iterator[tuple[str, str, int]]:
        """(shard, side, tokens) of the shards below a manifest node."""
        node = self.path(digest).read_bytes()
        magic, level, count = struct.unpack_from("<8sII", node)
        if magic != b"PFNODE01":
            raise ValueError(f"{digest}: not a manifest node")
        record = struct.Struct("<Q32sQ32sQQQQ" if level else "<Q32sQ32s32sQQQ")
        for at in range(count):
            fields = record.unpack_from(node, 16 + at * record.size)
            if level:
                yield from self.leaves(fields[3].hex())
            else:
                yield fields[3].hex(), fields[4].hex(), fields[6]

    def batch(self, digest: str) -> pa.RecordBatch:
        return pa.ipc.open_file(pa.memory_map(str(self.path(digest)))).get_batch(0)


class Table:
    """A table of tokens at a commit: tokens are counted through all its shards."""

    def __init__(self, repo: Repository, name: str, ref: str) -> None:
        self.repo, self.name = repo, name
        self.state = repo.value(repo.commit(ref)["tree"])["tables"][name]
        self.version = blake3(canonical(self.state))
        self.shards = list(repo.leaves(self.state["manifest"]))
        self.starts = [0, *accumulate(tokens for _, _, tokens in self.shards)]
        self.tokens = self.starts[-1]
        self.shard = cache(self.read)

    def read(self, ordinal: int) -> tuple[np.ndarray, np.ndarray, list[int]]:
        """The tokens of a shard, whether a redaction masks them, and the bounds of its documents."""
        column = self.repo.batch(self.repo.replaced(self.shards[ordinal][0], "shards")).column("tokens")
        tokens = column.flatten().to_numpy(zero_copy_only=False)
        masked = np.zeros(len(tokens), bool)
        for ranges in self.repo.masked(self.shards[ordinal][0]):
            for first, stop in ranges:
                masked[first:stop] = True
        return tokens, masked, [0, *accumulate(column.value_lengths().to_pylist())]

    def documents(self) -> list[tuple[str, int, int]]:
        """(record id, first token, one past the last) of all documents."""
        found = []
        for ordinal, (_, side, _) in enumerate(self.shards):
            ids = self.repo.batch(self.repo.replaced(side, "sides")).column("id").to_pylist()
            bounds = [self.starts[ordinal] + bound for bound in self.shard(ordinal)[2]]
            found += list(zip(ids, bounds[:-1], bounds[1:], strict=True))
        return found

    def span(self, start: int, stop: int) -> tuple[list[int], list[bool], list[bool]]:
        """Tokens [start, stop), which of them begin a document, and which of them a redaction masks."""
        t: list[int] = []
        begins: list[bool] = []
        hidden: list[bool] = []
        ordinal = bisect_right(self.starts, start) - 1
        while start < stop:
            base, end = self.starts[ordinal], min(stop, self.starts[ordinal + 1])
            tokens, masked, bounds = self.shard(ordinal)
            t += tokens[start - base : end - base].tolist()
            begins += np.isin(np.arange(start - base, end - base), bounds).tolist()
            hidden += masked[start - base : end - base].tolist()
            start, ordinal = end, ordinal + 1
        return t, begins, hidden


def packing_table(table: Table, method: str, length: int) -> tuple[str, list[list[Piece]]]:
    """The digest of the packing table that a job made for a table, and the pieces of each sample."""
    digest = table.state["artifacts"][f"packing/{method}/{length}"]
    samples: list[list[Piece]] = []
    base = 0
    for entry in table.repo.value(digest)["ranges"]:
        content = table.repo.path(entry[0]).read_bytes()
        magic, made_for, tokens, s, p = struct.unpack_from("<8sQQQQ", content)
        if magic != b"PFPACK01" or made_for != length:
            raise ValueError(f"{entry[0]}: not a range of a packing table for length {length}")
        first = np.frombuffer(content, "<u8", p, 40).tolist()
        offsets = np.frombuffer(content, "<u8", s + 1, 40 + 8 * p).tolist()
        count = np.frombuffer(content, "<u4", p, 40 + 8 * p + 8 * (s + 1)).tolist()
        pieces = [(base + at, base + at + n) for at, n in zip(first, count, strict=True)]
        samples += [pieces[low:high] for low, high in pairwise(offsets)]
        base += tokens
    return digest, samples


def unmatched(documents: list[tuple[str, int, int]], others: list[tuple[str, int, int]]) -> list[Piece]:
    """Section 7: the token ranges of the documents that the others do not have, in order."""
    there = Counter((record, stop - first) for record, first, stop in others)
    found = []
    for record, first, stop in documents:
        there[record, stop - first] -= 1
        if there[record, stop - first] < 0 and stop > first:
            found.append((first, stop))
    return found


def cut(ranges: list[Piece], start: int, stop: int) -> list[Piece]:
    """Of the tokens in ranges, one after the other, those from number `start` to `stop`, again as ranges."""
    found, base = [], 0
    for first, end in ranges:
        low, high = max(start - base, 0), min(stop - base, end - first)
        if low < high:
            found.append((first + low, first + high))
        base += end - first
    return found
