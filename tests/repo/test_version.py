"""Names, history and versions: finding what was committed."""

from __future__ import annotations

import pyarrow as pa
import pytest
from repo_tables import raw_state, state_of, token_part

from pyfactory.core.canonical import encode
from pyfactory.core.digest import Digest, digest_of
from pyfactory.errors import (
    ConflictError,
    CorruptError,
    InvalidInputError,
    NotFoundError,
)
from pyfactory.repo.objects import Commit, Tree
from pyfactory.repo.operation import Change
from pyfactory.repo.oplog import OperationLog
from pyfactory.repo.repository import Repository
from pyfactory.repo.transaction import publish
from pyfactory.shard.layout import token_schema
from pyfactory.store.memory import MemoryStore

ABSENT = Digest("9" * 64)

# Branches, tags, names


def test_branches_and_tags_point_and_tags_stay(filled: Repository) -> None:
    head = filled.head()
    assert filled.tags() == {"v1": head}
    assert set(filled.branches()) == {"main", "dev"}
    for again in ("main", "dev"):
        with pytest.raises(
            ConflictError, match=f"tag/v1 exists already: it names {head}; last changed by Eve at .*first release"
        ):
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
    with pytest.raises(InvalidInputError, match=r"main is a branch, which moves.*name a tag or a full commit digest"):
        filled.resolve("main", strict=True)
    with pytest.raises(InvalidInputError, match=f"only the start of a digest.*{head}"):
        filled.version("corpus", head[:12], strict=True)


def test_a_name_that_is_two_things_is_asked_about(filled: Repository) -> None:
    # No verb makes such a name any more; an older pyfactory did.
    publish(filled.oplog, filled.view(), [Change("tag/dev", None, filled.head())], "Old", "make tag dev")
    with pytest.raises(InvalidInputError, match=r"dev is both a branch and a tag.*say branch/dev or tag/dev"):
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
    assert (version.rows, version.tokens, version.shards, version.nbytes) == (
        3,
        6,
        2,
        sum(part.nbytes for part in parts),
    )
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
    with pytest.raises(NotFoundError, match=r"no table 'corpse' at v1.*did you mean corpus"):
        filled.version("corpse", "v1")


def test_main_that_was_deleted_is_not_called_new(filled: Repository) -> None:
    """Catches the advice to import into a repository that has data."""
    number = filled.view().n + 1
    filled.delete_branch("main")
    with pytest.raises(NotFoundError, match=r"no branch main any more.*undo"):
        filled.resolve()
    filled.undo(number)
    assert filled.resolve().ref == "branch/main"
