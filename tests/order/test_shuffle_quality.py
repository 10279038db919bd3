"""Orders are as good as fair draws, by tests that a weak bijection fails.

A weak bijection is the one of the specification with 2 rounds; where those are fair (what they are fair in is said
there), another one. Keys are fixed: what passes once always passes. New keys would fail a test in 10^6 runs once.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from pyfactory.core.rng import derive_key
from pyfactory.native.reference import philox64
from pyfactory.order.permutation import SourceOrder
from tests.shuffle_statistics import (
    FALSE_ALARM,
    RELATIONS,
    Ints,
    Permute,
    Statistic,
    assert_fair,
    bound,
    distances,
    every_permutation,
    fair_draw,
    feistel,
    index_avalanche,
    key_avalanche,
    keys_of,
    native,
    parity,
    placement,
    relation,
    serial,
    spread,
    surprise,
)

PLACES = [(5, 50_000), (16, 20_000), (100, 5_000), (1000, 500), (4097, 150)]


@pytest.mark.parametrize("n", [1, 2, 3, 5, 16, 100, 257, 1000, 4097, 2**32, 2**62])
def test_the_specification_with_all_rounds_is_the_one_in_use(n: int) -> None:
    """So that what is shown of 2 rounds is shown of the same network. Catches any difference between the two."""
    index = keys_of(500, 3).astype(np.int64) % n
    assert n == 1 or (feistel()(n, keys_of(20), index) == native(n, keys_of(20), index)).all()
    assert n < 100 or (feistel(2)(n, keys_of(20), index) != native(n, keys_of(20), index)).any()


@pytest.mark.parametrize("freedom", [1, 5, 23, 119, 9801])
def test_the_bound_has_at_most_the_stated_false_alarm(freedom: int) -> None:
    """Against the exact tail of a chi-square, Q(x, k + 2) = Q(x, k) + (x/2)^(k/2) e^(-x/2) / gamma(k/2 + 1)."""
    low, high = 0.0, 50.0 * freedom
    for _ in range(100):  # the chi-square whose score is the bound
        middle = (low + high) / 2
        low, high = (low, middle) if surprise(middle, freedom)[0] > bound(1) else (middle, high)
    half = low / 2
    terms = range(1, freedom, 2)
    logs = [k / 2 * math.log(half) - half - math.lgamma(k / 2 + 1) for k in terms]
    tail = math.erfc(math.sqrt(half)) + sum(math.exp(log) for log in logs)
    assert (0.2 if freedom > 1 else 0) < tail / (FALSE_ALARM / 2) < 1.02  # never more often than stated


@pytest.mark.parametrize(("n", "keys"), PLACES)
@pytest.mark.parametrize("function", [native, fair_draw])
def test_every_index_lands_anywhere(function: Permute, n: int, keys: int) -> None:
    """Where indexes land over many keys, and for each key how evenly a range of them spreads."""
    assert_fair(placement(function, n, keys_of(keys)))
    assert_fair(spread(function, n, keys_of(keys // 10 if n < 1000 else keys)))


@pytest.mark.parametrize(("n", "keys"), PLACES)
def test_two_rounds_do_not_land_anywhere(n: int, keys: int) -> None:
    """On powers of two each single index does: every key shifts it. But then ranges spread too evenly, or in lumps."""
    if n in (5, 100, 4097):
        with pytest.raises(AssertionError, match="standard deviations"):
            assert_fair(placement(feistel(2), n, keys_of(keys)))
    with pytest.raises(AssertionError, match="standard deviations"):
        assert_fair(spread(feistel(2), n, keys_of(keys // 10 if n < 1000 else keys)))


@pytest.mark.parametrize(("n", "keys"), [(3, 50_000), (4, 50_000), (5, 100_000), (6, 100_000)])
def test_all_permutations_are_equally_likely(n: int, keys: int) -> None:
    """Two rounds reach not even all of 24; 8 rounds, which suffice on large domains, fail at 5 and 6."""
    assert_fair(every_permutation(native, n, keys_of(keys)))
    assert_fair(every_permutation(fair_draw, n, keys_of(keys)))
    for rounds in (2, 4) if n < 5 else (2, 4, 8):
        with pytest.raises(AssertionError, match="standard deviations"):
            assert_fair(every_permutation(feistel(rounds), n, keys_of(keys)))


@pytest.mark.parametrize("n", [16, 32, 64, 256])
def test_odd_permutations_are_as_likely_as_even_ones(n: int) -> None:
    """Rounds are even permutations, whatever their number, so the mutant is a missing last bit."""
    assert_fair(parity(native, n, keys_of(1000)))
    assert_fair(parity(fair_draw, n, keys_of(1000)))
    with pytest.raises(AssertionError, match="standard deviations"):
        assert_fair(parity(feistel(last_bit=False), n, keys_of(1000)))


@pytest.mark.parametrize("bits", [10, 16, 33, 62])
def test_a_bit_of_the_index_changes_half_of_the_output(bits: int) -> None:
    """Two rounds carry a bit of the higher half to itself and leave its neighbours alone."""
    assert_fair(index_avalanche(native, bits, keys_of(4000)))
    with pytest.raises(AssertionError, match="standard deviations"):
        assert_fair(index_avalanche(feistel(2), bits, keys_of(4000)))


@pytest.mark.parametrize("bits", [10, 16, 33, 62])
@pytest.mark.parametrize("weak", [feistel(2), feistel(key_bits=63)], ids=["2 rounds", "63 bits of the key"])
def test_a_bit_of_the_key_changes_half_of_the_output(weak: Permute, bits: int) -> None:
    """Of an output, which 2 rounds do, and of the XOR of two, which they do not."""
    assert_fair(key_avalanche(native, bits, keys_of(2000)))
    with pytest.raises(AssertionError, match="standard deviations"):
        assert_fair(key_avalanche(weak, bits, keys_of(2000)))


@pytest.mark.parametrize("statistic", [serial, distances])
@pytest.mark.parametrize(("n", "keys"), [(256, 500), (1000, 300), (4096, 100), (4097, 100)])
def test_neighbours_part(statistic: Statistic, n: int, keys: int) -> None:
    """Correlation at lags 1 to 64, and the distance between x and x + 1."""
    assert_fair(statistic(native, n, keys_of(keys)))
    assert_fair(statistic(fair_draw, n, keys_of(keys)))
    with pytest.raises(AssertionError, match="standard deviations"):
        assert_fair(statistic(feistel(2), n, keys_of(keys)))


def order(n: int, seed: int, source: str, epoch: int) -> Ints:
    samples: Ints = SourceOrder(n, seed, source).samples_at(np.arange(n) + epoch * n)
    return samples


def order_of_one_block(n: int, seed: int, source: str, epoch: int) -> Ints:
    """All in one window: the order comes from the other key."""
    samples: Ints = SourceOrder(n, seed, source, block_size=n).samples_at(np.arange(n) + epoch * n)
    return samples


def weak_order(n: int, seed: int, source: str, epoch: int) -> Ints:
    key = philox64(derive_key(seed, "blocks", source), epoch, 0)
    samples: Ints = feistel(2)(n, np.array([key], np.uint64), np.arange(n))[0]
    return samples


def added_order(n: int, seed: int, source: str, epoch: int) -> Ints:
    """As some loaders have it: seed and epoch are added."""
    return order(n, seed + epoch, source, 0)


def nameless_order(n: int, seed: int, source: str, epoch: int) -> Ints:
    return order(n, seed, "", epoch)


@pytest.mark.parametrize("name", RELATIONS)
def test_orders_have_nothing_in_common(name: str) -> None:
    """Epochs, seeds and sources. Catches 2 rounds, seed + epoch, and a key without the source."""
    assert_fair(relation(order, 1000, name, 400))
    assert_fair(relation(order_of_one_block, 1000, name, 400))
    with pytest.raises(AssertionError, match="standard deviations"):
        assert_fair(relation(weak_order, 1000, name, 400))
    worse = {"seed up, epoch down": added_order, "other source": nameless_order, "similar name": nameless_order}
    if name in worse:
        with pytest.raises(AssertionError, match="standard deviations"):
            assert_fair(relation(worse[name], 1000, name, 100))
