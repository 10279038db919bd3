"""A stream over 10^12 samples: counts are all that it asks for, and all that it holds."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from pyfactory.core.digest import digest_of
from pyfactory.repo.objects import TableState
from pyfactory.repo.repository import Repository
from pyfactory.repo.version import Version
from pyfactory.shard.manifest import Part, new_batch, write_manifest
from pyfactory.stream.stream import Stream

SAMPLES = 10**12


@pytest.fixture
def version(tmp_path: Path) -> Version:
    """One shard of 2 PB, of which only the counts exist."""
    repo = Repository.create(tmp_path / "r")
    part = Part(digest_of(b"shard"), digest_of(b"side"), 1, 2048 * SAMPLES + 1, 4096 * SAMPLES)
    root = write_manifest(repo.objects, new_batch([part], 1))
    schema = (("tokens", "large_list<item: uint16 not null>", False),)
    attributes = {"width": 2, "append": -1, "vocab_size": 50257}
    state = TableState(root, schema, 1, part.tokens, part.nbytes, 1, {}, attributes)
    repo.commit({"corpus": state}, message="counts")
    return repo.version("corpus")


@pytest.mark.parametrize("block", [1, 256])
def test_it_is_made_in_no_memory_and_inverts(version: Version, block: int) -> None:
    """Catches an index array, of samples or of blocks."""
    tracemalloc.start()
    stream = Stream(version, seed=8, block_size=block, window=32)
    positions = np.array([SAMPLES - 1, 3, 5 * SAMPLES, 2**62 - 1])
    addresses = stream.addresses(positions)
    assert (stream.position_of(addresses) == positions).all()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(stream) == SAMPLES and peak < 1_000_000
