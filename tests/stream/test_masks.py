"""Forgotten tokens in streams: masked where they were, and no other element of any batch is another one."""

from __future__ import annotations

import gc
import threading
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyfactory.errors import InvalidInputError, NotFoundError
from pyfactory.loader.loader import DataLoader
from pyfactory.repo.forget import forget
from pyfactory.repo.repository import Repository
from pyfactory.store.memory import MemoryStore
from pyfactory.store.wrap import Faulty
from pyfactory.stream.masks import Pieces, TableMasks, apply_ranges
from pyfactory.stream.sample import describe_sample
from pyfactory.stream.stream import Stream
from tests.corpora import documents_of, token_repository
from tests.erasure_tables import delete_replaced

FIELDS = ("input_ids", "targets", "position_ids", "doc_ids")


def opened(repo: Repository, ref: str = "v1", **recipe: int) -> Stream:
    return Stream(repo.version("corpus", ref), **({"seed": 5, "sequence_length": 6} | recipe))


def copied(batch: dict[str, Any]) -> dict[str, Any]:
    return {name: np.array(getattr(value, "numpy", lambda value=value: value)()) for name, value in batch.items()}


def received(stream: Stream, epochs: int = 1, **arguments: Any) -> list[dict[str, Any]]:
    """All that a training loop gets."""
    with DataLoader(stream, batch_size=min(4, len(stream)), **arguments) as loader:
        found = []
        for _ in range(epochs):
            found += [copied(batch) for batch in loader]
    return found


def masked(documents: Sequence[np.ndarray], gone: set[int], length: int, stream: Stream, batch: dict[str, Any]) -> None:
    """Apply the definition to a batch that was received before: token by token."""
    bounds = np.cumsum([0, *map(len, documents)])
    dead = np.zeros(bounds[-1] + 1, bool)
    for number in gone:
        dead[bounds[number] : bounds[number + 1]] = True
    rows = stream.addresses(batch["indices"])
    head = rows.offsets[:-1]
    firsts = stream.version.manifest.token_starts(rows.shard[head]) + rows.first[head]
    for row, first in enumerate(firsts):
        for j in range(length):
            if dead[first + j]:
                batch["input_ids"][row, j] = 0
            if dead[first + j] or dead[first + j + 1]:
                batch["targets"][row, j] = -100


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(1, 20), min_size=3, max_size=14),
    gone=st.lists(st.sets(st.integers(0, 13), min_size=1, max_size=4), min_size=1, max_size=3),
    cuts=st.sets(st.integers(1, 13), max_size=4),
    length=st.integers(1, 9),
    width=st.sampled_from([1, 2, 4]),
    sweep=st.booleans(),
)
def test_only_masked_places_change(
    lengths: list[int], gone: list[set[int]], cuts: set[int], length: int, width: int, sweep: bool
) -> None:
    """Catches: a mask one off at either end, at a sample's last target, across shards, or after two redactions."""
    documents = [row + 1 for row in documents_of(lengths, vocabulary=200)]
    inside = sorted(cut for cut in cuts if cut < len(documents))
    repo = token_repository(MemoryStore(), documents, inside, width)
    total = sum(lengths)
    if total <= length:
        return
    recipe = {"sequence_length": length, "block_size": 2, "window": 2}
    before = opened(repo, **recipe)
    batches, all_gone = received(before, 2), set()
    for step in gone:
        fresh = {number for number in step if number < len(documents)} - all_gone
        if fresh:
            forget(repo, [f"doc-{number}" for number in sorted(fresh)], "asked to", who="Ada")
            all_gone |= fresh
    if sweep:
        delete_replaced(repo)
    stream = opened(Repository.open(repo.store), **recipe)
    for batch in batches:
        masked(documents, all_gone, length, stream, batch)
    after = received(stream, 2)
    assert len(after) == len(batches)
    for mine, expected in zip(after, batches, strict=True):
        assert mine.keys() == expected.keys()
        for name in expected:
            assert np.array_equal(mine[name], expected[name]), name
    if all_gone:
        assert stream.identity == before.identity | {"redactions": stream.redactions[stream.version.digest][-1]}
        assert stream.digest(0, len(stream)) == opened(repo, **recipe).digest(0, len(stream))


@pytest.mark.parametrize("name", FIELDS)
def test_each_field_alone(name: str) -> None:
    """Catches: targets that are only masked when inputs are asked for as well."""
    repo = token_repository(MemoryStore(), documents_of([9] * 12), (5,))
    forget(repo, ["doc-3", "doc-7"], "asked to", who="Ada")
    whole = received(opened(repo))
    for mine, expected in zip(received(opened(repo), fields=[name]), whole, strict=True):
        assert np.array_equal(mine[name], expected[name])


