"""Signatures and sweeps: what a sweep took need not be signed any more, at no moment of the sweep."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from repo_tables import raw_state
from sweep_tables import Killed, dying

from pyfactory.repo.findings import Findings
from pyfactory.repo.repository import Repository
from pyfactory.repo.rules import BranchRule
from pyfactory.repo.ruling import set_rule, trust_key
from pyfactory.repo.signing import Signer
from pyfactory.repo.sweep import gc
from pyfactory.repo.verify_signatures import check_signatures
from pyfactory.store.memory import MemoryStore

LATER = datetime.now(UTC) + timedelta(hours=1)


def signed(signer: Signer) -> MemoryStore:
    """A repository whose branch takes signed commits and was rolled back from one."""
    repo = Repository.create(MemoryStore())
    trust_key(repo, "ada", signer.public, "Ada")
    set_rule(repo, "main", BranchRule(signed=True), "Ada", signer=signer)
    for label in ("one", "two"):
        repo.commit({"raw": raw_state(repo.objects, label)}, message=label, signer=signer)
    repo.rollback("main", next(commit.parents[0] for commit in repo.log("main")))
    return repo.store  # type: ignore[return-value]


def problems(store: MemoryStore) -> list[str]:
    findings = Findings()
    check_signatures(Repository.open(store), findings)
    return [problem.message for problem in findings.all()]


def copy_of(store: MemoryStore) -> MemoryStore:
    copied = MemoryStore()
    for key, _ in store.list(""):
        copied.create(key, store.get(key))
    return copied


def test_a_commit_that_was_swept_needs_no_signature(tmp_path: Path) -> None:
    """Also when the sweep dies at any call. Catches an audit that asks for what the sweep has deleted with the commit,

    and one that does not know that the signature goes before the commit.
    """
    Signer.generate(tmp_path / "key")
    base = signed(Signer.load(tmp_path / "key"))
    commits = {key for key, _ in base.list("signatures")}
    assert problems(base) == []
    call, finished = 0, False
    while not finished:
        store = copy_of(base)
        with suppress(Killed):
            gc(Repository.open(dying(store, call)), grace=timedelta(0), now=LATER)
            finished = True
        assert problems(store) == [], call
        call += 1
    assert call > 20 and len({key for key, _ in store.list("signatures")}) == len(commits) - 1


def test_a_commit_that_is_there_needs_one(tmp_path: Path) -> None:
    """Catches an audit that lets everything pass once there was a sweep."""
    Signer.generate(tmp_path / "key")
    store = signed(Signer.load(tmp_path / "key"))
    repo = Repository.open(store)
    gc(repo, grace=timedelta(0), now=LATER)
    (head,) = repo.branches().values()
    for key, _ in [*store.list("signatures")]:
        if head.encode() in store.get(key):
            store.delete(key)
    assert any(head in problem for problem in problems(store))
