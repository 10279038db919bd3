"""Mixtures and phases: what is received, against a model that deals positions out one by one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pyfactory as pf
from pyfactory.errors import InvalidInputError
from pyfactory.repo.repository import Repository
from pyfactory.store.memory import MemoryStore
from pyfactory.stream.mixture import Mixture, Source
from pyfactory.stream.stream import Stream
from tests.stream.stream_model import PlainSource, PlainStream, commit_tokens, named_documents

LENGTHS = {"a": [7, 30, 2, 55], "b": [20, 20], "c": [9] * 11, "d": [64, 1, 1]}
L = 6


@pytest.fixture(scope="module")
def repo() -> Repository:
    made = Repository.create(MemoryStore())
    for number, (name, lengths) in enumerate(LENGTHS.items()):
        documents = named_documents(name, lengths, number * 10_000)
        commit_tokens(made, name, [documents[:2], documents[2:]] if len(documents) > 2 else [documents])
    made.tag("v1")
    return made


def plain(name: str, weight: int = 1, cap: int | None = None) -> PlainSource:
    first = [*LENGTHS].index(name) * 10_000
    return PlainSource(name, np.arange(first, first + sum(LENGTHS[name])), weight, cap)


def mixture(repo: Repository, weights: dict[str, int], epochs: dict[str, str] | None = None) -> Mixture:
    given = {
        name: Source(repo.version(name, "v1"), weight, epochs=(epochs or {}).get(name))
        for name, weight in weights.items()
    }
    return Mixture(given)


def received(stream: Stream, count: int) -> list[list[int]]:
    """Return the inputs of the first positions, in two calls that a phase may straddle."""
    half = count // 3
    rows = [*stream.tokens(np.arange(half)), *stream.tokens(np.arange(half, count))]
    return [row.tolist() for row in rows]


WEIGHTS = st.dictionaries(st.sampled_from([*LENGTHS]), st.integers(1, 9), min_size=1)
SHAPES = st.fixed_dictionaries({"block_size": st.integers(1, 4), "window": st.integers(1, 3)})


@settings(max_examples=60, deadline=None)
@given(
    first=WEIGHTS,
    second=WEIGHTS,
    third=WEIGHTS,
    cuts=st.lists(st.integers(1, 60), min_size=2, max_size=2, unique=True),
    shape=SHAPES,
    seed=st.integers(0, 2**64 - 1),
)
def test_sources_go_on_from_phase_to_phase(repo, first, second, third, cuts, shape, seed) -> None:
    """Catches: a source that starts anew or skips samples at a phase, also one that was away for a phase."""
    at, later = sorted(cuts)
    stream = Stream(mixture(repo, first), seed=seed, sequence_length=L, **shape)
    before = received(stream, at)
    stream = stream.then(at=at, mixture=mixture(repo, {**second, "a": 11}))
    stream = stream.then(at=later, mixture=mixture(repo, {**third, "b": 13}))
    model, sources = PlainStream(seed, L, shape), {name: plain(name) for name in LENGTHS}

    def run(weights: dict[str, int], count: int) -> list[np.ndarray]:
        for name, weight in weights.items():
            sources[name].weight = weight
        return model.phase([sources[name] for name in weights], count)

    expected = run(first, at) + run({**second, "a": 11}, later - at) + run({**third, "b": 13}, 90 - later)
    assert received(stream, 90) == [row.tolist() for row in expected]
    assert received(stream, at) == before
    positions = np.arange(90)
    assert (stream.position_of(stream.addresses(positions)) == positions).all()


@settings(max_examples=60, deadline=None)
@given(
    weights=WEIGHTS,
    epochs=st.dictionaries(st.sampled_from([*LENGTHS]), st.sampled_from(["0.5", "1", "1.5", "3"])),
    seed=st.integers(0, 2**64 - 1),
)
def test_a_source_ends_where_it_is_told(repo, weights, epochs, seed) -> None:
    """Catches: a cap one off, a phase that begins late, weights that are lost, a stream that goes on alone."""
    stream = Stream(mixture(repo, weights, epochs), seed=seed, sequence_length=L)
    model = PlainStream(seed, L)
    sources = [plain(name, weight) for name, weight in weights.items()]
    for source in sources:
        if source.name in epochs:
            source.cap = int(float(epochs[source.name]) * model.samples(source))
    expected = [row.tolist() for row in model.phase(sources, 200)]
    assert received(stream, len(expected)) == expected
    positions = np.arange(len(expected))
    assert (stream.position_of(stream.addresses(positions)) == positions).all()
    assert stream.end == (None if len(expected) == 200 else len(expected))
    if stream.end is not None:
        with pytest.raises(InvalidInputError, match=f"no position {stream.end}"):
            stream.tokens([stream.end])


def test_one_source_is_the_plain_stream(repo) -> None:
    """Catches: a mixture of one that is shuffled otherwise, or has another identity, than the table itself."""
    version = repo.version("a", "v1")
    one, same = (
        Stream(version, seed=3, sequence_length=L),
        Stream(Mixture({"a": (version, "0.3")}), seed=3, sequence_length=L),
    )
    assert one.identity == same.identity
    assert one.digest(0, 100) == same.digest(0, 100)
    named = Stream(Mixture({"other": version}), seed=3, sequence_length=L)
    assert named.digest(0, 100) != one.digest(0, 100)


def test_another_length_begins_an_epoch(repo) -> None:
    """Catches: an index that is carried over to samples of another length, and an old epoch's order used again."""
    stream = Stream(repo.version("a", "v1"), seed=1, sequence_length=L)
    n = len(stream)
    longer = stream.then(at=n + 2, sequence_length=9)
    assert [(phase.start, phase.stop) for phase in longer.phases] == [(0, n + 2), (n + 2, None)]
    m = longer.phases[1].samples
    model = PlainStream(1, 9)
    source = plain("a")
    source.index = 2 * m
    rows = longer.tokens(np.arange(n + 2, n + 2 + m))
    assert rows.tolist() == [row.tolist() for row in model.phase([source], m)]
    with pytest.raises(InvalidInputError, match="one array"):
        longer.tokens(np.arange(n, n + 4))
    assert longer.digest(0, n + 2) == stream.digest(0, n + 2)


