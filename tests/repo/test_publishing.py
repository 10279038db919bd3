"""What stands between a proposed commit and its branch: rules, gates, signatures, sweeps."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from repo_tables import raw_part, raw_state, state_of

from pyfactory.errors import ConflictError, RefusedError
from pyfactory.repo.gates.base import Verdict
from pyfactory.repo.listing import Listing, digests_of
from pyfactory.repo.operation import Change
from pyfactory.repo.refusal import list_refusals
from pyfactory.repo.repository import Repository
from pyfactory.repo.rules import BranchRule, GateRule
from pyfactory.repo.ruling import set_rule, trust_key
from pyfactory.repo.signing import Signer
from pyfactory.repo.swept import SWEEP
from pyfactory.repo.transaction import publish

COUNTS = GateRule("counts", options={"max_rows": 3, "max_removed": "1"})


def refusals(repository: Repository) -> list[str]:
    return [refusal.why for refusal in list_refusals(repository, repository.view(), 10)]


def test_a_protected_branch_takes_merges_only(filled: Repository) -> None:
    """Catches a protection that only the merge verb knows."""
    set_rule(filled, "main", BranchRule(protected=True), "Ada")
    head = filled.head("main")
    with pytest.raises(RefusedError, match="main is protected"):
        filled.commit({"corpus": raw_state(filled.objects, "x")}, message="x", author="Bob")
    with pytest.raises(RefusedError, match="main is protected"):
        filled.delete_branch("main")
    assert filled.head("main") == head and len(refusals(filled)) == 2
    filled.branch("work", "main")
    filled.commit({"corpus": raw_state(filled.objects, "x")}, "work", message="x")
    done = filled.merge("work", "main")
    assert filled.head("main") == done.digest
    assert filled.rollback("main", head) == head
    filled.undo(filled.view().n)
    filled.revert(done.digest, "main")
    assert filled.tables("main") == filled.tables(head)


def test_a_failed_gate_refuses_and_says_why(filled: Repository) -> None:
    """Catches verdicts that are computed and then ignored, and a refusal that is nowhere written down."""
    set_rule(filled, "main", BranchRule(gates=(COUNTS,)), "Ada")
    head = filled.head("main")
    state = raw_state(filled.objects, "many", rows=4)
    with pytest.raises(RefusedError, match="gate counts on corpus") as caught:
        filled.commit({"corpus": state}, message="x", author="Bob")
    assert filled.head("main") == head
    newest = next(filled.operations())
    assert newest.who == "Bob" and newest.why.startswith("refused: ")
    (refusal,) = list_refusals(filled, filled.view(), 10)
    assert refusal.why in caught.value.message
    (verdict,) = [Verdict.from_value(value, "a verdict") for value in refusal.details["verdicts"]]
    assert (verdict.gate, verdict.passed) == ("counts", False)


def test_passed_verdicts_stand_in_the_commit(filled: Repository) -> None:
    """On commits, merges and reverts alike; they name their code."""
    set_rule(filled, "main", BranchRule(gates=(COUNTS,)), "Ada")
    made = filled.commit({"corpus": raw_state(filled.objects, "few", rows=3)}, message="x").digest
    filled.branch("work", "main")
    filled.commit({"more": raw_state(filled.objects, "more", rows=3)}, "work", message="more")
    merged = filled.merge("work", "main").digest
    reverted = filled.revert(made, "main")
    for commit, table in ((made, "corpus"), (merged, "more"), (reverted, "corpus")):
        (value,) = filled.load(commit).gates
        verdict = Verdict.from_value(value, "a verdict")
        assert (verdict.gate, verdict.table, verdict.passed) == ("counts", table, True)
        assert verdict.code.startswith("counts/1:") and verdict.threshold["max_rows"] == 3
    assert filled.load(filled.head("work")).gates == (), "no rule, no verdict"


def test_a_gate_judges_what_the_branch_would_become(filled: Repository) -> None:
    """Two branches that pass alone, and not together. Catches a gate that looks at the source branch."""
    start = state_of(filled.objects, [raw_part(filled.objects, ["start"])])
    filled.commit({"raw": start}, message="start")
    set_rule(filled, "main", BranchRule(gates=(GateRule("counts", "raw", {"max_rows": 3}),)), "Ada")
    for branch in ("left", "right"):
        filled.branch(branch, "main")
        part = raw_part(filled.objects, [f"{branch} 1", f"{branch} 2"])
        filled.commit({"raw": appended(filled, part)}, branch, message=branch)
    filled.merge("left", "main")
    with pytest.raises(RefusedError, match="counts"):
        filled.merge("right", "main")


def appended(repository: Repository, part: object) -> object:
    from pyfactory.factory.tables import appended as grown
    from pyfactory.shard.manifest import Manifest

    state = repository.tables("main")["raw"]
    return grown(repository, Manifest(repository.objects, state.manifest), [part], state.schema)


def test_a_branch_that_wants_signatures(filled: Repository, tmp_path: Path) -> None:
    """Catches a signature of just anybody, and one that is asked for and then not stored."""
    from pyfactory.repo.signatures import commit_statement, signed_by

    ours, stranger = Signer.generate(tmp_path / "ours"), Signer.generate(tmp_path / "stranger")
    set_rule(filled, "main", BranchRule(signed=True), "Ada")
    state = raw_state(filled.objects, "signed")
    with pytest.raises(RefusedError, match="signed by a trusted key"):
        filled.commit({"corpus": state}, message="x")
    trust_key(filled, "ada", ours.public, "Ada")
    for signer in (None, stranger):
        with pytest.raises(RefusedError, match="signed by a trusted key"):
            filled.commit({"corpus": state}, message="x", signer=signer)
    made = filled.commit({"corpus": state}, message="x", signer=ours).digest
    assert signed_by(filled, commit_statement(made), {"ada": ours.public}) == "ada"


def test_a_rule_that_comes_between_is_obeyed(filled: Repository) -> None:
    """The rule is set after the commit was judged and before its entry. Catches a check that looks once."""
    other = Repository.open(filled.store)
    state = raw_state(filled.objects, "many", rows=4)
    create, once = filled.store.create, threading.Event()

    def slow(key: str, content: bytes) -> bool:
        if key.startswith("log/") and not once.is_set():
            once.set()
            set_rule(other, "main", BranchRule(gates=(COUNTS,)), "Ada")
        return bool(create(key, content))

    filled.store.create = slow  # type: ignore[method-assign]
    head = filled.head("main")
    with pytest.raises(RefusedError, match="counts"):
        filled.commit({"corpus": state}, message="x")
    assert filled.head("main") == head


def test_a_rule_of_another_branch_does_not_disturb(filled: Repository) -> None:
    """Catches guards that make every rule change a conflict."""
    set_rule(filled, "main", BranchRule(protected=True), "Ada")
    filled.commit({"corpus": raw_state(filled.objects, "x")}, "dev", message="x")


def test_a_commit_does_not_name_what_is_being_swept(filled: Repository) -> None:
    """Catches a writer that believes that an object is there because its upload was skipped."""
    state = raw_state(filled.objects, "garbage")
    (part,) = [entry.part for entry in entries(filled, state)]
    listing = Listing(1, "2026-01-01T00:00:00Z", part.nbytes, digests_of(bytes.fromhex(part.shard)))
    swept = Change(SWEEP, None, filled.objects.put(listing.to_bytes()))
    publish(filled.oplog, filled.view(), [swept], "gc", "sweep")
    with pytest.raises(ConflictError, match="swe"):
        filled.commit({"corpus": state}, message="x")
    filled.commit({"corpus": raw_state(filled.objects, "other")}, message="x")


def entries(repository: Repository, state: object) -> list[object]:
    from pyfactory.shard.manifest import Manifest

    return list(Manifest(repository.objects, state.manifest).entries())  # type: ignore[attr-defined]
