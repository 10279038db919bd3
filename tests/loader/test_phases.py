"""Loading streams of several phases: where loops end, shapes, ends, and states of shorter streams."""

from __future__ import annotations

from itertools import islice, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyfactory.errors import InvalidInputError
from pyfactory.loader.loader import DataLoader
from pyfactory.repo.leases import all_leases
from pyfactory.repo.repository import Repository
from pyfactory.store.memory import MemoryStore
from pyfactory.stream.mixture import Mixture, Source
from pyfactory.stream.stream import Stream
from tests.stream.stream_model import commit_tokens, named_documents


@pytest.fixture(scope="module")
def repo() -> Repository:
    """Tables web (65 samples of 8 tokens) and code (25)."""
    made = Repository.create(MemoryStore())
    for number, (name, count) in enumerate({"web": 30, "code": 12}.items()):
        documents = named_documents(name, [10 + i % 15 for i in range(count)], number * 10_000)
        commit_tokens(made, name, [documents[:5], documents[5:]])
    made.tag("v1")
    return made


@pytest.fixture(scope="module")
def plain(repo) -> Stream:
    return Stream(repo.version("web", "v1"), seed=5, sequence_length=8)


def loops(loader: DataLoader, count: int) -> list[list[dict]]:
    return [list(loader) for _ in range(count)]


def spans_of(batches: list[dict]) -> list[tuple[int, int]]:
    return [batch["span"] for batch in batches]


@pytest.mark.parametrize("workers", [0, 2])
def test_a_phase_with_longer_sequences_gives_longer_batches(plain, workers):
    """Catches: buffers of the first shape; a loop that goes on over the change; positions counted anew."""
    stream = plain.then(at=24, sequence_length=16).then(at=32, sequence_length=8)
    loader = DataLoader(stream, 4, num_workers=workers)
    first, second, third = loops(loader, 3)
    loader.close()
    assert spans_of(first) == [(at, at + 4) for at in range(0, 24, 4)]
    assert spans_of(second) == [(24, 28), (28, 32)]
    assert third[0]["span"] == (32, 36)
    for batch, length in ((first[-1], 8), (second[0], 16), (third[0], 8)):
        for name in ("input_ids", "targets", "position_ids", "doc_ids"):
            assert batch[name].shape == (4, length)
        assert batch["cu_seqlens"][-1] == 4 * length
        assert (batch["input_ids"].numpy() == stream.tokens(batch["indices"].tolist())).all()
    assert all((batch["input_ids"].numpy() == plain.tokens(batch["indices"].tolist())).all() for batch in first)


def test_a_step_that_would_have_two_shapes_is_refused_at_once(plain):
    """Before the first batch, though the phase is far away. Catches: a run that breaks off after days."""
    stream = plain.then(at=1001, sequence_length=16)
    loader = DataLoader(stream, 2, global_batch=8, rank=0, world_size=2)
    with pytest.raises(InvalidInputError, match=r"at position 1001, in the middle of the train step \[1000, 1008\)"):
        next(iter(loader))
    moved = DataLoader(stream, 2, global_batch=8, rank=0, world_size=2)
    with pytest.raises(InvalidInputError, match=r"in the middle of the train step \[1000, 1008\)"):
        moved.load_state_dict({**loader.state_dict(), "position": 992})
    assert moved.cursor == 0, "a state that is refused changes nothing"
    moved.load_state_dict({**loader.state_dict(), "position": 1})
    assert next(iter(moved))["span"] == (1, 9)


def test_a_step_may_straddle_phases_of_one_length(repo, plain):
    """Catches: a check of all phases; a step cut short where a phase begins."""
    mixture = Mixture({"web": (repo.version("web", "v1"), "0.5"), "code": (repo.version("code", "v1"), "0.5")})
    stream = plain.then(at=10, mixture=mixture)
    loader = DataLoader(stream, 4, num_workers=1)
    first, second = loops(loader, 2)
    loader.close()
    assert spans_of(first) == [(0, 4), (4, 8), (8, 12)]
    assert second[0]["span"] == (12, 16)
    straddling = first[-1]["input_ids"].numpy()
    assert (straddling == stream.tokens([8, 9, 10, 11])).all()
    assert (straddling[:2] == plain.tokens([8, 9])).all()
    assert (straddling[2:] != plain.tokens([10, 11])).any()


def test_each_phase_begins_an_epoch(plain):
    """Catches: epochs counted in samples of the first phase; a length of the wrong epoch."""
    samples, change = len(plain), 72
    stream = plain.then(at=change, sequence_length=16)
    loader = DataLoader(stream, 4)
    later = stream.phases[1].samples
    bounds = [0, samples, change, change + later, change + 2 * later]
    assert bounds == sorted(bounds)
    for epoch, (start, stop) in enumerate(pairwise(bounds)):
        assert loader.epoch == epoch
        expected = [at for at in range(0, bounds[-1], 4) if start <= at < stop]
        assert len(loader) == len(expected)
        assert [span[0] for span in spans_of(list(loader))] == expected


