"""Two writers of one log in every order of their calls, with every fault at every call."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from interleaving import Actor, Killed, Route, Stepped, World, explore

from pyfactory.core.digest import Digest, digest_of
from pyfactory.errors import ConflictError, UnavailableError
from pyfactory.repo.operation import Change, Operation, follow
from pyfactory.repo.oplog import OperationLog, log_key
from pyfactory.repo.transaction import initialise, publish


@dataclass
class Attempt:
    """One thing that a writer wanted, and what it was told."""

    new: Digest
    began: int
    told: str = "nothing"
    ended: int | None = None


@dataclass
class Writer:
    """Moves a ref twice, each time from what it sees; stops at the first failure."""

    world: World
    name: str
    ref: str
    moves: int
    attempts: list[Attempt] = field(default_factory=list)

    def __call__(self, store: Stepped) -> None:
        log = OperationLog(store)
        for move in range(self.moves):
            attempt = Attempt(digest_of(f"{self.name} {move}".encode()), self.world.steps)
            self.attempts.append(attempt)
            try:
                view = log.view()
                change = Change(self.ref, view.refs.get(self.ref), attempt.new)
                publish(log, view, [change], self.name, "why")
                attempt.told = "done"
            except ConflictError:
                attempt.told = "conflict"
            except UnavailableError:
                attempt.told = "failed"
                return
            attempt.ended = self.world.steps


def entries_of(world: World) -> list[Operation]:
    """All entries that are there, after a look from scratch that checks the chain."""
    found = [key for key, _ in world.shared.list("log")]
    assert found == [log_key(n) for n in range(len(found))], "a gap"
    contents = [world.shared.get(key) for key in found]
    folded = follow(None, contents, "the log")
    assert OperationLog(world.shared).view() == folded
    return [Operation.from_bytes(content, "entry") for content in contents]


def check_writers(world: World, writers: list[Writer]) -> None:
    """What must hold whatever happened."""
    landed = [change.new for entry in entries_of(world) for change in entry.changes]
    assert len(set(landed)) == len(landed), "twice"
    attempts = [attempt for writer in writers for attempt in writer.attempts]
    assert set(landed) <= {attempt.new for attempt in attempts}
    for attempt in attempts:
        if attempt.told == "done":
            assert attempt.new in landed, "acknowledged and lost"
        if attempt.told == "conflict":
            assert attempt.new not in landed, "refused and there"
    done = [attempt for attempt in attempts if attempt.told == "done"]
    for one in done:
        for other in done:
            if one.ended is not None and one.ended < other.began:
                assert landed.index(one.new) < landed.index(other.new), "not in the order of real time"


def run_writers(route: Route, refs: tuple[str, str], moves: int, faults: int, preemptions: int | None = None) -> None:
    world = World(lambda method, key: key.startswith("log/"), faults=faults, preemptions=preemptions)
    initialise(OperationLog(world.shared), "test")
    writers = [Writer(world, name, ref, moves) for name, ref in zip("AB", refs, strict=True)]
    actors = [Actor(writer.name, world, writer) for writer in writers]
    world.run(route, actors)
    try:
        for actor in actors:
            assert actor.error is None or isinstance(actor.error, Killed), repr(actor.error)
        check_writers(world, writers)
        faulted = [line for line in world.said if line.startswith(("A: ", "B: ")) and not line.endswith(" ok")]
        if all(": create " in line and " crash" not in line for line in faulted) and faults < 2:
            told = [attempt.told for writer in writers for attempt in writer.attempts]
            assert "failed" not in told, "one bad answer is no reason to give up"
        if not faults and refs[0] != refs[1]:
            told = [attempt.told for writer in writers for attempt in writer.attempts]
            assert told == ["done"] * (2 * moves), "writers of distinct branches never conflict"
    except AssertionError as error:
        raise AssertionError("\n".join([str(error), *world.said])) from error


SHARED, OWN = ("branch/main", "branch/main"), ("branch/a", "branch/b")


@pytest.mark.parametrize(("refs", "moves", "faults"), [(SHARED, 2, 0), (SHARED, 1, 1)])
def test_two_writers_in_every_order(refs: tuple[str, str], moves: int, faults: int) -> None:
    """Catches: "taken" or a failure believed without reading back, and an entry published again with a new number."""
    assert explore(lambda route: run_writers(route, refs, moves, faults)) > 900


@pytest.mark.slow
@pytest.mark.parametrize(
    ("refs", "moves", "faults", "preemptions"),
    [(OWN, 2, 0, None), (OWN, 1, 1, None), (SHARED, 2, 1, 2), (OWN, 1, 2, 1)],
)
def test_two_writers_with_more(refs: tuple[str, str], moves: int, faults: int, preemptions: int | None) -> None:
    """Two moves and a fault, two faults at once: with a bound on how often one writer cuts into the other."""
    assert explore(lambda route: run_writers(route, refs, moves, faults, preemptions)) > 900
