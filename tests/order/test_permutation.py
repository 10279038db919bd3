"""Position <-> sample: every epoch a permutation, in O(1), equal to the listing of reference.sample_at."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pyfactory.core.rng import derive_key
from pyfactory.errors import InvalidInputError
from pyfactory.native import reference as ref
from pyfactory.order.permutation import SourceOrder

SIZES = st.integers(1, 200)
SEEDS = st.integers(0, 2**64 - 1)


def epoch_of(order: SourceOrder, epoch: int) -> list[int]:
    return order.samples_at(np.arange(order.samples) + epoch * order.samples).tolist()


@given(SIZES, st.integers(1, 220), st.integers(1, 80), SEEDS, st.integers(0, 2**30))
@example(n=13, block=4, window=2, seed=0, epoch=0)  # ragged last block
@example(n=13, block=40, window=9, seed=0, epoch=1)  # block > n
@example(n=41, block=4, window=80, seed=1, epoch=2)  # window > blocks
@example(n=199, block=2, window=3, seed=1, epoch=3)
def test_an_epoch_visits_every_sample_once(n: int, block: int, window: int, seed: int, epoch: int) -> None:
    """Catches a short block that is not accounted for: ranks shift by `missing` and samples come twice or never."""
    order = SourceOrder(n, seed, "tokens", block_size=block, window=window)
    assert sorted(epoch_of(order, epoch)) == list(range(n))


@given(st.integers(1, 60), st.integers(1, 70), st.integers(1, 20), SEEDS, st.integers(0, 2**30), st.data())
def test_equals_the_listing(n: int, block: int, window: int, seed: int, epoch: int, drawn: st.DataObject) -> None:
    """Catches any arithmetic that is a permutation but not the one of the specification."""
    order = SourceOrder(n, seed, "tokens", block_size=block, window=window)
    keys = derive_key(seed, "blocks", "tokens"), derive_key(seed, "window", "tokens")
    positions = drawn.draw(st.lists(st.integers(epoch * n, (epoch + 2) * n - 1), min_size=1, max_size=6))
    assert order.samples_at(np.array(positions)).tolist() == [
        ref.sample_at(p, n, block, window, *keys) for p in positions
    ]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3_000), st.integers(1, 100), st.integers(1, 700), st.integers(0, 2**32), st.integers(0, 2**50))
@example(n=3_000, block=1, window=1, seed=0, epoch=0)
@example(n=2_999, block=2, window=3, seed=1, epoch=1)  # hundreds of windows at a time
@example(n=2_999, block=64, window=4, seed=2, epoch=2)  # windows of several chunks
@example(n=2_600, block=4, window=600, seed=3, epoch=3)  # more slots than a chunk has positions
@example(n=2_560, block=64, window=8, seed=4, epoch=4)  # nothing is short
@example(n=1, block=1, window=1, seed=5, epoch=5)
def test_many_at_a_time_equal_the_listing(n: int, block: int, window: int, seed: int, epoch: int) -> None:
    """Over two epochs, ascending, descending and in leaps: catches a window or a table of blocks that is kept too long,
    and a value whose cycle walk ends too early."""
    order = SourceOrder(n, seed, "tokens", block_size=block, window=window)
    keys = derive_key(seed, "blocks", "tokens"), derive_key(seed, "window", "tokens")
    effective = min(block, n)
    listed = np.array([ref.epoch_of(epoch + i, n, effective, window, *keys) for i in range(2)]).reshape(-1)
    rng, ascending = np.random.default_rng(seed), np.arange(2 * n)
    leaps = np.concatenate([np.arange(a, min(a + 40, 2 * n)) for a in rng.integers(0, 2 * n, 30)])
    few = ascending[max(n - 2, 0) : n + 1]
    for asked in (ascending, ascending[::-1], rng.permutation(2 * n), leaps, few, ascending[n // 2 : n // 2 + 5]):
        samples = order.samples_at(asked + epoch * n)
        assert (samples == listed[asked]).all()
        assert (order.positions_of(samples, epoch + asked // n) == asked + epoch * n).all()


def test_added_samples_have_an_order_of_their_own() -> None:
    """That of the specification's purposes "added blocks" and "added window"."""
    added = SourceOrder(50, 7, "tokens", block_size=4, window=3, added=True)
    keys = derive_key(7, "added blocks", "tokens"), derive_key(7, "added window", "tokens")
    assert epoch_of(added, 2) == ref.epoch_of(2, 50, 4, 3, *keys)
    assert epoch_of(added, 2) != epoch_of(SourceOrder(50, 7, "tokens", block_size=4, window=3), 2)


