"""Runs actors against one store in every order: a small model checker, without clock and without chance.

Each actor is a thread that stops at every call of its store that counts, until the world lets it go on. One run takes
one path of decisions: who goes on, and what goes wrong with the call. `explore` runs all paths, each from the start.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pyfactory.core.digest import Buffer
from pyfactory.errors import PyfactoryError, UnavailableError
from pyfactory.store.memory import MemoryStore

FAULTS = {
    "create": ("lost", "unsent", "taken", "late", "crash", "crash after"),
    "get": ("unsent",),
    "size": ("unsent",),
    "delete": ("lost", "unsent", "crash", "crash after"),
    "list": ("stale", "unsent"),
}
"""What can go wrong with a call.

lost         it happens, but the answer is a failure
unsent       it does not happen, and the answer is a failure
taken        it does not happen, and the answer is that the key is taken (S3's 409)
late         the answer is a failure, and it happens at some later moment, or when all is over
crash        the actor dies before it
crash after  the actor dies after it has happened
stale        the answer lacks what was created last
"""


class Killed(BaseException):
    """Ends an actor in the middle of whatever it does."""


class Route:
    """One path through all decisions: follows the beginning that it is given, then takes the first choice each time."""

    def __init__(self, beginning: Sequence[int]) -> None:
        self._beginning = beginning
        self._taken: list[tuple[int, int]] = []

    def pick(self, count: int) -> int:
        """Decide between so many choices."""
        at = len(self._taken)
        choice = self._beginning[at] if at < len(self._beginning) else 0
        self._taken.append((choice, count))
        return choice

    def next(self) -> list[int] | None:
        """Return the beginning of the next path, None after the last one."""
        taken = list(self._taken)
        while taken:
            choice, count = taken.pop()
            if choice + 1 < count:
                return [chosen for chosen, _ in taken] + [choice + 1]
        return None


@dataclass
class World:
    """The store, the actors, and what they may suffer.

    Attributes:
        counts: Tells whether a call is a moment at which others may come between: (method, key).
        faults: How many calls of a run may go wrong.
        preemptions: How often an actor that could go on may have to wait for another one; None: always.
        kinds: Which faults there are, by method.
    """

    counts: Callable[[str, str], bool]
    faults: int = 0
    preemptions: int | None = None
    kinds: dict[str, tuple[str, ...]] = field(default_factory=lambda: FAULTS)
    shared: MemoryStore = field(default_factory=MemoryStore)
    late: list[tuple[str, bytes]] = field(default_factory=list)
    created: list[str] = field(default_factory=list)
    steps: int = 0
    said: list[str] = field(default_factory=list)

    def run(self, path: Route, actors: Sequence[Actor]) -> None:
        """Let the actors go on, one call at a time, until all are done and everything late has landed."""
        for actor in actors:
            actor.start()
        current: Actor | None = None
        while waiting := [actor for actor in actors if not actor.done]:
            if self.preemptions == 0 and current in waiting:
                waiting = [current]
            choices: list[tuple[Actor | None, str]] = [
                (actor, fault) for actor in waiting for fault in ("ok", *self._possible(actor))
            ]
            choices += [(None, "land")] if self.late else []
            actor, fault = choices[path.pick(len(choices))]
            self.steps += 1
            if actor is None:
                self.said.append(f"lands: {self.late[0][0]}")
                self.land()
                continue
            if current is not None and actor is not current and not current.done and self.preemptions:
                self.preemptions -= 1
            current = actor
            self.faults -= fault != "ok"
            self.said.append(f"{actor.name}: {actor.call[0]} {actor.call[1]} {fault}")
            actor.proceed(fault)
        while self.late:
            self.land()

    def land(self) -> None:
        """Let the oldest late create happen."""
        key, content = self.late.pop(0)
        if self.shared.create(key, content):
            self.created.append(key)

    def _possible(self, actor: Actor) -> tuple[str, ...]:
        return self.kinds.get(actor.call[0], ()) if self.faults > 0 else ()


class Actor:
    """A program that stops at each of its calls.

    Args:
        name: For the story of a run that fails.
        world: Where it acts.
        program: What it does with its store; an error of pyfactory ends it.
    """

    def __init__(self, name: str, world: World, program: Callable[[Stepped], None]) -> None:
        self.name = name
        self.world = world
        self.call = ("", "")
        self.done = False
        self.error: BaseException | None = None
        self._fault = "ok"
        self._program = program
        self._go, self._back = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Run up to the first call."""
        self._thread.start()
        self._back.acquire()

    def proceed(self, fault: str) -> None:
        """Do the call, and go on to the next one or to the end."""
        self._fault = fault
        self._go.release()
        self._back.acquire()
        if self.done:
            self._thread.join()

    def stop_at(self, method: str, key: str) -> str:
        """Wait for permission; return what goes wrong with the call."""
        if not self.world.counts(method, key):
            return "ok"
        self.call = (method, key)
        self._back.release()
        self._go.acquire()
        return self._fault

    def _run(self) -> None:
        try:
            self._program(Stepped(self))
        except (PyfactoryError, Killed) as error:
            self.error = error
        except BaseException as error:
            self.error = error
            self.world.said.append(f"{self.name} fails: {error!r}")
        self.done = True
        self._back.release()


class Stepped(MemoryStore):
    """The shared store as one actor reaches it."""

    def __init__(self, actor: Actor) -> None:
        super().__init__()
        self.url = "memory://shared"
        self._actor = actor
        self._world = actor.world
        self._shared = actor.world.shared

    def _around(self, method: str, key: str, action: Callable[[], object]) -> object:
        fault = self._actor.stop_at(method, key)
        if fault == "crash":
            raise Killed
        if fault == "unsent":
            raise UnavailableError(f"{method} {key}: {fault}")
        result = action()
        if fault == "crash after":
            raise Killed
        if fault == "lost":
            raise UnavailableError(f"{method} {key}: {fault}")
        return result

    def get(self, key: str) -> bytes:
        return self._around("get", key, lambda: self._shared.get(key))  # type: ignore[return-value]

    def get_range(self, key: str, start: int, stop: int) -> bytes:
        return self._around("get", key, lambda: self._shared.get_range(key, start, stop))  # type: ignore[return-value]

    def size(self, key: str) -> int | None:
        return self._around("size", key, lambda: self._shared.size(key))  # type: ignore[return-value]

    def delete(self, key: str) -> None:
        self._around("delete", key, lambda: self._shared.delete(key))

    def replace(self, key: str, content: Buffer, *, durable: bool = True) -> None:
        self._around("replace", key, lambda: self._shared.replace(key, content))

    def create_from_file(self, key: str, path: Path) -> bool:
        created = self.create(key, path.read_bytes())
        path.unlink()
        return created

    def create(self, key: str, content: Buffer) -> bool:
        fault = self._actor.stop_at("create", key)
        if fault == "taken":
            return False
        if fault == "late":
            self._world.late.append((key, bytes(content)))
        if fault in ("late", "unsent"):
            raise UnavailableError(f"create {key}: {fault}")
        if fault == "crash":
            raise Killed
        created = self._shared.create(key, content)
        if created:
            self._world.created.append(key)
        if fault == "crash after":
            raise Killed
        if fault == "lost":
            raise UnavailableError(f"create {key}: {fault}")
        return created

    def list(self, prefix: str) -> Iterator[tuple[str, int]]:
        fault = self._actor.stop_at("list", prefix)
        if fault == "unsent":
            raise UnavailableError(f"list {prefix}: {fault}")
        found = self._shared.list(prefix)
        if fault == "stale" and self._world.created:
            return (pair for pair in found if pair[0] != self._world.created[-1])
        return found


def explore(one_run: Callable[[Route], None]) -> int:
    """Run all paths; return how many there are."""
    beginning: list[int] | None = []
    runs = 0
    while beginning is not None:
        path = Route(beginning)
        one_run(path)
        runs += 1
        beginning = path.next()
    return runs
