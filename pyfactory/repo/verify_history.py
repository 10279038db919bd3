"""Verification of commits, trees, and the objects that these name directly."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from pyfactory.core.digest import Digest, parse_digest
from pyfactory.errors import InvalidInputError
from pyfactory.repo.findings import Findings
from pyfactory.repo.objects import TableState, load_commit, load_tree
from pyfactory.repo.scrub import Tally
from pyfactory.shard.packing_format import packing_artifacts
from pyfactory.shard.packing_table import load_fitting, load_range
from pyfactory.store.base import Store
from pyfactory.store.content import Objects

__all__ = ["Counting", "History", "Use"]

_MADE_FROM = ("sources", "skipped_list", "job")  # fields of a commit's `made_by` that name objects


class Counting(Objects):
    """Objects that counts what it reads; without redactions, which `verify` looks at itself."""

    def __init__(self, store: Store, tally: Tally) -> None:
        super().__init__(store)
        self._tally = tally

    def get(self, digest: Digest) -> bytes:
        """Return the bytes of an object, verified."""
        content = super().get(digest)
        self._tally.read(len(content))
        return content


@dataclass
class Use:
    """A state of a table, the first commit that holds it, and all names that it has.

    Attributes:
        state: The state.
        commit: The commit.
        tables: The names.
        required: Whether a ref leads to it; else a sweep may have taken it, or the half of it.
    """

    state: TableState
    commit: Digest
    tables: set[str]
    required: bool


@dataclass
class History:
    """Reads commits, trees, and the objects that these name directly.

    Attributes:
        objects: Where they are.
        findings: Takes the problems.
        commits: Commits read.
        uses: The states of tables, by digest.
    """

    objects: Counting
    findings: Findings
    commits: int = 0
    uses: dict[Digest, Use] = field(default_factory=dict)
    _met: set[Digest] = field(default_factory=set)
    _inputs: dict[Digest, str] = field(default_factory=dict)

    def run(self, named: Mapping[Digest, str], perhaps: Mapping[Digest, str]) -> None:
        """Read commits and those before them.

        Args:
            named: Commits that must be there, with what names them.
            perhaps: Commits that may be gone; those that jobs had read join them.
        """
        self._walk(named.items(), required=True)
        self._walk(perhaps.items(), required=False)
        while self._inputs:
            inputs, self._inputs = self._inputs, {}
            self._walk(inputs.items(), required=False)
        for use in self.uses.values():
            for artifact in use.state.artifacts.values():
                self._object(artifact, use.tables, use.commit, required=use.required)
            self._packings(use)

    def _walk(self, named: Iterable[tuple[Digest, str]], *, required: bool) -> None:
        waiting = [*named]
        waiting.reverse()
        while waiting:
            digest, named_by = waiting.pop()
            if digest not in self._met:
                self._met.add(digest)
                with self.findings.noting(digest, where=digest, required=required):
                    commit = load_commit(self.objects, digest, named_by)
                    self.commits += 1
                    waiting += [(parent, f"commit {digest}") for parent in commit.parents]
                    self._made_by(commit.made_by or {}, digest, required)
                    self._tree(commit.tree, digest, required)

    def _tree(self, digest: Digest, commit: Digest, required: bool) -> None:
        if digest in self._met:
            return
        self._met.add(digest)
        with self.findings.noting(digest, where=commit, required=required):
            for name, state in load_tree(self.objects, digest, f"commit {commit}").tables.items():
                self.uses.setdefault(state.digest, Use(state, commit, set(), required)).tables.add(name)

    def _made_by(self, made_by: Mapping[str, Any], commit: Digest, required: bool) -> None:
        tables = {name for name in (made_by.get("table"), made_by.get("output")) if isinstance(name, str)}
        for name in _MADE_FROM:
            if made_by.get(name) is not None:
                try:
                    self._object(parse_digest(made_by[name]), tables, commit, required=required)
                except InvalidInputError:
                    self.findings.add("corrupt", commit, f"commit {commit}: {name!r} is not a digest", tables, commit)
        lists = [made_by.get(name) for name in ("inputs", "took")]
        for used in chain.from_iterable(each for each in lists if isinstance(each, list)):
            named = used.get("commit") if isinstance(used, dict) else None
            try:
                self._inputs.setdefault(parse_digest(named), f"commit {commit}")
            except InvalidInputError:
                self.findings.add("corrupt", commit, f"commit {commit}: an input has no commit", tables, commit)

    def _packings(self, use: Use) -> None:
        """Read the packing tables of a state of a table; what is missing or damaged of them is found as an artifact."""
        counts = use.state.rows, use.state.tokens
        for name, digest in packing_artifacts(use.state.artifacts).items():
            if digest in self.findings.names():
                continue
            with self.findings.noting(digest, use.tables, use.commit, required=use.required):
                index = load_fitting(self.objects, digest, name, counts)
                for number, entry in enumerate(index.ranges):
                    if entry.digest not in self._met:
                        self._met.add(entry.digest)
                        what = f"range {number} ({entry.digest}) of the packing table {digest}"
                        with self.findings.noting(entry.digest, use.tables, use.commit, required=use.required):
                            load_range(self.objects.get(entry.digest), entry, index.length, what)

    def _object(self, digest: Digest, tables: set[str], commit: Digest, *, required: bool) -> None:
        if digest in self._met:
            if digest in self.findings.names():
                self.findings.attribute(digest, tables)
            return
        self._met.add(digest)
        with self.findings.noting(digest, tables, commit, required=required):
            self.objects.get(digest)
