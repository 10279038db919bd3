"""What a program does with a repository, and what it is told when it cannot."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from repo_tables import Treacherous, raw_state

from pyfactory.core.digest import NO_DIGEST, Digest
from pyfactory.errors import (
    ConflictError,
    InvalidInputError,
    NotFoundError,
    PyfactoryError,
    UnavailableError,
)
from pyfactory.repo.objects import TableState
from pyfactory.repo.oplog import log_key
from pyfactory.repo.repository import Repository
from pyfactory.store.content import Objects
from pyfactory.store.memory import MemoryStore
from pyfactory.store.wrap import Counted, Faulty

ABSENT = Digest("9" * 64)


# Making and opening


def test_a_repository_is_made_once_and_opened_anywhere(tmp_path: Path) -> None:
    place = tmp_path / "new" / "place"
    with pytest.raises(NotFoundError, match=r"no pyfactory repository at .*pyfactory init"):
        Repository.open(place)
    made = Repository.create(place, author="Ada")
    assert [operation.who for operation in made.operations()] == ["Ada"]
    assert Repository.open(str(place)).view() == Repository.open(made.url).view() == made.view()
    with pytest.raises(ConflictError, match="already"):
        Repository.create(place)
    assert Repository.open(place).view() == made.view()
    with pytest.raises(NotFoundError, match="pyfactory init"):
        Repository.open(tmp_path)


def test_making_leaves_no_litter() -> None:
    store = MemoryStore()
    Repository.create(store)
    assert [key for key, _ in store.list("")] == ["format.json", "hint/tip", log_key(0), f"summary/{0:020d}"]


def test_a_store_without_put_if_absent_is_refused() -> None:
    class Careless(MemoryStore):
        def create(self, key: str, content: bytes | bytearray | memoryview) -> bool:
            self.replace(key, content)
            return True

    store = Careless()
    with pytest.raises(UnavailableError, match="put-if-absent"):
        Repository.create(store)
    assert list(store.list("")) == []


@pytest.mark.parametrize("method", ["create", "get"])
def test_a_making_that_was_cut_off_is_finished_by_the_next(method: str) -> None:
    def cut(_: int, called: str, key: str) -> None:
        if (called, key) == (method, "format.json" if method == "create" else log_key(0)):
            raise UnavailableError("cut off")

    store = Treacherous()
    store.faults = ["lost"] if method == "get" else []
    with pytest.raises(UnavailableError):
        Repository.create(Faulty(store, before=cut if method == "get" else None, after=cut))
    assert store.size("format.json") is not None
    if method == "create":
        with pytest.raises(NotFoundError, match=r"never finished.*pyfactory init"):
            Repository.open(store)
        Repository.create(store)
    assert Repository.open(store).view().n == 0


def test_a_damaged_log_opens_to_be_verified_and_is_not_started_again(filled: Repository) -> None:
    filled.store.delete("hint/tip")
    for n in (3, 0):
        filled.store.delete(log_key(n))
    damaged = Repository.open(filled.store)
    with pytest.raises(PyfactoryError):
        damaged.view()
    assert {problem.object for problem in damaged.verify().problems} == {log_key(0), log_key(3)}
    with pytest.raises(ConflictError):
        Repository.create(filled.store)


# Commits


def test_the_first_commit_makes_main(repository: Repository) -> None:
    assert repository.head() == NO_DIGEST
    assert repository.branches() == {}
    with pytest.raises(NotFoundError, match="main has no commit yet"):
        repository.resolve()
    state = raw_state(repository.objects, "one")
    made_by = {"kind": "other", "table": "corpus"}
    result = repository.commit({"corpus": state}, message="first\nwith details", author="Ada", made_by=made_by)
    assert result.created
    assert repository.branches() == {"main": result.digest} and repository.head() == result.digest
    commit = repository.load(result.digest)
    assert (commit.parents, commit.author, commit.message) == ((), "Ada", "first\nwith details")
    assert commit.made_by == made_by and commit.gates == () and commit.digest == result.digest
    assert repository.tables() == {"corpus": state}
    assert next((entry.who, entry.why) for entry in repository.operations()) == ("Ada", "first")


def test_other_branches_are_not_made_by_committing(repository: Repository) -> None:
    state = raw_state(repository.objects, "one")
    with pytest.raises(NotFoundError, match="no branch dev"):
        repository.commit({"corpus": state}, "dev", message="")
    repository.commit({"corpus": state}, message="")
    repository.branch("development")
    with pytest.raises(NotFoundError, match="did you mean development"):
        repository.commit({"corpus": state}, "develop", message="")


def test_a_commit_replaces_and_removes_tables_and_keeps_the_others(filled: Repository) -> None:
    other, more = raw_state(filled.objects, "other"), raw_state(filled.objects, "more")
    before = filled.tables()
    filled.commit({"other": other, "more": more}, message="add")
    assert filled.tables() == before | {"other": other, "more": more}
    assert list(filled.tables()) == ["corpus", "more", "other"]
    filled.commit({"corpus": None, "more": other}, message="remove")
    assert filled.tables() == {"more": other, "other": other}
    with pytest.raises(NotFoundError, match=r"no table 'others'.*did you mean other"):
        filled.commit({"others": None}, message="remove")


def test_nothing_changed_is_said_and_writes_nothing(filled: Repository) -> None:
    """A second commit of the same tables must neither move the branch nor pretend to."""
    head, view = filled.head(), filled.view()
    result = filled.commit(filled.tables(), message="again")
    assert (result.digest, result.created) == (head, False)
    assert filled.commit({}, message="again") == result
    assert filled.view() == view


def test_the_first_commit_is_not_empty(repository: Repository) -> None:
    with pytest.raises(InvalidInputError, match="no tables"):
        repository.commit({}, message="")


def test_a_commit_from_what_was_read_conflicts_when_the_branch_moved(filled: Repository) -> None:
    """Without the check a second append to the same parent would silently drop the first one's rows."""
    head = filled.head()
    filled.commit({"corpus": raw_state(filled.objects, "Bob's")}, message="append", author="Bob", expected_head=head)
    with pytest.raises(ConflictError, match=r"branch/main no longer names.*last changed by Bob at .*: append"):
        filled.commit({"corpus": raw_state(filled.objects, "mine")}, message="x", expected_head=head)
    with pytest.raises(ConflictError, match="exists already"):
        filled.commit({"corpus": raw_state(filled.objects, "mine")}, message="x", expected_head=NO_DIGEST)
    assert filled.load(filled.head()).author == "Bob"


