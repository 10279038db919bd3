"""Mixtures: each source has its share everywhere; a position leads to a sample and back as dealing them out does."""

from __future__ import annotations

import threading
from collections import Counter

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pyfactory.native import Interleave, Mixture, Order, TwoWay
from pyfactory.native import reference as ref

LARGEST = 2**62
FEW_WEIGHTS = st.lists(st.integers(1, 12), min_size=1, max_size=9)
LARGE_TOTAL = st.one_of(st.integers(1, 2**33), st.integers(1, LARGEST), st.integers(LARGEST - 3, LARGEST))


@st.composite
def any_weights(draw: st.DrawFn) -> list[int]:
    """1 to 40 weights, whose sum may come as close to 2^32 as it can."""
    count = draw(st.integers(1, 40))
    weight = st.one_of(st.integers(1, 3), st.integers(1, (2**32 - 1) // 40))
    weights = draw(st.lists(weight, min_size=count, max_size=count))
    if draw(st.booleans()):
        at = draw(st.integers(0, count - 1))
        weights[at] += 2**32 - 1 - sum(weights)
    return weights


def interleave(weights: list[int]) -> Interleave:
    return Interleave(np.array(weights, np.uint64))


@given(FEW_WEIGHTS, st.integers(1, 120))
@example([1, 1, 1], 20)
@example([1, 2, 4, 8, 16], 70)
@example([5, 3], 40)
def test_equals_dealing_out_one_by_one(weights: list[int], count: int) -> None:
    """Catches floor in place of the nearest (w / 2), a middle that is rounded up, and a period that is off by one."""
    dealt = ref.deal(weights, count)
    sources, numbers = interleave(weights).split(np.arange(count))
    assert list(zip(sources.tolist(), numbers.tolist(), strict=True)) == dealt
    for position in range(count + 1):
        taken = Counter(source for source, _ in dealt[:position])
        assert interleave(weights).counts(position).tolist() == [taken[source] for source in range(len(weights))]


@given(any_weights(), st.lists(st.integers(0, LARGEST - 1), min_size=1, max_size=30))
@example([2**32 - 1], [LARGEST - 1])
@example([1, 2**32 - 2], [0, 2**31, 2**32 - 2, 2**32 - 1, LARGEST - 1])
@example([2**31, 2**31 - 1], [LARGEST - 1])
def test_there_and_back(weights: list[int], positions: list[int]) -> None:
    """Catches the children taken for one another in `join`, and any product that passes 2^64."""
    tree = interleave(weights)
    sources, numbers = tree.split(np.array(positions))
    assert tree.join(sources, numbers).tolist() == positions
    for position, source, number in zip(positions, sources.tolist(), numbers.tolist(), strict=True):
        before, behind = tree.counts(position), tree.counts(position + 1)
        assert before[source] == number  # so many of this source came before, and this is the next
        assert (behind - before).tolist() == [int(i == source) for i in range(len(weights))]


@given(any_weights(), st.data())
def test_number_by_number(weights: list[int], drawn: st.DataObject) -> None:
    """The other way round: each sample of each source has a position, and later ones of a source stand later."""
    tree, total = interleave(weights), sum(weights)
    source = drawn.draw(st.integers(0, len(weights) - 1))
    largest = weights[source] * (LARGEST // total) - 1
    numbers = sorted(drawn.draw(st.sets(st.integers(0, largest), min_size=1, max_size=20)))
    sources = np.full(len(numbers), source)
    positions = tree.join(sources, np.array(numbers))
    assert (np.diff(positions) > 0).all()
    again = tree.split(positions)
    assert again[0].tolist() == sources.tolist() and again[1].tolist() == numbers


@given(any_weights(), st.integers(0, LARGEST))
def test_shares(weights: list[int], position: int) -> None:
    """Exact at each period, and within ceil(log2 k) anywhere. Catches a remainder that is lost at some level."""
    tree, total = interleave(weights), sum(weights)
    taken, levels = tree.counts(position).tolist(), (len(weights) - 1).bit_length()
    assert sum(taken) == position
    assert all(abs(n * total - position * w) <= levels * total for n, w in zip(taken, weights, strict=True))
    period = position - position % total
    assert tree.counts(period).tolist() == [period // total * w for w in weights]


def test_ten_thousand_sources() -> None:
    rng = np.random.default_rng(5)
    tree = Interleave(rng.integers(1, 400_000, 10_000).astype(np.uint64))
    positions = rng.integers(0, LARGEST, 20_000)
    sources, numbers = tree.split(positions)
    assert (tree.join(sources, numbers) == positions).all() and len(set(sources.tolist())) > 5_000


@given(st.integers(0, 60), st.integers(0, 60))
def test_two_ways_small(tail: int, added: int) -> None:
    """All numbers of small splits; either side may be empty."""
    if tail + added == 0:
        return
    two, total = TwoWay(tail, tail + added), tail + added
    sides, indexes = two.split(np.arange(total))
    assert list(zip(sides.tolist(), indexes.tolist(), strict=True)) == ref.deal_two(tail, total, 0, total)
    assert two.join(sides, indexes).tolist() == [*range(total)]
    assert (sides == 0).sum() == tail


@given(st.data(), LARGE_TOTAL)
def test_two_ways_large(drawn: st.DataObject, total: int) -> None:
    """Up to 2^62. Catches a product of 64 bits, and a narrow division where the wide one is needed."""
    tail = drawn.draw(st.one_of(st.integers(0, total), st.sampled_from([0, 1, total - 1, total])))
    count = min(total, 20)
    first = drawn.draw(st.one_of(st.integers(0, total - count), st.just(total - count)))
    two, numbers = TwoWay(tail, total), np.arange(first, first + count)
    sides, indexes = two.split(numbers)
    assert list(zip(sides.tolist(), indexes.tolist(), strict=True)) == ref.deal_two(tail, total, first, count)
    assert (two.join(sides, indexes) == numbers).all()


@settings(max_examples=60)
@given(FEW_WEIGHTS, st.integers(0, 2**32), st.data())
def test_a_mixture_is_its_parts(weights: list[int], seed: int, drawn: st.DataObject) -> None:
    """Tree, then the order of the source at its beginning plus its number; in any order of positions, also repeated.

    Catches buckets that are gathered in another order than they were filled, and a beginning that is left out.
    """
    rng = np.random.default_rng(seed)
    sizes = [int(n) for n in rng.integers(1, 3_000, len(weights))]
    block, window = drawn.draw(st.sampled_from([(1, 1), (4, 3), (16, 8), (50, 1)]))
    orders = [Order(n, block, window, i, i + 7) for i, n in enumerate(sizes)]
    begins = rng.integers(0, 10_000, len(weights))
    start = int(rng.integers(0, 2**40))
    ascending = np.arange(start, start + 700)
    for positions in (ascending, rng.permutation(ascending), rng.integers(0, 2**61, 50), ascending[:1], ascending[:0]):
        sources, numbers = interleave(weights).split(positions)
        indexes = begins[sources] + numbers
        samples = [orders[s].samples_at(np.array([x])).item() for s, x in zip(sources, indexes, strict=True)]
        got = Mixture(np.array(weights, np.uint64), orders, begins).samples_at(positions)
        epochs = indexes // np.array(sizes)[sources]
        assert [part.tolist() for part in got] == [sources.tolist(), samples, epochs.tolist()]


def test_a_mixture_of_many_positions_and_sources() -> None:
    """More positions than are worked on at a time, over sources of several epochs."""
    rng = np.random.default_rng(6)
    weights = rng.integers(1, 50, 300).astype(np.uint64)
    orders = [Order(int(n), 8, 5, i, 3 * i) for i, n in enumerate(rng.integers(1, 400, 300))]
    begins, positions = rng.integers(0, 1000, 300), np.arange(123_456, 223_456)
    mixture = Mixture(weights, orders, begins)
    whole = mixture.samples_at(positions)
    assert whole[2].max() > 3
    for part, again in zip(whole, mixture.samples_at(positions[::-1]), strict=True):
        assert (part == again[::-1]).all()
    sources, numbers = Interleave(weights).split(positions)
    for source in (0, 17, 299):
        chosen = sources == source
        assert (orders[source].samples_at(begins[source] + numbers[chosen]) == whole[1][chosen]).all()


def test_threads_share_a_mixture() -> None:
    """Catches a scratch that calls share: the GIL is released."""
    orders = [Order(5_000, 16, 8, i, i) for i in range(20)]
    mixture = Mixture(np.ones(20, np.uint64), orders, np.zeros(20, np.int64))
    asked = [np.arange(start, start + 50_000) for start in (0, 10_000, 123_456)]
    expected = [mixture.samples_at(positions)[1] for positions in asked]
    wrong: list[int] = []

    def ask(i: int) -> None:
        for _ in range(5):
            if not (mixture.samples_at(asked[i])[1] == expected[i]).all():
                wrong.append(i)

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_what_is_refused() -> None:
    with pytest.raises(ValueError, match="no weights"):
        interleave([])
    with pytest.raises(ValueError, match="is 0"):
        interleave([1, 0])
    for weights in ([2**31, 2**31], [2**64 - 1, 2], [2**32]):
        with pytest.raises(ValueError, match=r"2\^32"):
            interleave(weights)
    tree, one = interleave([1, 2]), np.array([1])
    outside = [np.array([value]) for value in (-1, LARGEST)]
    for values in outside:
        with pytest.raises(IndexError, match="outside"):
            tree.split(values)
        with pytest.raises(IndexError, match="outside"):
            tree.join(one, values)
        with pytest.raises(IndexError, match="outside"):
            Mixture(np.ones(1, np.uint64), [Order(5, 1, 1, 0, 0)], one).samples_at(values)
    for sources, numbers in ((-1, 0), (2, 0), (0, LARGEST - 1), (0, LARGEST // 3 + 1)):
        with pytest.raises(IndexError, match="outside"):
            tree.join(np.array([sources]), np.array([numbers]))
    for position in (-1, LARGEST + 1):
        with pytest.raises(IndexError, match="outside"):
            tree.counts(position)
    with pytest.raises(ValueError, match="differ in length"):
        tree.join(one, np.array([1, 1]))


def test_what_two_ways_and_mixtures_refuse() -> None:
    for tail, total in ((-1, 3), (4, 3), (0, 0), (1, LARGEST + 1)):
        with pytest.raises(ValueError, match=r"1 to 2\^62"):
            TwoWay(tail, total)
    for side, index in ((2, 0), (-1, 0), (0, 3), (1, 2), (1, -1)):
        with pytest.raises(IndexError, match="outside"):
            TwoWay(3, 5).join(np.array([side]), np.array([index]))
    for number in (-1, 5):
        with pytest.raises(IndexError, match="outside"):
            TwoWay(3, 5).split(np.array([number]))
    ones, order = np.ones(2, np.uint64), Order(5, 1, 1, 0, 0)
    with pytest.raises(ValueError, match="of each source"):
        Mixture(ones, [order], np.zeros(2, np.int64))
    with pytest.raises(ValueError, match="of each source"):
        Mixture(ones, [order, order], np.zeros(1, np.int64))
    late = Mixture(ones, [order, order], np.array([LARGEST - 1, 0]))
    assert late.samples_at(np.array([0, 1]))[2].tolist() == [(LARGEST - 1) // 5, 0]
    assert late.samples_at(np.array([2]))[2].tolist() == [LARGEST // 5]  # an index may lie behind the last position
