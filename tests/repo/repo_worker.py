"""Programs of their own that the tests of races and kills start."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from repo_tables import raw_state

from pyfactory.core.digest import Digest
from pyfactory.errors import ConflictError
from pyfactory.repo.objects import TableState
from pyfactory.repo.repository import Repository
from pyfactory.store.content import Objects
from pyfactory.store.local import LocalStore
from pyfactory.store.wrap import Faulty

Act = Callable[[Repository, TableState], object]

ACTS: dict[str, Act] = {
    "commit": lambda repository, state: repository.commit({"corpus": state}, message="two"),
    "branch": lambda repository, state: repository.branch("dev", "main"),
    "tag": lambda repository, state: repository.tag("v1", "main", "release"),
}


def race(place: str, worker: int, commits: int, shared: bool) -> list[tuple[str, Digest]]:
    """Commit on main (again until it succeeds) or on a branch of our own; return what was acknowledged."""
    repository = Repository.open(place)
    branch = "main" if shared else f"worker-{worker}"
    if not shared:
        repository.branch(branch, "main")
    state = raw_state(repository.objects, str(worker))
    acknowledged = []
    for step in range(commits):
        while True:
            try:
                # Each commit must change something, also after those of the others.
                state_of_step = state if step % 2 == 0 else None
                result = repository.commit({f"table-{worker}": state_of_step}, branch, message=f"{worker} {step}")
            except ConflictError:
                continue
            acknowledged.append((f"{worker} {step}", result.digest))
            break
    return acknowledged


def killed_at_every_call(name: str, base: Path, place: Path) -> list[str]:
    """Kill one act before and after each of its calls of the store; return how each repository looked afterwards.

    Every act runs in a fork of this process, over a copy of the repository `base`.
    """
    state = raw_state(Objects(LocalStore(base)), "two")
    calls = 0

    def count(number: int, method: str, key: str) -> None:
        nonlocal calls
        calls = number + 1

    shutil.copytree(base, place / "count")
    ACTS[name](Repository.open(Faulty(LocalStore(place / "count"), before=count)), state)
    outcomes = []
    for call in range(calls):
        for when in ("before", "after"):
            copy = place / f"{call}-{when}"
            shutil.copytree(base, copy)
            _killed(name, copy, state, call, when)
            outcomes.append(_judged(name, copy, state))
    return outcomes


def _killed(name: str, copy: Path, state: TableState, call: int, when: str) -> None:
    def kill(number: int, method: str, key: str) -> None:
        if number == call:
            os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        try:
            store = Faulty(LocalStore(copy), **{when: kill})
            ACTS[name](Repository.open(store), state)
        finally:
            os._exit(3)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, (name, call, when, status)


def _judged(name: str, copy: Path, state: TableState) -> str:
    """Check what a kill left, run the act again, and check that too."""
    repository = Repository.open(copy)
    operations = [operation.why for operation in repository.operations()]
    assert repository.verify().problems == []
    assert len(operations) in (2, 3), operations
    done = len(operations) == 3
    try:
        again = ACTS[name](repository, state)
        assert not done or (name == "commit" and not again.created)  # type: ignore[attr-defined]
    except ConflictError:
        assert done and name != "commit"
    view = repository.view()
    assert view.n == 2, "the act happened once"
    assert len(view.refs) == (1 if name == "commit" else 2)
    assert repository.verify().problems == []
    assert Repository.open(copy).view() == view
    assert repository.commit({"more": state}, message="more").created
    return "new" if done else "old"


if __name__ == "__main__":
    print(json.dumps(killed_at_every_call(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))))
