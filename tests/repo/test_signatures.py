"""Statements, their storage, and who counts as having signed."""

from __future__ import annotations

import json
from functools import cache

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from pyfactory.core.canonical import encode
from pyfactory.core.digest import Digest, digest_of
from pyfactory.errors import CorruptError, InvalidInputError, NewerFormatError, NotFoundError
from pyfactory.repo.findings import Findings
from pyfactory.repo.operation import Change
from pyfactory.repo.oplog import log_key
from pyfactory.repo.repository import Repository
from pyfactory.repo.rules import BranchRule
from pyfactory.repo.ruling import distrust_key, set_keys, set_rule, trust_key
from pyfactory.repo.signatures import (
    Signature,
    Statement,
    change_statement,
    commit_statement,
    rule_statement,
    sign,
    sign_commit,
    sign_tag,
    signature_key,
    signed_by,
    tag_statement,
)
from pyfactory.repo.signing import Signer
from pyfactory.repo.transaction import publish
from pyfactory.repo.verify_signatures import check_signatures
from pyfactory.store.memory import MemoryStore

COMMIT = Digest("ab" * 32)
OTHER = Digest("cd" * 32)


@cache
def signer(name: str) -> Signer:
    return Signer(Ed25519PrivateKey.from_private_bytes(name.ljust(32).encode()))


ADA, BOB, EVE = signer("ada"), signer("bob"), signer("eve")
KEYS = {"ada": ADA.public, "bob": BOB.public}


def problems(repository: Repository) -> list[tuple[str, str]]:
    findings = Findings()
    check_signatures(repository, findings)
    return [(problem.kind, problem.object) for problem in findings.all()]


def test_a_stored_signature_is_this(repository: Repository) -> None:
    """The stored format: catches every change of it, and signing without the prefix that keeps other uses apart."""
    statement = tag_statement(repository, "v1", COMMIT)
    sign(repository, statement, ADA)
    first = digest_of(repository.store.get(log_key(0)))
    said = {"commit": COMMIT, "kind": "tag", "name": "v1", "repository": first}
    digest = digest_of(encode(said))
    key = f"signatures/{digest[:2]}/{digest[2:]}/{ADA.public}"
    signature = ADA.sign(b"pyfactory signature v1\0" + encode(said)).hex()
    stored = {"key": ADA.public, "kind": "signature", "signature": signature, "statement": said, "v": 1}
    assert repository.store.get(key) == encode(stored)
    assert commit_statement(COMMIT) == {"commit": COMMIT, "kind": "commit"}
    change = Change("rule/keys", None, OTHER)
    moved = {"new": OTHER, "old": None, "ref": "rule/keys", "repository": first}
    assert change_statement(repository, change) == {"kind": "change", **moved}
    assert rule_statement(repository, change, COMMIT) == {"kind": "rule", "after": COMMIT, **moved}


def test_who_signed(repository: Repository) -> None:
    """Catches a signature of any key that counts, and one that hides the others."""
    statement = commit_statement(COMMIT)
    assert signed_by(repository, statement, KEYS) is None
    sign(repository, statement, EVE)
    assert signed_by(repository, statement, KEYS) is None
    sign(repository, statement, BOB)
    assert signed_by(repository, statement, KEYS) == "bob"
    sign(repository, statement, ADA)
    assert signed_by(repository, statement, KEYS) == "ada"
    assert signed_by(repository, statement, {"x": EVE.public}) == "x"
    assert signed_by(repository, statement, {}) is None
    before = dict(repository.store.list("signatures"))
    sign(repository, statement, ADA)
    assert dict(repository.store.list("signatures")) == before, "the same bytes again"


def test_a_signature_holds_for_its_tag_only() -> None:
    """Catches a statement without the name, the commit or the repository: it could be used again elsewhere."""
    here, there = Repository.create(MemoryStore()), Repository.create(MemoryStore())
    sign_tag(here, "v1", COMMIT, ADA)
    ((key, _),) = here.store.list("signatures")
    there.store.create(key, here.store.get(key))
    assert signed_by(here, tag_statement(here, "v1", COMMIT), KEYS) == "ada"
    for home, name, commit in ((here, "v2", COMMIT), (here, "v1", OTHER), (there, "v1", COMMIT)):
        statement = tag_statement(home, name, commit)
        assert signed_by(home, statement, KEYS) is None
        home.store.create(signature_key(statement, ADA.public), here.store.get(key))  # under the name of another
        assert signed_by(home, statement, KEYS) is None
        assert ("signature", signature_key(statement, ADA.public)) in problems(home)
    assert signed_by(here, commit_statement(COMMIT), KEYS) is None, "signing a tag is not signing its commit"


