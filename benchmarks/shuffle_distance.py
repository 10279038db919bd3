"""How far a blocked shuffle is from a full one: formula, measurement, and the plot of docs/shuffle.md.

    python -m benchmarks.shuffle_distance docs/shuffle-distance.svg

prints the tables of docs/shuffle.md and writes the plot. Two minutes on one core.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.shuffle_plot import Curve, Panel, Points, plot
from pyfactory.order.permutation import SourceOrder

__all__ = ["Shuffle", "buffered", "measure"]

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Shuffle:
    """A blocked shuffle of n samples and train steps of `batch` of them; time and memory O(n / batch).

    Blocks are in random order, and a window is a random order of its samples. So two samples of a window are of one
    block with probability (block - 1) / (samples of the window - 1), and two of different windows never. That is
    exact where block divides n; a short block besides moves the windows behind it against the train steps.
    """

    samples: int
    block: int
    window: int
    batch: int

    def companions(self) -> float:
        """How many others of its own block a sample meets in its train step, on average."""
        span = min(self.window * self.block, self.samples)
        starts = np.arange(self.samples // self.batch) * self.batch
        stops = starts + self.batch
        first, last = starts // span, (stops - 1) // span
        one = first == last
        head = np.where(one, self.batch, (first + 1) * span - starts)
        tail = np.where(one, 0, stops - last * span)
        whole = np.where(one, 0, last - first - 1)
        pairs = self._pairs(head, first, span) + self._pairs(tail, last, span)
        pairs += whole * span * (min(self.block, self.samples) - 1)
        return float(pairs.sum() / (len(starts) * self.batch))

    def _pairs(self, inside: Ints, window: Ints, span: int) -> Floats:
        """Ordered pairs of one block among so many samples of each window."""
        size = np.minimum(span, self.samples - window * span)
        both = (np.minimum(self.block, size) - 1) / np.maximum(size - 1, 1)
        pairs: Floats = inside * np.maximum(inside - 1, 0) * both
        return pairs

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
        """The design effect in short: 1 + (b - 1) min(1, G / S) (1 - S / n), S = w b being the samples of a window."""
        span = min(self.window * self.block, self.samples)
        return 1 + (self.block - 1) * min(1, self.batch / span) * (1 - span / self.samples)


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
WINDOWS = [4**k for k in range(9)]


def row(*cells: object) -> None:
    print("| " + " | ".join(str(cell) for cell in cells) + " |")


def head(*cells: str) -> None:
    print()
    row(*cells)
    row(*["---"] * len(cells))


def table() -> None:
    head("block b", "window w", "met of one's block", "design effect", "measured", "short formula")
    for block in (1, 16, 64, 256):
        for window in (1, 16, 256, 1024, 4096) if block > 1 else (1,):
            if block * window <= SAMPLES // 2:
                shuffle = Shuffle(SAMPLES, block, window, BATCH)
                seen = measure(shuffle.orders(8), block, BATCH)[1]
                error, numbers = (
                    seen.std(ddof=1) / math.sqrt(len(seen)),
                    (shuffle.companions(), shuffle.design_effect()),
                )
                measured = f"{seen.mean():.2f} ± {error:.2f}"
                row(block, f"{window:,}", *(f"{x:.2f}" for x in numbers), measured, f"{shuffle.rule():.2f}")


def buffers() -> None:
    head("held in memory", "order", "design effect, measured")
    for held, block in ((1_000, 1), (10_000, 16), (100_000, 16)):
        seen = measure(np.array([buffered(SAMPLES, SHARD, held, seed) for seed in range(4)]), 1, BATCH)[1]
        row(f"{held:,} samples", f"shards of {SHARD:,} samples in random order, buffer", f"{seen.mean():.0f}")
        shuffle = Shuffle(SAMPLES, block, held // block, BATCH)
        if block > 1:
            seen = measure(shuffle.orders(4), block, BATCH)[1]
            name = f"blocks of {block}, window {shuffle.window:,}"
            row(f"{held:,} samples", name, f"{seen.mean():.1f}")


def guide() -> None:
    head("block b", "one read", "window w", "a window's samples take", "design effect")
    for block in (16, 64, 256):
        for window in (1024, 10_240):
            gib, effect = block * window * BYTES / 2**30, Shuffle(2**30, block, window, BATCH).design_effect()
            row(block, f"{block * BYTES // 1024:,} KiB", f"{window:,}", f"{gib:.2f} GiB", f"{effect:.2f}")


def curves() -> list[tuple[int, Points, Points]]:
    """For each block: (window, design effect) by the formula, and as measured at some windows."""
    drawn = []
    for block in BLOCKS:
        most = SAMPLES // block // 2
        formula = [
            (float(2**k), Shuffle(SAMPLES, block, 2**k, BATCH).design_effect()) for k in range(20) if 2**k <= most
        ]
        shuffles = [Shuffle(SAMPLES, block, window, BATCH) for window in WINDOWS if window <= most]
        seen = [float(measure(s.orders(6), block, BATCH)[1].mean()) for s in shuffles]
        drawn.append((block, formula, [(float(s.window), effect) for s, effect in zip(shuffles, seen, strict=True)]))
    return drawn


def main(target: Path) -> None:
    print(f"{SAMPLES:,} samples, train steps of {BATCH:,}")
    table()
    buffers()
    guide()
    drawn = curves()
    by_window = [Curve(f"block {block}", formula, seen) for block, formula, seen in drawn]
    by_memory = [
        Curve(f"block {block}", [(w * block, e) for w, e in formula], [(w * block, e) for w, e in seen])
        for block, formula, seen in drawn
    ]
    panels = [Panel("window w, in blocks", by_window), Panel("samples of a window, w b", by_memory)]
    plot(
        target, f"Blocked shuffle of sorted data: variance of a step of {BATCH:,}, over that of a full shuffle", panels
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
