"""The sweep: what it takes, what it leaves, and that it can be cut off anywhere."""

from __future__ import annotations

import secrets
from dataclasses import replace
from datetime import timedelta

import pytest
from sweep_tables import (
    DAY,
    LATER,
    NOW,
    Killed,
    Place,
    build,
    dying,
    garbage,
    lists,
    stored,
)

from pyfactory.core.canonical import encode
from pyfactory.core.digest import Digest
from pyfactory.errors import ConflictError, CorruptError, InvalidInputError
from pyfactory.repo.format import FORMAT_KEY
from pyfactory.repo.leases import all_leases, take
from pyfactory.repo.objects import load_commit
from pyfactory.repo.sweep import SWEEP, gc
from pyfactory.shard.manifest import Part
from pyfactory.shard.memo import Result, encode_result, memo_key
from pyfactory.store.wrap import Faulty


def test_garbage_goes_after_the_grace_period_and_not_before() -> None:
    """Catches a sweep that deletes at once, one that never does, and one that takes what is shared."""
    place, model, made = build()
    dead = model.closure([made["gone"]]) - model.closure([made["first"]])
    report = gc(place, now=NOW + timedelta(hours=1))
    assert (report.freed, report.condemned) == (0, 0), "operations are younger than the grace period"
    report = gc(place, now=LATER)
    assert (report.freed, report.condemned, report.due) == (0, len(dead), "2026-03-30T00:00:00Z")
    assert report.condemned_bytes == sum(len(place.objects.get(digest)) for digest in dead)
    assert gc(place, now=LATER + 13 * DAY).freed == 0
    told: list[tuple[str, int, int | None]] = []
    report = gc(place, now=LATER + 14 * DAY, progress=lambda *told_: told.append(told_))
    assert (report.freed, report.condemned) == (len(dead), 0)
    assert stored(place) - lists(place) == model.closure([made["first"]])
    assert told[-1] == ("delete", len(dead), len(dead))
    n = place.view().n
    assert gc(place, now=LATER + 40 * DAY).freed == 0
    assert place.view().n == n, "nothing to do leaves no entry"


def test_grace_0_deletes_at_once() -> None:
    place, model, made = build()
    foretold = gc(place, grace=timedelta(), now=NOW + DAY, dry_run=True)
    report = gc(place, grace=timedelta(), now=NOW + DAY)
    dead = len(model.closure([made["gone"]]) - model.closure([made["first"]]))
    assert report.freed == foretold.freed == dead
    assert report.freed_bytes == foretold.freed_bytes
    assert garbage(place, model, [made["first"]]) == set()
    assert report.by_kind["objects"] == (report.freed, report.freed_bytes)
    assert set(foretold.by_kind) == {"shards", "nodes", "documents", "other"}
    assert sum(number for number, _ in foretold.by_kind.values()) == dead


def test_a_dry_run_changes_nothing() -> None:
    place, _, _ = build()
    gc(place, now=LATER)
    before = {key: place.store.get(key) for key, _ in place.store.list("")}
    foretold = gc(place, now=LATER + 14 * DAY, dry_run=True)
    assert {key: place.store.get(key) for key, _ in place.store.list("")} == before
    assert foretold.dry_run and foretold.freed > 0
    assert replace(foretold, by_kind={}, dry_run=False) == replace(gc(place, now=LATER + 14 * DAY), by_kind={})


def test_a_live_writer_blocks_deletion_and_is_named() -> None:
    place, model, made = build()
    gc(place, now=LATER)
    now = LATER + 14 * DAY
    with take(place, "writer", "Bob's build", now=now):
        report = gc(place, now=now)
        assert report.freed == 0 and "Bob's build writes, until" in report.blocked
        assert [lease.who for lease in report.held] == ["Bob's build"]
    report = gc(place, now=now)
    assert report.freed > 0 and report.blocked == ""
    assert garbage(place, model, [made["first"]]) == set()


def test_a_dead_writer_blocks_for_an_hour_only_and_its_lease_is_swept() -> None:
    place, _, _ = build()
    gc(place, now=LATER)
    now = LATER + 14 * DAY
    take(place, "writer", "killed", now=now)
    assert gc(place, now=now + timedelta(minutes=59)).freed == 0
    report = gc(place, now=now + timedelta(minutes=61))
    assert report.freed > 0 and report.by_kind["leases"][0] == 1
    assert list(all_leases(place)) == []