@pytest.mark.parametrize("change", [{"sequence_length": 9}, {"block_size": 2}, {"block_size": 2, "window": 2}])
@pytest.mark.parametrize("epochs", [1, 2])
def test_at_the_end_of_an_epoch_the_next_one_begins(repo, change, epochs) -> None:
    """Catches: an epoch that is left out where one ends exactly, and a change of shuffling that is taken for none."""
    stream = Stream(repo.version("a", "v1"), seed=1, sequence_length=L, window=3)
    n = len(stream)
    longer = stream.then(at=epochs * n, **change)
    other = Stream(repo.version("a", "v1"), seed=1, **{"sequence_length": L, "window": 3, **change})
    m = len(other)
    rows = longer.tokens(np.arange(epochs * n, epochs * n + m))
    assert rows.tolist() == other.tokens(np.arange(epochs * m, (epochs + 1) * m)).tolist()
    # Another window begins a new epoch in the middle of one, too.
    again = longer.then(at=epochs * n + 1, window=1)
    assert again.phases[2].leaves[0].begin == (epochs + 1) * m


def test_the_last_position_is_one_also_behind_a_phase(repo) -> None:
    """Catches: an index beyond 2^62, where a source began the phase behind its first sample, that is taken for none."""
    for stream in (
        Stream(repo.version("a", "v1"), seed=1, sequence_length=L).then(at=5, sequence_length=9),
        Stream(mixture(repo, {"a": 1, "b": 1}), seed=1, sequence_length=L).then(at=5, weights={"a": 3, "b": 1}),
    ):
        last = np.array([2**62 - 1, 2**62 - 7])
        assert (stream.position_of(stream.addresses(last)) == last).all()
        assert stream.find("a-1").found


def test_other_artifacts_of_the_same_rows_change_nothing(repo) -> None:
    """Catches: an epoch that begins anew because a packing was made for the table."""
    version = repo.version("a", "v1")
    state = replace(version.state, artifacts={"notes": repo.objects.put(b"notes")})
    noted = replace(version, state=state)
    assert noted.digest != version.digest
    stream = Stream(version, seed=1, sequence_length=L)
    longer = stream.then(at=5, version=noted)
    assert longer.digest(0, 40) == stream.digest(0, 40)


