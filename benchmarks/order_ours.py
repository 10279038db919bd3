"""The cases of `benchmarks/order.py` for pyfactory."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pyfactory import native
from pyfactory.core.digest import digest_of
from pyfactory.order.permutation import SourceOrder
from pyfactory.repo.objects import TableState
from pyfactory.repo.repository import Repository
from pyfactory.repo.version import Version
from pyfactory.shard.manifest import Part, new_batch, write_manifest
from pyfactory.stream.stream import Stream

MOST = 10_000_000  # positions of a run: the cost of one does not depend on how many came before
CALL = 4096  # positions asked for at a time
BLOCK, WINDOW = 256, 32
SOURCES = 100
DOCUMENTS, MEAN_TOKENS, SPREAD, LENGTH = 1_000_000, 700, 1.2, 2048
HUGE = 10**12  # samples


def ask(samples_at: Callable[[np.ndarray], object], n: int) -> int:
    """Ask for the first positions, a call's worth at a time; return how many."""
    stop = min(n, MOST)
    for start in range(0, stop, CALL):
        samples_at(np.arange(start, min(start + CALL, stop)))
    return stop


def full_shuffle(n: int) -> int:
    """Every sample of its own."""
    return ask(SourceOrder(n, 7, "corpus").samples_at, n)


def blocked_shuffle(n: int) -> int:
    """Blocks of 256 samples, within windows of 32 blocks."""
    return ask(SourceOrder(n, 7, "corpus", block_size=BLOCK, window=WINDOW).samples_at, n)


def mixture(n: int) -> int:
    """100 sources with weights 1 to 100, n samples together, each fully shuffled."""
    weights = np.arange(1, SOURCES + 1, dtype=np.uint64)
    orders = [SourceOrder(n // SOURCES, 7, str(i)).native for i in range(SOURCES)]
    return ask(native.Mixture(weights, orders, np.zeros(SOURCES, np.int64)).samples_at, n)


def best_fit() -> tuple[float, str]:
    """Million documents per minute, and how well they are packed."""
    rng = np.random.default_rng(1)
    mean_of_log = np.log(MEAN_TOKENS) - SPREAD**2 / 2
    lengths = np.maximum(rng.lognormal(mean_of_log, SPREAD, DOCUMENTS), 1).astype(np.int64)
    start = time.perf_counter()
    offsets, _, _, counts = native.best_fit(lengths, LENGTH)
    minutes = (time.perf_counter() - start) / 60
    # A sample of m tokens has min(m, LENGTH) inputs.
    useful = np.minimum(np.add.reduceat(counts, offsets[:-1]), LENGTH).sum() / ((len(offsets) - 1) * LENGTH)
    return DOCUMENTS / minutes / 1e6, f"{useful:.2%} of the inputs are tokens"


def huge_version(folder: Path) -> Version:
    """Return a table of 10^12 samples of 2048 tokens. Counts are all that a stream asks for: no shard exists."""
    repo = Repository.create(folder)
    part = Part(digest_of(b"shard"), digest_of(b"side"), 1, 2048 * HUGE + 1, 4096 * HUGE)
    root = write_manifest(repo.objects, new_batch([part], 1))
    schema = (("tokens", "large_list<item: uint16 not null>", False),)
    attributes = {"width": 2, "append": -1, "vocab_size": 50257}
    state = TableState(root, schema, 1, part.tokens, part.nbytes, 1, {}, attributes)
    repo.commit({"corpus": state}, message="counts")
    return repo.version("corpus")


def create(version: Version) -> tuple[list[float], float]:
    """Milliseconds of each creation of a stream over 10^12 samples, and kB that the first one takes at its peak."""
    tracemalloc.start()
    stream = Stream(version, seed=7, block_size=BLOCK, window=WINDOW)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(stream) == HUGE
    times = []
    for seed in range(101):
        start = time.perf_counter()
        Stream(version, seed=seed, block_size=BLOCK, window=WINDOW)
        times.append(1000 * (time.perf_counter() - start))
    return times, peak / 1e3


def seek(version: Version, batch: int = 512) -> tuple[list[float], list[float]]:
    """Milliseconds for the addresses of each next batch, and of batches anywhere."""
    stream = Stream(version, seed=7, block_size=BLOCK, window=WINDOW)
    anywhere = np.random.default_rng(1).integers(0, 2**61, 1001)
    next_ones: list[float] = []
    others: list[float] = []
    for i, there in enumerate(anywhere):
        for times, first in ((next_ones, i * batch), (others, there)):
            positions = np.arange(first, first + batch)
            start = time.perf_counter()
            stream.addresses(positions)
            times.append(1000 * (time.perf_counter() - start))
    return next_ones, others
