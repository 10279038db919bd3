"""Verification of the log: no entry can be changed, moved, taken out or cut off unseen."""

from __future__ import annotations

from dataclasses import replace

import pytest
from repo_tables import raw_state

from pyfactory.core.digest import digest_of
from pyfactory.errors import UnavailableError
from pyfactory.repo.findings import Findings, Problem
from pyfactory.repo.operation import Change, Operation, utc_now
from pyfactory.repo.oplog import HINT, OperationLog, log_key, summary_bytes, summary_key
from pyfactory.repo.repository import Repository
from pyfactory.repo.transaction import publish
from pyfactory.repo.verify_log import LogCheck
from pyfactory.store.memory import MemoryStore
from pyfactory.store.wrap import Faulty


@pytest.fixture
def store() -> MemoryStore:
    """A repository of six entries that moves two branches and a tag."""
    repository = Repository.create(MemoryStore())
    repository.commit({"corpus": raw_state(repository.objects, "one")}, message="one")
    repository.branch("dev")
    repository.commit({"corpus": raw_state(repository.objects, "two")}, message="two")
    repository.commit({"corpus": raw_state(repository.objects, "three")}, "dev", message="three")
    repository.tag("v1")
    return repository.store  # type: ignore[return-value]


def log_problems(store: MemoryStore) -> list[Problem]:
    """Verify the log alone."""
    findings = Findings()
    LogCheck(store, findings).run()
    return findings.all()


def test_every_flipped_byte_of_every_entry_is_found(store: MemoryStore) -> None:
    """Also of the last one, which no entry follows: the hint remembers its digest."""
    for n in range(6):
        whole = store.get(log_key(n))
        for at in range(len(whole)):
            store.replace(log_key(n), whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
            problems = log_problems(store)
            assert problems, f"byte {at} of entry {n}"
            assert {problem.object for problem in problems} & {log_key(n), log_key(n + 1)}
        store.replace(log_key(n), whole)
    assert log_problems(store) == []


def test_every_missing_entry_is_found(store: MemoryStore) -> None:
    for n in range(6):
        whole = store.get(log_key(n))
        store.delete(log_key(n))
        problems = log_problems(store)
        assert any(problem.kind == "log" and problem.object in (log_key(n), log_key(n - 1)) for problem in problems), n
        store.create(log_key(n), whole)
    store.delete(HINT)
    store.delete(log_key(3))
    [problem] = log_problems(store)
    assert problem.kind == "log" and "entries 3 to 3 are missing, though entry 4 exists" in problem.message


def test_several_missing_entries_are_one_gap(store: MemoryStore) -> None:
    for n in (2, 3):
        store.delete(log_key(n))
    [problem] = log_problems(store)
    assert "entries 2 to 3 are missing, though entry 4 exists" in problem.message


def test_a_log_that_lost_its_end_is_found(store: MemoryStore) -> None:
    """The chain cannot tell: the rest of it is whole. Catches a verification that only walks what there is."""
    for n in (4, 5):
        store.delete(log_key(n))
    [problem] = log_problems(store)
    assert "the log ends at entry 3, but the hint remembers entry 5" in problem.message


def test_swapped_entries_are_found(store: MemoryStore) -> None:
    two, three = store.get(log_key(2)), store.get(log_key(3))
    store.replace(log_key(2), three)
    store.replace(log_key(3), two)
    problems = log_problems(store)
    assert {problem.object for problem in problems} >= {log_key(2), log_key(3)}
    assert any("says that it is entry 3" in problem.message for problem in problems)


def test_a_rewritten_log_is_found(store: MemoryStore) -> None:
    """Somebody publishes another history from entry 3 on, whole in itself, and forgets the hint."""
    hint = store.get(HINT)
    for n in (3, 4, 5):
        store.delete(log_key(n))
    store.delete(HINT)
    log = OperationLog(store)
    for n in (3, 4, 5):
        publish(log, log.view(), [Change(f"tag/x{n}", None, log.view().refs["branch/main"])], "Mallory", "")
    store.replace(HINT, hint)
    [problem] = log_problems(store)
    assert problem.object == log_key(5) and "rewritten" in problem.message


def test_an_operation_that_moves_what_was_elsewhere_is_found(store: MemoryStore) -> None:
    """The chain is whole, only the old value is not what the refs were."""
    view = OperationLog(store).view()
    head = view.refs["branch/main"]
    wrong = Operation(6, view.digest, "0" * 32, utc_now(), "Ada", "", (Change("branch/dev", head, None),))
    store.create(log_key(6), wrong.to_bytes())
    [problem] = log_problems(store)
    assert problem.object == log_key(6) and "it moves branch/dev from" in problem.message


def test_a_tag_that_moves_is_found(store: MemoryStore) -> None:
    log = OperationLog(store)
    view = log.view()
    head, other = view.refs["tag/v1"], view.refs["branch/dev"]
    view = publish(log, view, [Change("tag/v1", head, None)], "Mallory", "")
    view = publish(log, view, [Change("tag/v1", None, head)], "Ada", "undo")
    assert log_problems(store) == []
    publish(log, view, [Change("tag/v1", head, other)], "Mallory", "")
    [problem] = log_problems(store)
    assert "moves tag/v1, and tags never move" in problem.message


def test_a_wrong_summary_is_found(store: MemoryStore) -> None:
    view = OperationLog(store).view()
    start = store.get(summary_key(0))
    store.replace(summary_key(0), summary_bytes(replace(view, n=0, digest=digest_of(store.get(log_key(0))))))
    [problem] = log_problems(store)
    assert (problem.kind, problem.object) == ("log", summary_key(0))
    store.replace(summary_key(0), b"rubbish")
    store.replace(HINT, b"rubbish")
    assert log_problems(store) == [], "what no reader would believe harms nobody"
    store.replace(summary_key(0), start)


def test_a_dead_store_ends_the_search() -> None:
    def fail(_: int, method: str, key: str) -> None:
        if not alive:
            raise UnavailableError(f"{key}: the disk does not answer")

    alive = [True]
    repository = Repository.create(Faulty(MemoryStore(), before=fail))
    alive.clear()
    report = repository.verify()
    found = [(problem.kind, problem.object) for problem in (*report.problems, *report.advice)]
    assert found == [("unreadable", log_key(0)), ("unreadable", "runs"), ("unreadable", "memo")]