@pytest.mark.parametrize("at", [1, 17, 40])
def test_what_does_not_change_is_no_phase(repo, at) -> None:
    stream = Stream(mixture(repo, {"a": 1, "b": 2}), seed=1, sequence_length=L)
    with pytest.raises(InvalidInputError, match="nothing changes"):
        stream.then(at=at)
    with pytest.raises(InvalidInputError, match="nothing changes"):
        stream.then(at=at, weights={"a": "0.1", "b": "0.2"})


def test_bad_phases(repo) -> None:
    stream = Stream(mixture(repo, {"a": 1, "b": 2}, {"a": "1"}), seed=1, sequence_length=L)
    later = stream.then(at=20, weights={"b": 1, "a": 1})
    for bad, said in (
        ({"at": 20, "weights": {"a": 1, "b": 5}}, "would change"),
        ({"at": 5, "weights": {"a": 1, "b": 5}}, "would change"),
        ({"at": 0, "weights": {"a": 1, "b": 5}}, "cannot begin"),
        ({"at": True, "weights": {"a": 1, "b": 5}}, "cannot begin"),
        ({"at": 2**62, "weights": {"a": 1, "b": 5}}, "cannot begin"),
        ({"at": 30, "weights": {"a": 1, "x": 5}}, "no source 'x'"),
        ({"at": 30, "weights": {"a": 1}}, "do not name source 'b'"),
        ({"at": 30, "weights": {"a": "0", "b": "0"}}, "all weights are"),
        ({"at": 30, "weights": {"a": "-1", "b": "1"}}, "-1"),
        ({"at": 30, "weights": {"a": "nan", "b": "1"}}, "nan"),
        ({"at": 30, "version": repo.version("a", "v1")}, "one source"),
        ({"at": 30, "versions": {"c": repo.version("c", "v1")}}, "no source 'c'"),
        ({"at": 30, "unseen_only": True}, "no source has a new version"),
        ({"at": 30, "lenght": 3}, "no 'lenght'"),
        ({"at": 30, "sequence_length": 10**6}, "source 'a': 94 tokens do not fill"),
        ({"at": 30, "packing": "best_fit"}, "no packing"),
    ):
        with pytest.raises(InvalidInputError, match=said):
            later.then(**bad)
    ended = Stream(mixture(repo, {"a": 1}, {"a": "1"}), seed=1, sequence_length=L)
    with pytest.raises(InvalidInputError, match="ends at position"):
        ended.then(at=1000, sequence_length=5)
    with pytest.raises(InvalidInputError, match="no source gives"):
        Stream(mixture(repo, {"a": 1}, {"a": "0.0001"}), seed=1, sequence_length=L)
    for epochs in ("0", "-1", "nan", "inf", 1.5, True, "many"):
        with pytest.raises(InvalidInputError, match="epochs"):
            Source(repo.version("a", "v1"), epochs=epochs)
    for sources in ({}, {"a": 3}, {"a": (1, 2)}, [], {"": repo.version("a", "v1")}, {3: repo.version("a", "v1")}):
        with pytest.raises(InvalidInputError):
            Mixture(sources)


def test_weights_of_a_source_that_has_ended_say_nothing(repo) -> None:
    """Catches: a curriculum that fails because a capped source came to its end before; a typo that is let pass."""
    stream = Stream(mixture(repo, {"a": 1, "b": 2, "c": 1}, {"b": "1"}), seed=1, sequence_length=L)
    assert stream.phases[1].sources == ("a", "c")
    later = stream.then(at=90, weights={"a": 1, "b": 5, "c": 3})
    assert later.phases[-1].sources == ("a", "c")
    assert later.identity["then"][0]["sources"][1]["weight"] == 3
    with pytest.raises(InvalidInputError, match="no source 'bb'"):
        stream.then(at=90, weights={"a": 1, "bb": 5, "c": 3})


def test_public_names() -> None:
    assert pf.Mixture is Mixture
    assert pf.Source is Source
