"""The part of each sequence that a context-parallel rank gets."""

from __future__ import annotations

import numpy as np
import pytest
from torch.distributed.tensor.experimental._context_parallel._load_balancer import _HeadTailLoadBalancer

from pyfactory.errors import InvalidInputError
from pyfactory.loader.context import ContextSlice


def parts_of(rows: np.ndarray, size: int, layout: str) -> list[np.ndarray]:
    """What each rank gets of `rows`."""
    parts = []
    for rank in range(size):
        part = np.full((len(rows), rows.shape[1] // size), -1, rows.dtype)
        ContextSlice(rank, size, layout).copy(rows, part)
        parts.append(part)
    return parts


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_zigzag_is_the_layout_of_torch(size):
    """Catches: chunks r and r + size; the two chunks in the other order; chunks of length / size."""
    rows = np.arange(5 * 24).reshape(5, 24)
    order = _HeadTailLoadBalancer(24, size, "cpu")._generate_indices()[0].numpy()
    assert (np.concatenate(parts_of(rows, size, "zigzag"), axis=1) == rows[:, order]).all()


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_contiguous_parts_in_rank_order_are_the_sequence(size):
    rows = np.arange(5 * 12).reshape(5, 12)
    assert (np.concatenate(parts_of(rows, size, "contiguous"), axis=1) == rows).all()


def test_lengths_that_cannot_be_shared_are_refused():
    """Catches: tokens at the end that no rank gets."""
    with pytest.raises(InvalidInputError, match="a sequence_length of 6 cannot be cut into 4 chunks"):
        ContextSlice(0, 2).check([8, 6])
    ContextSlice(0, 2, "contiguous").check([8, 6])
    with pytest.raises(InvalidInputError, match="a sequence_length of 7 cannot be cut into 2 chunks"):
        ContextSlice(0, 2, "contiguous").check([7])


@pytest.mark.parametrize(
    ("rank", "size", "layout"), [(0, 0, "zigzag"), (2, 2, "zigzag"), (-1, 2, "zigzag"), (0, 2, "z")]
)
def test_impossible_slices(rank, size, layout):
    with pytest.raises(InvalidInputError):
        ContextSlice(rank, size, layout)