def test_a_table_without_forgotten_records_has_no_masks() -> None:
    """Catches: an identity that changes, and runs that cannot resume, because of another table."""
    repo = token_repository(MemoryStore(), documents_of([9] * 12), (5,))
    other = token_repository(MemoryStore(), documents_of([9] * 4, seed=9))
    for key, _ in other.store.list("objects"):
        repo.store.create(key, other.store.get(key))
    repo.commit({"other": other.tables()["corpus"]}, message="other")
    clean = Stream(repo.version("other"), seed=5, sequence_length=6)
    identity, digest, first = clean.identity, clean.digest(0, 20), opened(repo).digest(0, 20)
    forget(repo, ["doc-9"], "asked to", who="Ada")
    for stream in (clean, Stream(repo.version("other"), seed=5, sequence_length=6)):
        assert (stream.identity, stream.digest(0, 20), stream.redactions) == (identity, digest, {})
    assert "redactions" in opened(repo).identity and opened(repo).digest(0, 20) != first


def test_states_load_across_later_redactions_only() -> None:
    """Catches: a resume that is refused after an erasure, and one that is let through without it."""
    documents = documents_of([9] * 12)
    repo = token_repository(MemoryStore(), documents, (5,))
    states = []
    for number in (3, 7, 9):
        with DataLoader(opened(repo), batch_size=2) as loader:
            list(islice(loader, 2))
            states.append(loader.state_dict())
        forget(repo, [f"doc-{number}"], "asked to", who="Ada")
    stream = opened(repo)
    assert [identity["count"] for identity in stream.redactions[stream.version.digest]] == [1, 2, 3]
    for state in [*states, DataLoader(stream, batch_size=2).state_dict() | {"position": 4}]:
        loader = DataLoader(stream, batch_size=3)
        loader.load_state_dict(state)
        assert next(iter(loader))["span"] == (4, 7)
    other = token_repository(MemoryStore(), documents, (5,))
    with pytest.raises(InvalidInputError, match="redactions"):
        DataLoader(opened(other), batch_size=2).load_state_dict(states[1])
    forget(other, ["doc-4"], "asked to", who="Ada")
    with pytest.raises(InvalidInputError, match="redactions"):
        DataLoader(opened(other), batch_size=2).load_state_dict(states[1])
    with pytest.raises(InvalidInputError, match="seed"):
        DataLoader(opened(repo, seed=6), batch_size=2).load_state_dict(states[0])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_redaction_while_a_loader_is_open(workers: int) -> None:
    """Catches: replaced bytes without masks, a loader that dies when the old shards are swept, bytes kept in use."""
    documents = [row + 1 for row in documents_of([9] * 40)]
    repo = token_repository(MemoryStore(), documents, range(3, 40, 3))
    stream = opened(repo)
    before = received(stream)
    remote = Repository.open(repo.store)
    expected = [copied(batch) for batch in before]
    for batch in expected:
        masked(documents, {3, 20, 39}, 6, stream, batch)
    with DataLoader(stream, batch_size=4, num_workers=workers, prefetch_factor=1) as loader:
        batches = iter(loader)
        first = [next(batches) for _ in range(3)]
        forget(remote, ["doc-3", "doc-20", "doc-39"], "asked to", who="Ada")
        delete_replaced(remote)
        repo.view()  # as anything that this process does with the repository
        rest = list(batches)
    for at, batch in enumerate([*first, *rest]):
        for name in FIELDS:
            old, new = (np.array_equal(batch[name].numpy(), found[at][name]) for found in (before, expected))
            # What was made ahead is whole as it was; from then on all is masked.
            assert new if at >= 3 + 2 * workers + 1 else old or new, (at, name)


def test_a_swept_shard_is_looked_for_among_the_redactions() -> None:
    """Catches: a long run that ends because a record was forgotten by another process."""
    documents = [row + 1 for row in documents_of([9] * 40)]
    repo = token_repository(MemoryStore(), documents, range(3, 40, 3))
    stream = opened(repo)
    expected = received(opened(repo))
    for batch in expected:
        masked(documents, {3}, 6, stream, batch)
    remote = Repository.open(repo.store)
    forget(remote, ["doc-3"], "asked to", who="Ada")
    delete_replaced(remote)
    for mine, wanted in zip(received(stream), expected, strict=True):
        assert np.array_equal(mine["targets"], wanted["targets"])
    part = next(repo.version("corpus").parts())
    lost = repo.objects.current(part.shard)
    repo.store.delete(repo.objects.key(lost))
    with pytest.raises(NotFoundError):
        opened(repo).tokens(range(20))


