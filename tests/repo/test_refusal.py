"""What the rules did not allow, in the log."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest

from pyfactory.core.canonical import decode, encode
from pyfactory.errors import ReadOnlyError, RefusedError
from pyfactory.repo.format import FORMAT_KEY
from pyfactory.repo.refusal import LAST_REFUSAL, list_refusals, record_refusal, refuse
from pyfactory.repo.repository import Repository
from pyfactory.repo.sweep import gc
from pyfactory.store.memory import MemoryStore
from pyfactory.store.wrap import Faulty


class Closed(MemoryStore):
    """A store that takes nothing more once it is closed."""

    closed = False

    def create(self, key: str, content: object) -> bool:
        if self.closed:
            raise ReadOnlyError(f"{key}: no permission")
        return super().create(key, content)  # type: ignore[arg-type]


def test_a_sweep_does_not_take_a_refusal_before_its_entry(filled: Repository) -> None:
    """Catches an entry that names what is gone, after which no sweep can mark what is needed."""

    def sweep(number: int, method: str, key: str) -> None:
        if method == "create" and key.startswith("log/"):
            faulty.before = None
            assert gc(filled, grace=timedelta(0), who="gc").freed == 1

    faulty = Faulty(filled.store, before=sweep)
    digest = record_refusal(Repository.open(faulty), "Eve", "commit to main", "no", {})
    assert digest is not None and filled.objects.exists(digest)
    assert filled.verify().problems == []


def test_a_refusal_is_an_object_and_an_entry(repository: Repository) -> None:
    digest = record_refusal(repository, "Eve", "commit to main", "main is protected\nreally", {"branch": "main"})
    operation = next(repository.operations())
    assert (operation.who, operation.why) == ("Eve", "refused: commit to main: main is protected")
    ((ref, old, new),) = [(change.ref, change.old, change.new) for change in operation.changes]
    assert (ref, old, new) == (LAST_REFUSAL, None, digest)
    assert digest is not None
    value = decode(repository.objects.get(digest), "it")
    assert value.pop("time") == operation.time
    assert value == {
        "details": {"branch": "main"},
        "kind": "refusal",
        "v": 1,
        "view": 0,
        "what": "commit to main",
        "who": "Eve",
        "why": "main is protected\nreally",
    }


def test_each_refusal_is_an_entry_of_its_own(repository: Repository) -> None:
    """Catches equal refusals of one second that are one object, so that the second moves nothing."""
    for _ in range(3):
        record_refusal(repository, "Eve", "commit to main", "no", {})
    found = list_refusals(repository, repository.view(), 10)
    assert [(refusal.n, refusal.who, refusal.what, refusal.why) for refusal in found] == [
        (n, "Eve", "commit to main", "no") for n in (3, 2, 1)
    ]
    assert [refusal.n for refusal in list_refusals(repository, repository.view(), 2)] == [3, 2]


def test_refusals_at_one_moment(repository: Repository) -> None:
    """Catches giving up when another refusal came first."""
    with ThreadPoolExecutor(4) as threads:
        digests = list(threads.map(lambda who: record_refusal(repository, who, "it", "no", {}), "abcdefgh"))
    found = list_refusals(repository, repository.view(), 100)
    assert sorted(refusal.who for refusal in found) == list("abcdefgh")
    assert None not in digests and len(set(digests)) == 8


def test_a_refusal_stands_when_nothing_can_be_written() -> None:
    """Catches an error of the store, or of what is to be told, that takes the place of the refusal."""
    repository = Repository.create(Closed())
    assert isinstance(refuse(repository, "Eve", "it", "no", {"odd": 0.5}, "hint"), RefusedError)
    assert isinstance(refuse(repository, "E\ud800", "it", "no", {}, "hint"), RefusedError)
    repository.store.closed = True  # type: ignore[attr-defined]
    error = refuse(repository, "Eve", "commit to main", "no", {}, "ask Ada")
    assert (error.kind, error.hint) == ("refused", "ask Ada")
    assert error.message.endswith("commit to main refused: no")
    assert record_refusal(repository, "Eve", "it", "no", {}) is None
    assert list_refusals(repository, repository.view(), 5) == []


def test_nothing_is_written_to_a_repository_of_later_writers(repository: Repository) -> None:
    content = encode({"format": 1, "reader": [], "writer": ["of-tomorrow"]})
    repository.store.replace(FORMAT_KEY, content)
    assert record_refusal(repository, "Eve", "it", "no", {}) is None


@pytest.mark.parametrize("content", [None, b"junk", encode({"kind": "rule", "v": 1})])
def test_what_a_sweep_or_damage_leaves(repository: Repository, content: bytes | None) -> None:
    """Catches a list that ends in an error where the details of a refusal are gone."""
    digest = record_refusal(repository, "Eve", "it", "no", {"more": 1})
    assert digest is not None
    repository.store.delete(repository.objects.key(digest))
    if content is not None:
        repository.store.create(repository.objects.key(digest), content)
    (refusal,) = list_refusals(repository, repository.view(), 5)
    assert (refusal.who, refusal.what, refusal.why, refusal.details) == ("Eve", "", "it: no", {})
    assert refusal.to_value()["n"] == 1