@given(st.data())
def test_any_flipped_bit_of_the_stored_bytes_fails(data: st.DataObject) -> None:
    """Catches a field of the stored signature that nothing checks."""
    repository = Repository.create(MemoryStore())
    statement = commit_statement(COMMIT)
    sign(repository, statement, ADA)
    key = signature_key(statement, ADA.public)
    content = bytearray(repository.store.get(key))
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    content[bit // 8] ^= 1 << bit % 8
    repository.store.replace(key, bytes(content))
    assert signed_by(repository, statement, KEYS) is None
    assert [name for _, name in problems(repository)] == [key]
    sign(repository, statement, ADA)  # mends it
    assert signed_by(repository, statement, KEYS) == "ada"
    assert problems(repository) == []


def test_a_signature_mends_what_lies_in_its_place(repository: Repository) -> None:
    """Catches believing "the key is taken": junk in the place of a signature would keep it away for ever."""
    statement = commit_statement(COMMIT)
    for junk in (b"", b"junk", Signature(ADA.public, bytes(64), statement).to_bytes()):
        repository.store.replace(signature_key(statement, ADA.public), junk)
        assert signed_by(repository, statement, KEYS) is None
        sign(repository, statement, ADA)
        assert signed_by(repository, statement, KEYS) == "ada"


def stored(**changed: object) -> bytes:
    value = json.loads(Signature(ADA.public, bytes(64), commit_statement(COMMIT)).to_bytes())
    return encode({name: item for name, item in {**value, **changed}.items() if item != "gone"})


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{",
        stored(kind="gone"),
        stored(kind="rule"),
        stored(v=0),
        stored(more=1),
        stored(key="gone"),
        stored(key="AB" * 32),
        stored(key=None),
        stored(signature="00" * 63),
        stored(signature=[]),
        stored(statement=[]),
        stored(statement={}),
        stored(statement={"kind": []}),
        stored(statement={"kind": "other"}),
        stored(statement={"kind": "commit"}),
        stored(statement={"commit": "x", "kind": "commit"}),
        stored(statement={"commit": COMMIT, "kind": "commit", "name": "v1"}),
        stored(statement={"commit": COMMIT, "kind": "tag", "name": 1, "repository": COMMIT}),
        stored(statement={"kind": "change", "new": 1, "old": None, "ref": "", "repository": COMMIT}),
    ],
)
def test_hostile_bytes_are_corrupt_and_count_for_nothing(repository: Repository, content: bytes) -> None:
    with pytest.raises(CorruptError):
        Signature.from_bytes(content, "it")
    key = signature_key(commit_statement(COMMIT), ADA.public)
    repository.store.create(key, content)
    assert signed_by(repository, commit_statement(COMMIT), KEYS) is None
    assert problems(repository) == [("corrupt", key)]


@given(st.binary(max_size=300))
def test_random_bytes_are_corrupt(content: bytes) -> None:
    with pytest.raises(CorruptError):
        Signature.from_bytes(content, "it")


def test_a_later_format_counts_for_nothing(repository: Repository) -> None:
    with pytest.raises(NewerFormatError):
        Signature.from_bytes(stored(v=2), "it")
    repository.store.create(signature_key(commit_statement(COMMIT), ADA.public), stored(v=2))
    assert signed_by(repository, commit_statement(COMMIT), KEYS) is None


@pytest.mark.parametrize("statement", [{}, {"kind": "commit"}, {"kind": "commit", "commit": "v1"}])
def test_only_statements_are_signed(repository: Repository, statement: Statement) -> None:
    with pytest.raises(InvalidInputError):
        sign(repository, statement, ADA)
    assert list(repository.store.list("signatures")) == []


def test_only_commits_that_exist_are_signed(filled: Repository) -> None:
    with pytest.raises((CorruptError, NotFoundError)):
        sign_commit(filled, COMMIT, ADA)


