"""Verification of tables: manifests here and now, their shards and sides on other threads."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

import pyarrow as pa

from pyfactory.core.digest import NO_DIGEST, Digest
from pyfactory.errors import CorruptError, NotFoundError, PyfactoryError
from pyfactory.repo.findings import Findings
from pyfactory.repo.scrub import Scrub
from pyfactory.repo.verify_history import Counting, Use
from pyfactory.shard.layout import TOKENS, is_side_schema, schema_to_value, token_width
from pyfactory.shard.manifest import Part
from pyfactory.shard.node import Node, parse_node, sort_key
from pyfactory.shard.reader import open_shard
from pyfactory.shard.tree import entries_of
from pyfactory.store.content import Objects

__all__ = ["Tables", "named_by"]

_UNREAD = -1


@dataclass(frozen=True, slots=True)
class _Facts:
    """What a parent says of a node, or the node of itself."""

    level: int
    totals: tuple[int, ...]
    first: bytes
    last: bytes


@dataclass
class Tables:
    """Reads manifests, shards and sides, and compares the counts that they give.

    Attributes:
        objects: Where nodes are.
        findings: Takes the problems.
        scrub: Reads shards and sides.
        redirect: What stands for shards and sides that may be gone.
    """

    objects: Counting
    findings: Findings
    scrub: Scrub
    redirect: Mapping[Digest, Digest]
    _nodes: dict[Digest, _Facts | None] = field(default_factory=dict)

    def check(self, use: Use) -> None:
        """Check one state of a table."""
        state = use.state
        facts = self._node(state.manifest, use)
        if facts is not None and facts.totals != (said := (state.shards, state.rows, state.tokens, state.nbytes)):
            message = f"commit {use.commit} says {said} shards, rows, tokens, bytes; the manifest holds {facts.totals}"
            self.findings.add("count", state.manifest, message, use.tables, use.commit)

    def _node(self, digest: Digest, use: Use) -> _Facts | None:
        if digest not in self._nodes:
            self._nodes[digest] = None
            with self.findings.noting(digest, use.tables, use.commit, required=use.required):
                node = parse_node(self.objects.get(digest), f"the manifest node {digest}")
                self._nodes[digest] = self._below(digest, node, use)
        return self._nodes[digest]

    def _below(self, digest: Digest, node: Node, use: Use) -> _Facts:
        count = len(node.records)
        first = node.key(0) if count else b""
        last = node.key(-1) if count else b""
        if not node.level:
            columns = json.dumps([list(column) for column in use.state.schema])
            for entry in entries_of(node):
                self._part(entry.part, use, columns)
            return _Facts(0, node.totals, first, last)
        before = b""
        for index in range(count):
            facts = self._node(node.child(index), use)
            if facts is None:
                before = b""
                continue
            said = tuple((node.starts[:, index + 1] - node.starts[:, index]).tolist())
            if (facts.level, facts.totals, facts.first) != (node.level - 1, said, node.key(index)):
                self._wrong(digest, f"child {index} has another level, first key or total than is said", use)
            if before and sort_key(before) >= sort_key(facts.first):
                self._wrong(digest, f"child {index} does not come after the one before it", use)
            before = last = facts.last
        return _Facts(node.level, node.totals, first, last)

    def _wrong(self, digest: Digest, what: str, use: Use) -> None:
        self.findings.add("count", digest, f"the manifest node {digest}: {what}", use.tables, use.commit)

    def _part(self, part: Part, use: Use, columns: str) -> None:
        said = (part.rows, part.tokens, part.nbytes)
        self._shard(part.shard, part.shard in self.redirect, said, use, columns)
        if part.shard in self.redirect:
            # The tokens of what is forgotten are masked or empty, so bytes differ; rows and tokens do not.
            self._shard(self.redirect[part.shard], False, said[:2], use, columns)
        for side, gone in _sides(part, self.redirect):
            named = _Named(Objects(self.objects.store), use, side, f"side {side} of shard {part.shard}", gone)
            self.scrub.submit(side, (part.rows,), "", partial(named.check, partial(_compare_side, part)))

    def _shard(self, digest: Digest, gone: bool, said: tuple[int, ...], use: Use, columns: str) -> None:
        named = _Named(Objects(self.objects.store), use, digest, f"shard {digest}", gone)
        self.scrub.submit(digest, said, columns, partial(named.check, partial(_compare_shard, said)))


def named_by(objects: Objects, root: Digest, wanted: set[str]) -> Iterator[str]:
    """Yield the wanted objects that a manifest names, reading no shards; nodes that cannot be read name nothing."""
    waiting = [root]
    while waiting:
        digest = waiting.pop()
        if digest in wanted:
            yield digest
        try:
            node = parse_node(objects.get(digest), digest)
        except PyfactoryError:
            continue
        if node.level:
            waiting += [node.child(index) for index in range(len(node.records))]
        else:
            for entry in entries_of(node):
                yield from {entry.part.shard, entry.part.side} & wanted


_Compare = Callable[["_Named", pa.RecordBatch, int, Findings], None]
"""Compares rows, and the bytes that they take, with what is said of them; CorruptError if they are something else."""


@dataclass(frozen=True, slots=True)
class _Named:
    """An object, who names it and how errors do; `gone`: it may be missing, since a redaction replaces it."""

    objects: Objects
    use: Use
    digest: Digest
    what: str
    gone: bool

    def check(self, compare: _Compare, findings: Findings) -> int | None:
        """Compare an object with its digest and what is said of it; return its bytes, None if it may be gone and is."""
        use, nbytes = self.use, _UNREAD
        with findings.noting(self.digest, use.tables, use.commit, required=use.required):
            try:
                content = self.objects.get(self.digest)
            except NotFoundError:
                if self.gone:
                    return None
                raise
            nbytes = len(content)
            compare(self, open_shard(content, self.what, verify=True), nbytes, findings)
        return nbytes


def _sides(part: Part, redirect: Mapping[Digest, Digest]) -> list[tuple[Digest, bool]]:
    if part.side == NO_DIGEST:
        return []
    if part.side in redirect:
        return [(part.side, True), (redirect[part.side], False)]
    return [(part.side, False)]


def _compare_shard(
    said: tuple[int, ...], named: _Named, batch: pa.RecordBatch, nbytes: int, findings: Findings
) -> None:
    """Compare a shard with its counts (rows, tokens and perhaps bytes) and the columns of its table."""
    use = named.use
    tokens = 0 if token_width(batch.schema) is None else len(batch.column(TOKENS).flatten())
    found = (batch.num_rows, tokens, nbytes)[: len(said)]
    if found != said:
        message = f"{named.what} holds {found} rows, tokens, bytes, but its manifest says {said}"
        findings.add("count", named.digest, message, use.tables, use.commit)
    columns = [list(column) for column in use.state.schema]
    if is_side_schema(batch.schema) or schema_to_value(batch.schema) != columns:
        raise CorruptError(f"{named.what} has other columns than its table")


def _compare_side(part: Part, named: _Named, batch: pa.RecordBatch, nbytes: int, findings: Findings) -> None:
    """Compare a side with the number of rows."""
    if not is_side_schema(batch.schema) or batch.num_rows != part.rows:
        raise CorruptError(f"{named.what} does not name its {part.rows} rows")
