"""Where a record is in a stream: compared with what loops on all lanes received, and with a scan of all positions."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyfactory.errors import InvalidInputError, NotFoundError
from pyfactory.factory import build
from pyfactory.factory.packing import pack
from pyfactory.loader.loader import DataLoader
from pyfactory.repo.forget import forget
from pyfactory.repo.repository import Repository
from pyfactory.shard.blank import forgotten_id
from pyfactory.shard.manifest import new_batch, write_manifest
from pyfactory.shard.reader import open_shard, open_side, token_buffers
from pyfactory.store.memory import MemoryStore
from pyfactory.stream.find import find, seen_between
from pyfactory.stream.mixture import Mixture
from pyfactory.stream.stream import Stream
from tests.corpora import memory_stream, token_repository
from tests.erasure_tables import table_of, token_part
from tests.job.job_tables import text_part, write_job, write_vocab_and_merges
from tests.stream.stream_model import commit_tokens

Places = dict[str, set[tuple[int, int, int]]]


def numbered(lengths: list[int]) -> list[np.ndarray]:
    """Documents of which document i holds nothing but the token i + 1: so whoever receives a token knows its record."""
    return [np.full(length, number + 1) for number, length in enumerate(lengths)]


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


def scanned(stream: Stream, start: int, stop: int) -> dict[str, list[int]]:
    """The positions of each record, by a look at the documents under every piece of every sample."""
    found: dict[str, list[int]] = {}
    for position in range(start, stop):
        pieces = stream.addresses([position])
        records: set[str] = set()
        for table, shard, first, length in zip(pieces.table, pieces.shard, pieces.first, pieces.length, strict=True):
            manifest = stream.tables[table].version.manifest
            part = manifest.part(int(shard))
            bounds = token_buffers(open_shard(manifest.objects.map(part.shard), "shard"))[1]
            ids = open_side(manifest.objects.map(part.side), "side").ids.to_pylist()
            low, high = np.maximum(bounds[:-1], first), np.minimum(bounds[1:], first + length)
            records |= {ids[row] for row in np.flatnonzero(low < high)}
        for record in records:
            found.setdefault(record, []).append(position)
    return found


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


TEXTS = ["alpha beta gamma", "no", "alpha beta gamma", "delta epsilon zeta", "bad words in here", "delta epsilon zeta"]


@pytest.fixture
def built(tmp_path: Path) -> Repository:
    """`corpus` from `raw`, id-0 to id-9, by filter and dedup: id-0, id-3, id-6 and id-7 are left."""
    repo = Repository.create(tmp_path / "repo")
    texts = [*TEXTS, "eta theta iota", "kappa lambda mu", "eta theta iota", "refused by a function"]
    ids = [f"id-{row}" for row in range(len(texts))]
    parts = [text_part(repo.objects, texts[low:high], ids[low:high]) for low, high in ((0, 4), (4, 8), (8, 10))]
    repo.commit({"raw": raw_table(repo, parts)}, message="raw")
    write_vocab_and_merges(tmp_path)
    (tmp_path / "judge.py").write_text("def judge(text: str) -> bool:\n    return 'function' not in text\n")
    tokenize = "tokenize: {vocab: vocab.json, merges: merges.txt}"
    steps = ("filter: {min_chars: 4, rejects: bad}", "dedup: {method: exact}", 'filter: {function: "judge:judge"}')
    build(repo, write_job(tmp_path, *steps, tokenize, "shuffle: {seed: 1}"))
    repo.tag("v1")
    return repo


def raw_table(repo: Repository, parts: list[Any]) -> Any:
    from dataclasses import replace

    state = table_of(repo.objects, parts)
    assert state.manifest == write_manifest(repo.objects, new_batch(parts, 1))
    return replace(state, schema=(("text", "large_string", False),))


def test_what_was_dropped_is_told_with_the_reason(built: Repository) -> None:
    """Catches: a twin that is not the one kept, a filter that did not decide it, a step counted wrong."""
    stream = Stream(built.version("corpus", "v1"), seed=1, sequence_length=4)
    left = {f"id-{row}" for row in (0, 3, 6, 7)}
    assert set(scanned(stream, 0, len(stream))) <= left
    twins = {"id-2": "id-0", "id-5": "id-3", "id-8": "id-6"}
    refused = {"id-1": (0, "min_chars: 4"), "id-4": (0, "rejects: bad"), "id-9": (2, "function: judge:judge")}
    for row in range(10):
        record = f"id-{row}"
        answer = find(stream, record)
        if record in left:
            assert answer.dropped == ()
            continue
        (reason,) = answer.dropped
        assert (reason.record, reason.table, reason.output) == (record, "raw", "corpus")
        if record in twins:
            twin = twins[record]
            assert (reason.by, reason.step, reason.twin) == ("dedup", 1, twin)
            assert answer.found == find(stream, twin).found and {one.record for one in answer.found} <= {twin}
        else:
            assert (reason.by, reason.step, reason.detail, reason.twin) == ("filter", *refused[record], "")
            assert answer.found == ()
    with pytest.raises(NotFoundError, match="no record 'id-10'"):
        find(stream, "id-10")


def test_a_function_before_dedup_may_have_refused_both(tmp_path: Path) -> None:
    """Catches: a twin that is not in the table either; a function blamed for what dedup dropped."""
    repo = Repository.create(tmp_path / "repo")
    texts = ["a function here", "b c d e f g", "a function here", "b c d e f g"]
    part = text_part(repo.objects, texts, [f"id-{row}" for row in range(4)])
    repo.commit({"raw": raw_table(repo, [part])}, message="raw")
    write_vocab_and_merges(tmp_path)
    (tmp_path / "judge.py").write_text("def judge(text: str) -> bool:\n    return 'function' not in text\n")
    steps = ('filter: {function: "judge:judge"}', "dedup: {}", "tokenize: {vocab: vocab.json, merges: merges.txt}")
    build(repo, write_job(tmp_path, *steps))
    stream = Stream(repo.version("corpus"), seed=1, sequence_length=2)
    reasons = {row: [(one.by, one.step, one.twin) for one in find(stream, f"id-{row}").dropped] for row in range(4)}
    refused = [("filter", 0, "")]
    assert reasons == {0: refused, 1: [], 2: refused, 3: [("dedup", 1, "id-1")]}


def test_what_a_job_further_back_dropped_is_told_too(built: Repository, tmp_path: Path) -> None:
    """Catches: only the last job asked; a twin that a later job dropped taken for the end of the story."""
    first = tmp_path / "first.yaml"
    first.write_text("input: raw\noutput: clean\nsteps:\n  - dedup: {method: exact}\n")
    build(built, first)
    second = tmp_path / "second.yaml"
    second.write_text(
        "input: clean\noutput: small\nsteps:\n  - filter: {rejects: alpha}\n"
        "  - tokenize: {vocab: vocab.json, merges: merges.txt}\n"
    )
    build(built, second)
    built.branch("side")
    built.merge("side")
    stream = Stream(built.version("small"), seed=1, sequence_length=2)
    reasons = find(stream, "id-2").dropped
    assert [(one.record, one.by, one.twin, one.table) for one in reasons] == [
        ("id-2", "dedup", "id-0", "raw"),
        ("id-0", "filter", "", "clean"),
    ]
    assert [one.record for one in find(stream, "id-5").found][:1] == ["id-3"]