def test_a_readers_commit_stays() -> None:
    """Catches a mark that forgets leases."""
    place, model, made = build()
    gc(place, now=LATER)
    now = LATER + 14 * DAY
    held = take(place, "reader", "Eve", commit=made["gone"], now=now)
    assert gc(place, now=now).freed == 0
    assert model.closure([made["gone"]]) <= stored(place)
    held.release()
    gc(place, now=now + 15 * DAY)
    gc(place, now=now + 30 * DAY)
    assert garbage(place, model, [made["first"]]) == set()


def test_what_a_run_consumed_stays_for_ever() -> None:
    """Catches a mark that forgets runs; also what the job of the commit had read."""
    place, model, made = build()
    start = {"v": 1, "n": 0, "version": {"table": "table-4", "commit": made["gone"]}}
    place.store.create("runs/20260301T000000Z-00000000/00000000", encode(start))
    for days in (15, 30, 45):
        gc(place, now=NOW + days * DAY)
    assert model.closure([made["gone"]]) <= stored(place)


@pytest.mark.parametrize("name", ["inputs", "took"])
def test_the_input_of_a_kept_commit_stays(name: str) -> None:
    """Catches a sweep after which nobody can say what a table was made or taken from."""
    place, model, made = build()
    made_by = {"kind": "other", name: [{"commit": made["gone"]}]}
    kept = replace(load_commit(place.objects, made["first"], "main"), made_by=made_by)
    commit = place.objects.put(encode(kept.to_value()))
    place.move("branch/main", commit, NOW)
    for days in (15, 30, 45):
        gc(place, now=NOW + days * DAY)
    assert model.closure([made["gone"]]) <= stored(place)


def test_young_operations_can_be_undone() -> None:
    """Catches a mark that forgets the old values of changes."""
    place, model, made = build()
    place.move("branch/gone", made["gone"], LATER)
    place.move("branch/gone", None, LATER + DAY)
    gc(place, now=LATER + 2 * DAY, grace=3 * DAY)
    gc(place, now=LATER + 3 * DAY, grace=2 * DAY + timedelta(hours=1))
    assert model.closure([made["gone"]]) <= stored(place)
    place.move("branch/gone", made["gone"], LATER + 3 * DAY)
    for days in (30, 60):
        gc(place, now=LATER + days * DAY)
    assert model.closure([made["gone"]]) <= stored(place)


def test_the_record_stays_and_unknown_keys_are_left_alone() -> None:
    place, _, _ = build()
    refusals = [place.objects.put(encode({"kind": "refusal", "v": 1, "n": n})) for n in range(2)]
    rule = place.objects.put(encode({"kind": "rule", "v": 1}))
    for digest in refusals:
        place.move("refusal/last", digest, NOW)
    place.move("rule/branch/x", rule, NOW)
    place.move("rule/branch/x", None, NOW)
    strange = ["objects/zz/1", "objects/ab", "mine/1", "memo/x", "sketch/y", "summary/1"]
    for key in strange:
        place.store.create(key, b"?")
    for days in (15, 30, 45):
        gc(place, now=NOW + days * DAY)
    assert {*refusals, rule} <= stored_hex(place)
    assert all(place.store.size(key) == 1 for key in strange)


def stored_hex(place: Place) -> set[str]:
    return {key[8:].replace("/", "") for key, _ in place.store.list("objects")}


