"""Verification finds every damaged byte, says which object and which tables, and goes on."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from repo_tables import made_by_import, made_by_job, raw_part, raw_state, state_of, token_part

from pyfactory.core.canonical import encode
from pyfactory.core.digest import Digest
from pyfactory.errors import PyfactoryError, ReadOnlyError, UnavailableError
from pyfactory.repo.findings import Problem
from pyfactory.repo.objects import Commit, TableState, Tree
from pyfactory.repo.operation import Change
from pyfactory.repo.oplog import OperationLog
from pyfactory.repo.repository import Repository
from pyfactory.repo.transaction import publish
from pyfactory.shard.manifest import new_batch, write_manifest
from pyfactory.shard.node import LEAF_STRUCT, encode_node, inner_records, leaf_records, parse_node, reference
from pyfactory.shard.tree import write_tree
from pyfactory.store.content import Objects
from pyfactory.store.memory import MemoryStore
from pyfactory.store.wrap import Faulty

Role = dict[str, tuple[str, ...]]


def build() -> tuple[Repository, Role]:
    """Return a repository of every kind of object, and which tables need each object."""
    repository = Repository.create(MemoryStore())
    objects = repository.objects
    shared, own = raw_part(objects, ["a", "b"]), raw_part(objects, ["c"])
    raw, twin = state_of(objects, [shared, own]), state_of(objects, [shared])
    tokens = state_of(objects, [token_part(objects, [[1, 2], [3]])], width=2, artifact=b"a tokenizer")
    sources, skipped, job = (objects.put(encode([name])) for name in ("sources", "skipped", "job"))
    imported = made_by_import("raw", sources, skipped)
    first = repository.commit({"raw": raw}, message="import", made_by=imported).digest
    repository.branch("dev")
    built = made_by_job("tokens", job, first)
    second = repository.commit({"tokens": tokens}, message="build", made_by=built).digest
    third = repository.commit({"twin": twin}, "dev", message="twin", made_by=made_by_import("twin", sources)).digest
    repository.tag("v1")
    needs: Role = {digest: () for commit in (first, second, third) for digest in (commit, repository.load(commit).tree)}
    needs |= {digest: ("raw",) for digest in (skipped, own.shard, own.side, raw.manifest)}
    needs |= {digest: ("raw", "twin") for digest in (sources, shared.shard, shared.side)}
    needs |= {twin.manifest: ("twin",), job: ("tokens",), tokens.manifest: ("tokens",)}
    needs |= {digest: ("tokens",) for digest in tokens.artifacts.values()}
    [part] = repository.version("tokens").parts()
    return repository, needs | {part.shard: ("tokens",), part.side: ("tokens",)}


def of(problems: list[Problem]) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {problem.object: (problem.kind, problem.tables) for problem in problems}


def test_a_whole_repository_has_no_problems_and_every_object_is_read_once() -> None:
    repository, needs = build()
    reads: Counter[str] = Counter()
    lists: list[str] = []

    def watch(_: int, method: str, key: str) -> None:
        if method == "get" and key.startswith("objects/"):
            reads[key] += 1
        if method == "list":
            lists.append(key)

    told: list[tuple[str, int]] = []
    watched = Repository.open(Faulty(repository.store, before=watch))
    report = watched.verify(lambda stage, done, total: told.append((stage, done)))
    stored = dict(repository.store.list("objects"))
    assert report.problems == []
    assert reads == dict.fromkeys(stored, 1)
    assert (report.objects, report.nbytes) == (len(stored), sum(stored.values()))
    assert (report.operations, report.commits) == (6, 3)
    assert len(stored) == len(needs), "the table of needs is complete"
    assert told == [("verify", number + 1) for number in range(len(stored))]
    assert lists == ["runs", "memo"], "objects are never listed"


def test_every_flipped_byte_of_an_object_is_found_and_attributed() -> None:
    """The first, a middle and the last byte of every object, one at a time: nothing else may be reported."""
    repository, needs = build()
    store, objects = repository.store, repository.objects
    for digest, tables in needs.items():
        whole = objects.get(Digest(digest))
        for at in {0, len(whole) // 2, len(whole) - 1}:
            store.replace(objects.key(Digest(digest)), whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            assert of(repository.verify().problems) == {digest: ("corrupt", tables)}
        store.replace(objects.key(Digest(digest)), whole)
    assert repository.verify().problems == []


def test_every_missing_object_is_found_and_attributed() -> None:
    repository, needs = build()
    store, objects = repository.store, repository.objects
    for digest, tables in needs.items():
        whole = objects.get(Digest(digest))
        store.delete(objects.key(Digest(digest)))
        [problem] = repository.verify().problems
        assert (problem.kind, problem.object, problem.tables) == ("missing", digest, tables)
        assert digest in problem.message
        assert problem.where
        store.create(objects.key(Digest(digest)), whole)


def test_all_problems_are_reported_at_once() -> None:
    repository, needs = build()
    leaves = [digest for digest, tables in needs.items() if tables]
    manifests = {state.manifest for state in (*repository.tables().values(), *repository.tables("dev").values())}
    for digest in set(leaves) - manifests:
        repository.store.delete(repository.objects.key(Digest(digest)))
    assert of(repository.verify().problems) == {
        digest: ("missing", needs[digest]) for digest in set(leaves) - manifests
    }


def test_an_object_that_cannot_be_read_is_not_called_damaged() -> None:
    repository, needs = build()
    digest = next(digest for digest, tables in needs.items() if tables == ("raw", "twin"))

    for error in (UnavailableError("the disk does not answer"), ReadOnlyError("no permission")):

        def fail(_: int, method: str, key: str, error: PyfactoryError = error) -> None:
            if method == "get" and key.endswith(digest[2:]):
                raise error

        report = Repository.open(Faulty(repository.store, before=fail)).verify()
        assert of(report.problems) == {digest: ("unreadable", ("raw", "twin"))}


# Counts


def publish_by_hand(repository: Repository, states: dict[str, TableState]) -> Digest:
    """Commit states that `commit` refuses."""
    objects = repository.objects
    tree = objects.put(encode(Tree(states).to_value()))
    commit = objects.put(encode(Commit(tree, (), "Ada", "2026-01-02T03:04:05Z", "").to_value()))
    log = OperationLog(repository.store)
    publish(log, log.view(), [Change("branch/main", None, commit)], "Ada", "")
    return commit


@pytest.mark.parametrize("wrong", [{"rows": 3}, {"tokens": 4}, {"nbytes": 1}])
def test_a_manifest_that_miscounts_its_shards_is_found(wrong: dict[str, int]) -> None:
    repository = Repository.create(MemoryStore())
    part = token_part(repository.objects, [[1, 2], [3]])
    state = state_of(repository.objects, [replace(part, **wrong)], width=2)
    commit = publish_by_hand(repository, {"tokens": state})
    problems = {problem.object: problem for problem in repository.verify().problems}
    assert problems[part.shard].kind == "count"
    assert (problems[part.shard].tables, problems[part.shard].where) == (("tokens",), commit)
    assert ("rows" in wrong) == (part.side in problems)


def test_a_tree_that_miscounts_its_manifest_is_found() -> None:
    repository = Repository.create(MemoryStore())
    state = raw_state(repository.objects, "one")
    publish_by_hand(repository, {"corpus": replace(state, rows=5)})
    [problem] = repository.verify().problems
    assert (problem.kind, problem.object, problem.tables) == ("count", state.manifest, ("corpus",))


def test_shards_of_other_columns_are_found() -> None:
    repository = Repository.create(MemoryStore())
    tokens = state_of(repository.objects, [token_part(repository.objects, [[1]])], width=2)
    raw = state_of(repository.objects, [raw_part(repository.objects, ["a"])])
    publish_by_hand(repository, {"tokens": replace(tokens, schema=raw.schema)})
    [problem] = repository.verify().problems
    assert problem.kind == "corrupt" and "other columns" in problem.message


def test_objects_of_the_wrong_kind_are_found() -> None:
    """All digests are right, and yet nothing fits: a shard is a side, a manifest a tree, a tree a commit."""
    repository = Repository.create(MemoryStore())
    objects = repository.objects
    part = raw_part(objects, ["a"])
    swapped = state_of(objects, [replace(part, shard=part.side, side=part.shard)])
    tree = objects.put(encode(Tree({}).to_value()))
    publish_by_hand(repository, {"a": swapped, "b": replace(raw_state(objects, "b"), manifest=tree)})
    log = OperationLog(repository.store)
    publish(log, log.view(), [Change("branch/x", None, tree)], "Ada", "")
    problems = of(repository.verify().problems)
    assert {part.shard: problems[part.shard], part.side: problems[part.side]} == {
        part.shard: ("corrupt", ("a",)),
        part.side: ("corrupt", ("a",)),
    }
    assert problems[tree] == ("corrupt", ("b",))


def deep_state(objects: Objects, shards: int) -> TableState:
    """Return a table whose manifest has several levels: nodes of two or three records."""
    part = raw_part(objects, ["a"])
    parts = [raw_part(objects, [f"text {number}"]) for number in range(shards - 1)]
    state = state_of(objects, [part, *parts])
    return replace(state, manifest=write_tree(objects, new_batch([part, *parts], 0), 2, 2))


def test_trees_that_share_nodes_are_read_once_and_all_their_tables_named() -> None:
    repository = Repository.create(MemoryStore())
    state = deep_state(repository.objects, 40)
    repository.commit({"a": state}, message="")
    repository.commit({"b": replace(state, attributes={"other": 1})}, message="")
    manifest = repository.version("a").manifest
    nodes = list(manifest.nodes())
    assert len(nodes) > 10
    whole = repository.verify()
    assert whole.problems == []
    assert whole.objects == len(nodes) + 2 * 40 + 2 * 2
    part = manifest.part(17)
    repository.store.delete(repository.objects.key(part.shard))
    repository.store.delete(repository.objects.key(nodes[-1]))
    problems = of(repository.verify().problems)
    assert problems[part.shard] == ("missing", ("a", "b"))
    assert problems[nodes[-1]] == ("missing", ("a", "b"))


def test_nodes_that_contradict_each_other_are_found() -> None:
    """A parent that names the wrong child: every digest is right, only the sums and the order are not."""
    repository = Repository.create(MemoryStore())
    objects = repository.objects
    state = deep_state(objects, 12)
    other = write_manifest(objects, new_batch([raw_part(objects, ["other"])], 0))
    root = objects.get(state.manifest)
    child = Digest(root[16 + 48 : 16 + 80].hex())
    wrong = objects.put(root.replace(bytes.fromhex(child), bytes.fromhex(other)))
    publish_by_hand(repository, {"a": replace(state, manifest=wrong)})
    problems = [problem for problem in repository.verify().problems if problem.object == wrong]
    assert problems and all(problem.kind == "count" for problem in problems)
    assert "child 0" in problems[0].message


def test_leaves_that_overlap_are_found() -> None:
    """Their first keys ascend, so that no node alone can tell."""
    repository = Repository.create(MemoryStore())
    objects = repository.objects
    part = raw_part(objects, ["a"])
    numbers = (part.rows, part.tokens, part.nbytes)
    packed = b""
    for generations in ([1, 5], [3, 7]):
        digests = [bytes.fromhex(digest) for digest in (part.shard, part.shard, part.side)]
        rows = [LEAF_STRUCT.pack(number, digests[0], 0, *digests[1:], *numbers) for number in generations]
        leaf = encode_node(0, leaf_records(b"".join(rows)))
        packed += reference(parse_node(leaf, "a leaf"), objects.put(leaf))
    root = objects.put(encode_node(1, inner_records(packed)))
    state = replace(raw_state(objects, "x"), manifest=root, shards=4, rows=4, nbytes=4 * part.nbytes)
    publish_by_hand(repository, {"a": state})
    [problem] = repository.verify().problems
    assert problem.object == root and "child 1 does not come after the one before it" in problem.message
