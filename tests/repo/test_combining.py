"""Merge and revert on real tables; all combinations are in test_verbs_model."""

from __future__ import annotations

import pytest
from repo_tables import raw_part, state_of

from pyfactory.errors import InvalidInputError, MergeConflictError, NotFoundError
from pyfactory.repo.objects import TableState
from pyfactory.repo.repository import Repository
from pyfactory.shard.manifest import Manifest, extend_manifest, new_batch
from pyfactory.store.memory import MemoryStore
from pyfactory.store.wrap import Counted


def grown(repository: Repository, state: TableState, label: str) -> TableState:
    """Return a table with one more shard."""
    objects = repository.objects
    part = raw_part(objects, [label])
    manifest = Manifest(objects, state.manifest)
    root = extend_manifest(objects, state.manifest, new_batch([part], manifest.last_generation + 1))
    after = Manifest(objects, root)
    counts = (after.rows, after.tokens, after.nbytes, after.shards)
    return TableState(root, state.schema, *counts, artifacts={}, attributes={})


@pytest.fixture
def parted(repository: Repository) -> Repository:
    """main and exp, which each appended a shard to `raw` since they parted."""
    start = state_of(repository.objects, [raw_part(repository.objects, ["start"])])
    repository.commit({"raw": start}, message="start")
    repository.branch("exp")
    repository.commit({"raw": grown(repository, start, "ours")}, message="ours")
    repository.commit({"raw": grown(repository, start, "theirs")}, "exp", message="theirs")
    return repository


def texts(repository: Repository, ref: str = "main") -> list[str]:
    from pyfactory.shard.reader import open_shard

    found = []
    for part in repository.version("raw", ref).parts():
        found += open_shard(repository.objects.map(part.shard), "a shard").column("text").to_pylist()
    return found


def test_appends_on_both_sides_commute(parted: Repository) -> None:
    """Catches a merge that orders by side: both ways give one tree, and nothing is lost or doubled."""
    parted.branch("other", "exp")
    done = parted.merge("exp", "main", author="Ada", message="bring it")
    parted.merge(parted.load(done.digest).parents[0], "other")
    assert sorted(texts(parted)) == ["ours", "start", "theirs"] and texts(parted)[0] == "start"
    assert parted.load(parted.head("main")).tree == parted.load(parted.head("other")).tree


def test_a_merge_names_both_parents_and_what_it_did(parted: Repository) -> None:
    ours, theirs = parted.head("main"), parted.head("exp")
    done = parted.merge("exp", "main", author="Ada", message="bring it")
    commit = parted.load(done.digest)
    assert (commit.parents, commit.author, commit.message) == ((ours, theirs), "Ada", "bring it")
    assert commit.made_by == {
        "kind": "merge",
        "asked": "exp",
        "resolved": "branch/exp",
        "commit": theirs,
        "base": done.base,
        "choices": {},
    }
    assert parted.head("exp") == theirs, "the source stays"
    assert done.base == parted.load(ours).parents[0]


def test_merging_again_writes_nothing(parted: Repository) -> None:
    first = parted.merge("exp", "main")
    before = parted.view().n
    again = parted.merge("exp", "main")
    assert (again.created, again.digest, parted.view().n) == (False, first.digest, before)


def test_a_branch_that_is_only_ahead_is_merged_with_a_commit(parted: Repository) -> None:
    """The verdicts of gates need a commit to stand in. Catches a fast-forward."""
    parted.branch("ahead", "main")
    parted.commit({"raw": grown(parted, parted.tables("ahead")["raw"], "more")}, "ahead", message="more")
    done = parted.merge("ahead", "main")
    assert len(parted.load(done.digest).parents) == 2
    assert parted.tables("main") == parted.tables("ahead")


