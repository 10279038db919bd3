"""What stands between a proposed commit and its branch: rules, gates, signatures, sweeps."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pytest
from repo_tables import raw_part, raw_state, state_of

from pyfactory.errors import ConflictError, NotFoundError, RefusedError
from pyfactory.factory.tables import appended as appended_to
from pyfactory.repo import publishing
from pyfactory.repo.forget import forget
from pyfactory.repo.gates.base import Verdict
from pyfactory.repo.listing import Listing, digests_of
from pyfactory.repo.objects import TableState
from pyfactory.repo.operation import Change
from pyfactory.repo.refusal import list_refusals
from pyfactory.repo.repository import Repository
from pyfactory.repo.rules import BranchRule, GateRule
from pyfactory.repo.ruling import set_rule, trust_key
from pyfactory.repo.signing import Signer
from pyfactory.repo.sweep import gc
from pyfactory.repo.swept import SWEEP
from pyfactory.repo.transaction import publish
from pyfactory.shard.layout import raw_schema
from pyfactory.shard.manifest import Manifest, Part
from pyfactory.shard.writer import encode_shard, make_side
from pyfactory.store.memory import MemoryStore
from pyfactory.store.wrap import Counted

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
        filled.commit({"raw": appended_at(filled, part)}, branch, message=branch)
    filled.merge("left", "main")
    with pytest.raises(RefusedError, match="counts"):
        filled.merge("right", "main")


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


def between(repository: Repository, act: Callable[[], object]) -> None:
    """Let something happen right before the next entry of the log is created."""
    create, once = repository.store.create, threading.Event()

    def slow(key: str, content: bytes) -> bool:
        if key.startswith("log/") and not once.is_set():
            once.set()
            act()
        return bool(create(key, content))

    repository.store.create = slow  # type: ignore[method-assign]


def test_a_merged_commit_that_was_swept_meanwhile_is_no_parent(filled: Repository) -> None:
    """Its tables are those of main, so only the commit itself is lost. Catches a check of new tables alone."""
    filled.commit({"corpus": raw_state(filled.objects, "x")}, "dev", message="away")
    filled.commit({"corpus": filled.tables("main")["corpus"]}, "dev", message="and back")
    other = Repository.open(filled.store)

    def sweep() -> None:
        other.delete_branch("dev")
        gc(other, grace=timedelta(0), who="gc")

    between(filled, sweep)
    with pytest.raises((ConflictError, NotFoundError)):
        filled.merge("dev", "main")
    assert other.verify().problems == []
    gc(other, grace=timedelta(0), who="gc", now=datetime.now(UTC) + timedelta(hours=1))


def test_a_record_that_was_forgotten_meanwhile_does_not_come_with_a_commit(filled: Repository) -> None:
    """Catches a check that is made before the work, and a build that began before."""
    part = raw_part(filled.objects, ["secret"])
    filled.commit({"raw": state_of(filled.objects, [part])}, message="raw")
    copy = state_of(filled.objects, [raw_part(filled.objects, ["more"]), part])
    other = Repository.open(filled.store)
    fresh = raw_batch_with(filled, ["more", "secret"], ["new-0", f"{part.shard[:8]}-0"])
    between(filled, lambda: forget(other, [f"{part.shard[:8]}-0"], "asked", who="Ada"))
    with pytest.raises(ConflictError, match="forgotten meanwhile"):
        filled.commit({"derived": state_of(filled.objects, [fresh])}, message="derived")
    assert "derived" not in filled.tables("main")
    filled.commit({"copy": copy}, message="the shard itself is read through its replacement")


def raw_batch_with(repository: Repository, texts: list[str], ids: list[str]) -> Part:
    batch = pa.record_batch([pa.array(texts, pa.large_string())], schema=raw_schema())
    shard, side = encode_shard(batch), make_side(pa.array(ids, pa.large_string()))
    put = repository.objects.put
    return Part(put(memoryview(shard)), put(memoryview(side)), len(texts), 0, shard.size)


def test_a_new_branch_satisfies_the_rule_of_its_name(filled: Repository, tmp_path: Path) -> None:
    """Catches the way round a gate: delete the branch and make it anew where you like."""
    filled.branch("bad", "main")
    filled.commit({"corpus": raw_state(filled.objects, "many", rows=4)}, "bad", message="bad")
    set_rule(filled, "main", BranchRule(gates=(COUNTS,)), "Ada")
    set_rule(filled, "prod", BranchRule(signed=True), "Ada")
    filled.delete_branch("main")
    with pytest.raises(RefusedError, match="counts"):
        filled.branch("main", "bad")
    with pytest.raises(RefusedError, match="signed"):
        filled.branch("prod", "dev")
    assert {"main", "prod"}.isdisjoint(filled.branches())
    filled.branch("main", "v1")


def test_a_commit_is_never_older_than_its_parents(filled: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the clock says. Catches walks through history that stop too early."""
    monkeypatch.setattr(publishing, "utc_now", lambda: "2001-01-01T00:00:00Z")
    made = filled.commit({"corpus": raw_state(filled.objects, "x")}, message="x").digest
    assert filled.load(made).time >= filled.load(filled.load(made).parents[0]).time
    filled.commit({"corpus": raw_state(filled.objects, "y")}, "dev", message="y")
    merged = filled.merge("dev", "main", choices={"*": "theirs"}).digest
    assert filled.load(merged).time >= filled.load(made).time


def test_commits_to_other_tables_are_no_conflict(filled: Repository) -> None:
    """Catches a writer that must begin anew because somebody wrote elsewhere."""
    other = Repository.open(filled.store)
    state = raw_state(filled.objects, "mine")
    between(filled, lambda: other.commit({"theirs": raw_state(other.objects, "theirs")}, message="theirs"))
    filled.commit({"mine": state}, message="mine")
    assert {"mine", "theirs"} < filled.tables("main").keys()
    between(filled, lambda: other.commit({"theirs": raw_state(other.objects, "x")}, message="theirs"))
    filled.revert("v1", "main")
    assert filled.tables("main")["mine"] == state


def test_after_a_sweep_a_commit_still_costs_its_change_only(tmp_path: Path) -> None:
    """Catches a writer that looks for every node of the table."""
    store = Counted(MemoryStore())
    repository = Repository.create(store)
    part = raw_part(repository.objects, ["x"])
    repository.commit({"raw": state_of(repository.objects, [part] * 200_000)}, message="start")
    gc(repository, grace=timedelta(0), who="gc")
    more = appended_at(repository, raw_part(repository.objects, ["y"]))
    store.calls.clear()
    repository.commit({"raw": more}, message="more")
    assert store.calls["size"] < 16 and store.calls["get"] < 24


def appended_at(repository: Repository, part: Part) -> TableState:
    state = repository.tables("main")["raw"]
    return appended_to(repository, Manifest(repository.objects, state.manifest), [part], state.schema)
