"""The proof that records are gone: it holds after a sweep, and every way in which bytes may stay breaks it."""

from __future__ import annotations

import pytest

from pyfactory.core.canonical import encode
from pyfactory.core.digest import NO_DIGEST, Digest, digest_of
from pyfactory.errors import NotFoundError
from pyfactory.repo.forget import forget
from pyfactory.repo.objects import Commit, Tree
from pyfactory.repo.operation import Change
from pyfactory.repo.proof import OUTSIDE, prove
from pyfactory.repo.repository import Repository
from pyfactory.repo.transaction import publish
from pyfactory.shard.blank import forgotten_id
from pyfactory.shard.manifest import Part
from pyfactory.shard.memo import Result, encode_result, memo_key
from pyfactory.shard.reader import open_shard
from pyfactory.shard.writer import make_side
from pyfactory.store.memory import MemoryStore
from tests.erasure_tables import delete_replaced, messages, raw_part, shared_repository, table_of


@pytest.fixture
def repo() -> Repository:
    """doc-2 and doc-9 are forgotten, and a sweep has run."""
    repo = shared_repository(MemoryStore())
    forget(repo, ["doc-2", "doc-9"], "asked to", who="Ada")
    delete_replaced(repo)
    return repo


def test_after_a_sweep_it_holds(repo: Repository) -> None:
    proof = prove(repo)
    assert proof.failures == () and proof.outside == OUTSIDE
    assert (proof.redactions, proof.records) == (1, 2)
    assert proof.gone == len(repo.objects.redirect) > 6
    objects = {key: size for key, size in repo.store.list("objects")}
    # All that is stored is reached: but for the redaction itself, and the manifest nodes, which lead to the rest.
    assert len(objects) - 12 <= proof.objects < len(objects)
    assert 0 < proof.nbytes <= sum(objects.values())
    assert prove(repo, ["doc-2"]).records == 1


def test_before_a_sweep_it_fails() -> None:
    repo = shared_repository(MemoryStore())
    with pytest.raises(NotFoundError, match="no record was ever forgotten"):
        prove(repo)
    forget(repo, ["doc-2"], "asked to", who="Ada")
    failures = prove(repo).failures
    assert {failure.object for failure in failures} == set(repo.objects.redirect)
    assert all("still stored" in failure.message and "gc" in failure.hint for failure in failures)
    with pytest.raises(NotFoundError, match="never forgotten"):
        prove(repo, ["doc-3"])


def test_one_object_left_is_found(repo: Repository) -> None:
    """Catches: a proof that trusts the sweep."""
    old = sorted(repo.objects.redirect)[0]
    repo.store.create(repo.objects.raw.key(old), b"whatever it is")
    assert messages(repo) == [f"the shard {old}, which was replaced, is still stored"]


def test_the_same_text_in_another_record_is_found(repo: Repository) -> None:
    repo.commit({"more": table_of(repo.objects, [raw_part(repo.objects, [2, 77], "other")])}, message="a duplicate")
    assert messages(repo) == ["the same text is also record 'other-2' of more"]
    assert prove(repo).failures[0].hint == "forget it, too"
    forget(repo, ["other-2"], "asked to", who="Ada")
    delete_replaced(repo)
    assert messages(repo) == []


def test_a_record_that_came_back_is_found(repo: Repository) -> None:
    """Catches: a proof by content alone; this one came back with another text, past all that forbids it."""
    part = raw_part(repo.objects, [50, 51])
    ids = make_side(open_ids("doc-2", "doc-51"))
    back = Part(part.shard, repo.objects.put(memoryview(ids)), 2, 0, part.nbytes)
    head = repo.head("main")
    tree = repo.objects.put(encode(Tree({"back": table_of(repo.objects, [back])}).to_value()))
    made = Commit(tree, (head,), "Eve", repo.load(head).time, "it came back")
    forced = Change("branch/main", head, repo.objects.put(encode(made.to_value())))
    publish(repo.oplog, repo.view(), [forced], "Eve", "it came back")
    assert messages(repo) == ["record 'doc-2' is in back"]


def test_a_row_that_is_not_empty_is_found(repo: Repository) -> None:
    part = raw_part(repo.objects, [50, 51])
    ids = make_side(open_ids(forgotten_id("doc-2"), "doc-51"))
    back = Part(part.shard, repo.objects.put(memoryview(ids)), 2, 0, part.nbytes)
    repo.commit({"back": table_of(repo.objects, [back])}, message="half forgotten")
    assert messages(repo) == ["row 0 of back is that of a forgotten record, but not empty"]


def test_results_of_tasks_and_sketches_are_looked_at(repo: Repository) -> None:
    old = Digest(sorted(repo.objects.redirect)[0])
    name = digest_of(b"a task")
    part = Part(old, NO_DIGEST, 1, 0, 1)
    for result in (Result((part,)), Result((), (old,))):
        repo.store.replace(memo_key(name), encode_result(result, name))
        assert messages(repo) == [f"the result of a task names {old}, which was replaced"]
    repo.store.replace(memo_key(name), b"not a mark, which nobody believes")
    assert messages(repo) == []
    repo.store.create(f"sketch/lengths-1/{old[:2]}/{old[2:]}", b"{}")
    assert messages(repo) == ["a sketch tells of a shard that was replaced"]


def test_what_cannot_be_read_is_no_proof(repo: Repository) -> None:
    part = next(repo.version("raw").parts())
    key = repo.objects.raw.key(repo.objects.current(part.shard))
    content = repo.store.get(key)
    repo.store.replace(key, content[:-1] + b"x")
    assert any("does not hold the bytes" in message for message in messages(repo))
    repo.store.delete(key)
    assert any("is missing" in message for message in messages(repo))
    repo.store.create(key, content)
    assert messages(repo) == []


def test_what_the_past_alone_names_may_be_gone(repo: Repository) -> None:
    """Catches: a proof that fails once a sweep has taken a commit that nothing leads to."""
    head = repo.head("side")
    repo.delete_branch("side", author="Ada") if hasattr(repo, "delete_branch") else pytest.skip("no such verb yet")
    tree = repo.load(head).tree
    for gone in (tree, head):
        assert messages(repo) == []
        repo.store.delete(repo.objects.raw.key(gone))
    assert messages(repo) == []
    forget(repo, ["doc-5"], "asked to", who="Ada")


def open_ids(*ids: str):
    import pyarrow as pa

    return pa.array(ids, pa.large_string())


def test_replacements_are_shards_like_others(repo: Repository) -> None:
    for part in repo.version("raw").parts():
        assert open_shard(repo.objects.map(part.shard, verify=True), "it", verify=True).num_rows == part.rows
