"""Verification of tables: manifests here and now, their shards and sides on other threads."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial

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
        raw = Objects(self.objects.store)
        said = (part.rows, part.tokens, part.nbytes)
        named = _Named(raw, use, part.shard, part.shard in self.redirect)
        self.scrub.submit(part.shard, said, columns, partial(_check_shard, named, said))
        if part.shard in self.redirect:
            # The tokens of what is forgotten are masked or empty, so bytes differ; rows and tokens do not.
            instead = _Named(raw, use, self.redirect[part.shard], False)
            self.scrub.submit(instead.digest, said[:2], columns, partial(_check_shard, instead, said[:2]))
        for side, gone in _sides(part, self.redirect):
            named = _Named(raw, use, side, gone)
            self.scrub.submit(side, (part.rows,), "", partial(_check_side, named, part))


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


@dataclass(frozen=True, slots=True)
class _Named:
    """An object and who names it; `gone`: it may be missing, since a redaction replaces it."""

    objects: Objects
    use: Use
    digest: Digest
    gone: bool

    def get(self) -> bytes | None:
        try:
            return self.objects.get(self.digest)
        except NotFoundError:
            if self.gone:
                return None
            raise


def _sides(part: Part, redirect: Mapping[Digest, Digest]) -> list[tuple[Digest, bool]]:
    if part.side == NO_DIGEST:
        return []
    if part.side in redirect:
        return [(part.side, True), (redirect[part.side], False)]
    return [(part.side, False)]


def _check_shard(named: _Named, said: tuple[int, ...], findings: Findings) -> int | None:
    """Compare a shard with its digest, its counts (rows, tokens and perhaps bytes) and the columns of its table."""
    use, digest, nbytes = named.use, named.digest, _UNREAD
    what = f"shard {digest}"
    with findings.noting(digest, use.tables, use.commit, required=use.required):
        content = named.get()
        if content is None:
            return None
        nbytes = len(content)
        batch = open_shard(content, what, verify=True)
        tokens = 0 if token_width(batch.schema) is None else len(batch.column(TOKENS).flatten())
        found = (batch.num_rows, tokens, nbytes)[: len(said)]
        if found != said:
            message = f"{what} holds {found} rows, tokens, bytes, but its manifest says {said}"
            findings.add("count", digest, message, use.tables, use.commit)
        columns = [list(column) for column in use.state.schema]
        if is_side_schema(batch.schema) or schema_to_value(batch.schema) != columns:
            raise CorruptError(f"{what} has other columns than its table")
    return nbytes


def _check_side(named: _Named, part: Part, findings: Findings) -> int | None:
    """Compare a side with its digest and the number of rows."""
    use, digest, nbytes = named.use, named.digest, _UNREAD
    what = f"side {digest} of shard {part.shard}"
    with findings.noting(digest, use.tables, use.commit, required=use.required):
        content = named.get()
        if content is None:
            return None
        nbytes = len(content)
        batch = open_shard(content, what, verify=True)
        if not is_side_schema(batch.schema) or batch.num_rows != part.rows:
            raise CorruptError(f"{what} does not name its {part.rows} rows")
    return nbytes
