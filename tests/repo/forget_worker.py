"""Kills the forgetting of records at every call of the store; a program of its own because it forks."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from pathlib import Path

from pyfactory.errors import NotFoundError
from pyfactory.repo.forget import forget
from pyfactory.repo.repository import Repository
from pyfactory.shard.blank import forgotten_id
from pyfactory.store.local import LocalStore
from pyfactory.store.wrap import Faulty
from tests.erasure_tables import delete_replaced, messages, rows_of

RECORDS = ["doc-2", "doc-4"]


def act(place: Path, **hooks: object) -> None:
    """Forget the records."""
    store = Faulty(LocalStore(place), **hooks)  # type: ignore[arg-type]
    forget(Repository.open(store), RECORDS, "asked to", who="Ada")


def killed_at_every_call(base: Path, place: Path) -> list[str]:
    """Return how each repository looked afterwards."""
    kills: list[tuple[int, str]] = []

    def count(number: int, method: str, key: str) -> None:
        kills.append((number, "before"))
        if method in ("create", "replace"):  # behind a read is before the next call
            kills.append((number, "after"))

    shutil.copytree(base, place / "count")
    act(place / "count", before=count)
    outcomes = []
    for call, when in kills:
        copy = place / f"{call}-{when}"
        shutil.copytree(base, copy)
        _kill(copy, call, when)
        outcomes.append(_judged(copy))
        shutil.rmtree(copy)
    return outcomes


def _kill(copy: Path, call: int, when: str) -> None:
    def kill(number: int, method: str, key: str) -> None:
        if number == call:
            os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        try:
            act(copy, **{when: kill})
        finally:
            os._exit(3)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, (call, when, status)


def _judged(copy: Path) -> str:
    repository = Repository.open(copy)
    places = [("raw", "v1"), ("raw", "main"), ("corpus", "v1"), ("gone", "side")]
    found = [set(rows_of(repository, table, ref)) for table, ref in places]
    done = forgotten_id("doc-2") in found[0]
    for rows in found[:3]:
        assert {"doc-2", "doc-4"} <= rows or {forgotten_id("doc-2"), forgotten_id("doc-4")} <= rows
        assert ("doc-2" in rows) != done, "all tables or none"
    try:
        forget(repository, RECORDS, "asked to", who="Ada")
        assert not done
    except NotFoundError:
        assert done
    delete_replaced(repository)
    assert messages(repository) == []
    return "new" if done else "old"


if __name__ == "__main__":
    print(json.dumps(killed_at_every_call(Path(sys.argv[1]), Path(sys.argv[2]))))
