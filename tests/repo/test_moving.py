"""Rollback, undo, deletion: one entry of the log each, and nothing is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from repo_tables import raw_state

from pyfactory.errors import ConflictError, InvalidInputError, NotFoundError, RefusedError
from pyfactory.repo import moving
from pyfactory.repo.repository import Repository
from pyfactory.repo.rules import BranchRule
from pyfactory.repo.ruling import set_rule, trust_key
from pyfactory.repo.signatures import sign_commit
from pyfactory.repo.signing import Signer


def test_rollback_is_one_entry_and_undo_leads_back(filled: Repository) -> None:
    """Catches a rollback that makes a commit or forgets where it came from."""
    head, before = filled.head("main"), filled.view().n
    first = filled.load(head).parents[0]
    assert filled.rollback("main", first, author="Eve") == first
    assert (filled.head("main"), filled.view().n) == (first, before + 1)
    newest = next(filled.operations())
    assert (newest.who, newest.why) == ("Eve", f"roll main back to {first}")
    undone = filled.undo(before + 1, author="Bob")
    assert undone.n == before + 1 and filled.head("main") == head
    filled.undo(before + 2)
    assert filled.head("main") == first


def test_rollback_to_a_tag_and_to_where_it_is(filled: Repository) -> None:
    view = filled.view()
    assert filled.rollback("main", "v1") == filled.head("main")
    assert filled.view() == view, "nothing to do, nothing written"


def test_rollback_to_what_the_branch_does_not_contain(filled: Repository) -> None:
    """Catches a rollback that lets a branch jump to another history."""
    elsewhere = filled.commit({"corpus": raw_state(filled.objects, "dev")}, "dev", message="dev").digest
    for target in (elsewhere, filled.head("main")):
        branch = "main" if target == elsewhere else "dev"
        with pytest.raises(InvalidInputError, match="does not contain"):
            filled.rollback(branch, target)
    with pytest.raises(NotFoundError):
        filled.rollback("mian", "v1")


def test_undo_of_a_commit_moves_the_branch_back(filled: Repository) -> None:
    head = filled.head("main")
    filled.commit({"corpus": raw_state(filled.objects, "bad")}, message="bad")
    filled.undo(filled.view().n)
    assert filled.head("main") == head


def test_undo_of_what_has_moved_on_is_a_conflict(filled: Repository) -> None:
    """Catches an undo that throws later commits away."""
    filled.commit({"corpus": raw_state(filled.objects, "three")}, message="three")
    number = filled.view().n
    last = filled.commit({"corpus": raw_state(filled.objects, "four")}, message="four").digest
    with pytest.raises(ConflictError, match="has moved since"):
        filled.undo(number)
    assert filled.head("main") == last


def test_undo_of_a_tag_of_nothing_and_of_what_never_was(filled: Repository) -> None:
    tagged = next(each.n for each in filled.operations() if each.changes and each.changes[0].ref == "tag/v1")
    with pytest.raises(InvalidInputError, match="tags never move"):
        filled.undo(tagged)
    with pytest.raises(InvalidInputError, match="moved nothing"):
        filled.undo(0)
    with pytest.raises(NotFoundError, match="numbered from 0 to"):
        filled.undo(99)
    with pytest.raises(NotFoundError):
        filled.undo(-1)


def test_a_deleted_branch_comes_back_by_undo(filled: Repository) -> None:
    was = filled.delete_branch("dev")
    assert set(filled.branches()) == {"main"}
    with pytest.raises(NotFoundError):
        filled.delete_branch("dev")
    filled.undo(filled.view().n)
    assert filled.branches()["dev"] == was


def test_undo_of_making_a_branch_removes_it(filled: Repository) -> None:
    filled.branch("new", "v1")
    filled.undo(filled.view().n)
    assert "new" not in filled.branches()


def test_a_branch_that_wants_signatures_goes_back_to_signed_commits_only(filled: Repository, tmp_path: Path) -> None:
    """Catches a rollback that lets an unsigned commit in by the back door."""
    ours = Signer.generate(tmp_path / "ours")
    trust_key(filled, "ada", ours.public, "Ada")
    first = filled.load(filled.head("main")).parents[0]
    set_rule(filled, "main", BranchRule(signed=True), "Ada", signer=ours)
    made = filled.commit({"corpus": raw_state(filled.objects, "x")}, message="x", signer=ours).digest
    number = filled.view().n
    with pytest.raises(RefusedError, match="signed by a trusted key"):
        filled.rollback("main", first)
    with pytest.raises(RefusedError, match="signed by a trusted key"):
        filled.undo(number)
    assert filled.head("main") == made
    sign_commit(filled, first, ours)
    assert filled.rollback("main", first) == first


def test_a_branch_and_a_tag_cannot_share_a_name(filled: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a name that from then on must be written in full everywhere; also when both are made at once."""
    view = filled.view()
    for make, name, said in ((filled.branch, "v1", "tag/v1 exists"), (filled.tag, "dev", "branch/dev exists")):
        with pytest.raises(ConflictError, match=f"{said} already: .* changed by .*cannot share one"):
            make(name)
    with pytest.raises(ConflictError, match=r"tag/v1 exists already.*another name: tags never move"):
        filled.tag("v1", "dev")
    assert filled.view() == view

    def meanwhile(*_: object) -> None:
        monkeypatch.undo()
        filled.tag("both")

    monkeypatch.setattr(moving, "check_kept", meanwhile)
    with pytest.raises(ConflictError, match="tag/both exists already"):
        filled.branch("both")
    assert "branch/both" not in filled.view().refs


def test_undo_brings_no_branch_back_beside_a_tag(filled: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a name that is both, also when the tag is made meanwhile; what undoes no deletion is not in its way."""
    filled.branch("exp", "dev")
    made = filled.view().n
    was = filled.delete_branch("exp")
    deleted = filled.view().n

    def meanwhile(*_: object) -> None:
        monkeypatch.undo()
        filled.tag("exp")

    monkeypatch.setattr(moving, "check_kept", meanwhile)
    with pytest.raises(ConflictError):
        filled.undo(deleted)
    assert "branch/exp" not in filled.view().refs
    with pytest.raises(ConflictError, match=rf"tag/exp exists already.*pyfactory branch REPO NAME {was[:12]}"):
        filled.undo(deleted)
    with pytest.raises(ConflictError, match="it is gone"):
        filled.undo(made)
    assert filled.branch("exp2", was[:12]) == was


def test_undo_says_that_a_branch_is_gone(filled: Repository) -> None:
    """Catches a message in which a branch names None."""
    filled.branch("exp")
    number = filled.view().n
    filled.delete_branch("exp")
    with pytest.raises(ConflictError, match=f"moved since operation {number}: it is gone"):
        filled.undo(number)
