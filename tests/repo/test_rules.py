"""Rules and trusted keys: what they are, who may change them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from threading import Barrier

import pytest
from repo_tables import raw_state
from test_signatures import ADA, BOB, EVE, problems

from pyfactory.core.canonical import encode
from pyfactory.core.digest import Buffer, Digest
from pyfactory.errors import ConflictError, CorruptError, InvalidInputError, NotFoundError, RefusedError
from pyfactory.repo.gates.contamination_sets import make_set
from pyfactory.repo.listing import Listing, digests_of
from pyfactory.repo.operation import Change
from pyfactory.repo.refusal import list_refusals
from pyfactory.repo.repository import Repository
from pyfactory.repo.rule_text import gate_from_text
from pyfactory.repo.rules import NO_RULE, BranchRule, GateRule, branch_rule, load_keys, load_rule, trusted_keys
from pyfactory.repo.ruling import distrust_key, publish_signed, set_keys, set_rule, trust_key
from pyfactory.repo.signing import Signer
from pyfactory.repo.sweep import gc
from pyfactory.repo.swept import SWEEP
from pyfactory.repo.transaction import publish
from pyfactory.repo.upgrade import undo_upgrade, upgrade
from pyfactory.store.memory import MemoryStore
from pyfactory.store.wrap import Faulty

RULE = BranchRule(protected=True, signed=True, gates=(GateRule("nulls", "corpus"), GateRule("schema")))


def whys(repository: Repository) -> list[str]:
    return [operation.why for operation in repository.operations()]


def test_a_rule_is_kept_and_removed(repository: Repository) -> None:
    assert branch_rule(repository, repository.view(), "main") == NO_RULE
    assert set_rule(repository, "main", RULE, "Ada", "first rule")
    assert set_rule(repository, "team/exp", BranchRule(signed=True), "Ada")
    view = repository.view()
    assert branch_rule(repository, view, "main") == RULE
    assert branch_rule(repository, view, "team/exp") == BranchRule(signed=True)
    assert branch_rule(repository, view, "other") == NO_RULE
    assert set_rule(repository, "main", None, "Ada")
    assert branch_rule(repository, repository.view(), "main") == NO_RULE
    assert whys(repository)[:3] == ["remove the rule of main", "set the rule of team/exp", "first rule"]


def test_what_is_so_already_is_not_written(repository: Repository) -> None:
    """Catches an operation that changes nothing."""
    set_rule(repository, "main", RULE, "Ada")
    set_keys(repository, {"ada": ADA.public}, "Ada")
    n, stored = repository.view().n, list(repository.store.list(""))
    assert not set_rule(repository, "main", RULE, "Bob"), "needs no signature either"
    assert not set_rule(repository, "other", None, "Bob")
    assert not set_keys(repository, {"ada": ADA.public}, "Bob")
    assert not trust_key(repository, "ada", ADA.public, "Bob")
    assert (repository.view().n, list(repository.store.list(""))) == (n, stored)


@pytest.mark.parametrize("name", ["", "a b", "../x", "tag/x", "x\0", "a" * 300, "/".join("a" * 60), "abcdef0123", "ä"])
def test_branch_names_are_checked(repository: Repository, name: str) -> None:
    """Catches a name that becomes an entry which no reader takes."""
    with pytest.raises(InvalidInputError):
        set_rule(repository, name, RULE, "Ada")
    assert repository.view().n == 0
    longest = "/".join("a" * 16)
    assert set_rule(repository, longest, RULE, "Ada")
    assert branch_rule(Repository.open(repository.store), repository.view(), longest) == RULE


@pytest.mark.parametrize(
    "gate",
    [
        GateRule("nul"),
        GateRule("nulls", "cor pus"),
        GateRule("nulls", "corpus", {"no-such-option": 1}),
        GateRule("nulls", "corpus", {"columns": 1}),
        GateRule("nulls", "corpus", {"max_null": 0.5}),  # type: ignore[dict-item]
    ],
)
def test_a_rule_that_cannot_be_followed_is_refused(repository: Repository, gate: GateRule) -> None:
    """Catches a rule that would stop every commit to the branch later on."""
    with pytest.raises(InvalidInputError):
        set_rule(repository, "main", BranchRule(gates=(gate,)), "Ada")
    assert repository.view().n == 0


def test_keys_are_checked(repository: Repository) -> None:
    """Catches the same key under two names, one of which would be left when the other is distrusted."""
    for keys in (
        {"ada": "ab"},
        {"ada": "00" * 32},
        {"a b": ADA.public},
        {"team/ada": ADA.public},
        {"ada": ADA.public, "bob": ADA.public},
    ):
        with pytest.raises(InvalidInputError):
            set_keys(repository, keys, "Ada")
    with pytest.raises(NotFoundError):
        distrust_key(repository, "ada", "Ada")
    assert repository.view().n == 0


@pytest.mark.parametrize("signer", [None, EVE], ids=["nobody", "a stranger"])
def test_only_who_is_trusted_changes_rules(repository: Repository, signer: Signer | None) -> None:
    """Catches a change without a signature once there are keys, and one that is signed by the key that it adds."""
    assert set_rule(repository, "main", BranchRule(protected=True), "Eve"), "no key, no signature"
    assert set_keys(repository, {"ada": ADA.public}, "Ada")
    attempts = [
        lambda: set_rule(repository, "main", None, "Eve", "I say so", signer),
        lambda: set_rule(repository, "dev", RULE, "Eve", "I say so", signer),
        lambda: trust_key(repository, "eve", EVE.public, "Eve", "I say so", signer),
        lambda: set_keys(repository, {"eve": EVE.public}, "Eve", "I say so", signer),
        lambda: set_keys(repository, {}, "Eve", "I say so", signer),
        lambda: distrust_key(repository, "ada", "Eve", "I say so", signer),
    ]
    refs = repository.view().refs
    for number, attempt in enumerate(attempts, 1):
        with pytest.raises(RefusedError, match="needs the signature of a trusted key") as refused:
            attempt()
        assert "ada" in refused.value.hint
        found = list_refusals(repository, repository.view(), 100)
        assert len(found) == number
        assert (found[0].who, found[0].details["trusted"]) == ("Eve", ["ada"])
        assert found[0].details["key"] == (signer and signer.public)
    now = dict(repository.view().refs)
    del now["refusal/last"]
    assert now == refs, "nothing else moved"
    assert problems(repository) == []


def test_keys_rotate(repository: Repository) -> None:
    """Catches a distrusted key that still signs, and a new one that does not yet."""
    set_keys(repository, {"ada": ADA.public}, "Ada")
    assert trust_key(repository, "bob", BOB.public, "Ada", signer=ADA)
    distrust_key(repository, "ada", "Bob", signer=BOB)
    assert trusted_keys(repository, repository.view()) == {"bob": BOB.public}
    with pytest.raises(RefusedError):
        set_rule(repository, "main", RULE, "Ada", signer=ADA)
    assert set_rule(repository, "main", RULE, "Bob", signer=BOB)
    assert trust_key(repository, "bob", EVE.public, "Bob", signer=BOB), "another key under a name"
    with pytest.raises(RefusedError):
        set_keys(repository, {}, "Bob", signer=BOB)
    assert set_keys(repository, {}, "Eve", signer=EVE)
    assert set_rule(repository, "main", None, "anybody"), "no key, no signature"
    assert problems(repository) == []


def test_a_key_that_is_distrusted_meanwhile_signs_nothing(repository: Repository) -> None:
    """Catches a change that is put behind the entry that took its key away."""
    set_keys(repository, {"ada": ADA.public, "bob": BOB.public}, "Ada")
    late = repository.view()
    distrust_key(repository, "ada", "Bob", signer=BOB)
    change = Change("rule/branch/main", None, repository.objects.put(RULE.to_bytes()))
    with pytest.raises(RefusedError):
        publish_signed(repository, late, [change], "Ada", "set a rule", "", ADA)
    assert "rule/branch/main" not in repository.view().refs
    publish_signed(repository, late, [change], "Bob", "set a rule", "", BOB)  # another entry in between is no obstacle
    assert branch_rule(repository, repository.view(), "main") == RULE
    assert problems(repository) == []


class Crowded(MemoryStore):
    """A store where somebody else acts at the last moment before a log entry of ours."""

    act: Callable[[], object] | None = None

    def create(self, key: str, content: Buffer) -> bool:
        act, self.act = self.act, None if key.startswith("log/") else self.act
        if act is not None and key.startswith("log/"):
            act()
        return super().create(key, content)


def test_somebody_comes_in_between() -> None:
    """Catches a signature for the place that another took, a key that was taken away, and a rule nobody looked at."""
    repository = Repository.create(Crowded())
    set_keys(repository, {"ada": ADA.public, "bob": BOB.public}, "Ada")
    store, other = repository.store, Repository.open(repository.store)
    assert isinstance(store, Crowded)
    store.act = lambda: set_rule(other, "dev", RULE, "Bob", signer=BOB)
    assert set_rule(repository, "main", RULE, "Ada", signer=ADA), "another rule is no obstacle"
    assert problems(repository) == []
    store.act = lambda: set_rule(other, "main", None, "Bob", signer=BOB)
    with pytest.raises(ConflictError, match="last changed by Bob"):
        set_rule(repository, "main", BranchRule(), "Ada", signer=ADA)
    store.act = lambda: distrust_key(other, "ada", "Bob", signer=BOB)
    with pytest.raises(RefusedError):
        set_rule(repository, "main", RULE, "Ada", signer=ADA)
    assert branch_rule(repository, repository.view(), "main") == NO_RULE
    assert problems(repository) == []


def test_two_writers_at_one_rule(repository: Repository) -> None:
    """Catches a rule that is put over another one which its writer never saw."""
    set_keys(repository, {"ada": ADA.public}, "Ada")
    for turn in range(10):
        rules = [BranchRule(gates=(GateRule("schema", f"t{turn}-{writer}"),)) for writer in range(2)]
        together = Barrier(2)

        def write(rule: BranchRule, together: Barrier = together) -> bool:
            mine = Repository.open(repository.store)
            together.wait()
            try:
                return set_rule(mine, "main", rule, "Ada", signer=ADA)
            except ConflictError:
                return False

        with ThreadPoolExecutor(2) as threads:
            done = list(threads.map(write, rules))
        assert any(done)
        now = branch_rule(repository, repository.view(), "main")
        assert now in [rule for rule, wrote in zip(rules, done, strict=True) if wrote]
    assert problems(repository) == []
    view = repository.view()
    change = Change("rule/branch/main", None, view.refs["rule/keys"])
    with pytest.raises(ConflictError):
        publish_signed(repository, view, [change], "Ada", "it", "", ADA)


def test_others_who_write_all_the_time_are_no_conflict(repository: Repository) -> None:
    """Catches giving up, or publishing with the signature for another place, when an entry comes in between."""
    set_keys(repository, {"ada": ADA.public}, "Ada")
    together = Barrier(4)

    def write(writer: int) -> None:
        mine = Repository.open(repository.store)
        together.wait()
        for turn in range(5):
            assert set_rule(mine, f"b{writer}", BranchRule(protected=turn % 2 == 0), "Ada", signer=ADA)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(write, range(4)))
    assert repository.view().n == 1 + 20
    assert problems(repository) == []


@pytest.mark.parametrize(
    "value",
    [
        [],
        {"kind": "rule", "v": 1},
        {"gates": [], "kind": "rule", "protected": 1, "signed": False, "v": 1},
        {"gates": {}, "kind": "rule", "protected": True, "signed": False, "v": 1},
        {"gates": [1], "kind": "rule", "protected": True, "signed": False, "v": 1},
        {"gates": [{"gate": "x", "options": {"a": None}, "table": "*"}], "kind": "rule", "protected": True}
        | {"signed": False, "v": 1},
        {"keys": {"ada": "00"}, "kind": "keys", "v": 1},
        {"keys": [], "kind": "keys", "v": 1},
        {"keys": {"ada": "AB" * 32}, "kind": "keys", "v": 1},
    ],
)
def test_hostile_rules_and_keys_are_corrupt(repository: Repository, value: object) -> None:
    digest = repository.objects.put(encode(value))
    for load in (load_rule, load_keys):
        with pytest.raises(CorruptError):
            load(repository, digest)
    changes = [Change("rule/branch/main", None, digest), Change("rule/keys", None, digest)]
    publish(repository.oplog, repository.view(), changes, "Eve", "junk")
    with pytest.raises(CorruptError):
        set_rule(repository, "main", RULE, "Ada", signer=ADA)
    assert ("corrupt", digest) in problems(repository) or ("unsigned", digest) in problems(repository)


def test_a_missing_rule_is_corrupt(repository: Repository) -> None:
    with pytest.raises(CorruptError, match="is missing"):
        load_rule(repository, Digest("ab" * 32))


def test_gates_as_they_are_typed() -> None:
    """Catches options that lose their type, or a text that is cut at its commas."""
    assert gate_from_text("schema") == GateRule("schema")
    assert gate_from_text("schema:raw") == GateRule("schema", "raw")
    nulls = gate_from_text("nulls:max_null=0,columns=a,columns=b")
    assert nulls == GateRule("nulls", "*", {"max_null": "0", "columns": ["a", "b"]})
    assert gate_from_text("counts:*:min_rows=7").options == {"min_rows": 7}
    assert gate_from_text("sql:raw:query=select a, b from t where x = 1") == GateRule(
        "sql", "raw", {"query": "select a, b from t where x = 1"}
    )
    for text in (
        "nul",
        "schema:raw:nothing=1",
        "schema:raw:nothing",
        "counts:raw:min_rows",
        "counts:raw:min_rows=1,2",
        "nulls:max_null=0,max_null=1",
    ):
        with pytest.raises(InvalidInputError):
            gate_from_text(text)


def with_set(repository: Repository) -> tuple[BranchRule, Digest]:
    """A rule whose gate needs an evaluation set that is stored."""
    made = repository.objects.put(make_set(["one two three four five six seven eight nine ten"], 3).to_bytes())
    return BranchRule(gates=(needing(made),)), made


def needing(digest: Digest) -> GateRule:
    return GateRule("contamination", "corpus", {"sets": [f"quiz={digest}"], "n": 3})


def test_what_the_gate_of_a_rule_needs_must_be_there(filled: Repository) -> None:
    """Catches a rule that makes every later merge an error."""
    rule, made = with_set(filled)
    filled.store.delete(filled.objects.key(made))
    with pytest.raises(InvalidInputError, match="no evaluation set"):
        set_rule(filled, "main", rule, "Ada")
    rule, _ = with_set(filled)
    unlike = BranchRule(gates=(GateRule("contamination", "corpus", {**rule.gates[0].options, "n": 4}),))
    with pytest.raises(InvalidInputError, match="windows of 3 words"):
        set_rule(filled, "main", unlike, "Ada")
    listing = filled.objects.put(filled.objects.get(filled.head("main")))
    with pytest.raises(CorruptError, match="no evaluation set"):
        set_rule(filled, "main", replace(rule, gates=(needing(listing),)), "Ada")


def test_a_sweep_leaves_what_the_gate_of_a_rule_needs(filled: Repository) -> None:
    """Catches a sweep that sees digests only where they stand alone; `verify` would tell."""
    rule, made = with_set(filled)
    set_rule(filled, "main", rule, "Ada")
    gc(filled, grace=timedelta(0), who="gc")
    assert filled.objects.exists(made)
    filled.commit({"corpus": raw_state(filled.objects, "x")}, message="x")
    filled.store.delete(filled.objects.key(made))
    (problem,) = filled.verify().problems
    assert problem.kind == "missing" and made in problem.message
    filled.store.create(filled.objects.key(made), b"something else")
    (problem,) = filled.verify().problems
    assert problem.kind == "corrupt" and made in problem.message


def test_a_sweep_leaves_what_the_gate_of_an_earlier_rule_needs(filled: Repository) -> None:
    """Catches a record of rules that nobody can go back to. That it is gone is wrong for a rule in force only."""
    rule, made = with_set(filled)
    set_rule(filled, "main", rule, "Ada")
    set_rule(filled, "main", None, "Ada")
    gc(filled, grace=timedelta(0), who="gc")
    assert filled.objects.exists(made)
    filled.store.delete(filled.objects.key(made))
    assert filled.verify().problems == []


def test_a_sweep_between_two_tries_takes_nothing_that_a_rule_needs(filled: Repository) -> None:
    """It ends before the second try. Catches a rule, or a set, that is stored and looked at before the first only."""
    rule, made = with_set(filled)

    def sweep(number: int, method: str, key: str) -> None:
        if method == "create" and key.startswith("log/"):
            faulty.before = None
            assert gc(filled, grace=timedelta(0), who="gc").freed >= 2

    faulty = Faulty(filled.store, before=sweep)
    with pytest.raises(ConflictError, match="swept meanwhile"):
        set_rule(Repository.open(faulty), "main", rule, "Ada")
    assert branch_rule(filled, filled.view(), "main") == NO_RULE
    faulty.before = sweep
    assert set_rule(Repository.open(faulty), "main", BranchRule(protected=True), "Ada"), "its bytes are stored anew"
    assert filled.verify().problems == [] and not filled.objects.exists(made)


def test_a_rule_is_not_one_that_is_being_swept(filled: Repository) -> None:
    """Its object was left by a writer that was killed. Catches an upload that is skipped and then swept."""
    digest = filled.objects.put(RULE.to_bytes())
    listing = Listing(1, "2026-01-01T00:00:00Z", 1, digests_of(bytes.fromhex(digest)))
    swept = Change(SWEEP, None, filled.objects.put(listing.to_bytes()))
    publish(filled.oplog, filled.view(), [swept], "gc", "sweep")
    with pytest.raises(ConflictError, match="swe"):
        set_rule(filled, "main", RULE, "Ada")


def test_rules_need_a_repository_that_says_so(filled: Repository) -> None:
    """Programs that know nothing of rules would write on. Catches a rule that only some obey."""
    filled.store.replace("format.json", encode({"format": 1, "reader": [], "writer": []}))
    with pytest.raises(InvalidInputError) as caught:
        set_rule(filled, "main", RULE, "Ada")
    assert "pyfactory upgrade" in caught.value.hint
    with pytest.raises(InvalidInputError):
        trust_key(filled, "ada", ADA.public, "Ada")
    assert filled.view().refs.keys() & {"rule/branch/main", "rule/keys"} == set()


def test_an_upgrade_taken_back_between_two_tries_ends_them(filled: Repository) -> None:
    """Catches a look at the features before the first try only."""
    filled.store.replace("format.json", encode({"format": 1, "reader": [], "writer": []}))
    upgrade(filled)

    def undo(number: int, method: str, key: str) -> None:
        if method == "create" and key.startswith("log/"):
            faulty.before = None
            undo_upgrade(filled)

    faulty = Faulty(filled.store, before=undo)
    with pytest.raises(InvalidInputError, match="does not know rules"):
        set_rule(Repository.open(faulty), "main", RULE, "Ada")
    assert "rule/branch/main" not in filled.view().refs


def test_a_repository_of_the_first_format_takes_rules_after_an_upgrade(tmp_path: Path) -> None:
    shutil.copytree(Path(__file__).parents[1] / "old_bytes" / "format-1", tmp_path / "repo")
    old = Repository.open(tmp_path / "repo")
    with pytest.raises(InvalidInputError, match="does not know rules"):
        set_rule(old, "main", BranchRule(protected=True), "Ada")
    upgrade(old)
    assert set_rule(old, "main", BranchRule(protected=True), "Ada")


def test_a_rule_that_was_changed_meanwhile_is_not_overwritten(filled: Repository) -> None:
    """Catches a change that is decided on one view and made on another."""
    view = filled.view()
    set_rule(filled, "main", RULE, "Ada")
    with pytest.raises(ConflictError):
        set_rule(filled, "main", BranchRule(protected=True), "Bob", view=view)
