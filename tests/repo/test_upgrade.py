"""Upgrades: what an older repository lacks, how it gets it, and how that is taken back."""

from __future__ import annotations

import pytest
from sweep_tables import NOW, Killed, Place, dying

from pyfactory.core.canonical import encode
from pyfactory.errors import ConflictError, CorruptError, InvalidInputError, NewerFormatError
from pyfactory.repo.format import (
    FORMAT_KEY,
    FORMAT_REF,
    KNOWN,
    Features,
    FormatObject,
    load_format_object,
    read_features,
    require_feature,
)
from pyfactory.repo.listing import Listing, digests_of
from pyfactory.repo.operation import Change
from pyfactory.repo.rules import NO_RULE
from pyfactory.repo.transaction import publish
from pyfactory.repo.upgrade import undo_upgrade, upgrade
from pyfactory.repo.verify import verify
from pyfactory.store.wrap import Faulty

OLD = encode({"format": 1, "reader": [], "writer": []})
NEW = b'{"format":1,"reader":["redactions"],"writer":["rules","sweep"]}'


def older() -> Place:
    place = Place.create()
    place.store.replace(FORMAT_KEY, OLD)
    return place


def test_an_upgrade_is_one_operation_and_can_be_taken_back() -> None:
    place = older()
    with pytest.raises(InvalidInputError, match=r"older pyfactory.*pyfactory upgrade"):
        require_feature(place, "rules")
    report = upgrade(place, "Ada")
    assert (report.added, report.removed) == (["redactions", "rules", "sweep"], [])
    assert (place.view().n, place.store.get(FORMAT_KEY)) == (1, NEW)
    require_feature(place, "rules")
    assert upgrade(place).added == [] and place.view().n == 1
    assert verify(place).problems == []
    report = undo_upgrade(place, "Ada")
    assert (report.added, report.removed) == ([], ["redactions", "rules", "sweep"])
    assert (place.view().n, place.store.get(FORMAT_KEY)) == (2, OLD)
    with pytest.raises(InvalidInputError, match="older pyfactory"):
        require_feature(place, "rules")
    with pytest.raises(InvalidInputError, match="taken back already"):
        undo_upgrade(place)
    upgrade(place)
    assert place.store.get(FORMAT_KEY) == NEW
    assert verify(place).problems == []


def test_the_format_object_is_frozen() -> None:
    assert FormatObject(KNOWN, Features()).to_bytes() == (
        b'{"before":{"reader":[],"writer":[]},"kind":"format","reader":["redactions"],"v":1,"writer":["rules","sweep"]}'
    )


def test_a_new_repository_has_all_features_and_nothing_to_take_back() -> None:
    place = Place.create()
    for name in ("redactions", "rules", "sweep"):
        require_feature(place, name)
    assert upgrade(place).added == [] and place.view().n == 0
    with pytest.raises(InvalidInputError, match="never upgraded"):
        undo_upgrade(place)


@pytest.mark.parametrize(("ref", "feature"), [("rule/branch/main", "rules"), ("gc/condemned", "sweep")])
def test_what_is_in_use_is_not_taken_back(ref: str, feature: str) -> None:
    """Catches an undo that older programs would pay for."""
    place = older()
    upgrade(place)
    used = place.objects.put(NO_RULE.to_bytes())
    publish(place.oplog, place.view(), [Change(ref, None, used)], "Ada", "")
    with pytest.raises(InvalidInputError, match=f"{feature} is in use: {ref}"):
        undo_upgrade(place)
    assert place.store.get(FORMAT_KEY) == NEW


def test_a_first_use_during_the_undo_wins() -> None:
    """Catches an undo that is not placed exactly after what it looked at."""
    place = older()
    upgrade(place)
    used = place.objects.put(NO_RULE.to_bytes())

    def use(number: int, method: str, key: str) -> None:
        if method == "create" and key.startswith("log/"):
            watched.before = None
            publish(place.oplog, place.view(), [Change("rule/branch/x", None, used)], "Bob", "")

    watched = Faulty(place.store, before=use)
    with pytest.raises(Exception, match="written by somebody else"):
        undo_upgrade(Place(watched))
    require_feature(place, "rules")
    assert place.store.get(FORMAT_KEY) == NEW


def test_an_object_that_is_being_swept_is_not_taken() -> None:
    """It was left by an upgrade that was killed. Catches an upload that is skipped and then swept."""
    place = older()
    digest = place.objects.put(FormatObject(KNOWN, Features()).to_bytes())
    listing = Listing(1, "2026-01-01T00:00:00Z", 1, digests_of(bytes.fromhex(digest)))
    place.move("gc/sweep", place.objects.put(listing.to_bytes()), NOW)
    with pytest.raises(ConflictError, match="a sweep is deleting"):
        upgrade(place)
    assert FORMAT_REF not in place.view().refs


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("back", [False, True])
def test_killed_at_any_call_the_next_one_finishes(back: bool, after: bool) -> None:
    """Catches `format.json` written before the entry, and one that is never written."""
    act, want = (undo_upgrade, OLD) if back else (upgrade, NEW)
    call = 0
    while True:
        place = older()
        if back:
            upgrade(place)
        try:
            act(Place(dying(place.store, call, after=after)))
        except Killed:
            pass
        else:
            break
        assert place.store.get(FORMAT_KEY) in (OLD, NEW)
        if not back and FORMAT_REF in place.view().refs:
            require_feature(place, "sweep")
            assert place.store.get(FORMAT_KEY) == NEW, "the first use finishes it"
        try:
            act(place)
        except InvalidInputError as error:
            assert back and "already" in error.message
        assert place.store.get(FORMAT_KEY) == want
        call += 1
    assert call > 5


def test_features_that_nobody_here_knows_stay() -> None:
    place = Place.create()
    place.store.replace(FORMAT_KEY, encode({"format": 1, "reader": [], "writer": ["later"]}))
    for act in (upgrade, undo_upgrade):
        with pytest.raises(NewerFormatError, match="later"):
            act(place)


@pytest.mark.parametrize(
    "value",
    [
        {"kind": "format", "v": 1, "reader": [], "writer": []},
        {"kind": "format", "v": 1, "reader": [], "writer": [1], "before": None},
        {"kind": "format", "v": 1, "reader": {}, "writer": [], "before": None},
        {"kind": "format", "v": 1, "reader": [], "writer": [], "before": {"reader": []}},
        {"kind": "format", "v": 1, "reader": [], "writer": [], "before": 3},
        {"kind": "rule", "v": 1},
        [],
    ],
)
def test_hostile_format_objects_are_corrupt(value: object) -> None:
    place = Place.create()
    digest = place.objects.put(encode(value))
    with pytest.raises(CorruptError):
        load_format_object(place, digest)
    assert read_features(place.store) == KNOWN
