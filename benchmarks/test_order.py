"""Permutation and addresses: seconds per call, with pytest-benchmark. `pytest benchmarks`"""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.corpus import make
from pyfactory import native
from pyfactory.order.permutation import SourceOrder
from pyfactory.stream.stream import Stream

COUNT = 100_000


@pytest.mark.parametrize("n", [10**6, 10**8, 10**12])
def test_permutation(benchmark, n):
    index = np.arange(COUNT)
    benchmark(native.permute, index, n, 7)


@pytest.mark.parametrize("block", [1, 64])
def test_order(benchmark, block):
    order = SourceOrder(10**9, 7, "corpus", block_size=block, window=64)
    positions = np.arange(COUNT)
    benchmark(order.samples_at, positions)


def test_create_over_a_million_million_samples(benchmark):
    """The whole order of 10^12 samples is created, and memory does not grow with it."""
    order = benchmark(SourceOrder, 10**12, 7, "corpus", block_size=64, window=64)
    assert len(order.samples_at(np.arange(8))) == 8


def test_addresses(benchmark, tmp_path):
    stream = Stream(make(tmp_path / "r", 10_000_000), seed=7, sequence_length=2048)
    positions = np.arange(4096)
    benchmark(stream.addresses, positions)


@pytest.mark.parametrize("batch", [8, 64])
def test_gather(benchmark, tmp_path, batch):
    stream = Stream(make(tmp_path / "r", 10_000_000), seed=7, sequence_length=2048)
    addresses = stream.addresses(np.arange(batch))
    rows = np.empty((batch, 2048), np.int64)
    benchmark(stream.fill, addresses, input_ids=rows)
