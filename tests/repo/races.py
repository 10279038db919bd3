"""Many writers at once on one repository, wherever it is, and what must hold afterwards."""

from __future__ import annotations

from multiprocessing.pool import Pool
from typing import Any

from repo_tables import raw_state

from pyfactory.core.digest import Digest
from pyfactory.errors import ConflictError, UnknownOutcomeError
from pyfactory.repo.repository import Repository

Told = dict[str, list[tuple[str, Digest | None]]]


def race(url: str, worker: int, commits: int, branch: str) -> Told:
    """Commit so many times to one branch, again after a conflict; return what was acknowledged and what is unknown."""
    repository = Repository.open(url)
    state = raw_state(repository.objects, str(worker))
    told: Told = {"done": [], "unknown": []}
    for step in range(commits):
        why = f"{worker} {step}"
        # Each commit must change something, also after those of the others.
        change = {f"table-{worker}": state if step % 2 == 0 else None}
        while True:
            try:
                told["done"].append((why, repository.commit(change, branch, message=why).digest))
            except UnknownOutcomeError:
                told["unknown"].append((why, None))
            except ConflictError:
                continue
            break
    return told


def hold_race(pool: Pool, where: Any, workers: int, commits: int, branches: list[str]) -> Repository:
    """Let workers commit `commits` times together, to these branches in turn; check what they were told."""
    repository = Repository.create(where)
    repository.commit({"corpus": raw_state(repository.objects, "base")}, message="base")
    for branch in {*branches} - {"main"}:
        repository.branch(branch, "main")
    shares = [len(range(worker, commits, workers)) for worker in range(workers)]
    tasks = [(repository.url, worker, shares[worker], branches[worker % len(branches)]) for worker in range(workers)]
    told = pool.starmap(race, tasks, chunksize=1)
    assert [len(one["done"]) + len(one["unknown"]) for one in told] == shares
    check_log(Repository.open(repository.url), told)
    return repository


def check_log(repository: Repository, told: list[Told]) -> None:
    """Acknowledged: once each, in the writer's order. Unknown: once at most. Nothing else. The chain proves it."""
    logged = [(entry.why, change.new) for entry in repository.operations() for change in entry.changes]
    logged.reverse()
    assert len(set(logged)) == len(logged), "twice"
    unknown = {why for one in told for why, _ in one["unknown"]}
    for one in told:
        done = set(one["done"])
        assert [entry for entry in logged if entry in done] == one["done"], "lost, or out of order"
    known = {entry for one in told for entry in one["done"]}
    others = [why for why, new in logged if (why, new) not in known]
    assert len(set(others)) == len(others)
    assert {why for why in others if why != "base" and not why.startswith("make branch")} <= unknown
    for branch, head in repository.branches().items():
        moves = [new for entry in reversed([*repository.operations()]) for new in moved(entry, branch)]
        assert moves[-1] == head
        ancestry = [commit.digest for commit in repository.log(branch)]
        assert set(moves) <= set(ancestry), "a commit that no later one follows"
    assert repository.verify().problems == []


def moved(entry: Any, branch: str) -> list[Digest]:
    """Return what an operation moved the branch to."""
    return [change.new for change in entry.changes if change.ref == f"branch/{branch}" and change.new]
