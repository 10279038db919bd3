"""Writers and sweeps: what a writer asks before it publishes, and what the answers are worth."""

from __future__ import annotations

import pytest
from sweep_tables import (
    DAY,
    LATER,
    NOW,
    Place,
    build,
    publish_commit,
    stored,
    write,
)

from pyfactory.core.digest import Digest
from pyfactory.errors import ConflictError, NotFoundError
from pyfactory.repo.operation import Change
from pyfactory.repo.sweep import CONDEMNED, check_kept, check_not_swept, gc, sweep_guards
from pyfactory.repo.transaction import publish
from pyfactory.store.wrap import Counted, Faulty


def test_a_late_writer_is_told_that_its_objects_are_gone() -> None:
    """Catches a check that only looks at the sweep of now: this one has come and gone."""
    place, model, made = build()
    late = write(place, model, [8, 9], (made["first"],), NOW)
    gc(place, now=LATER)
    gc(place, now=LATER + 14 * DAY)
    with pytest.raises(ConflictError, match="was swept meanwhile"):
        publish_commit(place, late, "main", LATER + 15 * DAY)
    again = write(place, model, [8, 9], (made["first"],), LATER + 15 * DAY)
    publish_commit(place, again, "main", LATER + 15 * DAY)
    gc(place, now=LATER + 30 * DAY)
    assert model.closure([again.commit]) <= stored(place)


@pytest.mark.parametrize("publishes", [False, True])
def test_a_writer_at_any_call_of_a_sweep_commits_what_is_whole_or_is_told(publishes: bool) -> None:
    """Catches a sweep that is not exact, a writer that ignores the list, and one that trusts an older view.

    The writer stores objects that are condemned already, then (or later) publishes, between two calls of the sweep.
    """
    call, told = 0, set()
    while True:
        place, model, made = build()
        late = write(place, model, [4, 5], (made["first"],), NOW)
        gc(place, now=LATER)
        now = LATER + 14 * DAY
        outcome: list[str] = []

        def act(number: int, method: str, key: str) -> None:
            if number == call:  # noqa: B023 - used at once
                again = write(place, model, [4, 5], late.parents, NOW)  # noqa: B023
                assert again == late  # noqa: B023
                if publishes:
                    outcome.append(attempt(place, late))  # noqa: B023

        watched = Faulty(place.store, before=act)
        gc(Place(watched), now=now)
        reached = outcome or next(watched._numbers) > call
        if not outcome:
            outcome.append(attempt(place, late))
        roots = [made["first"], *([late.commit] if outcome == ["done"] else [])]
        assert model.closure(roots) <= stored(place), (call, outcome)
        gc(place, now=now + 15 * DAY)
        assert model.closure(roots) <= stored(place), (call, outcome)
        told.add(outcome[0])
        if not reached:
            break
        call += 1
    assert told == {"done", "told"}


def test_a_sweep_that_came_and_went_is_noticed() -> None:
    """Catches guards on `gc/sweep` alone: it names nothing before, and nothing again afterwards."""
    place, model, made = build()
    late = write(place, model, [8], (made["first"],), NOW)
    gc(place, now=LATER)
    view = place.view()
    check_not_swept(place, view, sorted(late.objects))
    gc(place, now=LATER + 14 * DAY)
    change = Change("branch/main", made["first"], late.commit)
    with pytest.raises(ConflictError, match=CONDEMNED):
        publish(place.oplog, view, [change], "Bob", "late", guards=sweep_guards(view))


def attempt(place: Place, late: object) -> str:
    try:
        publish_commit(place, late, "main", LATER)  # type: ignore[arg-type]
    except ConflictError:
        return "told"
    return "done"


def test_a_swept_commit_cannot_be_named_again() -> None:
    """Catches a branch made at a commit of which a sweep has left the half."""
    place, model, made = build()
    orphan = write(place, model, [10], (made["gone"],), NOW)
    gc(place, now=LATER)
    check_kept(place, place.view(), made["first"])
    check_kept(place, place.view(), orphan.commit)
    gc(place, now=LATER + 14 * DAY)
    check_kept(place, place.view(), made["first"])
    for digest in (made["gone"], orphan.commit):
        with pytest.raises(NotFoundError, match=f"commit {digest} is not whole"):
            check_kept(place, place.view(), digest)
    write(place, model, [10], (made["gone"],), NOW)
    with pytest.raises(NotFoundError, match="is not whole"):
        check_kept(place, place.view(), orphan.commit)
    write(place, model, [0, 4, 5], (made["first"],), NOW)
    check_kept(place, place.view(), orphan.commit)


def test_before_the_first_sweep_a_writer_pays_nothing() -> None:
    place, _, _made = build()
    counted = Counted(place.store)
    view = place.view()
    check_not_swept(Place(counted), view, iter([Digest("f" * 64)]))
    check_kept(Place(counted), view, Digest("f" * 64))
    assert sum(counted.calls.values()) == 0
    assert CONDEMNED not in view.refs
