"""What was forgotten goes with the next sweep, unless somebody reads who began before."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from pyfactory.repo.forget import forget
from pyfactory.repo.leases import take
from pyfactory.repo.redaction import overlay_of
from pyfactory.repo.repository import Repository
from pyfactory.repo.sweep import gc
from pyfactory.repo.verify import verify
from pyfactory.store.memory import MemoryStore
from tests.erasure_tables import shared_repository


@pytest.fixture
def repo() -> Repository:
    return shared_repository(MemoryStore())


def forgotten(repo: Repository) -> tuple[set[str], set[str]]:
    """Forget a record; return the keys of the objects that it stood in, and of their replacements."""
    record = next(iter(_ids(repo)))
    forget(repo, [record], reason="asked to", who="Ada")
    redirect = overlay_of(repo, repo.view()).redirect
    return {repo.objects.key(old) for old in redirect}, {repo.objects.key(new) for new in redirect.values()}


def _ids(repo: Repository) -> list[str]:
    from tests.erasure_tables import rows_of

    return [*rows_of(repo, "raw", "main")]


def keys(repo: Repository) -> set[str]:
    return {key for key, _ in repo.store.list("objects")}


def test_one_sweep_with_the_usual_grace_period_takes_what_was_replaced(repo: Repository) -> None:
    """Catches bytes that wait for the grace period, replacements that go, and a commit that is not whole after it."""
    now = datetime.now(UTC) + timedelta(minutes=1)
    old, new = forgotten(repo)
    assert old <= keys(repo)
    report = gc(repo, now=now)
    assert report.freed == len(old) and not old & keys(repo) and new <= keys(repo)
    found = verify(repo)
    assert found.problems == [] and found.redacted == len(old)
    repo.store.delete(sorted(new)[0])
    assert [problem.kind for problem in verify(repo).problems] == ["missing"]


def test_a_reader_from_before_keeps_it_and_one_from_after_does_not(repo: Repository) -> None:
    now = datetime.now(UTC) + timedelta(minutes=1)
    commit = repo.head()
    earlier = take(repo, "reader", "Eve", commit=commit, now=now - timedelta(hours=1), length=timedelta(days=1))
    old, _ = forgotten(repo)
    report = gc(repo, now=now)
    assert report.freed == 0 and old <= keys(repo)
    assert "forgotten" in report.blocked and [lease.who for lease in report.held] == ["Eve"]
    earlier.release()
    later = take(repo, "reader", "Bob", commit=commit, now=now)
    assert gc(repo, now=now).freed == len(old) and not old & keys(repo)
    later.release()
    for days in (15, 30):
        gc(repo, now=now + timedelta(days=days))
    assert verify(repo).problems == []
