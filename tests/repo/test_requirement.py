"""What somebody who opens data may demand of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from repo_tables import raw_state, state_of, token_part
from test_refusal import Closed
from test_signatures import ADA, BOB, EVE

from pyfactory.core.canonical import encode
from pyfactory.core.digest import Digest
from pyfactory.errors import InvalidInputError, RefusedError
from pyfactory.repo.objects import Commit, TableState, Tree
from pyfactory.repo.operation import Change, utc_now
from pyfactory.repo.refusal import list_refusals
from pyfactory.repo.repository import Repository
from pyfactory.repo.requirement import parse_requirement, require
from pyfactory.repo.rules import BranchRule, GateRule
from pyfactory.repo.ruling import distrust_key, set_keys, set_rule
from pyfactory.repo.signatures import sign_commit, sign_tag
from pyfactory.repo.transaction import publish
from pyfactory.stream.stream import Stream


def check(repository: Repository, ref: str, what: str, table: str | None = None) -> str:
    """Return why data is refused, "" if it is not; a refusal must be in the log."""
    before = repository.view().n
    try:
        require(repository, repository.view(), repository.resolve(ref), what, "Eve", table=table)
    except RefusedError as error:
        (refusal,) = list_refusals(repository, repository.view(), 1)
        assert repository.view().n == refusal.n == before + 1
        assert refusal.who == "Eve" and refusal.why in error.message and error.hint
        assert refusal.details["required"] == what
        return refusal.why
    assert repository.view().n == before
    return ""


def verdict(gate: str, table: str = "corpus", passed: bool = True) -> dict[str, Any]:
    said = {"gate": gate, "passed": passed, "reason": "so it is", "table": table}
    return {**said, "code": "", "evidence": [], "found": {}, "threshold": {}}


def committed(repository: Repository, tables: dict[str, TableState], gates: Iterable[dict[str, Any]] = ()) -> Digest:
    """Put a commit with verdicts on main."""
    tree = repository.objects.put(encode(Tree(tables).to_value()))
    view = repository.view()
    head = view.refs.get("branch/main")
    commit = Commit(tree, (head,) if head else (), "Ada", utc_now(), "made", None, tuple(gates))
    digest = repository.objects.put(encode(commit.to_value()))
    publish(repository.oplog, view, [Change("branch/main", head, digest)], "Ada", "made")
    return digest


def test_words() -> None:
    assert parse_requirement("") == ()
    assert parse_requirement(" signed , gated") == ("signed", "gated")
    for what in ("sigend", "signed,", "signed gated", ","):
        with pytest.raises(InvalidInputError):
            parse_requirement(what)


def test_signed_commits(filled: Repository) -> None:
    """Catches a signature that counts though its key does not, or does no more."""
    assert check(filled, "main", "") == ""
    assert "no key is trusted" in check(filled, "main", "signed")
    set_keys(filled, {"ada": ADA.public, "bob": BOB.public}, "Ada")
    assert "not signed by a trusted key" in check(filled, "main", "signed")
    sign_commit(filled, filled.head(), EVE)
    assert "not signed by a trusted key" in check(filled, "main", "signed")
    sign_commit(filled, filled.head(), ADA)
    assert check(filled, "main", "signed") == ""
    assert check(filled, "v1", "signed") == "", "the commit of the tag is signed"
    assert "not signed" in check(filled, "dev", "signed"), "another commit"
    distrust_key(filled, "ada", "Bob", signer=BOB)
    assert "not signed by a trusted key" in check(filled, "main", "signed")


def test_signed_tags(filled: Repository) -> None:
    """Catches a tag's signature that vouches for another tag of its commit, or for the commit by any name."""
    set_keys(filled, {"ada": ADA.public}, "Ada")
    commit = filled.tags()["v1"]
    sign_tag(filled, "v1", commit, ADA)
    filled.tag("v2", "main")
    assert check(filled, "v1", "signed") == ""
    for ref in ("v2", "main", commit):
        assert "not signed" in check(filled, ref, "signed")


def test_a_branch_of_a_tags_name(filled: Repository) -> None:
    set_keys(filled, {"ada": ADA.public}, "Ada")
    sign_tag(filled, "v1", filled.tags()["v1"], ADA)
    # No verb makes such a branch any more; an older pyfactory did.
    publish(filled.oplog, filled.view(), [Change("branch/v1", None, filled.head())], "Old", "make branch v1")
    assert "not signed" in check(filled, "branch/v1", "signed")
    assert check(filled, "tag/v1", "signed") == ""


