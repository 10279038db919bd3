"""Where train steps begin and epochs end, against walking through the positions one by one."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pyfactory.errors import InvalidInputError
from pyfactory.loader.schedule import Leg, Schedule


@st.composite
def schedules(draw) -> Schedule:
    """Phases of one length, each at least as long as a train step, the last one with or without an end."""
    global_batch = draw(st.integers(1, 6))
    legs, start = [], 0
    for _ in range(draw(st.integers(1, 4))):
        stop = start + draw(st.integers(1, 25))
        legs.append(Leg(start, stop, draw(st.integers(global_batch, 12)), 8))
        start = stop
    if draw(st.booleans()):
        legs[-1] = Leg(legs[-1].start, None, legs[-1].samples, 8)
    assume(legs[-1].stop is None or legs[-1].stop >= global_batch)
    return Schedule(legs, global_batch)


def epochs_by_walking(schedule: Schedule, stop: int) -> list[int]:
    """The epoch of each position before `stop`, counted one after the other."""
    epochs, epoch = [], -1
    for position in range(stop):
        leg = next(leg for leg in schedule.legs if leg.stop is None or position < leg.stop)
        if (position - leg.start) % leg.samples == 0:
            epoch += 1
        epochs.append(epoch)
    return epochs


@given(schedules(), st.integers(0, 40))
def test_steps_are_those_that_begin_in_the_epoch(schedule, cursor):
    """Catches: an epoch that goes on into the next phase; a ragged end that is delivered; an end off by one."""
    end = schedule.end
    stop = 140 if end is None else end
    assume(cursor < stop)
    epochs = epochs_by_walking(schedule, stop)
    assert schedule.epoch_of(cursor) == epochs[cursor]
    walked = [
        start
        for start in range(cursor, stop, schedule.global_batch)
        if epochs[start] == epochs[cursor] and (end is None or start + schedule.global_batch <= end)
    ]
    assert list(schedule.steps(cursor)) == walked
    before = sum(
        epochs[at] == epochs[cursor] for at in range(cursor - schedule.global_batch, -1, -schedule.global_batch)
    )
    assert schedule.steps_before(cursor) == before


@given(schedules())
def test_loop_after_loop_takes_every_step_once(schedule):
    """Catches: an epoch without steps that hangs; a step that two epochs claim; a gap between phases."""
    starts, cursor = [], 0
    for _ in range(12):
        steps = schedule.steps(cursor)
        starts += steps
        cursor += len(steps) * schedule.global_batch
    assert starts == list(range(0, len(starts) * schedule.global_batch, schedule.global_batch))
    if schedule.end is not None and cursor + schedule.global_batch > schedule.end:
        assert list(schedule.steps(cursor)) == []
        assert schedule.epoch_of(schedule.end) == schedule.epoch_of(schedule.end - 1)
        assert schedule.epoch_of(schedule.end + 9) == schedule.epoch_of(schedule.end - 1)


@given(st.integers(1, 9), st.integers(1, 60), st.integers(0, 60), st.booleans())
def test_a_step_with_two_lengths_is_refused_before_it_comes(global_batch, change, cursor, same):
    """Exactly the starts off the grid of train steps. Catches: a grid from 0; phases already behind; equal lengths."""
    schedule = Schedule([Leg(0, change, 10, 8), Leg(change, None, 10, 8 if same else 16)], global_batch)
    straddled = [start for start in range(cursor, change, global_batch) if start < change < start + global_batch]
    if same or not straddled:
        schedule.check(cursor)
        return
    (start,) = straddled
    with pytest.raises(InvalidInputError) as caught:
        schedule.check(cursor)
    assert f"from 8 to 16 at position {change}, in the middle of the train step" in caught.value.message
    assert caught.value.hint == f"begin that phase at {start} or at {start + global_batch}"


def test_the_length_is_that_of_the_phase():
    schedule = Schedule([Leg(0, 20, 10, 8), Leg(20, 28, 10, 16), Leg(28, None, 10, 8)], 4)
    assert [schedule.leg_at(position).length for position in (0, 19, 20, 27, 28, 99)] == [8, 8, 16, 16, 8, 8]


def test_a_step_of_more_than_an_epoch_is_refused():
    """It would take samples twice; where an epoch does not come to its end, it does not. Catches: only one checked."""
    with pytest.raises(InvalidInputError, match="takes 11 samples and the stream has 10"):
        Schedule([Leg(0, None, 10, 8)], 11)
    with pytest.raises(InvalidInputError, match="has 3 in the phase that begins at 20"):
        Schedule([Leg(0, 20, 10, 8), Leg(20, None, 3, 8)], 4)
    Schedule([Leg(0, 20, 10, 8), Leg(20, 23, 3, 8), Leg(23, None, 10, 8)], 4)
    Schedule([Leg(0, 10, 10, 8)], 10)
    with pytest.raises(InvalidInputError, match="the stream ends after 8"):
        Schedule([Leg(0, 8, 10, 8)], 9)
