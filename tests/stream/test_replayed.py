"""A stream from its replay identity is the same stream."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyfactory.errors import CorruptError, InvalidInputError, NewerFormatError
from pyfactory.repo.repository import Repository
from pyfactory.repo.version import Version
from pyfactory.store.memory import MemoryStore
from pyfactory.stream.mixture import Mixture, Source
from pyfactory.stream.phase import END
from pyfactory.stream.replayed import digests_named, open_identity
from pyfactory.stream.stream import Stream
from tests.stream.stream_model import commit_tokens, named_documents

L = 5


@pytest.fixture(scope="module")
def versions() -> dict[str, Version]:
    repo, other = Repository.create(MemoryStore()), Repository.create(MemoryStore())
    old = named_documents("o", [4] * 30, 0)
    commit_tokens(repo, "web", [old[:10], old[10:]])
    repo.tag("old")
    commit_tokens(repo, "web", [old[:10], old[12:] + named_documents("n", [9] * 7, 10_000)])
    repo.tag("new")
    commit_tokens(other, "code", [named_documents("x", [7] * 20, 50_000)])
    commit_tokens(other, "maths", [named_documents("y", [3] * 9, 90_000)])
    found = {"old": repo.version("web", "old"), "new": repo.version("web", "new")}
    return found | {name: other.version(name) for name in ("code", "maths")}


def reopened(stream: Stream) -> Stream:
    identity = json.loads(json.dumps(stream.identity))
    by_digest = {version.digest: version for version in stream.versions}
    assert {*digests_named(identity)} == {*by_digest}
    return open_identity(identity, by_digest)


CAPS = st.sampled_from([None, "0.01", "0.3", "1", "1.5", "2.125", 3])


@settings(max_examples=60, deadline=None)
@given(
    weights=st.tuples(st.integers(1, 9), st.integers(0, 9), st.integers(0, 9)),
    caps=st.tuples(CAPS, CAPS),
    seed=st.integers(0, 2**64 - 1),
    starts=st.lists(st.integers(1, 25), min_size=4, max_size=4),
    kinds=st.lists(st.sampled_from(["weights", "unseen", "new", "length", "shape", "mixture"]), max_size=4),
)
def test_it_delivers_the_same(versions, weights, caps, seed, starts, kinds) -> None:
    """Catches: a cap, weight, phase, old version or recipe that is lost on the way, or rounded."""
    sources = {
        "web": Source(versions["old"], weights[0]),
        "code": Source(versions["code"], weights[1], epochs=caps[0]),
        "x": Source(versions["maths"], weights[2], epochs=caps[1]),
    }
    stream = Stream(Mixture(sources), seed=seed, sequence_length=L, fill=3)
    at = 0
    for start, kind in zip(starts, kinds, strict=False):
        at += start
        change = {
            "weights": {"weights": {name: number + 1 for number, name in enumerate(stream.phase_at(at).sources)}},
            "unseen": {"versions": {"web": versions["new"]}, "unseen_only": True},
            "new": {"versions": {"web": versions["new"]}},
            "length": {"sequence_length": 7},
            "shape": {"block_size": 2, "window": 3, "across_documents": True},
            "mixture": {"mixture": Mixture({"web": versions["old"], "z": Source(versions["code"], epochs=1)})},
        }[kind]
        try:
            stream = stream.then(at=at, **change)
        except InvalidInputError:
            continue  # not everything may follow everything
    again = reopened(stream)
    assert again.identity == stream.identity
    assert [(phase.start, phase.stop) for phase in again.phases] == [
        (phase.start, phase.stop) for phase in stream.phases
    ]
    stop = min(150, END if stream.end is None else stream.end)
    assert again.digest(0, stop) == stream.digest(0, stop)


def a_stream(versions: dict[str, Version]) -> Stream:
    sources = {"web": Source(versions["old"], 2), "code": Source(versions["code"], 1, epochs="1.5")}
    stream = Stream(Mixture(sources), seed=3, sequence_length=L)
    return stream.then(at=12, versions={"web": versions["new"]}, unseen_only=True)


def test_a_source_may_leave_before_all_that_was_unseen_came(versions) -> None:
    """Catches: an identity that knows a new version only once its whole table is delivered."""
    stream = a_stream(versions).then(at=15, weights={"web": "0", "code": 1})
    assert reopened(stream).digest(0, 20) == stream.digest(0, 20)


def test_what_is_forged_is_refused(versions) -> None:
    """Catches: a forged or damaged ledger that is answered with another stream."""
    stream = a_stream(versions)
    good, by_digest = stream.identity, {version.digest: version for version in stream.versions}

    def forged(*path: str | int, value: object) -> dict:
        identity = copy.deepcopy(good)
        inner = identity
        for key in path[:-1]:
            inner = inner[key]
        inner[path[-1]] = value
        return identity

    for identity in (
        {},
        forged("seed", value="3"),
        forged("seed", value=-1),
        forged("recipe", value={}),
        forged("recipe", "sequence_length", value=L + 0.5),
        forged("recipe", "packing", value="padded"),
        forged("sources", value=good["sources"][::-1]),
        forged("sources", value=[]),
        forged("sources", value=good["sources"] * 2),
        forged("sources", 0, "name", value=7),
        forged("sources", 0, "weight", value=0),
        forged("sources", 0, "weight", value=-1),
        forged("sources", 0, "weight", value=2**64),
        forged("sources", 0, "weight", value=True),
        forged("sources", 0, "cap", value=-1),
        forged("sources", 0, "cap", value=2**80),
        forged("sources", 0, "packing", value="0" * 64),
        forged("then", value={}),
        forged("then", value=[]),
        forged("then", 0, "at", value=0),
        forged("then", 0, "at", value=2**70),
        forged("then", value=good["then"] * 2),
        forged("more", value=1),
        forged("spec", value=0),
    ):
        with pytest.raises(CorruptError):
            open_identity(identity, by_digest)
    with pytest.raises(NewerFormatError):
        open_identity(forged("spec", value=2), by_digest)
    with pytest.raises(InvalidInputError, match="not given"):
        open_identity(good, {versions["old"].digest: versions["old"]})
    with pytest.raises(CorruptError, match="version"):
        open_identity(good, by_digest | {versions["old"].digest: versions["maths"]})
    said = {**good, "redactions": {"count": 1, "digest": "0" * 64}}
    assert np.array_equal(open_identity(said, by_digest).tokens(np.arange(9)), stream.tokens(np.arange(9)))