def test_an_unborn_main_may_be_expected(repository: Repository) -> None:
    state = raw_state(repository.objects, "one")
    with pytest.raises(ConflictError, match="gone"):
        repository.commit({"corpus": state}, message="", expected_head=ABSENT)
    assert repository.commit({"corpus": state}, message="", expected_head=repository.head()).created


def test_a_race_for_one_branch_has_one_winner() -> None:
    """The rival commits between our look at the branch and our publishing."""
    store = MemoryStore()
    Repository.create(store)
    rival = Repository.open(store)
    state = raw_state(rival.objects, "rival")

    def overtake(_: int, method: str, key: str) -> None:
        if (method, key) == ("create", log_key(1)) and rival.view().n == 0:
            rival.commit({"corpus": state}, message="rival", author="Bob")

    mine = Repository.open(Faulty(store, before=overtake))
    with pytest.raises(ConflictError, match=r"branch/main exists already.*Bob"):
        mine.commit({"corpus": raw_state(mine.objects, "mine")}, message="mine")
    assert [commit.message for commit in mine.log()] == ["rival"]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"manifest": ABSENT}, "no object"),
        ({"rows": 3}, "claims"),
        ({"tokens": 1}, "claims"),
        ({"nbytes": 1}, "claims"),
        ({"shards": 0}, "claims"),
        ({"rows": -1}, "count"),
        ({"schema": (("text", "nonsense", False),)}, "unknown type"),
        ({"artifacts": {"tokenizer": ABSENT}}, "tokenizer"),
        ({"artifacts": {"tokenizer": Digest("x")}}, "digest"),
        ({"attributes": {"width": 1.5}}, "width"),
    ],
)
def test_a_state_that_no_reader_could_use_is_not_committed(
    repository: Repository, wrong: dict[str, object], message: str
) -> None:
    state = replace(raw_state(repository.objects, "one"), **wrong)
    with pytest.raises(InvalidInputError, match=message):
        repository.commit({"corpus": state}, message="")
    assert repository.view().n == 0


def test_a_manifest_that_is_another_object_is_not_committed(repository: Repository) -> None:
    state = replace(raw_state(repository.objects, "one"), manifest=repository.objects.put(b"no manifest"))
    with pytest.raises(InvalidInputError, match="cannot be committed"):
        repository.commit({"corpus": state}, message="")


