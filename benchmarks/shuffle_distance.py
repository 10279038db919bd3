"""How far a blocked shuffle is from a full one: formula, measurement, and the plot of docs/shuffle.md.

    python -m benchmarks.shuffle_distance docs/shuffle-distance.svg

prints the tables of docs/shuffle.md and writes the plot. Half a minute on one core.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.shuffle_plot import Curve, Panel, plot
from pyfactory.order.permutation import SourceOrder

__all__ = ["Shuffle", "buffered", "measure"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Shuffle:
    """A blocked shuffle of n samples and train steps of `batch` of them; times and memory O(n / batch).

    All is exact where block divides n (else within block / n): blocks are in random order, and a window is a random
    order of its samples. So any two samples of a window are of one block with probability
    (block - 1) / (samples of the window - 1), and any two of different windows never.
    """

    samples: int
    block: int
    window: int
    batch: int

    def companions(self) -> float:
        """How many others of its own block a sample meets in its train step, on average."""
        span, batch = min(self.window * self.block, self.samples), self.batch
        pairs, steps = 0.0, self.samples // batch
        for start in range(0, steps * batch, batch):
            first = start // span
            while first * span < start + batch:
                low, high = first * span, min((first + 1) * span, self.samples)
                inside = min(high, start + batch) - max(low, start)
                if high - low > 1:
                    pairs += inside * (inside - 1) * (min(self.block, high - low) - 1) / (high - low - 1)
                first += 1
        return pairs / (steps * batch)

    def companions_of_full(self) -> float:
        return (self.batch - 1) * (self.block - 1) / (self.samples - 1)

    def design_effect(self) -> float:
        """Variance of a step's mean over that of a full shuffle, where the label of sample i is i: the worst data.

        The covariance of two labels depends only on whether they are of one block.
        """
        n, b, batch, pairs = self.samples, self.block, self.batch, self.companions()
        variance, within, blocks = (n**2 - 1) / 12, (b**2 - 1) / 12, n / b
        between = variance - within
        same = between - (within / (b - 1) if b > 1 else 0)
        other = -between / (blocks - 1) if blocks > 1 else 0
        return (variance + pairs * same + (batch - 1 - pairs) * other) / (variance * (n - batch) / (n - 1))

    def orders(self, epochs: int) -> Ints:
        """What pyfactory delivers: [epochs, samples]."""
        order = SourceOrder(self.samples, 7, "corpus", block_size=self.block, window=self.window)
        return order.samples_at(np.arange(epochs * self.samples)).reshape(epochs, -1)

    def rule(self) -> float:
        """The rule of thumb."""
        return 1 + min(self.batch / self.window, self.block - 1)


def measure(orders: Ints, block: int, batch: int) -> tuple[Floats, Floats]:
    """Return companions and design effect of each epoch of orders [epochs, n]: two arrays [epochs]."""
    epochs, n = orders.shape
    steps = orders[:, : n // batch * batch].reshape(epochs, -1, batch)
    of_block = np.sort(steps // block, axis=2)
    starts = np.diff(of_block, axis=2, prepend=-1) != 0
    begin = np.flatnonzero(starts.ravel())
    sizes = np.diff(begin, append=starts.size)
    pairs = np.bincount(begin // (steps.shape[1] * batch), sizes * (sizes - 1.0), epochs)
    deviations = ((steps.mean(axis=2) - (n - 1) / 2) ** 2).mean(axis=1)
    full = (n**2 - 1) / 12 / batch * (n - batch) / (n - 1)
    return pairs / (steps.shape[1] * batch), deviations / full


def buffered(samples: int, shard: int, buffer: int, seed: int) -> Ints:
    """The order of a shuffle buffer over shards in random order: one sample out at random, the next one in."""
    rng = np.random.default_rng(seed)
    shards = rng.permutation(-(-samples // shard))
    feed = np.concatenate([np.arange(s * shard, min(samples, (s + 1) * shard)) for s in shards])
    slots = rng.integers(0, buffer, samples).tolist()
    held, order = feed[:buffer].tolist(), []
    for entering, slot in zip(feed[buffer:].tolist(), slots, strict=False):
        order.append(held[slot])
        held[slot] = entering
    return np.array(order + rng.permutation(held).tolist())


SAMPLES, BATCH, BYTES, SHARD = 2**20, 1024, 4096, 15_625
BLOCKS = (4, 16, 64, 256, 1024)
WINDOWS = [4**k for k in range(8)]


def curve(block: int, place: Callable[[Shuffle], float]) -> Curve:
    """Formula at all windows, measurement at every fourth power of two."""
    most = SAMPLES // block // 2
    lines = [Shuffle(SAMPLES, block, 2**k, BATCH) for k in range(20) if 2**k <= most]
    dots = [Shuffle(SAMPLES, block, window, BATCH) for window in WINDOWS if window <= most]
    measured = [float(measure(s.orders(3), block, BATCH)[1].mean()) for s in dots]
    return Curve(
        f"block {block}",
        [(place(s), s.design_effect()) for s in lines],
        [(place(s), effect) for s, effect in zip(dots, measured, strict=True)],
    )


def main(target: Path) -> None:
    print(f"| block | window | others of the block in a step | design effect | measured | 1 + min(G/w, b - 1) |\n|{' --- |' * 6}")
    for block in (16, 64, 256):
        for window in (1, 16, 256, 1024, 4096):
            if block * window <= SAMPLES // 2:
                s = Shuffle(SAMPLES, block, window, BATCH)
                seen = measure(s.orders(4), block, BATCH)[1].mean()
                print(
                    f"| {block} | {window} | {s.companions():.2f} | {s.design_effect():.2f} | {seen:.2f} | {s.rule():.2f} |"
                )
    print("\n| buffer | design effect, measured |\n| --- | --- |")
    for buffer in (1_000, 10_000, 100_000):
        orders = np.array([buffered(SAMPLES, SHARD, buffer, seed) for seed in range(2)])
        print(f"| {buffer:,} | {measure(orders, 1, BATCH)[1].mean():.0f} |")
    print("\n| block | read | window | memory | design effect |\n| --- | --- | --- | --- | --- |")
    for block in (16, 64, 256):
        for window in (1024, 10_240):
            s, gib = Shuffle(2**26, block, window, BATCH), block * window * BYTES / 2**30
            print(f"| {block} | {block * BYTES // 1024} KB | {window:,} | {gib:.2f} GiB | {s.design_effect():.2f} |")
    curves = [curve(block, lambda s: float(s.window)) for block in BLOCKS]
    held = [curve(block, lambda s: float(s.window * s.block)) for block in BLOCKS]
    plot(
        target,
        f"Design effect on sorted data, train steps of {BATCH:,} samples",
        [Panel("window, in blocks", curves), Panel("window x block, in samples", held)],
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