@pytest.mark.parametrize("batch_size", [4, 5, 63])
def test_a_stream_that_ends_ends_the_loop(repo, batch_size):
    """Catches: a last step with too few samples, or past the end; a loop that begins anew at the end."""
    stream = Stream(Mixture({"web": Source(repo.version("web", "v1"), epochs=2)}), seed=5, sequence_length=8)
    assert stream.phases[-1].stop == 2 * len(stream) == 126
    loader = DataLoader(stream, batch_size)
    received = [batch for loop in loops(loader, 4) for batch in loop]
    assert spans_of(received) == [(at, at + batch_size) for at in range(0, 126 - batch_size + 1, batch_size)]
    assert list(loader) == []
    assert len(loader) * batch_size <= 63
    with pytest.raises(InvalidInputError, match="a train step takes 127 samples"):
        DataLoader(stream, 127)


def test_a_source_that_ends_leaves_the_others(repo):
    """The phase that follows from a cap: no change of shape, an epoch of its own. Catches: a stream that ends there."""
    mixture = Mixture({"web": (repo.version("web", "v1"), 1), "code": Source(repo.version("code", "v1"), 1, epochs=1)})
    stream = Stream(mixture, seed=5, sequence_length=8)
    change = stream.phases[1].start
    loader = DataLoader(stream, 4)
    first, second = loops(loader, 2)
    assert first[-1]["span"][0] < change <= first[-1]["span"][1]
    assert second[0]["span"][0] == first[-1]["span"][1]
    tokens = np.concatenate([batch["input_ids"].numpy() for batch in second])
    assert tokens[4:].max() < 10_000  # no more code


@settings(max_examples=20, deadline=None)
@given(start=st.integers(0, 24), world=st.sampled_from([1, 2, 4]), batch_size=st.sampled_from([1, 2]))
def test_an_old_checkpoint_goes_on_in_the_extended_stream(plain, start, world, batch_size):
    """Catches: a state refused for a phase that is still to come; positions before it that changed."""
    extended = plain.then(at=24, sequence_length=16)
    state = {**DataLoader(plain, 4).state_dict(), "position": start}
    rows = {}
    for rank in range(world):
        loader = DataLoader(extended, batch_size, global_batch=8, rank=rank, world_size=world)
        if (24 - start) % 8:
            with pytest.raises(InvalidInputError, match="in the middle of the train step"):
                loader.load_state_dict(state)
            continue
        loader.load_state_dict(state)
        for batch in islice(loader, loader.accumulation):
            rows |= zip(batch["indices"].tolist(), batch["input_ids"].tolist(), strict=True)
    expected = range(start, start + 8) if (24 - start) % 8 == 0 else []
    assert [rows[at] for at in expected] == (extended.tokens([*expected]).tolist() if expected else [])


def test_a_phase_before_the_position_of_a_state_is_refused(plain):
    """Catches: a stream whose past was changed, accepted."""
    state = {**DataLoader(plain, 4).state_dict(), "position": 28}
    with pytest.raises(InvalidInputError, match="a phase before the current position"):
        DataLoader(plain.then(at=24, sequence_length=16), 4).load_state_dict(state)
    DataLoader(plain.then(at=28, sequence_length=16), 4).load_state_dict(state)
    with pytest.raises(InvalidInputError, match="another stream: the state has a phase at 24"):
        DataLoader(plain, 4).load_state_dict(DataLoader(plain.then(at=24, sequence_length=16), 4).state_dict())


def test_context_slices_need_lengths_of_all_phases(plain):
    """Catches: only the first phase looked at; slices of the first length."""
    place = {"rank": 0, "world_size": 1, "cp_rank": 1, "cp_size": 2}
    with pytest.raises(InvalidInputError, match="a sequence_length of 10 cannot be cut into 4 chunks"):
        DataLoader(plain.then(at=8, sequence_length=10), 4, **place)
    stream = plain.then(at=8, sequence_length=16)
    first, second = loops(DataLoader(stream, 4, **place), 2)
    assert first[0]["input_ids"].shape == (4, 4)
    assert (second[0]["input_ids"].numpy() == stream.tokens([8, 9, 10, 11])[:, 4:12]).all()


def test_every_commit_that_is_read_has_a_lease(tmp_path):
    """Catches: a lease on the first source alone; one for each source of a commit."""
    repo, other = (Repository.create(tmp_path / name) for name in ("repo", "other"))
    for home, name in ((repo, "web"), (repo, "code"), (other, "books")):
        commit_tokens(home, name, [named_documents(name, [40, 50], 0)])
    for home in (repo, other):
        home.tag("v1")
    mixture = Mixture({name: repo.version(name, "v1") for name in ("web", "code")})
    added = Mixture({"web": repo.version("web", "v1"), "books": other.version("books", "v1")})
    stream = Stream(mixture, seed=5, sequence_length=8).then(at=40, mixture=added)
    with DataLoader(stream, 4) as loader:
        next(iter(loader))
        assert [lease.commit for lease in all_leases(repo)] == [repo.tags()["v1"]]
        assert [lease.commit for lease in all_leases(other)] == [other.tags()["v1"]]
    assert [*all_leases(repo), *all_leases(other)] == []
