"""Two writers and a sweep that deletes what they are about to use again, in every order of the calls that matter."""

from __future__ import annotations

import copy
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from interleaving import Actor, Killed, Route, Stepped, World, explore
from repo_tables import raw_state

from pyfactory.errors import ConflictError, CorruptError, NotFoundError, PyfactoryError
from pyfactory.repo.names import BRANCH
from pyfactory.repo.objects import load_commit, load_tree
from pyfactory.repo.publishing import Proposed, propose
from pyfactory.repo.repository import Repository
from pyfactory.repo.sweep import CONDEMNED, SWEEP, gc
from pyfactory.store.memory import MemoryStore

GRACE = timedelta(days=1)
LATER = datetime.now(UTC) + timedelta(days=3)


def stored() -> tuple[MemoryStore, set[str]]:
    """A repository with objects that nothing leads to, condemned long ago; and the keys of those."""
    store = MemoryStore()
    repository = Repository.create(store)
    repository.commit({"corpus": raw_state(repository.objects, "base")}, message="base")
    for name in ("a", "b"):
        repository.branch(name, "main")
    before = {key for key, _ in store.list("objects")}
    raw_state(repository.objects, "again")
    dead = {key for key, _ in store.list("objects")} - before
    gc(repository, grace=GRACE)
    assert CONDEMNED in repository.view().refs and dead <= {key for key, _ in store.list("objects")}
    return store, dead


def writer(branch: str, told: dict[str, str]) -> Callable[[Stepped], None]:
    """Store a table whose objects are condemned, and commit it to a branch."""

    def program(store: Stepped) -> None:
        repository = Repository.open(store)
        try:
            view = repository.view()
            state = raw_state(repository.objects, "again")
            head = view.refs[BRANCH + branch]
            before = load_tree(repository.objects, load_commit(repository.objects, head, branch).tree, branch).tables
            tables = {**before, "more": state}
            propose(repository, view, Proposed(branch, head, before, tables, "more", branch), None)
            told[branch] = "done"
        except (ConflictError, NotFoundError, CorruptError):  # what it needs went before it asked: it runs again
            told[branch] = "conflict"

    return program


def sweeper(store: Stepped) -> None:
    gc(Repository.open(store), grace=GRACE, now=LATER)


def check(world: World, told: dict[str, str]) -> None:
    """Whatever is acknowledged is there and whole, now and after the next sweep."""
    repository = Repository.open(world.shared)
    for turn in range(2):
        assert repository.verify().problems == []
        for branch, outcome in told.items():
            assert ("more" in repository.tables(branch)) == (outcome == "done"), (branch, outcome, turn)
        gc(repository, grace=GRACE, now=LATER + GRACE * (turn + 1) * 2)
        assert SWEEP not in repository.view().refs


def run_sweep(route: Route, start: tuple[MemoryStore, set[str]], branches: str, faults: int, preemptions: int) -> None:
    store, dead = start

    def counts(method: str, key: str) -> bool:
        return key.startswith("log/") or key in dead

    kinds = {"delete": ("lost", "crash", "crash after"), "create": ("lost", "crash after")}
    world = World(counts, faults=faults, preemptions=preemptions, kinds=kinds)
    world.shared._objects.update(copy.copy(store._objects))
    told: dict[str, str] = {}
    actors = [Actor(branch, world, writer(branch, told)) for branch in branches]
    actors.append(Actor("gc", world, sweeper))
    world.run(route, actors)
    try:
        for actor in actors:
            assert actor.error is None or isinstance(actor.error, PyfactoryError | Killed), repr(actor.error)
        if not faults:
            assert [actor.error for actor in actors if not isinstance(actor.error, ConflictError | None)] == []
        for actor in actors[:-1]:
            if actor.error is None:
                assert actor.name in told
        check(world, told)
    except (AssertionError, PyfactoryError) as error:
        raise AssertionError("\n".join([str(error), *world.said])) from error


def test_a_writer_and_a_sweep() -> None:
    """Catches a commit that relies on an object because it was there, though a sweep is about to delete it."""
    start = stored()
    assert explore(lambda route: run_sweep(route, start, "a", 0, 1)) > 30


@pytest.mark.slow
@pytest.mark.parametrize(("branches", "faults", "preemptions"), [("ab", 0, 1), ("a", 1, 1), ("a", 0, 2)])
def test_writers_a_sweep_and_faults(branches: str, faults: int, preemptions: int) -> None:
    """Two writers; a sweep that is killed or loses an answer; two moments at which the other cuts in."""
    start = stored()
    assert explore(lambda route: run_sweep(route, start, branches, faults, preemptions)) > 200