def test_caches_go_with_their_objects() -> None:
    """Catches marks that outlive what they name, and caches that are dropped with what is kept."""
    place, model, made = build()
    kept = sorted(model.closure([made["first"]]))
    dead = sorted(model.closure([made["gone"]]) - set(kept))
    keys: dict[bool, list[str]] = {True: [], False: []}
    for digest in (kept[0], dead[0]):
        task = Digest(secrets.token_hex(32))
        place.store.create(memo_key(task), encode_result(Result((Part(digest, kept[1], 1, 1, 1),)), task))
        keys[digest == dead[0]].append(memo_key(task))
    for digest in (kept[0], dead[0]):
        keys[digest == dead[0]].append(f"sketch/lengths-1/{digest[:2]}/{digest[2:]}")
    for commit in made.values():
        keys[commit == made["gone"]].append(f"signatures/ab/{commit[2:]}/{commit}")
        content = encode({"kind": "signature", "statement": {"commit": commit, "kind": "commit"}, "v": 1})
        place.store.create(keys[commit == made["gone"]][-1], content)
    for key in [*keys[True], *keys[False]]:
        place.store.create(key, b"1")
    gc(place, now=LATER)
    assert all(place.store.size(key) for key in [*keys[True], *keys[False]])
    report = gc(place, now=LATER + 14 * DAY)
    assert all(place.store.size(key) for key in keys[False])
    assert not any(place.store.size(key) for key in keys[True])
    freed = {kind: number for kind, (number, _) in report.by_kind.items()}
    assert freed == {"objects": len(dead), "completion marks": 1, "sketches": 1, "signatures": 1}


@pytest.mark.parametrize("after", [False, True])
def test_a_sweep_killed_at_any_call_leaves_all_that_is_needed_and_the_next_finishes(after: bool) -> None:
    """Catches objects deleted before the list is in the log, and a list that nobody finishes."""
    call = 0
    while True:
        place, model, made = build()
        gc(place, now=LATER)
        now = LATER + 14 * DAY
        try:
            gc(Place(dying(place.store, call, after=after)), now=now)
        except Killed:
            killed = True
        else:
            killed = False
        assert model.closure([made["first"]]) <= stored(place)
        gc(place, now=now + timedelta(minutes=11))
        gc(place, now=now + 15 * DAY)
        assert SWEEP not in place.view().refs
        assert garbage(place, model, [made["first"]]) == set()
        if not killed:
            break
        call += 1
    assert call > 20


def test_one_sweep_at_a_time() -> None:
    place, _, _ = build()
    with take(place, "sweeper", "Bob", now=LATER), pytest.raises(ConflictError, match="a gc of Bob is at work"):
        gc(place, now=LATER)
    assert gc(place, now=LATER).condemned > 0


def test_a_sweep_that_was_held_up_stops_before_it_deletes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a sleeper that wakes up when another has finished its sweep, and deletes what was written since."""
    place, model, made = build()
    gc(place, now=LATER)
    clock = [0.0]
    monkeypatch.setattr("pyfactory.repo.leases._elapsed", lambda: clock[0])

    def sleep(number: int, method: str, key: str) -> None:
        if method == "delete" and key.startswith("objects/"):
            clock[0] += 301

    with pytest.raises(ConflictError, match="held up"):
        gc(Place(Faulty(place.store, before=sleep)), now=LATER + 14 * DAY)
    left = stored(place)
    assert len(model.closure([made["gone"]]) - left) == 1, "the delete that slept was the last"
    gc(place, now=LATER + 14 * DAY)
    assert garbage(place, model, [made["first"]]) == set()


def test_nothing_is_deleted_when_something_reachable_is_missing() -> None:
    """Catches a mark that passes over a missing node: what it leads to would be taken for garbage."""
    place, model, made = build()
    gc(place, now=LATER)
    for digest in sorted(model.closure([made["first"]])):
        content = place.objects.get(digest)
        if content.startswith((b"{", b"PFNODE01")) and b'"job"' not in content[:30]:
            place.store.delete(place.objects.key(digest))
            before = stored(place)
            with pytest.raises(CorruptError, match=digest):
                gc(place, now=LATER + 14 * DAY)
            assert stored(place) == before
            place.objects.put(content)


def test_an_older_repository_must_be_upgraded() -> None:
    place, _, _ = build()
    place.store.replace(FORMAT_KEY, encode({"format": 1, "reader": [], "writer": []}))
    with pytest.raises(InvalidInputError, match=r"does not know sweep.*pyfactory upgrade"):
        gc(place, now=LATER)
    assert gc(place, now=LATER, dry_run=True).freed == 0


def test_a_negative_grace_period_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="grace period"):
        gc(Place.create(), grace=-DAY)
