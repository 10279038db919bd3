"""Verification of signatures: is each one genuine, and was everything signed that had to be.

Kinds of problems: `signature` (it is damaged, forged, or filed under another statement), `unsigned` (nobody signed what
needed a signature), `untrusted` (only keys did that do not count).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pyfactory.core.digest import Digest
from pyfactory.repo.findings import Findings
from pyfactory.repo.home import Home
from pyfactory.repo.listing import EMPTY, Digests, contains, digests_of
from pyfactory.repo.names import BRANCH, TAG
from pyfactory.repo.operation import Operation, View
from pyfactory.repo.oplog import log_key
from pyfactory.repo.rules import KEYS, RULE, load_keys, load_rule
from pyfactory.repo.signatures import (
    SIGNATURES,
    Signature,
    Statement,
    change_statement,
    commit_statement,
    rule_statement,
    signature_key,
    tag_statement,
)
from pyfactory.repo.swept import SWEEP, load_listing

__all__ = ["check_signatures"]

_RULES = "rule/"
_REDACTION = "redaction/last"


def check_signatures(home: Home, findings: Findings) -> int:
    """Look at every signature and at everything that needs one, and note all that is wrong.

    - Every stored signature is genuine and lies where it belongs.
    - Every change of a rule, of the trusted keys or of the redactions was signed by a key that was trusted directly
      before it.
    - Every commit that a branch was moved to while its rule asked for signatures is signed by a key that was trusted
      then, or is now, unless a sweep has taken it since; the commit that such a branch names now by one that is
      trusted now.
    - A tag that anybody signed is signed by a key that is trusted now.

    Args:
        home: The repository. Its log is read to the beginning; that it is whole is for `verify_log` to say.
        findings: Takes the problems.

    Returns:
        How many signatures were read. Memory grows with their number, about 300 bytes each.
    """
    found = _Found(home, findings)
    found.read()
    with findings.noting("log"):
        view = home.view()
        listing = load_listing(home, view, SWEEP)
        audit = _Audit(home, findings, found, dict(view.refs), EMPTY if listing is None else listing.digests)
        audit.names(view)
        for operation in home.oplog.history(view):
            audit.take(operation)
    return found.count


@dataclass
class _Found:
    """All genuine signatures: which keys signed a statement."""

    home: Home
    findings: Findings
    count: int = 0
    _keys: dict[str, set[str]] = field(default_factory=dict)

    def read(self) -> None:
        for key, _ in self.home.store.list(SIGNATURES):
            with self.findings.noting(key):
                self.count += 1
                signature = Signature.from_bytes(self.home.store.get(key), f"{self.home.url}/{key}")
                if key != signature_key(signature.statement, signature.key):
                    self._wrong(key, "is filed under another statement or key than its own")
                elif not signature.is_genuine():
                    self._wrong(key, "was not made by the key that it names")
                else:
                    self._keys.setdefault(_folder(signature.statement), set()).add(signature.key)

    def of(self, statement: Statement) -> set[str]:
        """Return the public keys that signed a statement."""
        return self._keys.get(_folder(statement), set())

    def _wrong(self, key: str, what: str) -> None:
        self.findings.add("signature", key, f"{self.home.url}/{key} {what}")


@dataclass
class _Audit:
    """Walks back through the log; `refs` are the refs directly behind the operation that is taken next."""

    home: Home
    findings: Findings
    found: _Found
    refs: dict[str, Digest]
    sweeping: Digests
    _now: set[str] = field(default_factory=set)
    _keys: dict[Digest, set[str]] = field(default_factory=dict)
    _signed: dict[Digest, bool] = field(default_factory=dict)
    _noted: set[str] = field(default_factory=set)

    def names(self, view: View) -> None:
        """Check what branches and tags name now."""
        self._now = self._trusted()
        for ref, commit in sorted(view.refs.items()):
            if ref.startswith(BRANCH) and self._asks(ref):
                self._check(commit_statement(commit), self._now, commit, f"{ref} names commit {commit}, which", commit)
            elif ref.startswith(TAG) and self._now:
                statement = tag_statement(self.home, ref.removeprefix(TAG), commit)
                if self.found.of(statement):
                    self._check(statement, self._now, commit, f"{ref} of commit {commit}", commit)

    def take(self, operation: Operation) -> None:
        """Check one operation by the rules and keys that were in force before it."""
        for change in operation.changes:
            if change.old is None:
                self.refs.pop(change.ref, None)
            else:
                self.refs[change.ref] = change.old
        trusted = self._trusted()
        where = f"log entry {operation.n} by {operation.who}"
        for change in operation.changes:
            if trusted and (change.ref.startswith(_RULES) or change.ref == _REDACTION):
                statement = rule_statement(self.home, change, operation.previous)
                if change.ref == _REDACTION:  # it names the one before it, so it cannot be put in again
                    statement = change_statement(self.home, change)
                self._check(statement, trusted, log_key(operation.n), f"{where} changes {change.ref}: this")
            elif change.ref.startswith(BRANCH) and change.new is not None and self._asks(change.ref):
                statement = commit_statement(change.new)
                # A sweep takes the signatures of a commit first, then the commit.
                if self.found.of(statement) or not self._is_swept(change.new):
                    said = f"{where} moves {change.ref} to commit {change.new}, which"
                    self._check(statement, trusted | self._now, change.new, said, change.new)

    def _is_swept(self, commit: Digest) -> bool:
        return bool(contains(self.sweeping, digests_of(bytes.fromhex(commit)))[0]) or not self.home.objects.exists(
            commit
        )

    def _check(self, statement: Statement, keys: set[str], name: str, said: str, where: str = "") -> None:
        signers = self.found.of(statement)
        if signers & keys or _folder(statement) in self._noted:
            return
        self._noted.add(_folder(statement))  # one commit that many branches name is one problem
        kind = "untrusted" if signers else "unsigned"
        what = f"is signed only by keys that do not count: {', '.join(sorted(signers))}" if signers else "is not signed"
        self.findings.add(kind, name, f"{self.home.url}: {said} {what}", where=where)

    def _trusted(self) -> set[str]:
        digest = self.refs.get(KEYS)
        if digest is None:
            return set()
        if digest not in self._keys:
            self._keys[digest] = set()
            with self.findings.noting(digest):
                self._keys[digest] = set(load_keys(self.home, digest).values())
        return self._keys[digest]

    def _asks(self, branch: str) -> bool:
        """Tell whether the rule of a branch asks for signatures."""
        digest = self.refs.get(RULE + branch.removeprefix(BRANCH))
        if digest is None:
            return False
        if digest not in self._signed:
            self._signed[digest] = False
            with self.findings.noting(digest):
                self._signed[digest] = load_rule(self.home, digest).signed
        return self._signed[digest]


def _folder(statement: Statement) -> str:
    """Return what names a statement: the folder of its signatures."""
    return signature_key(statement, "")
