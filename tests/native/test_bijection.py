"""The keyed bijection: one-to-one at every size, and no permutation likelier than another."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pyfactory.native import permute, philox, unpermute
from pyfactory.native.reference import Bijection

KEYS = st.integers(0, 2**64 - 1)
LARGEST = 2**62
# What a fair draw passes with: 5 standard deviations. Keys are fixed, so a test that passes once always passes.
FAIR = 5.0


def random_keys(count: int) -> list[int]:
    return np.random.default_rng(20240607).integers(0, 2**64, count, dtype=np.uint64).tolist()


def surprise(counts: Iterable[int], cells: int) -> float:
    """How many standard deviations the chi-square of counts over equally likely cells is off (Wilson, Hilferty)."""
    seen = np.array(list(counts))
    expected, freedom = seen.sum() / cells, cells - 1
    chi_square = ((seen - expected) ** 2).sum() / expected + expected * (cells - len(seen))
    spread = 2 / (9 * freedom)
    return float((np.cbrt(chi_square / freedom) - (1 - spread)) / math.sqrt(spread))


def surprise_of_permutations(n: int, draws: int, draw: Callable[[int], Iterable[int]]) -> float:
    counted = Counter(tuple(draw(key)) for key in random_keys(draws))
    return surprise(counted.values(), math.factorial(n))


@pytest.mark.parametrize("n", [*range(1, 70), 127, 128, 129, 255, 256, 257, 1000, 4095, 4096, 4097])
def test_one_to_one_on_all_of_a_small_domain(n: int) -> None:
    """Catches a cycle walk that stops too early or runs on a domain that is too small."""
    for key in (0, 1, 2**63, *random_keys(3)):
        image = permute(np.arange(n), n, key)
        assert sorted(image.tolist()) == list(range(n))
        assert unpermute(image, n, key).tolist() == list(range(n))


@given(st.data(), KEYS, st.integers(0, 62))
def test_one_to_one_on_samples_of_a_large_domain(drawn: st.DataObject, key: int, bits: int) -> None:
    """Up to 2^62 elements, both ways, and as the reference has it."""
    n = drawn.draw(st.integers(1 + 2**bits // 2, 2**bits))
    xs = drawn.draw(st.lists(st.one_of(st.integers(0, n - 1), st.just(n - 1)), min_size=1, max_size=20))
    there, back = permute(np.array(xs), n, key), unpermute(np.array(xs), n, key)
    assert min(there.min(), back.min()) >= 0 and max(there.max(), back.max()) < n
    assert len(set(there.tolist())) == len(set(xs))
    assert unpermute(there, n, key).tolist() == permute(back, n, key).tolist() == xs
    assert there.tolist() == [Bijection(n, key).forward(x) for x in xs]


@pytest.mark.parametrize("n", [2, 3, 4, 5, 6])
def test_all_permutations_are_equally_likely(n: int) -> None:
    """Catches too few rounds."""
    draws = 50_000
    assert abs(surprise_of_permutations(n, draws, lambda key: permute(np.arange(n), n, key).tolist())) < FAIR


@pytest.mark.parametrize(("n", "rounds", "draws"), [(4, 2, 5_000), (5, 2, 5_000), (6, 2, 5_000), (6, 8, 20_000)])
def test_a_weak_bijection_is_seen(n: int, rounds: int, draws: int) -> None:
    """The statistic above fails with 2 rounds, and with the 8 that suffice on large domains: so it does see.

    Two and three elements are missing here: on them, the last bit and cycle walking are fair after 2 rounds already.
    """

    def weak(key: int) -> list[int]:
        bijection = Bijection(n, key)
        bijection.rounds = rounds
        return [bijection.forward(x) for x in range(n)]

    assert surprise_of_permutations(n, draws, weak) > 2 * FAIR


def is_odd(permutation: list[int]) -> bool:
    unseen, swaps = set(range(len(permutation))), 0
    while unseen:
        x = start = unseen.pop()
        while (x := permutation[x]) != start:
            unseen.remove(x)
            swaps += 1
    return swaps % 2 == 1


@pytest.mark.parametrize("n", [16, 32, 64, 256])
def test_odd_permutations_are_as_likely_as_even_ones(n: int) -> None:
    """Catches a missing last bit: rounds on halves of two and more bits are even, and so is whatever they add up to."""
    draws = 2_000
    odd = sum(is_odd(permute(np.arange(n), n, key).tolist()) for key in random_keys(draws))
    assert abs(odd - draws / 2) < FAIR * math.sqrt(draws) / 2


@pytest.mark.parametrize("n", [257, 300, 511, 1000])
def test_where_two_neighbours_go(n: int) -> None:
    """On domains of few bits that get 8 rounds: a uniform place, and a uniform distance between neighbours."""
    pairs = np.array([permute(np.array([0, 1]), n, key) for key in random_keys(60_000)])
    assert abs(surprise(Counter(pairs[:, 0].tolist()).values(), n)) < FAIR
    distances = Counter(((pairs[:, 1] - pairs[:, 0]) % n).tolist())
    assert 0 not in distances
    assert abs(surprise(distances.values(), n - 1)) < FAIR


@given(st.lists(st.tuples(*[st.integers(0, 2**32 - 1)] * 4), max_size=5), KEYS)
@example([], 0)
def test_philox_takes_counters_one_by_one(counters: list[tuple[int, int, int, int]], key: int) -> None:
    blocks = philox(np.array(counters, np.uint32).reshape(-1, 4), key)
    assert blocks.dtype == np.uint32 and blocks.shape == (len(counters), 4)
    for counter, block in zip(counters, blocks, strict=True):
        assert philox(np.array([counter], np.uint32), key).tolist() == [block.tolist()]


@pytest.mark.parametrize("function", [permute, unpermute])
def test_what_is_outside_of_a_domain_is_refused(function: Callable[..., np.ndarray]) -> None:
    """Cycle walking from an index outside would not end."""
    for n in (0, -1, LARGEST + 1):
        with pytest.raises(ValueError, match=r"1 to 2\^62"):
            function(np.array([0]), n, 1)
    for index in (-1, 10, 2**62):
        with pytest.raises(IndexError, match="outside"):
            function(np.array([3, index]), 10, 1)
    assert 0 <= function(np.array([LARGEST - 1]), LARGEST, 1).item() < LARGEST
    with pytest.raises(TypeError):
        function(np.array([1.5]), 10, 1)
    with pytest.raises(TypeError):
        function(np.array([1]), 10, -1)


@pytest.mark.parametrize("shape", [(4,), (1, 3), (1, 4, 1)])
def test_counters_of_another_shape_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\[m, 4\]"):
        philox(np.zeros(shape, np.uint32), 1)