def test_gated(repository: Repository) -> None:
    """Catches a missing, a failed, and another table's verdict that counts."""
    one, two = raw_state(repository.objects, "one"), raw_state(repository.objects, "two")
    committed(repository, {"corpus": one})
    assert check(repository, "main", "gated") == "table corpus was judged by no gate"
    committed(repository, {"corpus": two}, [verdict("nulls", "other")])
    assert check(repository, "main", "gated") == "table corpus was judged by no gate"
    committed(repository, {"corpus": one}, [verdict("nulls"), verdict("schema", passed=False)])
    assert check(repository, "main", "gated") == "gate schema on corpus failed: so it is"
    committed(repository, {"corpus": two}, [verdict("nulls")])
    assert check(repository, "main", "gated") == ""
    set_rule(repository, "main", BranchRule(gates=(GateRule("nulls"), GateRule("counts", "corpus"))), "Ada")
    asks = "table corpus has no verdict of the gate counts, which the rule asks for"
    assert check(repository, "main", "gated") == asks
    assert check(repository, repository.head(), "gated") == asks, "a digest is judged by the rule of main"
    repository.branch("dev", "main")
    assert check(repository, "dev", "gated") == "", "another branch has another rule"
    committed(repository, {"corpus": one}, [verdict("nulls"), verdict("counts")])
    assert check(repository, "main", "gated") == ""


def test_a_table_that_did_not_change_was_judged_before(repository: Repository) -> None:
    """Catches asking the last commit for verdicts on what it left as it was, and taking those of another state."""
    one, two = raw_state(repository.objects, "one"), raw_state(repository.objects, "two")
    set_rule(repository, "main", BranchRule(gates=(GateRule("nulls"),)), "Ada")
    committed(repository, {"corpus": one}, [verdict("nulls")])
    committed(repository, {"corpus": one, "raw": one}, [verdict("nulls", "raw")])
    committed(repository, {"corpus": one, "raw": two}, [verdict("nulls", "raw")])
    assert check(repository, "main", "gated") == ""
    committed(repository, {"corpus": two, "raw": two})
    assert check(repository, "main", "gated", "raw") == ""
    assert "no verdict of the gate nulls" in check(repository, "main", "gated", "corpus")
    committed(repository, {"corpus": one, "raw": two})
    assert check(repository, "main", "gated", "corpus") != "", "the same state once more, but nobody judged this change"


def test_a_gate_for_all_tables_is_not_asked_of_those_it_cannot_judge(repository: Repository) -> None:
    """Catches images asked of text for ever: no commit of such a branch could be opened."""
    state = raw_state(repository.objects, "one")
    set_rule(repository, "main", BranchRule(gates=(GateRule("counts"), GateRule("pii", options={}))), "Ada")
    tokens = state_of(repository.objects, [token_part(repository.objects, [[1, 2, 3]])], 2)
    committed(repository, {"corpus": tokens, "raw": state}, [verdict("counts"), verdict("counts", "raw")])
    assert check(repository, "main", "gated", "corpus") == ""
    assert "the gate pii" in check(repository, "main", "gated", "raw")
    assert "the gate pii" in check(repository, "main", "gated"), "all tables"


def test_both_words(filled: Repository) -> None:
    set_keys(filled, {"ada": ADA.public}, "Ada")
    sign_commit(filled, filled.head(), ADA)
    assert check(filled, "main", "signed, gated") == "table corpus was judged by no gate"
    assert "not signed" in check(filled, "dev", "signed,gated")
    with pytest.raises(InvalidInputError):
        check(filled, "main", "signed,gatde")


def test_a_stream_opens_only_what_is_required(repository: Repository) -> None:
    """Catches a stream that opens first, and a requirement that becomes a part of its identity."""
    state = state_of(repository.objects, [token_part(repository.objects, [[1, 2, 3, 4, 5], [6, 7, 8]])], 2)
    committed(repository, {"corpus": state}, [verdict("counts")])
    repository.tag("v1")
    version = repository.version("corpus", "v1", strict=True)
    plain = Stream(version, seed=1, sequence_length=2)
    with pytest.raises(RefusedError, match="no key is trusted"):
        Stream(version, seed=1, sequence_length=2, require="signed,gated")
    (refusal,) = list_refusals(repository, repository.view(), 9)
    assert (refusal.what, refusal.details["table"]) == ("open corpus@v1", "corpus")
    set_keys(repository, {"ada": ADA.public}, "Ada")
    sign_tag(repository, "v1", version.commit, ADA)
    stream = Stream(version, seed=1, sequence_length=2, require="signed,gated")
    assert stream.identity == plain.identity and stream.digest(0, 3) == plain.digest(0, 3)
    with pytest.raises(InvalidInputError):
        Stream(version, seed=1, sequence_length=2, require="sigend")


def test_who_may_only_read_is_refused_as_well() -> None:
    """Catches a refusal that becomes "no permission", or data that opens because nobody could be told."""
    repository = Repository.create(Closed())
    commit = committed(repository, {"corpus": raw_state(repository.objects, "one")})
    repository.store.closed = True  # type: ignore[attr-defined]
    for what in ("signed", "gated"):
        with pytest.raises(RefusedError):
            require(repository, repository.view(), repository.resolve(commit), what)