def test_a_branch_that_asks_for_signatures(filled: Repository) -> None:
    """Catches a verification that looks at no branch, at its head only, or at keys of another day."""
    head = filled.head()
    set_keys(filled, {"ada": ADA.public}, "Ada", signer=ADA)
    set_rule(filled, "main", BranchRule(signed=True), "Ada", signer=ADA)
    assert problems(filled) == [("unsigned", head)]
    sign_commit(filled, head, EVE)
    assert problems(filled) == [("untrusted", head)]
    sign_commit(filled, head, ADA)
    assert problems(filled) == []
    moved = filled.head("dev")  # somebody goes around the rule, and back
    publish(filled.oplog, filled.view(), [Change("branch/main", head, moved)], "Eve", "around")
    publish(filled.oplog, filled.view(), [Change("branch/main", moved, head)], "Eve", "and back")
    assert problems(filled) == [("unsigned", moved)]


def test_keys_change_over_time(filled: Repository) -> None:
    """Catches judging the past by the keys of today, and today by those of the past."""
    old, head = filled.head("dev"), filled.head()
    set_keys(filled, {"ada": ADA.public}, "Ada")
    for branch, commit in (("dev", old), ("main", head)):
        sign_commit(filled, commit, ADA)
        set_rule(filled, branch, BranchRule(signed=True), "Ada", signer=ADA)
    for before, after in ((old, head), (head, old), (old, head)):
        publish(filled.oplog, filled.view(), [Change("branch/dev", before, after)], "Ada", "to and fro")
    trust_key(filled, "bob", BOB.public, "Ada", signer=ADA)
    assert problems(filled) == []
    distrust_key(filled, "ada", "Bob", signer=BOB)
    assert signed_by(filled, commit_statement(head), {"bob": BOB.public}) is None
    assert problems(filled) == [("untrusted", head)], "what is named now must be signed anew; what was, was signed"
    sign_commit(filled, head, BOB)
    assert problems(filled) == []


def test_tags(filled: Repository) -> None:
    """Catches a tag whose signature is by nobody who counts."""
    set_keys(filled, {"ada": ADA.public}, "Ada", signer=ADA)
    commit = filled.tags()["v1"]
    assert problems(filled) == []
    sign_tag(filled, "v1", commit, EVE)
    assert problems(filled) == [("untrusted", commit)]
    sign_tag(filled, "v1", commit, ADA)
    assert problems(filled) == []


def test_rules_changed_around_the_rules(filled: Repository) -> None:
    """Catches a change of rules that nobody who was trusted signed, and an old one that is put in again."""
    set_keys(filled, {"ada": ADA.public}, "Ada", signer=ADA)
    trust_key(filled, "eve", EVE.public, "Ada", signer=ADA)
    (added,) = next(filled.operations()).changes
    distrust_key(filled, "eve", "Ada", signer=ADA)
    assert filled.view().refs["rule/keys"] == added.old
    assert problems(filled) == []
    view = filled.view()
    publish(filled.oplog, view, [added], "Eve", "trusted again, by the same signature")
    sign(filled, rule_statement(filled, added, view.digest), EVE)  # who signs that she is to be trusted
    assert problems(filled) == [("untrusted", log_key(view.n + 1))]
    view = filled.view()
    publish(filled.oplog, view, [Change("rule/keys", view.refs["rule/keys"], None)], "Eve", "no keys at all")
    assert problems(filled)[0] == ("unsigned", log_key(view.n + 1))


def test_a_damaged_log_is_a_problem(filled: Repository) -> None:
    filled.store.replace(log_key(1), b"junk")
    assert problems(Repository.open(filled.store))[0][0] == "corrupt"


def test_a_head_and_a_tag_of_one_commit_are_two_problems(filled: Repository) -> None:
    """Catches a tag that is not mentioned, so that whoever signs the head anew believes to be done."""
    head = filled.tags()["v1"]
    set_keys(filled, {"ada": ADA.public}, "Ada", signer=ADA)
    set_rule(filled, "main", BranchRule(signed=True), "Ada", signer=ADA)
    assert filled.head() == head
    sign_commit(filled, head, EVE)
    sign_tag(filled, "v1", head, EVE)
    assert problems(filled) == [("untrusted", head)] * 2
    sign_commit(filled, head, ADA)
    assert problems(filled) == [("untrusted", head)]
    sign_tag(filled, "v1", head, ADA)
    assert problems(filled) == []
