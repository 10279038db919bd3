"""Which states belong to a stream: the same phases as far as the state goes, and forgotten records aside."""

from __future__ import annotations

import copy
import json

import pytest

from pyfactory.core.rng import SPEC_VERSION
from pyfactory.errors import InvalidInputError, NewerFormatError
from pyfactory.loader.state import checked_position

RECIPE = {"packing": "concat", "sequence_length": 8, "block_size": 1, "window": 1}
PHASES = [
    {"at": 100, "recipe": RECIPE, "sources": [{"name": "web", "version": "b" * 64}]},
    {"at": 250, "recipe": RECIPE | {"sequence_length": 16}, "sources": [{"name": "web", "version": "b" * 64}]},
]


def identity_of(phases: int, version: str = "a" * 64) -> dict:
    """The replay identity of a stream of one table with the first of PHASES."""
    whole = {"spec": 1, "seed": 3, "recipe": RECIPE, "sources": [{"name": "web", "version": version}]}
    return whole | ({"then": PHASES[:phases]} if phases else {})


def state_of(identity: dict, position: object = 0) -> dict:
    return json.loads(json.dumps({"format": 1, "position": position, "identity": identity}))


@pytest.mark.parametrize(
    ("listed", "has", "position"), [(0, 0, 10**9), (0, 1, 100), (0, 2, 100), (1, 2, 250), (1, 2, 7), (2, 2, 10**9)]
)
def test_a_state_loads_where_its_phases_are_the_first_of_ours(listed, has, position):
    """Catches: an old checkpoint refused after `then`; the last phase checked, and not the next one."""
    assert checked_position(state_of(identity_of(listed), position), identity_of(has)) == position


@pytest.mark.parametrize(("listed", "has", "position", "at"), [(0, 1, 101, 100), (0, 2, 250, 100), (1, 2, 251, 250)])
def test_a_phase_before_the_current_position_is_refused(listed, has, position, at):
    """Catches: the comparison left out, or made with the end of the last phase."""
    with pytest.raises(InvalidInputError, match=f"from position {at} on .* a phase before the current position"):
        checked_position(state_of(identity_of(listed), position), identity_of(has))


def test_more_or_other_phases_are_another_stream():
    """Catches: a comparison that stops at the shorter list."""
    for listed, has, said in ((1, 0, "a phase at 100"), (2, 0, "phases at 100, 250"), (2, 1, "a phase at 250")):
        with pytest.raises(InvalidInputError, match=f"another stream: the state has {said} that this stream") as e:
            checked_position(state_of(identity_of(listed)), identity_of(has))
        assert e.value.hint == "extend the stream with `then` as the run did"
    with pytest.raises(InvalidInputError, match=r"another stream: seed is 4 here and 3 in .*; the state has a phase"):
        checked_position(state_of(identity_of(1)), identity_of(0) | {"seed": 4})
    moved = copy.deepcopy(identity_of(2))
    moved["then"][0]["at"] = 120
    for there in (moved, moved | {"then": moved["then"][:1]}):
        with pytest.raises(InvalidInputError, match=r"then\[0\].at is 100 here and 120 in the state"):
            checked_position(state_of(there), identity_of(2))


def test_a_difference_is_shown_in_short():
    """Catches: a thousand characters of Python in a message."""
    long = [{"name": f"source{i}", "version": "b" * 64} for i in range(50)]
    with pytest.raises(InvalidInputError, match=r"another stream: sources is \[.*\.\.\. here and \[") as caught:
        checked_position(state_of(identity_of(0)), identity_of(0) | {"sources": long})
    assert len(caught.value.message) < 300


@pytest.mark.parametrize("then", [7, {}, "x", [None], [{}], None])
def test_a_damaged_state_is_refused(then):
    with pytest.raises(InvalidInputError):
        checked_position(state_of(identity_of(0) | {"then": then}), identity_of(2))


@pytest.mark.parametrize("position", [-1, 2**62, True, 1.0, "5", None])
def test_what_is_no_position_is_refused(position):
    with pytest.raises(InvalidInputError, match="position in the loader state"):
        checked_position(state_of(identity_of(0), position), identity_of(0))


def test_a_newer_format_is_refused():
    with pytest.raises(NewerFormatError):
        checked_position(state_of(identity_of(0)) | {"format": 2}, identity_of(0))


def test_what_was_forgotten_since_is_no_difference():
    """Catches: redactions compared as part of the identity; those of another table taken for this one's."""
    history = {
        "a" * 64: [{"count": 1, "digest": "1"}, {"count": 2, "digest": "2"}],
        "b" * 64: [{"count": 1, "digest": "3"}],
    }
    now = identity_of(1) | {"redactions": {version: each[-1] for version, each in history.items()}}
    for said in (
        None,
        history["a" * 64][0],  # saved when the stream had one table
        history["a" * 64][1],
        {"a" * 64: history["a" * 64][0]},
        {"b" * 64: history["b" * 64][0]},
        now["redactions"],
    ):
        there = identity_of(0) | ({} if said is None else {"redactions": said})
        assert checked_position(state_of(there, 5), now, history) == 5
    for said in (
        {"count": 1, "digest": "2"},
        {"count": 3, "digest": "2"},
        history["b" * 64][0],
        {"b" * 64: history["a" * 64][0]},
        {"c" * 64: history["a" * 64][0]},
        7,
        [history["a" * 64][0]],
    ):
        with pytest.raises(InvalidInputError, match="another stream: redactions"):
            checked_position(state_of(identity_of(0) | {"redactions": said}, 5), now, history)


def test_redactions_of_a_single_table_come_as_a_list():
    history = [{"count": 1, "digest": "1"}, {"count": 2, "digest": "2"}]
    now = identity_of(0) | {"redactions": history[-1]}
    for said in history:
        assert checked_position(state_of(identity_of(0) | {"redactions": said}), now, history) == 0
    with pytest.raises(InvalidInputError, match="another stream: redactions"):
        checked_position(state_of(now), identity_of(0))


def test_a_state_of_a_newer_specification_is_told_apart() -> None:
    """Catches: "spec is 1 here and 2 in the state", which says nothing of what to do."""
    state = {"format": 1, "position": 0, "identity": {"spec": SPEC_VERSION + 1, "seed": 1}}
    with pytest.raises(NewerFormatError, match=f"specification {SPEC_VERSION + 1}"):
        checked_position(state, {"spec": SPEC_VERSION, "seed": 1})