@given(st.data(), st.integers(1, 2**40), SEEDS)
def test_positions_of_is_the_inverse(drawn: st.DataObject, n: int, seed: int) -> None:
    """At any size and in any order of epochs. Catches an inverse that keeps the arithmetic of an earlier epoch."""
    block, window = (drawn.draw(st.one_of(st.integers(1, 40), st.integers(1, 2**31 - 2))) for _ in range(2))
    positions = np.array(drawn.draw(st.lists(st.integers(0, 2**62 - 1), min_size=1, max_size=20)))
    order = SourceOrder(n, seed, "tokens", block_size=block, window=window)
    samples = order.samples_at(positions)
    assert samples.min() >= 0 and samples.max() < n
    assert order.positions_of(samples, positions // n).tolist() == positions.tolist()


@given(st.data(), SIZES, st.integers(1, 30), st.integers(1, 30))
def test_a_position_alone_is_what_it_is_among_others(drawn: st.DataObject, n: int, block: int, window: int) -> None:
    """Catches state that survives from one position to the next."""
    order = SourceOrder(n, 7, "tokens", block_size=block, window=window)
    positions = drawn.draw(st.lists(st.integers(0, 5 * n), max_size=30))
    alone = [order.samples_at(np.array([p])).item() for p in positions]
    assert order.samples_at(np.array(positions, np.int64)).tolist() == alone


@given(st.integers(2, 200), st.integers(1, 40), st.integers(1, 12), SEEDS)
def test_a_window_holds_its_blocks(n: int, block: int, window: int, seed: int) -> None:
    """Each window of positions holds whole blocks, so that a reader touches few shards at a time."""
    order = SourceOrder(n, seed, "tokens", block_size=block, window=window)
    samples, start, blocks = epoch_of(order, 0), 0, []
    while start < n:
        inside, end = set(), start
        while end < n and len(inside | {samples[end] // block}) <= window:
            inside.add(samples[end] // block)
            end += 1
        sizes = sum(min(n, (b + 1) * block) - b * block for b in inside)
        if block > 1:
            assert end - start == sizes and (len(inside) == window or end == n)
        blocks += inside
        start = end
    assert sorted(blocks) == list(range(-(-n // block)))


@pytest.mark.parametrize(("block", "window", "same"), [(2**62, 2**62, (13, 1)), (4, 2**62, (4, 4)), (13, 2, (13, 1))])
def test_blocks_and_windows_beyond_the_table(block: int, window: int, same: tuple[int, int]) -> None:
    """They mean the largest that fit. Catches a product of the two that passes 2^64."""
    order = SourceOrder(13, 7, "tokens", block_size=block, window=window)
    assert epoch_of(order, 1) == epoch_of(SourceOrder(13, 7, "tokens", block_size=same[0], window=same[1]), 1)


@pytest.mark.parametrize(("block", "window"), [(1, 1), (3, 2), (50, 1), (64, 8)])
def test_no_two_seeds_epochs_or_sources_share_an_order(block: int, window: int) -> None:
    """Catches seed + epoch as a key (seed 7, epoch 1 = seed 8, epoch 0), a key without the source, and, where there is
    one block only, a window whose key lacks the epoch."""
    orders = {
        tuple(epoch_of(SourceOrder(50, seed, source, block_size=block, window=window), epoch))
        for seed in (0, 1, 2, 7, 8, 9, 2**32, 2**64 - 1)
        for epoch in (0, 1, 2, 3, 2**31, 2**32, 2**32 + 1, 2**55)
        for source in ("tokens", "token", "tokens2", "tokens/1", "Ünïcode")
    }
    assert len(orders) == 8 * 8 * 5


def test_seed_7_epoch_1_is_not_seed_8_epoch_0() -> None:
    seven, eight = (SourceOrder(1000, seed, "tokens") for seed in (7, 8))
    assert epoch_of(seven, 1) != epoch_of(eight, 0)


def test_windows_differ() -> None:
    """Eight windows of one epoch shuffle their 64 samples in eight ways: catches a key without the window's number."""
    samples = np.array(epoch_of(SourceOrder(8 * 64, 7, "tokens", block_size=64, window=1), 0)).reshape(8, 64)
    assert len({tuple(row) for row in (samples % 64).tolist()}) == 8


def test_the_cost_does_not_grow_with_the_number_of_samples() -> None:
    """10^5 positions among 2^40 samples within a second (they take a few hundredths): nothing is listed."""
    order = SourceOrder(2**40, 7, "tokens", block_size=256, window=4096)
    samples = order.samples_at(np.arange(2**41 - 50_000, 2**41 + 50_000))
    assert len(set(samples[:50_000].tolist())) == len(set(samples[50_000:].tolist())) == 50_000


def test_nothing_asked_nothing_given() -> None:
    order, none = SourceOrder(10, 7, "tokens"), np.empty(0, np.int64)
    assert order.samples_at(none).tolist() == order.positions_of(none, none).tolist() == []


def test_errors() -> None:
    order = SourceOrder(10, 7, "tokens")
    zero = np.array([0])
    with pytest.raises(InvalidInputError, match="no index -3"):
        order.samples_at(np.array([5, -3]))
    with pytest.raises(InvalidInputError, match=f"no index {2**63 - 1}"):
        order.samples_at(np.array([5, 2**63 - 1]))
    for sample in (-1, 10):
        with pytest.raises(InvalidInputError, match="from 0 to 9"):
            order.positions_of(np.array([sample]), zero)
    for epoch in (-1, 2**63 // 10, 2**62):
        with pytest.raises(InvalidInputError, match="epoch"):
            order.positions_of(zero, np.array([epoch]))
    with pytest.raises(ValueError, match="differ in length"):
        order.positions_of(zero, np.array([0, 1]))
    for seed in (-1, 2**64, True, 1.5, "7"):
        with pytest.raises(InvalidInputError, match="seed"):
            SourceOrder(10, seed, "tokens")  # type: ignore[arg-type]