def test_threads_see_a_redaction_whole() -> None:
    """Catches: zeros of a replacement delivered as if they were tokens, while another thread learns of it."""
    documents = [row + 1 for row in documents_of([9] * 40)]
    repo = token_repository(MemoryStore(), documents, range(3, 40, 3))
    stream = opened(repo)
    positions = np.arange(len(stream))
    bad: list[int] = []

    def read() -> None:
        for _ in range(150):
            rows = np.empty((len(positions), 6), np.int64)
            targets = np.empty_like(rows)
            stream.fill(stream.addresses(positions), input_ids=rows, targets=targets)
            bad.append(int(((rows == 0) & (targets != -100)).sum() + (targets == 0).sum()))

    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(0, 40, 7):
        forget(repo, [f"doc-{number}"], "asked to", who="Ada")
    for thread in threads:
        thread.join()
    assert len(bad) == 450 and sum(bad) == 0


@settings(max_examples=200, deadline=None)
@given(
    spans=st.lists(st.tuples(st.integers(0, 4), st.integers(1, 7)), max_size=6),
    samples=st.lists(st.integers(0, 9), min_size=1, max_size=6),
    length=st.integers(1, 8),
)
def test_ranges_need_not_be_whole_documents(spans: list[tuple[int, int]], samples: list[int], length: int) -> None:
    """Catches: a bound that is one off, which documents would hide."""
    dead = np.zeros(200, bool)
    firsts, stops, at = [], [], 0
    for gap, count in spans:
        firsts.append(at + gap)
        stops.append(at := at + gap + count)
        dead[firsts[-1] : at] = True
    masks = TableMasks(np.zeros(len(spans), np.int64), np.array(firsts, np.int64), np.array(stops, np.int64))
    starts = np.array(samples, np.int64) * length
    inputs = np.full((len(samples), length), 7, np.int64)
    targets = inputs.copy()
    # A sample in two pieces is masked as in one.
    rows, cut = np.arange(len(samples)), length // 2 + 1
    for column, count in ((0, cut), (cut, length + 1 - cut)):
        pieces = Pieces(rows, np.full(len(rows), column), starts + column, np.full(len(rows), count))
        apply_ranges(masks, pieces, 0, inputs, targets)
    place = starts[:, None] + np.arange(length)
    assert np.array_equal(inputs, np.where(dead[place], 0, 7))
    assert np.array_equal(targets, np.where(dead[place] | dead[place + 1], -100, 7))


def test_an_open_stream_lets_go_of_the_old_bytes(tmp_path: Path) -> None:
    """Catches: a shard that a long run keeps open, so that its bytes stay on the disk after the sweep."""
    repo = token_repository(tmp_path / "repo", documents_of([900] * 12), (5,))
    stream = opened(repo)
    stream.tokens(range(len(stream)))
    old = [repo.objects.path(part.shard) for part in repo.version("corpus").parts()]
    maps = Path("/proc/self/maps")
    assert all(str(path) in maps.read_text() for path in old)
    forget(repo, ["doc-3"], "asked to", who="Ada")
    stream.tokens(range(len(stream)))
    gc.collect()
    assert [str(path) in maps.read_text() for path in old] == [False, True]


def test_a_redaction_between_two_shards_of_a_batch() -> None:
    """Catches: masks that are looked up before the shards are opened, so that zeros pass for tokens."""
    documents = [row + 1 for row in documents_of([9] * 12)]
    store = Faulty(MemoryStore())
    repo = token_repository(store, documents, (6,))
    stream = opened(repo)
    first, second = (repo.objects.key(part.shard) for part in repo.version("corpus").parts())
    fired: list[str] = []

    def meanwhile(number: int, method: str, key: str) -> None:
        if key in (first, second) and method == "get" and not fired:
            fired.append(key)
            forget(repo, ["doc-8" if key == first else "doc-2"], "asked to", who="Ada")

    positions = np.arange(len(stream))
    rows = np.empty((len(positions), 6), np.int64)
    targets = np.empty_like(rows)
    store.before = meanwhile
    stream.fill(stream.addresses(positions), input_ids=rows, targets=targets)
    assert fired and (rows == 0).sum() >= 9 and not (targets == 0).any()
    assert (targets[rows == 0] == -100).all()


def test_records_show_that_they_are_forgotten() -> None:
    repo = token_repository(MemoryStore(), documents_of([9] * 12), (5,))
    stream = opened(repo)
    position = int(stream.position_of(stream.addresses([0]))[0])
    record = next(iter(stream.records(position, position + 1))).id
    forget(repo, [record], "asked to", who="Ada")
    found = next(iter(opened(repo).records(position, position + 1)))
    assert found.id.startswith("forgotten:") and record not in found.id
    with pytest.raises(NotFoundError):
        describe_sample(opened(repo), position)  # there is no tokenizer in this table