def test_texts_and_names_are_checked_before_anything_is_written(repository: Repository) -> None:
    state = raw_state(repository.objects, "one")
    written = len(list(repository.store.list("")))
    for attempt in (
        lambda: repository.commit({"corpus": state}, message="\udcff"),
        lambda: repository.commit({"corpus": state}, message="", author="\udcff"),
        lambda: repository.commit({"corpus": state}, message="", made_by={"kind": "other", "file": "\udcff"}),
        lambda: repository.commit({"corpus": replace(state, attributes={"x": "\udcff"})}, message=""),
        lambda: repository.commit({"a/b": state}, message=""),
        lambda: repository.commit({"corpus": state}, "a b", message=""),
        lambda: repository.branch("a b"),
        lambda: repository.tag("a..b"),
        lambda: Repository.create(MemoryStore(), author="\udcff"),
    ):
        with pytest.raises(InvalidInputError):
            attempt()
    assert len(list(repository.store.list(""))) == written


@pytest.mark.parametrize("made_by", [{"kind": "import"}, {"kind": "job"}, {"nokind": 1}, {"kind": ["x"]}])
def test_what_nobody_could_read_is_not_committed(repository: Repository, made_by: dict[str, object]) -> None:
    """Catches a commit after which `show`, `trace` and the next import fail."""
    with pytest.raises(InvalidInputError, match="no commit can hold this: what made it"):
        repository.commit({"corpus": raw_state(repository.objects, "one")}, message="", made_by=made_by)
    assert repository.view().n == 0


def test_objects_are_stored_before_the_entry_that_needs_them() -> None:
    calls: list[str] = []
    store = MemoryStore()
    Repository.create(store)
    watched = Repository.open(
        Faulty(store, before=lambda _, method, key: calls.append(key) if method == "create" else None)
    )
    state = raw_state(watched.objects, "one")
    calls.clear()
    digest = watched.commit({"corpus": state}, message="").digest
    tree = watched.load(digest).tree
    assert calls == [watched.objects.key(tree), watched.objects.key(digest), log_key(1)]


def test_a_commit_costs_few_requests(filled: Repository) -> None:
    """No listing, and nothing that grows with the history or the other tables."""
    store = Counted(filled.store)
    repository = Repository.open(store)
    repository.view()
    state = raw_state(Objects(filled.store), "three")
    store.calls.clear()
    repository.commit({"corpus": state}, message="three")
    assert store.calls == {"size": 1, "get": 3, "create": 3, "replace": 1}


# Threads


def test_threads_share_one_repository() -> None:
    """Eight threads commit on branches of their own and on main; every acknowledged commit is in the log once."""
    repository = Repository.create(MemoryStore())
    states = [raw_state(repository.objects, str(number)) for number in range(41)]
    repository.commit({"corpus": states[40]}, message="base")

    def work(worker: int) -> list[tuple[str, Digest]]:
        own = f"worker-{worker}"
        repository.branch(own, repository.head())
        acknowledged = []
        for step in range(5):
            state = states[worker * 5 + step]
            acknowledged.append((f"branch/{own}", repository.commit({"corpus": state}, own, message="").digest))
            while True:
                try:
                    result = repository.commit({f"t{worker}": state}, message=f"{worker} {step}")
                except ConflictError:
                    continue
                acknowledged.append(("branch/main", result.digest))
                break
        return acknowledged

    with ThreadPoolExecutor(8) as threads:
        acknowledged = [digest for digests in threads.map(work, range(8)) for digest in digests]
    moved = [(change.ref, change.new) for entry in repository.operations() for change in entry.changes]
    assert len(acknowledged) == 80
    assert all(moved.count(move) == 1 for move in acknowledged)
    assert repository.verify().problems == []
    assert [len(list(repository.log(f"worker-{worker}"))) >= 6 for worker in range(8)] == [True] * 8
    assert set(repository.tables()) == {"corpus", *(f"t{worker}" for worker in range(8))}


def test_errors_are_ours(filled: Repository) -> None:
    """Whatever a caller passes, what comes back is a value or one of our errors."""
    hostile = ["", "\x00", "a" * 5000, "branch/branch/x", "tag/", "~", "main^", "🤖", "-"]
    for text in hostile:
        for call in (filled.resolve, filled.tables, filled.branch, filled.tag, filled.version, filled.head):
            try:
                call(text)
            except PyfactoryError as error:
                assert re.search(r"\S", error.message)


def test_states_compare_as_values(repository: Repository) -> None:
    state = raw_state(repository.objects, "one")
    assert TableState.from_value(state.to_value(), "x") == state
