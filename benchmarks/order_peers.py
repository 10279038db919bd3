"""The cases of `benchmarks/order.py` for torch, Grain and MosaicML Streaming. Needs none of pyfactory.

    python benchmarks/order_peers.py PEER CASE N RUNS

prints a line of JSON, the last on stdout: `million`, the median of million positions per second, and `memory_mb`.
"""

from __future__ import annotations

import importlib.util
import json
import resource
import statistics
import sys
import time
import types
from collections.abc import Callable

MOST = 300_000  # positions of a run of Grain, which takes microseconds for each
SOURCES = 100
SHARD = 16_384  # samples: 2048 tokens of 2 bytes, in shards of 64 MB, which is Streaming's default


def torch_full(n: int) -> Callable[[], int]:
    """torch.randperm, as RandomSampler and DistributedSampler call it: an epoch at a time."""
    import torch

    generator = torch.Generator().manual_seed(7)
    return lambda: len(torch.randperm(n, generator=generator))


def grain_full(n: int) -> Callable[[], int]:
    """Grain's index shuffle, called for each index with the rounds that its shuffle uses."""
    from grain._src.python.experimental.index_shuffle.python.index_shuffle_module import index_shuffle

    stop = min(n, MOST)
    return lambda: len([index_shuffle(i, max_index=n - 1, seed=7, rounds=4) for i in range(stop)])


def grain_mixture(n: int) -> Callable[[], int]:
    """MapDataset.mix of shuffled ranges, in batches, for which Grain groups the elements by source."""
    import grain

    sources = [grain.MapDataset.range(n // SOURCES).shuffle(seed=i) for i in range(SOURCES)]
    mixed = grain.MapDataset.mix(sources, weights=list(range(1, SOURCES + 1))).batch(1000, batch_fn=list)
    # Grain's mixture ends where its first source does; a run stays before that.
    batches = min(len(mixed), MOST // 10_000)
    return lambda: sum(len(mixed[i]) for i in range(batches))


def mosaic_blocked(n: int, algorithm: str) -> Callable[[], int]:
    """What StreamingDataset does for each epoch by default: partition, shuffle, and the one taken from the other.

    One node of 8 ranks with 8 workers each, batches of 8; as many canonical nodes as nodes, blocks of 4,000,000.
    """
    import numpy as np

    _without_package_init("streaming", "streaming.base")
    from streaming.base.partition.orig import get_partitions_orig
    from streaming.base.shuffle import get_shuffle

    shards = np.full(n // SHARD, SHARD)
    shards = np.append(shards, n - shards.sum())

    def epoch() -> int:
        ids = get_partitions_orig(n, 1, 1, 8, 8, 8)
        shuffle = get_shuffle(algorithm, shards, 1, 7, 0, 4_000_000)
        return int(np.where(ids != -1, shuffle[ids], -1).size)

    return epoch


def _without_package_init(*packages: str) -> None:
    """Let modules be imported without their packages, which import cloud clients, torchvision and transformers."""
    for name in packages:
        spec = importlib.util.find_spec(name)
        if spec is None or not spec.submodule_search_locations:
            raise ImportError(name)
        package = types.ModuleType(name)
        package.__path__ = list(spec.submodule_search_locations)
        package.__spec__ = spec
        sys.modules[name] = package


CASES: dict[tuple[str, str], Callable[[int], Callable[[], int]]] = {
    ("torch.randperm", "full shuffle"): torch_full,
    ("Grain", "full shuffle"): grain_full,
    ("Grain", "mixture of 100"): grain_mixture,
    ("Streaming py1e", "blocked shuffle"): lambda n: mosaic_blocked(n, "py1e"),
    ("Streaming py1br", "blocked shuffle"): lambda n: mosaic_blocked(n, "py1br"),
}


def peak_mb() -> float:
    """Return the largest resident set that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def measured(make: Callable[[int], Callable[[], int]], n: int, runs: int) -> dict[str, float]:
    """Return the median rate of some runs, creation included, and by how much the process grew."""
    make(1000)()  # imports, and what is made once
    before, rates = peak_mb(), []
    for _ in range(runs):
        start = time.perf_counter()
        count = make(n)()
        rates.append(count / (time.perf_counter() - start) / 1e6)
    return {"million": statistics.median(rates), "memory_mb": peak_mb() - before}


if __name__ == "__main__":
    peer, case, size, number_of_runs = sys.argv[1:]
    print(json.dumps(measured(CASES[peer, case], int(size), int(number_of_runs))))
