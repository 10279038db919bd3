"""How many samples a number of tokens gives, and which tokens each reads."""

from __future__ import annotations

from itertools import chain, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyfactory.errors import InvalidInputError
from pyfactory.order.packing import Concat, Geometry, Runs


@given(st.integers(1, 10**6), st.integers(1, 2**62))
def test_every_sample_has_its_target_and_no_more_would_fit(length: int, more: int) -> None:
    """Catches tokens // length (the last sample lacks its last target) and (tokens - 1) // length - 1."""
    tokens = length + more
    packing = Concat(tokens, length)
    last_target = packing.samples * length  # of sample n - 1: (n - 1) L + L
    assert packing.samples >= 1
    assert last_target <= tokens - 1 < last_target + length
    assert packing.tokens_left == tokens - packing.samples * length
    assert 1 <= packing.tokens_left <= length


def test_by_hand() -> None:
    assert [Concat(tokens, 4).samples for tokens in (5, 8, 9, 12, 13)] == [1, 1, 2, 2, 3]
    assert [Concat(tokens, 4).tokens_left for tokens in (5, 8, 9, 12, 13)] == [1, 4, 1, 4, 1]
    assert Concat(2, 1).samples == 1


@pytest.mark.parametrize(("tokens", "length"), [(0, 1), (1, 1), (4, 4), (3, 2048)])
def test_too_few_tokens(tokens: int, length: int) -> None:
    with pytest.raises(InvalidInputError, match=f"{tokens} tokens") as caught:
        Concat(tokens, length)
    assert "sequence_length below" in caught.value.hint


@st.composite
def runs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Runs of a table's tokens, some of which touch and some of which are empty."""
    pairs = draw(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 9)), max_size=12))
    firsts, at = [], 0
    for gap, length in pairs:
        firsts.append(at + gap)
        at += gap + length
    return np.array(firsts, np.int64), np.array([length for _, length in pairs], np.int64)


def tokens_of(geometry: Geometry, samples: np.ndarray) -> list[list[int]]:
    first, length, offsets = geometry.pieces(samples)
    assert (length >= 1).all() and offsets[0] == 0 and len(offsets) == len(samples) + 1
    pieces = [list(range(f, f + n)) for f, n in zip(first.tolist(), length.tolist(), strict=True)]
    return [[*chain(*pieces[start:stop])] for start, stop in pairwise(offsets.tolist())]


def check_geometry(geometry: Geometry, tokens: list[int], length: int) -> None:
    """Against a plain list of the tokens of the table that are cut."""
    samples = np.arange(geometry.samples)
    listed = [tokens[i * length : i * length + length + 1] for i in range(max(len(tokens) - 1, 0) // length)]
    assert tokens_of(geometry, samples) == listed
    assert tokens_of(geometry, samples[::-1]) == listed[::-1]
    end = (tokens[-1] if tokens else 0) + 3
    for first in range(end):
        begins = [i for i, sample in enumerate(listed) if sample[0] == first]
        assert geometry.sample_at(np.array([first])).tolist() == (begins or [-1])
        for stop in range(first, end):
            wanted = set(range(first, stop))
            assert geometry.samples_with(first, stop).tolist() == [i for i, s in enumerate(listed) if wanted & {*s}]
    assert geometry.sample_at(np.array([-1, -length])).tolist() == [-1, -1]


@settings(deadline=None)
@given(runs(), st.integers(1, 12))
def test_runs_are_cut_as_if_they_were_one_table(found: tuple[np.ndarray, np.ndarray], length: int) -> None:
    """Mutants: a token between runs is taken for the next one in `sample_at`; the target shared by two samples is not
    in the first; a run that ends with the sample gives a piece of no tokens."""
    tokens = [t for f, n in zip(*(column.tolist() for column in found), strict=True) for t in range(f, f + n)]
    geometry = Runs(*found, length)
    assert geometry.tokens == len(tokens)
    check_geometry(geometry, tokens, length)


@settings(deadline=None)
@given(st.integers(1, 40), st.data())
def test_concat_reads_what_it_says(tokens: int, data: st.DataObject) -> None:
    length = data.draw(st.integers(1, tokens))
    check_geometry(Concat(tokens + 1, length), list(range(tokens + 1)), length)


def test_runs_that_are_none() -> None:
    for firsts, lengths in (([5, 2], [1, 1]), ([0, 3], [4, 1]), ([0], [1, 2]), ([0], [-1])):
        with pytest.raises(InvalidInputError, match="ascend"):
            Runs(np.array(firsts), np.array(lengths), 4)


def test_far_tokens() -> None:
    """Nothing is counted in floats or 32 bits."""
    geometry = Concat(2**62, 2048)
    last = geometry.samples - 1
    assert tokens_of(geometry, np.array([last]))[0][0] == last * 2048
    assert geometry.sample_at(np.array([last * 2048])).tolist() == [last]
    assert geometry.samples_with(last * 2048, last * 2048 + 1).tolist() == [last - 1, last]
