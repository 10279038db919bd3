"""Verification of what is not data: rules, keys, redactions, refusals, lists of sweeps, training runs, marks."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from pyfactory.core.canonical import decode
from pyfactory.core.digest import NO_DIGEST, Digest, digest_of, parse_digest
from pyfactory.errors import CorruptError, InvalidInputError, NotFoundError, PyfactoryError
from pyfactory.repo.consumed import commits_of_run
from pyfactory.repo.findings import Findings
from pyfactory.repo.format import FORMAT_REF, load_format_object
from pyfactory.repo.home import Home
from pyfactory.repo.listing import parse_listing
from pyfactory.repo.reachable import GC, REDACTION
from pyfactory.repo.rules import KEYS, RULE, load_keys, load_rule
from pyfactory.repo.threads import in_order
from pyfactory.repo.verify_history import Counting
from pyfactory.shard.memo import MEMO, decode_result, task_of_key
from pyfactory.store.base import Store

__all__ = ["check_documents", "check_marks", "check_rules", "check_runs"]

_ENTRY = re.compile(r"runs/([^/]+)/(\d{8})")
_WORKERS = 8


def check_documents(home: Home, objects: Counting, findings: Findings, named: Mapping[Digest, str]) -> None:
    """Read every object that a ref of another kind than branches and tags names, and make sure that it is one."""
    for digest, ref in named.items():
        with findings.noting(digest):
            content = objects.get(digest)
            _parser(home, ref)(digest, content)


def _parser(home: Home, ref: str) -> Callable[[Digest, bytes], object]:
    if ref.startswith(GC):
        return lambda digest, content: parse_listing(content, f"the list {digest} of {ref}")
    if ref == FORMAT_REF:
        return lambda digest, _: load_format_object(home, digest)
    if ref == KEYS:
        return lambda digest, _: load_keys(home, digest)
    if ref.startswith(RULE):
        return lambda digest, _: load_rule(home, digest)
    if ref.startswith(REDACTION):
        from pyfactory.repo.redaction import load_redaction

        return lambda digest, _: load_redaction(home, digest)
    return lambda digest, content: decode(content, f"object {digest} of {ref}")


def check_rules(home: Home, objects: Counting, findings: Findings, refs: Mapping[str, Digest]) -> None:
    """Read what the gates of the rules in force need; that the rules are some is for `check_documents` to say."""
    from pyfactory.repo.gates.contamination_sets import EvaluationSet
    from pyfactory.repo.gates.open import objects_of

    needed: dict[Digest, str] = {}
    for ref in sorted(refs):
        with suppress(PyfactoryError):
            for gate in load_rule(home, refs[ref]).gates if ref.startswith(RULE) else ():
                needed |= dict.fromkeys(objects_of(gate), f"needed by the gate {gate.gate} of {ref}")
    for digest, named_by in needed.items():
        what = f"{home.url}: object {digest}, {named_by},"
        with findings.noting(digest):
            try:
                EvaluationSet.from_bytes(objects.get(digest), what)
            except NotFoundError as error:
                raise CorruptError(f"{what} is missing") from error


def check_runs(store: Store, findings: Findings) -> tuple[int, dict[Digest, str]]:
    """Read the chain of every training run; return the number of entries, and the commits that were consumed."""
    chain = _Chain(store, findings)
    with findings.noting("runs"):
        for key, _ in store.list("runs"):
            match = _ENTRY.fullmatch(key)
            if match is not None:
                chain.take(key, match[1], int(match[2]))
    return chain.count, chain.commits


@dataclass
class _Chain:
    store: Store
    findings: Findings
    count: int = 0
    commits: dict[Digest, str] = field(default_factory=dict)
    _run: str = ""
    _next: int = 0
    _previous: Digest = NO_DIGEST

    def take(self, key: str, run: str, number: int) -> None:
        """Read an entry; those of a run come in order."""
        if run != self._run:
            self._run, self._next, self._previous = run, 0, NO_DIGEST
        self.count += 1
        with self.findings.noting(key):
            content = self.store.get(key)
            entry = decode(content, key)
            if not isinstance(entry, dict):
                raise CorruptError(f"{key} is not an entry of a run")
            if (number, entry.get("n"), entry.get("previous")) != (self._next, self._next, self._previous):
                self.findings.add("run", key, f"{self.store.url}: {key} does not follow the entry before it")
            self._previous = digest_of(content)
            _note_commit(entry, key, self.commits)
        self._next = number + 1


def _note_commit(entry: Mapping[str, Any], key: str, commits: dict[Digest, str]) -> None:
    for commit in commits_of_run(entry):
        with suppress(InvalidInputError):
            commits.setdefault(parse_digest(commit), key)


def check_marks(store: Store, advice: Findings) -> None:
    """Read every completion mark and note those that cannot be read: their work would be done again."""

    def check(entry: tuple[str, int]) -> tuple[str, PyfactoryError] | None:
        key = entry[0]
        try:
            decode_result(store.get(key), task_of_key(key))
        except NotFoundError:  # deleted meanwhile
            return None
        except PyfactoryError as error:
            return key, error
        return None

    with advice.noting(MEMO):
        for wrong in in_order(check, store.list(MEMO), _WORKERS):
            if wrong is not None:
                advice.add(wrong[1].kind, wrong[0], f"{wrong[0]}: {wrong[1].message}")
