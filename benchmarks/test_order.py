"""Permutation and addresses: seconds per call, with pytest-benchmark. `pytest benchmarks`"""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from benchmarks.corpus import make
from pyfactory import native
from pyfactory.core.digest import digest_of
from pyfactory.order.permutation import SourceOrder
from pyfactory.repo.objects import TableState
from pyfactory.repo.repository import Repository
from pyfactory.shard.manifest import Part, new_batch, write_manifest
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


def test_create_over_a_million_million_samples(benchmark, tmp_path):
    """A stream over 10^12 samples: creating it is a matter of microseconds, and takes no memory that grows with it."""
    repo = Repository.create(tmp_path / "r")
    # Counts are all that creating and asking for the order need: no shard is read.
    part = Part(digest_of(b"shard"), digest_of(b"side"), 1, 2048 * 10**12 + 1, 4096 * 10**12)
    root = write_manifest(repo.objects, new_batch([part], 1))
    schema = (("tokens", "large_list<item: uint16 not null>", False),)
    attributes = {"width": 2, "append": -1, "vocab_size": 50257}
    state = TableState(root, schema, 1, part.tokens, part.nbytes, 1, {}, attributes)
    repo.commit({"corpus": state}, message="counts")
    version = repo.version("corpus")
    stream = benchmark(Stream, version, seed=7, sequence_length=2048, block_size=64, window=64)
    assert len(stream) == 10**12
    tracemalloc.start()
    again = Stream(version, seed=8, sequence_length=2048)
    assert (again.position_of(again.addresses([10**12 - 1, 3])) == [10**12 - 1, 3]).all()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_000_000


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