def test_conflicts_are_all_listed_with_both_commits(parted: Repository) -> None:
    """Catches a merge that stops at the first, or publishes something."""
    for branch in ("main", "exp"):
        state = state_of(parted.objects, [raw_part(parted.objects, [branch])])
        parted.commit({"raw": state, "corpus": state}, branch, message="replace")
    view = parted.view()
    with pytest.raises(MergeConflictError) as caught:
        parted.merge("exp", "main")
    found = {conflict.table: conflict for conflict in caught.value.conflicts}
    assert found.keys() == {"raw", "corpus"}
    assert {conflict.ours_commit for conflict in found.values()} == {parted.head("main")}
    assert {conflict.theirs_commit for conflict in found.values()} == {parted.head("exp")}
    assert parted.view() == view
    done = parted.merge("exp", "main", choices={"raw": "ours", "corpus": "theirs"})
    assert done.decided == {"raw": "ours", "corpus": "theirs"}
    assert texts(parted) == ["main"]
    assert parted.tables("main")["corpus"] == parted.tables("exp")["corpus"]


def test_a_choice_that_decides_nothing_is_refused(parted: Repository) -> None:
    """Catches a misspelt table that silently leaves the default."""
    with pytest.raises(InvalidInputError, match="crpus"):
        parted.merge("exp", "main", choices={"crpus": "ours"})


def test_merging_what_is_not_there(repository: Repository, parted: Repository) -> None:
    with pytest.raises(NotFoundError, match="exq"):
        parted.merge("exq", "main")
    with pytest.raises(NotFoundError, match="mian"):
        parted.merge("exp", "mian")
    with pytest.raises(NotFoundError, match="no commit yet"):
        Repository.create(MemoryStore()).merge("main", "main")


def test_revert_takes_back_one_commit_and_keeps_what_came_since(parted: Repository) -> None:
    ours = parted.head("main")
    parted.commit({"raw": grown(parted, parted.tables("main")["raw"], "later")}, message="later")
    made = parted.revert(ours, "main", author="Ada")
    assert texts(parted) == ["start", "later"]
    assert parted.load(made).message == f"revert {ours[:12]}"
    again = parted.revert(made, "main")
    assert sorted(texts(parted)) == ["later", "ours", "start"]
    assert parted.load(again).made_by == {"kind": "revert", "commit": made, "parent": parted.load(made).parents[0]}


def test_revert_of_a_merge_takes_back_what_it_brought(parted: Repository) -> None:
    done = parted.merge("exp", "main")
    parted.revert(done.digest, "main")
    assert texts(parted) == ["start", "ours"]


def test_revert_of_a_commit_of_another_branch(parted: Repository) -> None:
    with pytest.raises(InvalidInputError, match="does not contain"):
        parted.revert(parted.head("exp"), "main")


def test_a_merge_costs_the_change_not_the_table() -> None:
    """10^5 shards, 3 on each side. Catches a merge that reads every leaf."""
    store = Counted(MemoryStore())
    repository = Repository.create(store)
    part = raw_part(repository.objects, ["x"])
    start = state_of(repository.objects, [part] * 100_000)
    repository.commit({"raw": start}, message="start")
    repository.branch("exp")
    for branch in ("main", "exp"):
        repository.commit({"raw": grown(repository, start, branch)}, branch, message=branch)
    store.calls.clear()
    repository.merge("exp", "main")
    assert store.calls["get"] < 40


def test_reverting_what_was_taken_back_or_built_upon(parted: Repository) -> None:
    """Catches a message about a merge that nobody asked for, and an empty commit."""
    start = parted.tables("main")["raw"]
    replaced, other = (state_of(parted.objects, [raw_part(parted.objects, [label])]) for label in ("bad", "other"))
    bad = parted.commit({"raw": replaced}, message="bad").digest
    parted.commit({"raw": other}, message="built upon")
    with pytest.raises(MergeConflictError, match="cannot be taken back: raw was changed since"):
        parted.revert(bad, "main")
    added = parted.commit({"more": start}, message="more").digest
    made = parted.revert(added, "main")
    assert parted.revert(added, "main") == made == parted.head("main"), "nothing is left of it"
