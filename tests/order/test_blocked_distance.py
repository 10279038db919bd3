"""How far a blocked shuffle is from a full one: docs/shuffle.md's formula against the orders that are delivered.

Measured are (i) how many others of its own block a sample meets in its train step and (ii) the design effect: the
variance of a train step's mean label over that of a full shuffle, where the data is sorted by label.
"""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.shuffle_distance import Ints, Shuffle, measure

# samples, block, window, batch
CASES = [
    Shuffle(4096, 1, 1, 64),  # full
    Shuffle(4096, 64, 16, 64),  # the step is a part of a window
    Shuffle(4096, 8, 128, 64),  # 8 times smaller blocks, 8 times more of them
    Shuffle(4096, 64, 4, 256),  # the step is a window
    Shuffle(4096, 16, 4, 256),  # ... is four windows
    Shuffle(4096, 32, 1, 24),  # no windows to speak of; steps lie across blocks
    Shuffle(4096, 32, 6, 100),  # steps lie across windows, and the last window is short
    Shuffle(4096, 64, 64, 64),  # one window: a full shuffle
]
RAGGED = Shuffle(9_999, 64, 16, 50)  # the last block has 15 samples
EPOCHS = 250


def off(orders: Ints, shuffle: Shuffle) -> tuple[float, float]:
    """How many standard errors, taken from the scatter of epochs, companions and design effect are off the formula."""
    expected = shuffle.companions(), shuffle.design_effect()
    scores = []
    for seen, formula in zip(measure(orders, shuffle.block, shuffle.batch), expected, strict=True):
        error = seen.std(ddof=1) / np.sqrt(len(seen))
        assert error < 0.04 * max(formula, 1)  # so that 4.9 errors mean something
        slack = formula * shuffle.block / shuffle.samples if shuffle.samples % shuffle.block else 0
        # Where nothing scatters (no blocks to share, whole windows) the formula must be met.
        scores.append(float(max(abs(seen.mean() - formula) - slack, 0) / max(error, 1e-9 * max(formula, 1))))
    return scores[0], scores[1]


@pytest.mark.parametrize("shuffle", [*CASES, RAGGED], ids=str)
def test_the_formula_is_what_is_delivered(shuffle: Shuffle) -> None:
    """Within 4.9 standard errors (one false alarm in 10^6), at most 4 % each; block / n more where a block is short.

    Catches a window that is ignored, and blocks or samples that stay where they are.
    """
    assert max(off(shuffle.orders(EPOCHS), shuffle)) < 4.9


def listed(shuffle: Shuffle, mutant: str = "") -> Ints:
    """The orders of section 5 of the specification from NumPy's own fair draws, or without a part of them."""
    rng, n, b = np.random.default_rng(7), shuffle.samples, shuffle.block
    blocks = np.tile(np.arange(n // b), (EPOCHS, 1))
    if mutant != "blocks stay":
        blocks = rng.permuted(blocks, axis=1)
    orders = (blocks[:, :, None] * b + np.arange(b)).reshape(EPOCHS, n)
    span = b if mutant == "window ignored" else b * shuffle.window
    if mutant != "samples stay":
        for start in range(0, n, span):
            orders[:, start : start + span] = rng.permuted(orders[:, start : start + span], axis=1)
    return orders


@pytest.mark.parametrize("shuffle", CASES[1:7], ids=str)
def test_the_formula_is_that_of_fair_draws(shuffle: Shuffle) -> None:
    """With nothing of pyfactory in it. Catches a formula that was fitted to what is delivered."""
    assert max(off(listed(shuffle), shuffle)) < 4.9


@pytest.mark.parametrize("mutant", ["window ignored", "blocks stay", "samples stay"])
def test_a_broken_order_is_seen(mutant: str) -> None:
    shuffle = CASES[1]
    companions, effect = measure(listed(shuffle, mutant), shuffle.block, shuffle.batch)
    assert effect.mean() > 5 * shuffle.design_effect()
    if mutant != "blocks stay":  # they meet whom they should, but are always the same few
        assert companions.mean() > 5 * shuffle.companions()


def test_by_hand() -> None:
    """Four samples in two blocks: 01|23 or 23|01, steps of two. A step's mean is 0.5 or 2.5; shuffled fully, the six
    pairs have means 0.5, 1, 1.5, 1.5, 2, 2.5: variances 1 and 5/12."""
    assert Shuffle(4, 2, 1, 2).companions() == 1
    assert Shuffle(4, 2, 1, 2).design_effect() == pytest.approx(12 / 5)
    assert Shuffle(4, 2, 2, 2).companions() == pytest.approx(1 / 3)
    assert Shuffle(4, 2, 2, 2).design_effect() == pytest.approx(1)
    assert Shuffle(4, 1, 1, 2).companions() == 0
    companions, effect = measure(np.array([[0, 1, 3, 2], [0, 2, 3, 1]]), 2, 2)
    assert companions.tolist() == [1, 0]
    assert effect.tolist() == pytest.approx([12 / 5, 0.25 * 12 / 5])


@pytest.mark.parametrize("samples", [2**20, 2**26])
@pytest.mark.parametrize("window", [1, 4, 16, 64, 256, 1024, 4096])
@pytest.mark.parametrize("block", [1, 2, 16, 128])
def test_the_short_formula(samples: int, block: int, window: int) -> None:
    """Within 2 %."""
    shuffle = Shuffle(samples, block, window, 1024)
    assert shuffle.rule() == pytest.approx(shuffle.design_effect(), rel=0.02)
