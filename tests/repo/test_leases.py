"""Leases: who holds what until when, and what hostile bytes make of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sweep_tables import Place

from pyfactory.core.canonical import encode
from pyfactory.core.digest import Digest
from pyfactory.errors import CorruptError, NewerFormatError, ReadOnlyError
from pyfactory.repo.leases import Lease, all_leases, live, reading, take, writing
from pyfactory.store.memory import MemoryStore
from pyfactory.store.wrap import Faulty

NOW = datetime(2026, 3, 1, tzinfo=UTC)
COMMIT = Digest("ab" * 32)


def test_the_lease_is_frozen() -> None:
    lease = Lease("0" * 32, "reader", COMMIT, "Ada", "2026-03-01T00:00:00Z", "2026-03-01T01:00:00Z")
    assert lease.to_bytes() == (
        b'{"began":"2026-03-01T00:00:00Z","commit":"%b","expires":"2026-03-01T01:00:00Z","for":"reader",'
        b'"kind":"lease","v":1,"who":"Ada"}' % COMMIT.encode()
    )
    assert Lease.from_bytes(lease.to_bytes(), lease.key, "x") == lease


def test_a_lease_holds_until_it_ends_is_renewed_and_given_back() -> None:
    place = Place.create()
    with take(place, "reader", "Ada", commit=COMMIT, now=NOW) as held:
        assert live(place, NOW + timedelta(minutes=59)) == [held.lease]
        assert live(place, NOW + timedelta(minutes=61)) == []
        held.renew(NOW + timedelta(minutes=30))
        assert live(place, NOW + timedelta(minutes=61)) == [held.lease]
        assert (held.lease.began, held.lease.who) == ("2026-03-01T00:00:00Z", "Ada")
    assert list(all_leases(place)) == []


def test_work_renews_its_lease_at_most_every_quarter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a renewal at each step, and none at all."""
    clock = [0.0]
    monkeypatch.setattr("pyfactory.repo.leases._elapsed", lambda: clock[0])
    writes: list[str] = []
    broken: list[bool] = []

    def watch(number: int, method: str, key: str) -> None:
        if method == "replace" and key.startswith("leases/"):
            writes.append(key)
            if broken:
                raise ReadOnlyError("no")

    place = Place(Faulty(MemoryStore(), before=watch))
    told: list[int] = []
    with writing(place, "Bob", lambda stage, done, total: told.append(done)) as telling:
        [lease] = all_leases(place)
        assert (lease.purpose, lease.who) == ("writer", "Bob")
        for step in range(100):
            clock[0] += 60
            telling("work", step, 100)
        assert 100 // 16 <= len(writes) <= 100 // 15
        broken.append(True)
        clock[0] += 1000
        before = len(writes)
        for step in range(100):
            telling("work", step, 100)
        assert len(writes) == before + 1, "after a failure, it waits before it tries again"
    assert told == [*range(100), *range(100)]
    assert list(all_leases(place)) == []


def test_whoever_may_only_read_reads_without_a_lease() -> None:
    def refuse(number: int, method: str, key: str) -> None:
        if method in ("create", "replace", "delete"):
            raise ReadOnlyError("no permission")

    place = Place(Faulty(MemoryStore(), before=refuse))
    assert reading(place, COMMIT, "Ada") is None
    with pytest.raises(ReadOnlyError), writing(place, "Ada", lambda *_: None):
        raise AssertionError("it may not write")


GOOD = {"began": "2026-03-01T00:00:00Z", "commit": None, "expires": "2026-03-01T01:00:00Z", "for": "writer"}
GOOD |= {"kind": "lease", "v": 1, "who": "x"}


@pytest.mark.parametrize(
    "change",
    [
        {"for": "owner"},
        {"for": "reader"},
        {"commit": COMMIT},
        {"began": "2026-02-30T00:00:00Z"},
        {"expires": "soon"},
        {"who": 1},
        {"more": 1},
        {"kind": "rule"},
    ],
)
def test_hostile_leases_are_corrupt(change: dict[str, object]) -> None:
    """A lease that cannot be read may protect somebody: nothing goes past it in silence."""
    place = Place.create()
    place.store.create("leases/1", encode(GOOD | change))
    with pytest.raises(CorruptError, match="leases/1"):
        live(place, NOW)


def test_a_newer_lease_is_not_guessed() -> None:
    with pytest.raises(NewerFormatError):
        Lease.from_bytes(encode(GOOD | {"v": 2}), "leases/1", "x")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_lease_or_corrupt(content: bytes) -> None:
    with pytest.raises(CorruptError):
        Lease.from_bytes(content, "leases/1", "x")
