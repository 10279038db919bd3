"""What a program does with a repository, and what it is told when it cannot."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from repo_tables import Treacherous, raw_state, state_of, token_part

from pyfactory.core.canonical import encode
from pyfactory.core.digest import NO_DIGEST, Digest, digest_of
from pyfactory.errors import (
    ConflictError,
    CorruptError,
    InvalidInputError,
    NotFoundError,
    PyfactoryError,
    UnavailableError,
)
from pyfactory.repo.objects import Commit, TableState, Tree
from pyfactory.repo.operation import Change
from pyfactory.repo.oplog import OperationLog, log_key
from pyfactory.repo.repository import Repository
from pyfactory.repo.transaction import publish
from pyfactory.shard.layout import token_schema
from pyfactory.store.content import Objects
from pyfactory.store.memory import MemoryStore
from pyfactory.store.wrap import Counted, Faulty

ABSENT = Digest("9" * 64)


@pytest.fixture
def repository() -> Repository:
    return Repository.create(MemoryStore())


@pytest.fixture
def filled(repository: Repository) -> Repository:
    """main: one, two (tag v1); branch dev from one."""
    one = repository.commit({"corpus": raw_state(repository.objects, "one")}, message="one", author="Ada").digest
    repository.branch("dev", one, author="Ada")
    repository.commit({"corpus": raw_state(repository.objects, "two")}, message="two", author="Bob")
    repository.tag("v1", "main", "first release", author="Eve")
    return repository


# Making and opening


def test_a_repository_is_made_once_and_opened_anywhere(tmp_path: Path) -> None:
    place = tmp_path / "new" / "place"
    with pytest.raises(NotFoundError, match="no pyfactory repository at .*pyfactory init"):
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
        with pytest.raises(NotFoundError, match="never finished.*pyfactory init"):
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
    made_by = {"kind": "import", "table": "corpus"}
    result = repository.commit({"corpus": state}, message="first\nwith details", author="Ada", made_by=made_by)
    assert result.created
    assert repository.branches() == {"main": result.digest} and repository.head() == result.digest
    commit = repository.load(result.digest)
    assert (commit.parents, commit.author, commit.message) == ((), "Ada", "first\nwith details")
    assert commit.made_by == made_by and commit.gates == () and commit.digest == result.digest
    assert repository.tables() == {"corpus": state}
    assert [(entry.who, entry.why) for entry in repository.operations()][0] == ("Ada", "first")


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
    with pytest.raises(NotFoundError, match="no table 'others'.*did you mean other"):
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
    with pytest.raises(ConflictError, match="branch/main no longer names.*Bob moved it at .*: append"):
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
    with pytest.raises(ConflictError, match="branch/main exists already.*Bob"):
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
    state = replace(raw_state(repository.objects, "one"), **wrong)  # type: ignore[arg-type]
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
        lambda: repository.commit({"corpus": state}, message="", made_by={"file": "\udcff"}),
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


# Branches, tags, names


def test_branches_and_tags_point_and_tags_stay(filled: Repository) -> None:
    head = filled.head()
    assert filled.tags() == {"v1": head}
    assert set(filled.branches()) == {"main", "dev"}
    for again in ("main", "dev"):
        with pytest.raises(ConflictError, match=f"tag/v1 exists already: it names {head}; Eve moved it at .*first release"):
            filled.tag("v1", again)
    with pytest.raises(ConflictError, match="branch/dev exists already"):
        filled.branch("dev")
    filled.commit({"corpus": raw_state(filled.objects, "three")}, message="three")
    assert filled.tags() == {"v1": head} and filled.head() != head
    assert filled.branch("feature/x", "v1") == head
    filled.commit({"corpus": raw_state(filled.objects, "four")}, "feature/x", message="four")
    assert [commit.message for commit in filled.log("feature/x")] == ["four", "two", "one"]


def test_nothing_branches_from_nothing(repository: Repository) -> None:
    for attempt in (lambda: repository.branch("dev"), lambda: repository.tag("v1"), lambda: repository.branch("main")):
        with pytest.raises(NotFoundError, match="main has no commit yet"):
            attempt()


def test_main_may_be_made_from_elsewhere_once(filled: Repository) -> None:
    with pytest.raises(ConflictError):
        filled.branch("main", "dev")


def test_every_way_to_name_a_commit(filled: Repository) -> None:
    head = filled.head()
    for asked, ref in {
        "main": "branch/main",
        "branch/main": "branch/main",
        "v1": "tag/v1",
        "tag/v1": "tag/v1",
        head: head,
        head[:7]: head,
        head[:40]: head,
    }.items():
        resolved = filled.resolve(asked)
        assert (resolved.commit, resolved.ref, resolved.asked) == (head, ref, asked)
        assert filled.resolve(resolved.ref).commit == head
    first = list(filled.log())[-1].digest
    assert filled.resolve(first[:9]).commit == first, "also what no ref names any more"


def test_strict_takes_only_what_never_moves(filled: Repository) -> None:
    head = filled.head()
    assert filled.resolve("v1", strict=True).commit == head
    assert filled.resolve(head, strict=True).commit == head
    with pytest.raises(InvalidInputError, match="main is a branch, which moves.*name a tag or a full commit digest"):
        filled.resolve("main", strict=True)
    with pytest.raises(InvalidInputError, match=f"only the start of a digest.*{head}"):
        filled.version("corpus", head[:12], strict=True)


def test_a_name_that_is_two_things_is_asked_about(filled: Repository) -> None:
    filled.tag("dev", "main")
    with pytest.raises(InvalidInputError, match="dev is both a branch and a tag.*say branch/dev or tag/dev"):
        filled.resolve("dev")
    assert filled.resolve("branch/dev").commit != filled.resolve("tag/dev").commit


@pytest.mark.parametrize(
    ("asked", "hint"),
    [
        ("mian", "did you mean main"),
        ("tag/v2", "did you mean tag/v1"),
        ("v2", "did you mean v1"),
        ("tag/main", "did you mean|there is"),
        ("", "there is"),
        ("branch/", "there is"),
        ("../x", "there is"),
        ("HEAD\n", "there is"),
        ("x" * 500, "there is"),
        ("\ud800", "there is"),
        ("0000000", "no commit starts with"),
        ("f" * 64, "there is no commit"),
    ],
)
def test_unknown_names_get_near_ones(filled: Repository, asked: str, hint: str) -> None:
    with pytest.raises(NotFoundError, match=hint) as caught:
        filled.resolve(asked)
    str(caught.value).encode()


def test_an_object_that_is_no_commit_is_no_commit(filled: Repository) -> None:
    tree = filled.load(filled.head()).tree
    with pytest.raises(InvalidInputError, match="is not a commit"):
        filled.resolve(tree)
    with pytest.raises(InvalidInputError, match="not the name"):
        filled.resolve(7)  # type: ignore[arg-type]


def test_the_start_of_two_digests_is_ambiguous() -> None:
    """Two commits with seven equal digits cannot be had by chance, so refs are made to name two such digests."""
    store = MemoryStore()
    repository = Repository.create(store)
    log = OperationLog(store)
    one, two = Digest("abcdef01" + "0" * 56), Digest("abcdef02" + "0" * 56)
    publish(log, log.view(), [Change("branch/a", None, one), Change("branch/b", None, two)], "Ada", "")
    with pytest.raises(InvalidInputError, match="2 commits start with abcdef0"):
        repository.resolve("abcdef0")
    with pytest.raises(NotFoundError, match=f"there is no commit {one}"):
        repository.resolve("abcdef01")


# History


def commit_by_hand(repository: Repository, time: str, message: str, *parents: Digest) -> Digest:
    tree = repository.objects.put(encode(Tree({}).to_value()))
    return repository.objects.put(encode(Commit(tree, parents, "Ada", time, message).to_value()))


def test_history_is_every_ancestor_once_later_ones_first(repository: Repository) -> None:
    """A diamond with clocks that differ, and one that runs backwards: a child always comes before its parents."""
    base = commit_by_hand(repository, "2026-01-01T00:00:00Z", "base")
    left = commit_by_hand(repository, "2026-01-01T00:00:03Z", "left", base)
    right = commit_by_hand(repository, "2026-01-01T00:00:02Z", "right", base)
    later = commit_by_hand(repository, "2026-01-01T00:00:04Z", "later", right)
    merge = commit_by_hand(repository, "2026-01-01T00:00:04Z", "merge", left, later)
    top = commit_by_hand(repository, "2025-12-31T00:00:00Z", "top", merge)
    assert [commit.message for commit in repository.log(top)] == ["top", "merge", "later", "left", "right", "base"]


def test_history_names_the_commit_that_is_missing(repository: Repository) -> None:
    child = commit_by_hand(repository, "2026-01-01T00:00:00Z", "child", ABSENT)
    history = repository.log(child)
    assert next(history).message == "child"
    with pytest.raises(CorruptError, match=f"commit {ABSENT}, named by commit {child}, is missing"):
        next(history)


# Versions


def test_a_version_says_what_was_asked_and_stays(repository: Repository) -> None:
    objects = repository.objects
    parts = [token_part(objects, [[1, 2, 3], [4]]), token_part(objects, [[5, 6]])]
    state = state_of(objects, parts, width=2, artifact=b"tokenizer")
    commit = repository.commit({"tokens": state}, message="").digest
    version = repository.version("tokens")
    repository.commit({"tokens": raw_state(objects, "later")}, message="")
    assert (version.table, version.asked, version.ref, version.commit) == ("tokens", "main", "branch/main", commit)
    assert (version.rows, version.tokens, version.shards, version.nbytes) == (3, 6, 2, sum(part.nbytes for part in parts))
    assert version.digest == state.digest
    assert version.schema == token_schema(2)
    assert list(version.parts()) == parts and version.manifest is version.manifest
    assert version.artifacts == {"tokenizer": digest_of(b"tokenizer")}
    assert version.attributes["width"] == 2
    assert version.repository.objects is objects and version.repository.url == repository.url
    assert repository.version("tokens", commit, strict=True).digest == version.digest
    assert repository.version("tokens").schema.field(0).type == pa.large_string()


def test_equal_tables_have_equal_versions_whatever_commit_they_stand_in(filled: Repository) -> None:
    version = filled.version("corpus", "v1")
    filled.commit({"other": raw_state(filled.objects, "other")}, message="other")
    assert filled.version("corpus").digest == version.digest
    assert filled.version("corpus").commit != version.commit
    assert filled.version("corpus", "dev").digest != version.digest


def test_unknown_tables_get_near_ones(filled: Repository) -> None:
    with pytest.raises(NotFoundError, match="no table 'corpse' at v1.*did you mean corpus"):
        filled.version("corpse", "v1")


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
