"""How a train step is cut into lanes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfactory.errors import InvalidInputError
from pyfactory.order.lane import Lane


@given(st.sampled_from([1, 2, 3, 4, 8]), st.integers(1, 50), st.integers(0, 2**50))
def test_lanes_partition_a_train_step(world: int, batch: int, start: int) -> None:
    """Side by side in rank order the lanes are the step: none twice, none missing. Catches strided lanes."""
    lanes = [Lane(rank, world, batch) for rank in range(world)]
    taken = [position for lane in lanes for position in range(lane.start(start), lane.start(start) + batch)]
    assert taken == list(range(start, start + lanes[0].global_batch))
    assert {lane.global_batch for lane in lanes} == {world * batch}


@given(st.integers(1, 24), st.integers(0, 2**50))
def test_world_size_does_not_change_what_a_step_holds(batch: int, start: int) -> None:
    """A global batch of 24 is the same positions for 1, 2, 3, 4 or 8 lanes (specification, section 6)."""
    for world in (1, 2, 3, 4, 8):
        lane = Lane(world - 1, world, 24 // world)
        assert lane.start(start) + lane.batch_size == start + 24


@pytest.mark.parametrize(
    ("rank", "world", "batch"), [(0, 0, 1), (1, 1, 1), (-1, 2, 1), (2, 2, 1), (0, 1, 0), (0, 1, -4)]
)
def test_impossible_lanes(rank: int, world: int, batch: int) -> None:
    with pytest.raises(InvalidInputError):
        Lane(rank, world, batch)
