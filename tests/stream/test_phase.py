"""What a phase takes of each of its feeds, counted without a look at the positions."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyfactory.cli.streams_view import show_stats
from pyfactory.factory import pack
from pyfactory.repo.repository import Repository
from pyfactory.store.memory import MemoryStore
from pyfactory.stream.mixture import Mixture, Source
from pyfactory.stream.stats import input_tokens, stream_stats
from pyfactory.stream.stream import Stream
from tests.corpora import documents_of, memory_stream, token_repository
from tests.stream.stream_model import commit_tokens, named_documents

STOP = 150


@pytest.fixture(scope="module")
def stream() -> Stream:
    """A mixture with a cap, and a new version without repeats that other weights interrupt."""
    repo = Repository.create(MemoryStore())
    old = named_documents("o", [9] * 20, 0)
    commit_tokens(repo, "t", [old])
    repo.tag("old")
    commit_tokens(repo, "t", [old[1:] + named_documents("n", [11] * 9, 10_000)])
    commit_tokens(repo, "x", [named_documents("x", [7] * 20, 50_000)])
    sources = {"t": repo.version("t", "old"), "x": Source(repo.version("x"), "0.3", epochs="1.3")}
    mixed = Stream(Mixture(sources), seed=1, sequence_length=5)
    unseen = mixed.then(at=23, versions={"t": repo.version("t")}, unseen_only=True)
    return unseen.then(at=31, weights={"t": 5, "x": 3})


@settings(max_examples=200, deadline=None)
@given(span=st.tuples(st.integers(0, STOP), st.integers(0, STOP)).map(sorted))
def test_taken_is_what_stands_there(stream: Stream, span: list[int]) -> None:
    """Catches: a share of old and added samples that is rounded otherwise; positions of other phases counted."""
    low, high = span
    positions = np.arange(low, high)
    expected: Counter[tuple[int, int]] = Counter()
    for phase in stream.phases:
        inside = positions[(positions >= phase.start) & (positions < (STOP if phase.stop is None else phase.stop))]
        feeds, samples, _ = phase.at(inside)
        expected.update(zip(feeds.tolist(), samples.tolist(), strict=True))
    found: Counter[tuple[int, int]] = Counter()
    for phase in stream.phases:
        for feed, first, last in phase.taken(low, high):
            assert feed.phase == phase.number
            found.update((feed.number, sample) for sample in feed.order.samples_at(np.arange(first, last)).tolist())
    assert found == expected


@pytest.mark.parametrize("packing", ["best_fit", "padded", "documents"])
def test_padding_is_no_token(packing: str) -> None:
    """Catches: samples times length; the rest of an epoch, at either end, counted twice or not at all."""
    repo = token_repository(MemoryStore(), documents_of([3, 5, 30, 8, 1, 1, 9, 4, 10, 2]), [4, 7])
    pack(repo, "corpus", packing=packing, sequence_length=8)
    stream = Stream(repo.version("corpus"), seed=2, sequence_length=8, packing=packing)
    (feed,), n = stream.feeds, len(stream)
    addresses = stream.addresses(np.arange(4 * n))
    read = np.add.reduceat(addresses.length, addresses.offsets[:-1])
    sums = [0, *np.cumsum(np.minimum(read, 8)).tolist()]
    for low in range(2 * n + 1):
        for high in range(low, 4 * n):
            assert input_tokens(feed, 8, low, high) == sums[high] - sums[low]
    assert sums[n] < 8 * n or packing == "best_fit"


ANSWERS = [[1, 2, 5, 6, 7], [1, 2, 3, 5, 6], [1, 5, 6, 9, 9, 9], [1, 2, 3, 4, 4, 4, 4, 4, 4, 4, 5, 6, 7]]


def test_samples_without_targets_are_counted() -> None:
    """Catches: a wrong template that nobody is told of; a template that is cut off, or ends its document."""
    repo = token_repository(MemoryStore(), [np.array(tokens) for tokens in ANSWERS])
    pack(repo, "corpus", packing="documents", sequence_length=8)

    def counted(template: list[int], stop: int | None = None) -> dict[str, int]:
        shape = {"sequence_length": 8, "packing": "documents", "response_template": template}
        stream = Stream(repo.version("corpus"), seed=2, **shape)
        (phase,) = stream_stats(stream, stop)["phases"]
        assert sum(not predicted(stream, at) for at in range(4)) == counts.get(tuple(template), 4)
        return phase["without_targets"]

    counts = {(5, 6): 2, (5, 6, 7): 4, (1,): 0}
    assert counted([5, 6]) == {"samples": 2, "of": 4}
    assert counted([5, 6, 7]) == counted([6, 5]) == {"samples": 4, "of": 4}
    assert counted([1]) == {"samples": 0, "of": 4}
    assert counted([6, 5], 5000) == {"samples": 1000, "of": 1000}
    plain = Stream(repo.version("corpus"), seed=2, sequence_length=8, packing="documents")
    assert "without_targets" not in stream_stats(plain)["phases"][0]


def predicted(stream: Stream, position: int) -> int:
    targets = np.empty((1, 8), np.int64)
    stream.fill(stream.addresses([position]), targets=targets)
    return int((targets != -100).sum())


@pytest.mark.parametrize(
    ("samples", "of", "said"),
    [
        (0, 9, "of the first 9 samples, 0 without any target\n"),
        (2, 9, "2 without any target: they do not hold the response template, or nothing behind it"),
        (
            1000,
            1000,
            "of the first 1,000 samples, 1,000 without any target: they do not hold the response template, so they",
        ),
    ],
)
def test_samples_without_targets_are_shown(
    capsys: pytest.CaptureFixture[str], samples: int, of: int, said: str
) -> None:
    stream = memory_stream(documents_of([30]), seed=1, sequence_length=5)
    found = stream_stats(stream)
    found["phases"][0]["without_targets"] = {"samples": samples, "of": of}
    show_stats(found)
    assert said in capsys.readouterr().out
