"""How far permutations are from a fair draw: statistics of a permutation function, each with its exact expectation.

A statistic returns scores. For a fair draw each is a standard normal number, so `assert_fair` knows how often it would
be wrong: once in 10^6 runs with new keys.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from pyfactory.core.rng import derive_key
from pyfactory.native import permute, philox

__all__ = [
    "FALSE_ALARM",
    "RELATIONS",
    "Order",
    "Permute",
    "Statistic",
    "assert_fair",
    "bound",
    "distances",
    "every_permutation",
    "fair_draw",
    "feistel",
    "index_avalanche",
    "key_avalanche",
    "keys_of",
    "native",
    "parity",
    "placement",
    "relation",
    "serial",
    "spread",
    "surprise",
]

Ints = NDArray[np.int64]
Words = NDArray[np.uint64]
Floats = NDArray[np.float64]
Permute = Callable[[int, Words, Ints], Ints]
"""(n, keys [k], index [m] or [k, m]) -> where each index goes under each key [k, m]."""

Statistic = Callable[[Permute, int, Words], Floats]
"""(function, n or bits, keys) -> scores."""

FALSE_ALARM = 1e-6
_WEYL = 0x9E3779B97F4A7C15


def keys_of(count: int, stream: int = 0) -> Words:
    """Keys as the specification makes them: words of Philox under the key of a source."""
    counters = np.zeros((count, 4), np.uint32)
    counters[:, 0], counters[:, 2] = np.arange(count), stream
    return philox(counters, derive_key(7, "blocks", "quality"))[:, :2].copy().view(np.uint64)[:, 0]


# The permutation functions: ours, the same from the specification with knobs, and one that is fair by construction.


def native(n: int, keys: Words, index: Ints) -> Ints:
    rows = np.broadcast_to(index, (len(keys), index.shape[-1]))
    return np.array([permute(row, n, key) for row, key in zip(rows, keys.tolist(), strict=True)])


def fair_draw(n: int, keys: Words, index: Ints) -> Ints:
    """Fisher-Yates with PCG64; the keys only seed it together."""
    rows = np.tile(np.arange(n), (len(keys), 1))
    return np.random.default_rng(keys[:4]).permuted(rows, axis=1)[:, index]


def _mix(z: Words) -> Words:
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def feistel(rounds: int | None = None, *, last_bit: bool = True, key_bits: int = 64) -> Permute:
    """Section 4 of docs/stream-spec.md; a number of rounds, no last step or a shorter key make it weak."""

    def function(n: int, keys: Words, index: Ints) -> Ints:
        bits = max(2, (n - 1).bit_length())
        low, high = bits // 2, bits - bits // 2
        count = rounds if rounds is not None else 32 if bits <= 8 else 8
        key = keys[:, None] & np.uint64(2**key_bits - 1)

        def f(r: int, v: Words, width: int) -> Words:
            return _mix(v + key + np.uint64((r + 1) * _WEYL % 2**64)) >> np.uint64(64 - width)

        def once(x: Words) -> Words:
            h, v = x >> np.uint64(low), x & np.uint64(2**low - 1)
            for r in range(0, count, 2):
                h = h ^ f(r, v, high)
                v = v ^ f(r + 1, h, low)
            x = h << np.uint64(low) | v
            return x ^ f(count, x >> np.uint64(1), 1) if last_bit else x

        x = once(np.broadcast_to(index, (len(keys), index.shape[-1])).astype(np.uint64))
        while (outside := x >= n).any():
            x = np.where(outside, once(x), x)
        return x.astype(np.int64)

    return function


# Scores and bounds.


def bound(count: int) -> float:
    """What the largest of `count` scores exceeds, on either side, with probability FALSE_ALARM at most (Bonferroni)."""
    return NormalDist().inv_cdf(1 - FALSE_ALARM / (2 * count))


def assert_fair(scores: Floats) -> None:
    worst = np.abs(scores).max()
    assert worst < bound(scores.size), f"{worst:.1f} standard deviations, of {scores.size} scores; {scores.ravel()[:8]}"


def surprise(chi_square: float | Floats, freedom: int) -> Floats:
    """A chi-square as a standard normal score (Wilson, Hilferty 1931)."""
    spread = 2 / (9 * freedom)
    return np.atleast_1d((np.cbrt(np.asarray(chi_square) / freedom) - (1 - spread)) / math.sqrt(spread))


# The statistics.


def placement(function: Permute, n: int, keys: Words) -> Floats:
    """Where each index lands, counted over all keys: single places (up to 128), and in 32, 16, 8, 4 and 2 equal ranges.

    A random permutation matrix has covariance (I - 1/n) x (I - 1/n) / (n - 1), so that for ranges of sizes s the sum
    (n - 1) / keys * sum (count - keys s_a s_b / n)^2 / (s_a s_b) is a chi-square of (ranges - 1)^2 degrees.
    """
    images = function(n, keys, np.arange(n))
    tables = [ranges for ranges in (2, 4, 8, 16, 32) if ranges < n] + [n] * (n <= 128)
    return np.concatenate([surprise(_total(images, ranges), (ranges - 1) ** 2) for ranges in tables])


def spread(function: Permute, n: int, keys: Words) -> Floats:
    """The same in 4 and 2 ranges for each key by itself, added up: an order that is too even is seen as well."""
    images = function(n, keys, np.arange(n))
    totals = [sum(_total(row[None], ranges) for row in images) for ranges in (4, 2)]
    return np.concatenate([surprise(totals[0], 9 * len(keys)), surprise(totals[1], len(keys))])


def _total(images: Ints, ranges: int) -> float:
    keys, n = images.shape
    of = np.arange(n) * ranges // n
    counts = np.bincount((of * ranges + of[images]).ravel(), minlength=ranges**2).reshape(ranges, ranges)
    sizes = np.bincount(of).astype(float)
    cells = np.outer(sizes, sizes)
    return float((n - 1) / keys * ((counts - keys * cells / n) ** 2 / cells).sum())


def every_permutation(function: Permute, n: int, keys: Words) -> Floats:
    """All n! permutations, counted over keys: a chi-square of n! - 1 degrees."""
    names = function(n, keys, np.arange(n)) @ n ** np.arange(n)
    _, counts = np.unique(names, return_counts=True)
    expected = len(keys) / math.factorial(n)
    missing = math.factorial(n) - len(counts)
    return surprise(((counts - expected) ** 2).sum() / expected + missing * expected, math.factorial(n) - 1)


def parity(function: Permute, n: int, keys: Words) -> Floats:
    """How many permutations are odd: binomial."""
    images = function(n, keys, np.arange(n))
    inversions = np.zeros(len(keys), np.int64)
    for distance in range(1, n):
        inversions += (images[:, distance:] < images[:, :-distance]).sum(axis=1)
    return np.array([((inversions % 2).sum() - len(keys) / 2) / math.sqrt(len(keys) / 4)])


def _flips(difference: Ints, bits: int) -> Floats:
    """The score of each bit of XORs of two outputs in [0, 2^bits): how often it is set."""
    set_bits = np.array([(difference >> bit & 1).sum() for bit in range(bits)])
    return (set_bits - difference.size / 2) / math.sqrt(difference.size / 4)


def index_avalanche(function: Permute, bits: int, keys: Words) -> Floats:
    """Each bit of the index changes each bit of the output half of the time, n being 2^bits: [bits, bits] scores."""
    index = (keys_of(len(keys), 1) >> np.uint64(64 - bits)).astype(np.int64)[:, None]
    plain = function(2**bits, keys, index)
    return np.array([_flips(plain ^ function(2**bits, keys, index ^ 1 << bit), bits) for bit in range(bits)])


def key_avalanche(function: Permute, bits: int, keys: Words) -> Floats:
    """Each bit of the key changes each bit of an output, and of the XOR of two outputs: [64, 2 bits] scores.

    The two indexes differ in the highest bit. After two rounds the XOR of their higher halves has nothing of the key.
    """
    index = (keys_of(len(keys), 1) >> np.uint64(64 - bits)).astype(np.int64)[:, None] ^ np.array([0, 1 << bits - 1])
    plain = function(2**bits, keys, index)
    scores = []
    for bit in range(64):
        change = plain ^ function(2**bits, keys ^ np.uint64(1 << bit), index)
        scores.append([*_flips(change[:, 0], bits), *_flips(change[:, 0] ^ change[:, 1], bits)])
    return np.array(scores)


def serial(function: Permute, n: int, keys: Words) -> Floats:
    """Correlation of outputs at lags 1 to 64 (cyclic), its mean over keys and its spread: [2, 64] scores.

    The mean is -1 / (n - 1); times the square root of n, the spread is that of a standard normal number.
    """
    images = function(n, keys, np.arange(n)).astype(float)
    spectrum = np.fft.rfft((images - (n - 1) / 2) / math.sqrt((n**2 - 1) / 12), axis=1)
    correlation = np.fft.irfft(np.abs(spectrum) ** 2, n, axis=1)[:, 1:65] / n + 1 / (n - 1)
    mean = correlation.mean(axis=0) * math.sqrt(n * len(keys))
    return np.array([mean, surprise((correlation**2).sum(axis=0) * n, len(keys))])


def distances(function: Permute, n: int, keys: Words) -> Floats:
    """Distance of neighbours, order(x + 1) - order(x) modulo n, in 64 ranges: uniform on 1 to n - 1, for every key.

    Two pairs of neighbours have the same distance a little more often than chance, (n - 1) / (n - 2): hence 1 + 1 / n.
    """
    images = function(n, keys, np.arange(n))
    of = np.arange(n - 1) * 64 // (n - 1)
    steps = of[(np.diff(images, axis=1) % n) - 1] + 64 * np.arange(len(keys))[:, None]
    counts = np.bincount(steps.ravel(), minlength=64 * len(keys)).reshape(-1, 64)
    expected = np.bincount(of)  # n - 1 neighbours, each in a range with probability size / (n - 1)
    return surprise(((counts - expected) ** 2 / expected).sum() / (1 + 1 / n), 63 * len(keys))


# Orders of several epochs, seeds and sources.

Order = Callable[[int, int, str, int], Ints]
"""(n, seed, source, epoch) -> the samples of that epoch in order, [n]."""

RELATIONS: dict[str, Callable[[int], tuple[tuple[int, str, int], tuple[int, str, int]]]] = {
    "next epoch": lambda i: ((i, "web", 3), (i, "web", 4)),
    "next seed": lambda i: ((i, "web", 3), (i + 1, "web", 3)),
    "seed up, epoch down": lambda i: ((i, "web", 1), (i + 1, "web", 0)),
    "other source": lambda i: ((i, "web", 3), (i, "code", 3)),
    "similar name": lambda i: ((i, "web", 3), (i, "web2", 3)),
}


def relation(order: Order, n: int, name: str, pairs: int) -> Floats:
    """Two orders in a relation have as much in common as two fair draws have: three scores.

    The number of positions that hold the same sample is Poisson(1) (but for 1 / n!); the correlation has mean 0 and
    variance 1 / (n - 1).
    """
    both = [RELATIONS[name](seed) for seed in range(1000, 1000 + 2 * pairs, 2)]
    first, second = (np.array([order(n, *pair[side]) for pair in both]) for side in (0, 1))
    chances = [math.exp(-1) / math.factorial(k) for k in range(5)]
    expected = pairs * np.array([*chances, 1 - sum(chances)])
    counts = np.bincount(np.minimum((first == second).sum(axis=1), 5), minlength=6)
    product = (first - (n - 1) / 2) * (second - (n - 1) / 2)
    correlation = product.mean(axis=1) * 12 / (n**2 - 1) * math.sqrt(n - 1)
    same = surprise(((counts - expected) ** 2 / expected).sum(), 5)
    return np.concatenate([same, surprise((correlation**2).sum(), pairs), [correlation.sum() / math.sqrt(pairs)]])
