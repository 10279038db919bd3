"""Where a record is in a stream: compared with what loops on all lanes received, and with a scan of all positions."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyfactory.errors import InvalidInputError, NotFoundError
from pyfactory.factory.packing import pack
from pyfactory.loader.loader import DataLoader
from pyfactory.repo.forget import forget
from pyfactory.repo.repository import Repository
from pyfactory.shard.blank import forgotten_id
from pyfactory.store.memory import MemoryStore
from pyfactory.stream.find import find, seen_between
from pyfactory.stream.mixture import Mixture
from pyfactory.stream.stream import Stream
from tests.corpora import memory_stream, token_repository
from tests.erasure_tables import table_of, token_part
from tests.stream.scans import numbered, scanned
from tests.stream.stream_model import commit_tokens

Places = dict[str, set[tuple[int, int, int]]]


def received(stream: Stream, steps: int, batch: int, world: int, strided: bool) -> Places:
    """The (position, train step, lane) at which training loops on all lanes got tokens of each record."""
    found: Places = {}
    for rank in range(world):
        arguments: dict[str, Any] = {"strided": True} if strided else {}
        loader = DataLoader(stream, global_batch=batch, rank=rank, world_size=world, **arguments)
        with loader:
            for step, got in enumerate(islice(cycled(loader), steps)):
                for row, position in enumerate(np.asarray(got["indices"]).tolist()):
                    tokens = {*np.asarray(got["input_ids"][row]).tolist(), *np.asarray(got["targets"][row]).tolist()}
                    for token in tokens - {0, -100}:
                        found.setdefault(f"doc-{token - 1}", set()).add((position, step, rank))
    return found


def cycled(loader: DataLoader) -> Iterator[Any]:
    while True:
        yield from loader


@settings(max_examples=12, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 20), min_size=3, max_size=14),
    cuts=st.sets(st.integers(1, 13), max_size=4),
    length=st.integers(1, 7),
    shuffle=st.tuples(st.integers(1, 4), st.integers(1, 3)),
    lanes=st.sampled_from([(1, 1), (2, 1), (2, 2), (3, 2)]),
    strided=st.booleans(),
)
def test_found_is_what_was_received(
    lengths: list[int],
    cuts: set[int],
    length: int,
    shuffle: tuple[int, int],
    lanes: tuple[int, int],
    strided: bool,
) -> None:
    """Catches: one token too many or too few at either end of a record, another epoch's order, lanes mixed."""
    world, share = lanes
    batch = world * share
    if sum(lengths) <= batch * length:
        lengths = [*lengths, batch * length + 1]
    chosen = sorted(cut for cut in cuts if cut < len(lengths))
    recipe = {"sequence_length": length, "block_size": shuffle[0], "window": shuffle[1], "across_documents": True}
    stream = memory_stream(numbered(lengths), chosen, seed=3, **recipe)
    steps = 2 * len(stream) // batch + 1
    wanted = received(stream, steps, batch, world, strided)
    for number in range(len(lengths)):
        record = f"doc-{number}"
        told = {"global_batch": batch, "world_size": world, "strided": strided}
        answer = find(stream, record, stop=steps * batch, **told)
        found = [(one.position, one.step, one.lane) for one in answer.found]
        assert found == sorted(found) and len(found) == len(set(found))
        assert set(found) == wanted.get(record, set()) and not answer.dropped
        assert all(one.epoch == one.position // len(stream) and one.table == "corpus" for one in answer.found)


def mixed() -> Stream:
    """Three tables by weight, two phases, the second with other weights and a shorter sequence."""
    repos = [token_repository(MemoryStore(), numbered([5 + at, 9, 1, 30 - at, 4]), (2,)) for at in range(3)]
    versions = [repo.version("corpus", "v1") for repo in repos]
    names = dict(zip(("a", "b", "c"), zip(versions, ("0.5", "0.3", "0.2"), strict=True), strict=True))
    stream = Stream(Mixture(names), seed=5, sequence_length=6)
    return stream.then(at=37, weights={"a": "1", "b": "2", "c": "0"}, sequence_length=4)


def test_mixtures_and_phases_are_answered_as_a_scan_does() -> None:
    """Catches: a source's index taken for a position, a phase that answers for positions of another."""
    stream = mixed()
    wanted = scanned(stream, 0, 120)
    for record, positions in wanted.items():
        answer = find(stream, record, stop=120)
        assert sorted({one.position for one in answer.found}) == positions
        middle = find(stream, record, start=20, stop=60)
        assert sorted({one.position for one in middle.found}) == [at for at in positions if 20 <= at < 60]
        assert {one.phase for one in answer.found if one.position >= 37} <= {1}
        for one in answer.found:
            addresses = stream.addresses([one.position])
            assert stream.feeds[int(addresses.feed[0])].source == one.source and addresses.epoch[0] == one.epoch
    assert {one.source for one in find(stream, "doc-3", start=37, stop=120).found} == {"a", "b"}


def heard(stream: Stream, stop: int) -> dict[str, list[int]]:
    """The positions at which a loop gets tokens of each document, where document i holds nothing but i + 1."""
    found: dict[str, list[int]] = {}
    for position in range(stop):
        shape = 1, stream.phase_at(position).recipe.sequence_length
        got = {name: np.empty(shape, np.int64) for name in ("input_ids", "targets")}
        stream.fill(stream.addresses([position]), **got)
        for token in {*got["input_ids"].ravel().tolist(), *got["targets"].ravel().tolist()} - {0, -100}:
            found.setdefault(f"doc-{token - 1}", []).append(position)
    return found


def named(numbers: list[int]) -> list[tuple[str, list[int]]]:
    return [(f"doc-{number}", [number + 1] * (2 + number * 5 % 7)) for number in numbers]


@pytest.mark.parametrize("at", [1, 4, 9, 13])
def test_a_new_version_in_mid_run_is_answered_for(at: int) -> None:
    """Catches: what the new version has no more being found where it is masked, added records counted from the old."""
    repo = Repository.create(MemoryStore())
    commit_tokens(repo, "t", [named([0, 1, 2, 3]), named([4, 5, 6, 7])])
    before = repo.version("t", repo.head())
    commit_tokens(repo, "t", [named([0, 2, 3, 8]), named([9, 4, 6, 10, 7])])
    after = repo.version("t")
    stream = Stream(before, seed=2, sequence_length=3, across_documents=True)
    stream = stream.then(at=at, version=after, unseen_only=True)
    wanted, read = heard(stream, 60), scanned(stream, 0, 60)
    assert len(stream.phases) == 3 and stream.phases[2].start < 60
    for number in range(11):
        found = [one.position for one in find(stream, f"doc-{number}", stop=60).found]
        if number in (1, 5):  # which the new version has no more
            assert found == wanted.get(f"doc-{number}", [])
        else:  # a target behind what is masked is read, and not heard
            assert found == read[f"doc-{number}"] and set(found) >= {*wanted[f"doc-{number}"]}


@pytest.mark.parametrize("packing", ["best_fit", "padded", "documents"])
def test_packed_tables_are_answered_for(packing: str) -> None:
    """Catches: a range of a packing table missed, a piece at the end of a split document."""
    repo = Repository.create(MemoryStore())
    commit_tokens(repo, "t", [named([0, 1, 2, 3, 11]), named([4, 5, 6, 7, 12, 13])])
    pack(repo, "t", sequence_length=4, packing=packing)
    stream = Stream(repo.version("t"), seed=2, sequence_length=4, packing=packing, across_documents=True)
    stop = 2 * len(stream)
    wanted = heard(stream, stop)
    for number in (*range(8), 11, 12, 13):
        found = [one.position for one in find(stream, f"doc-{number}", stop=stop).found]
        assert found == wanted[f"doc-{number}"]


def test_epochs_choose_and_the_first_is_the_default() -> None:
    """Catches: epochs that are ignored; a second epoch that nobody asked for."""
    stream = memory_stream(numbered([7, 3, 20, 9, 2]), (2,), sequence_length=4, seed=1)
    samples = len(stream)
    wanted = scanned(stream, 0, 5 * samples)["doc-2"]
    first = [one.position for one in find(stream, "doc-2").found]
    assert first == [at for at in wanted if at < samples] != []
    third = [one.position for one in find(stream, "doc-2", epochs=range(2, 3)).found]
    assert third == [at for at in wanted if 2 * samples <= at < 3 * samples]
    later = [one.position for one in find(stream, "doc-2", start=2 * samples + 1).found]
    assert later == [at for at in wanted if 2 * samples + 1 <= at < 3 * samples]
    both = find(stream, "doc-2", epochs=range(1, 3), stop=2 * samples + 2).found
    assert [one.position for one in both] == [at for at in wanted if samples <= at < 2 * samples + 2]


def test_a_span_that_is_none_is_refused() -> None:
    stream = memory_stream(numbered([7, 3, 20]), sequence_length=4, seed=1)
    for wrong in ({"start": -1}, {"start": 5, "stop": 4}):
        with pytest.raises(InvalidInputError, match="span"):
            find(stream, "doc-1", **wrong)
    with pytest.raises(InvalidInputError, match="epochs"):
        find(stream, "doc-1", stop=2**61)
    with pytest.raises(InvalidInputError, match="global_batch"):
        find(stream, "doc-1", global_batch=3, world_size=2)
    with pytest.raises(NotFoundError, match="no record 'doc-9'"):
        find(stream, "doc-9")
    assert seen_between(stream, ["doc-9"], 0, 10) == []
    assert find(stream, "doc-1", start=3, stop=3).found == ()


def test_an_id_of_several_rows_is_found_at_all_of_them() -> None:
    """Catches: duplicates lost."""
    repo = Repository.create(MemoryStore())
    parts = [token_part(repo.objects, numbers) for numbers in ([7, 3, 7, 9], [2, 7, 4])]
    repo.commit({"corpus": table_of(repo.objects, parts, tokens=True)}, message="corpus")
    stream = Stream(repo.version("corpus"), seed=1, sequence_length=3)
    wanted = scanned(stream, 0, len(stream))
    for record, positions in wanted.items():
        assert [one.position for one in find(stream, record).found] == positions


def test_cutting_the_rows_otherwise_changes_no_answer() -> None:
    documents = numbered([7, 3, 20, 9, 2, 11])
    one = memory_stream(documents, (), sequence_length=4, seed=1)
    other = memory_stream(documents, (1, 2, 5), sequence_length=4, seed=1)
    for number in range(6):
        assert find(one, f"doc-{number}") == find(other, f"doc-{number}")


def test_a_forgotten_record_is_answered_as_forgotten(tmp_path: Path) -> None:
    """Catches: positions of a record that was forgotten, and a record beside it that moves."""
    repo = token_repository(tmp_path / "repo", numbered([7, 3, 20, 9, 2]), (2,))
    stream = Stream(repo.version("corpus", "v1"), seed=1, sequence_length=4)
    before = {number: find(stream, f"doc-{number}").found for number in range(5)}
    forget(repo, ["doc-2"], "asked to", who="Ada")
    for opened in (stream, Stream(repo.version("corpus", "v1"), seed=1, sequence_length=4)):
        with pytest.raises(NotFoundError, match=r"forgotten on .*: asked to"):
            find(opened, "doc-2")
        assert find(opened, "doc-3").found == before[3]
        named = find(opened, forgotten_id("doc-2")).found
        assert [one.position for one in named] == [one.position for one in before[2]]


@pytest.mark.parametrize("names", ["ab", "ba"])
def test_of_several_repositories_the_one_that_forgot_it_answers(names: str) -> None:
    """Catches: "no such record" from the first repository, though another one has forgotten it."""
    repos = [token_repository(MemoryStore(), numbered([7, 30, 4, 9][:count])) for count in (4, 2)]
    forget(repos[0], ["doc-3"], "asked to", who="Ada")
    mixture = {name: (repo.version("corpus", "v1"), "1") for name, repo in zip(names, repos, strict=True)}
    with pytest.raises(NotFoundError, match="forgotten on"):
        find(Stream(Mixture(mixture), seed=1, sequence_length=4), "doc-3")


def test_searched_is_where_nothing_is_left_out() -> None:
    """Catches: positions called searched that hold more of a record, and a search that is told too short."""
    stream = mixed()
    for record in ("doc-0", "doc-1", "doc-3"):
        wanted = scanned(stream, 0, 400)[record]
        for asked in ({}, {"start": 20}, {"start": 50}, {"epochs": range(1, 2)}, {"start": 10, "stop": 90}):
            answer = find(stream, record, **asked)  # type: ignore[arg-type]
            spans = answer.searched
            assert (spans or "epochs" in asked) and all(low < high for low, high in spans)
            assert all(one[1] < two[0] for one, two in pairwise(spans))
            found = {one.position for one in answer.found}
            for low, high in spans:
                assert {at for at in wanted if low <= at < high} == {at for at in found if low <= at < min(high, 400)}
        assert find(stream, record, start=10, stop=90).searched == ((10, 90),)
    alone = memory_stream(numbered([7, 3, 20, 9, 2]), (2,), sequence_length=4, seed=1)
    samples = len(alone)
    assert find(alone, "doc-2").searched == ((0, samples),)
    assert find(alone, "doc-2", start=samples + 1).searched == ((samples + 1, 2 * samples),)
    assert find(alone, "doc-2", epochs=range(1, 3)).searched == ((samples, 3 * samples),)


def test_what_is_no_id_and_no_version_is_refused() -> None:
    stream = memory_stream(numbered([7, 3, 20]), sequence_length=4, seed=1)
    with pytest.raises(InvalidInputError, match="is a text, not int"):
        stream.find(5)  # type: ignore[arg-type]
    with pytest.raises(InvalidInputError) as refused:
        Stream("web@v1", seed=1)  # type: ignore[arg-type]
    assert 'repo.version("web", "v1")' in refused.value.hint
    told = stream.find("doc-1", stop=9, global_batch=4, world_size=2, strided=True)
    assert told == find(stream, "doc-1", stop=9, global_batch=4, world_size=2, strided=True)
