"""Verification: reads everything that the log leads to, each object once, and compares it with its digest.

    log -> commits -> trees -> tables -> manifest nodes -> shards and their sides
                  `-> what made them (sources, job)    `-> artifacts

It goes on after a problem. Objects that tables share are read for the first; if one is damaged, a second look over the
manifests finds the other tables that need it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pyfactory.core.digest import NO_DIGEST, Digest, parse_digest
from pyfactory.core.progress import Progress
from pyfactory.errors import CorruptError, InvalidInputError, PyfactoryError
from pyfactory.repo.findings import Findings, Problem, VerifyReport
from pyfactory.repo.objects import TableState, load_commit, load_tree
from pyfactory.repo.oplog import OperationLog
from pyfactory.repo.verify_log import LogCheck
from pyfactory.shard.layout import TOKENS, is_side_schema, schema_to_value, token_width
from pyfactory.shard.manifest import Part
from pyfactory.shard.node import Node, parse_node, sort_key
from pyfactory.shard.reader import open_shard
from pyfactory.shard.tree import entries_of
from pyfactory.store.base import Store
from pyfactory.store.content import Objects

__all__ = ["Problem", "VerifyReport", "verify"]

_MADE_FROM = ("sources", "skipped_list", "job")  # fields of a commit's `made_by` that name objects


def verify(log: OperationLog, progress: Progress) -> VerifyReport:
    """Verify a repository.

    Args:
        log: Its log.
        progress: Told of each object read, as stage `verify`; nobody knows how many there will be.

    Returns:
        What was read, and every problem found. Memory grows with the number of shards, about 300 bytes each.
    """
    findings = Findings()
    chain = LogCheck(log.store, findings)
    chain.run()
    objects = _Read(log.store, progress)
    history = _History(objects, findings)
    history.run(chain.commits)
    tables = _Tables(objects, findings)
    for use in history.uses.values():
        tables.check(use)
    damaged = findings.names()
    for use in history.uses.values() if damaged else ():
        for name in _named_by(Objects(log.store), use.state.manifest, damaged):
            findings.attribute(name, use.tables)
    return VerifyReport(chain.operations, history.commits, objects.count, objects.nbytes, findings.all())


class _Read(Objects):
    """Objects that counts what it reads."""

    def __init__(self, store: Store, progress: Progress) -> None:
        super().__init__(store)
        self.count = 0
        self.nbytes = 0
        self._progress = progress

    def get(self, digest: Digest) -> bytes:
        content = super().get(digest)
        self.count += 1
        self.nbytes += len(content)
        self._progress("verify", self.count, None)
        return content


@dataclass
class _Use:
    """A state of a table, the first commit that holds it, and all names that it has."""

    state: TableState
    commit: Digest
    tables: set[str]


@dataclass
class _History:
    """Reads commits, trees, and the objects that these name directly."""

    objects: _Read
    findings: Findings
    commits: int = 0
    uses: dict[Digest, _Use] = field(default_factory=dict)
    _met: set[Digest] = field(default_factory=set)

    def run(self, named: Mapping[Digest, str]) -> None:
        waiting = [*named.items()]
        waiting.reverse()
        while waiting:
            digest, named_by = waiting.pop()
            if digest not in self._met:
                self._met.add(digest)
                with self.findings.noting(digest, where=digest):
                    commit = load_commit(self.objects, digest, named_by)
                    self.commits += 1
                    waiting += [(parent, f"commit {digest}") for parent in commit.parents]
                    self._made_by(commit.made_by or {}, digest)
                    self._tree(commit.tree, digest)
        for use in self.uses.values():
            for artifact in use.state.artifacts.values():
                self._object(artifact, use.tables, use.commit)

    def _tree(self, digest: Digest, commit: Digest) -> None:
        if digest in self._met:
            return
        self._met.add(digest)
        with self.findings.noting(digest, where=commit):
            for name, state in load_tree(self.objects, digest, f"commit {commit}").tables.items():
                self.uses.setdefault(state.digest, _Use(state, commit, set())).tables.add(name)

    def _made_by(self, made_by: Mapping[str, Any], commit: Digest) -> None:
        tables = {name for name in (made_by.get("table"), made_by.get("output")) if isinstance(name, str)}
        for name in _MADE_FROM:
            if made_by.get(name) is not None:
                try:
                    self._object(parse_digest(made_by[name]), tables, commit)
                except InvalidInputError:
                    self.findings.add("corrupt", commit, f"commit {commit}: {name!r} is not a digest", tables, commit)

    def _object(self, digest: Digest, tables: set[str], commit: Digest) -> None:
        if digest in self._met:
            if digest in self.findings.names():
                self.findings.attribute(digest, tables)
            return
        self._met.add(digest)
        with self.findings.noting(digest, tables, commit):
            self.objects.get(digest)


@dataclass(frozen=True, slots=True)
class _Facts:
    """What a parent says of a node, or the node of itself."""

    level: int
    totals: tuple[int, ...]
    first: bytes
    last: bytes


@dataclass
class _Tables:
    """Reads manifests, shards and sides, and compares the counts that they give."""

    objects: _Read
    findings: Findings
    _nodes: dict[Digest, _Facts | None] = field(default_factory=dict)
    _read: set[bytes] = field(default_factory=set)

    def check(self, use: _Use) -> None:
        """Check one state of a table."""
        state = use.state
        facts = self._node(state.manifest, use)
        if facts is not None and facts.totals != (said := (state.shards, state.rows, state.tokens, state.nbytes)):
            message = f"commit {use.commit} says {said} shards, rows, tokens, bytes; the manifest holds {facts.totals}"
            self.findings.add("count", state.manifest, message, use.tables, use.commit)

    def _node(self, digest: Digest, use: _Use) -> _Facts | None:
        if digest not in self._nodes:
            self._nodes[digest] = None
            with self.findings.noting(digest, use.tables, use.commit):
                node = parse_node(self.objects.get(digest), f"the manifest node {digest}")
                self._nodes[digest] = self._below(digest, node, use)
        return self._nodes[digest]

    def _below(self, digest: Digest, node: Node, use: _Use) -> _Facts:
        count = len(node.records)
        first = node.key(0) if count else b""
        last = node.key(-1) if count else b""
        if not node.level:
            for entry in entries_of(node):
                self._part(entry.part, use)
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

    def _wrong(self, digest: Digest, what: str, use: _Use) -> None:
        self.findings.add("count", digest, f"the manifest node {digest}: {what}", use.tables, use.commit)

    def _part(self, part: Part, use: _Use) -> None:
        if self._is_new(part.shard, part.rows, part.tokens, part.nbytes):
            with self.findings.noting(part.shard, use.tables, use.commit):
                self._shard(part, use)
        if part.side != NO_DIGEST and self._is_new(part.side, part.rows, 0, 0):
            with self.findings.noting(part.side, use.tables, use.commit):
                self._side(part)

    def _is_new(self, digest: Digest, *counts: int) -> bool:
        # With the counts: a second mention that says other numbers is looked at as well.
        key = bytes.fromhex(digest) + struct.pack("<3Q", *counts)
        new = key not in self._read
        self._read.add(key)
        return new

    def _shard(self, part: Part, use: _Use) -> None:
        what = f"shard {part.shard}"
        content = self.objects.get(part.shard)
        batch = open_shard(content, what, verify=True)
        tokens = 0 if token_width(batch.schema) is None else len(batch.column(TOKENS).flatten())
        found = (batch.num_rows, tokens, len(content))
        if found != (said := (part.rows, part.tokens, part.nbytes)):
            message = f"{what} holds {found} rows, tokens, bytes, but its manifest says {said}"
            self.findings.add("count", part.shard, message, use.tables, use.commit)
        columns = [list(column) for column in use.state.schema]
        if is_side_schema(batch.schema) or schema_to_value(batch.schema) != columns:
            raise CorruptError(f"{what} has other columns than its table")

    def _side(self, part: Part) -> None:
        what = f"side {part.side} of shard {part.shard}"
        batch = open_shard(self.objects.get(part.side), what, verify=True)
        if not is_side_schema(batch.schema) or batch.num_rows != part.rows:
            raise CorruptError(f"{what} does not name its {part.rows} rows")


def _named_by(objects: Objects, root: Digest, wanted: set[str]) -> Iterator[str]:
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
