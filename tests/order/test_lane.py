"""How a train step is cut into lanes and micro-batches."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfactory.errors import InvalidInputError
from pyfactory.order.lane import Lane, cut, seats_of

WORLDS = st.integers(1, 9)
SMALL = st.integers(1, 7)
STARTS = st.integers(0, 2**50)


def lanes_of(world: int, batch: int, accumulation: int, strided: bool) -> list[Lane]:
    return [Lane(rank, world, batch, accumulation, strided) for rank in range(world)]


def part_of(lane: Lane, start: int) -> list[int]:
    """What a lane takes of the step that begins at `start`, micro-batch after micro-batch."""
    numbers = np.arange(lane.accumulation)
    return lane.indices(np.full(lane.accumulation, start), numbers).ravel().tolist()


@given(WORLDS, SMALL, SMALL, st.booleans(), STARTS)
def test_lanes_partition_a_train_step(world, batch, accumulation, strided, start):
    """The lanes and micro-batches of a step are the step: none twice, none missing.

    Catches: rank and micro-batch swapped in a product; a stride of world * accumulation; lanes that overlap by one.
    """
    lanes = lanes_of(world, batch, accumulation, strided)
    taken = [position for lane in lanes for position in part_of(lane, start)]
    assert sorted(taken) == list(range(start, start + world * batch * accumulation))
    assert {lane.global_batch for lane in lanes} == {world * batch * accumulation}


@given(WORLDS, SMALL, SMALL, STARTS)
def test_lanes_are_those_of_the_specification(world, batch, accumulation, start):
    """Section 8: rank r takes [s + r*G/W, s + (r+1)*G/W), or s + r + i*W.

    Catches: strided and contiguous swapped; micro-batches that are themselves strided over the step.
    """
    share = batch * accumulation
    for lane in lanes_of(world, batch, accumulation, strided=False):
        assert part_of(lane, start) == list(range(start + lane.rank * share, start + (lane.rank + 1) * share))
    for lane in lanes_of(world, batch, accumulation, strided=True):
        assert part_of(lane, start) == [start + lane.rank + i * world for i in range(share)]


@given(st.lists(st.tuples(st.sampled_from([1, 2, 3, 4, 6, 8, 12, 24]), st.booleans(), st.integers(0, 7)), max_size=6))
def test_a_step_is_the_same_however_the_world_changes(changes):
    """A global batch of 24 is the same positions when world, micro-batch and layout change at every step.

    Catches: anything of the lane in where a step begins.
    """
    start = 5
    for world, strided, pick in changes:
        share = 24 // world
        sizes = [size for size in range(1, share + 1) if share % size == 0]
        lanes = [cut(rank, world, sizes[pick % len(sizes)], 24, strided=strided) for rank in range(world)]
        assert sorted(position for lane in lanes for position in part_of(lane, start)) == [*range(start, start + 24)]
        start += 24


@given(WORLDS, SMALL, SMALL, st.booleans(), STARTS, st.integers(0, 5))
def test_seats_are_the_inverse(world, batch, accumulation, strided, start, step):
    """Catches: rank and micro-batch swapped; a step counted from position 0 and not from the start of the run."""
    for lane in lanes_of(world, batch, accumulation, strided):
        steps, numbers = np.full(accumulation, start + step * lane.global_batch), np.arange(accumulation)
        seats = seats_of(lane.indices(steps, numbers).ravel(), lane, start)
        assert set(seats.step.tolist()) == {step}
        assert set(seats.rank.tolist()) == {lane.rank}
        assert seats.micro.tolist() == np.repeat(numbers, batch).tolist()
        assert seats.row.tolist() == list(range(batch)) * accumulation


def test_a_position_before_the_first_step_has_no_seat():
    with pytest.raises(InvalidInputError, match="position 6 lies before 7"):
        seats_of([9, 6], Lane(0, 1, 2), start=7)
    assert seats_of([], Lane(0, 1, 2), start=7).step.tolist() == []


def test_cut_divides_a_global_batch():
    assert cut(1, 4, 2, 24) == Lane(1, 4, 2, 3)
    assert cut(1, 4, None, 24, strided=True) == Lane(1, 4, 6, 1, True)
    assert cut(1, 4, 5) == Lane(1, 4, 5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 1), "not neither"),
        ((0, 3, None, 8), "global_batch of 8 cannot be shared by 3 ranks"),
        ((0, 0, None, 8), "cannot be shared by 0 ranks"),
        ((0, 2, 3, 8), "4 samples for each, which is no whole number of batches of 3"),
        ((0, 2, 8, 8), "no whole number of batches of 8"),
        ((0, 2, 0, 8), "a batch of 0 samples"),
        ((0, 2, None, True), "a batch of True samples"),
        ((0, 2, 1.5), "a batch of 1.5 samples"),
    ],
)
def test_what_cannot_be_divided_is_refused(arguments, message):
    """Catches: an accumulation that is rounded, so that a step loses samples."""
    with pytest.raises(InvalidInputError, match=message):
        cut(*arguments)


@pytest.mark.parametrize(
    ("rank", "world", "batch", "accumulation"),
    [(0, 0, 1, 1), (1, 1, 1, 1), (-1, 2, 1, 1), (2, 2, 1, 1), (0, 1, 0, 1), (0, 1, -4, 1), (0, 1, 4, 0)],
)
def test_impossible_lanes(rank, world, batch, accumulation):
    with pytest.raises(InvalidInputError):
        Lane(rank, world, batch, accumulation)
