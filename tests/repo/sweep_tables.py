"""A small repository whose every object a model knows, and stores that die: for the tests of sweeps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from repo_tables import made_by_job, raw_part, state_of, token_part

from pyfactory.core.canonical import encode
from pyfactory.core.digest import NO_DIGEST, Digest
from pyfactory.repo.format import write_format
from pyfactory.repo.objects import Commit, TableState, Tree
from pyfactory.repo.operation import Change, View, utc_text
from pyfactory.repo.oplog import OperationLog
from pyfactory.repo.sweep import check_not_swept, sweep_guards
from pyfactory.repo.transaction import initialise, publish
from pyfactory.shard.manifest import Manifest
from pyfactory.store.base import Store
from pyfactory.store.content import Objects
from pyfactory.store.memory import MemoryStore
from pyfactory.store.wrap import Faulty

DAY = timedelta(days=1)
NOW = datetime(2026, 3, 1, tzinfo=UTC)
LATER = NOW + 15 * DAY


class Place:
    """The least that a repository is to its parts."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.url = store.url
        self.objects = Objects(store)
        self.oplog = OperationLog(store)

    @classmethod
    def create(cls, store: Store | None = None) -> Place:
        place = cls(MemoryStore() if store is None else store)
        write_format(place.store)
        initialise(place.oplog, "Ada")
        return place

    def view(self) -> View:
        return self.oplog.view()

    def move(self, ref: str, new: Digest | None, now: datetime) -> None:
        """Move a ref, whatever it names."""
        view = self.view()
        old = view.refs.get(ref)
        if old != new:
            publish(self.oplog, view, [Change(ref, old, new)], "Ada", f"move {ref}", now=now)


@dataclass
class Made:
    """A commit whose objects are stored, published or not."""

    commit: Digest
    parents: tuple[Digest, ...]
    objects: set[Digest]


@dataclass
class Model:
    """All commits that were ever made, with what each consists of."""

    made: dict[Digest, Made] = field(default_factory=dict)

    def closure(self, commits: Iterable[Digest]) -> set[Digest]:
        """Return all objects of commits and of those before them."""
        found: set[Digest] = set()
        waiting = list(commits)
        while waiting:
            commit = waiting.pop()
            if commit not in found:
                found |= self.made[commit].objects
                waiting += self.made[commit].parents
        return found


def state(objects: Objects, label: int) -> TableState:
    """Store a table: of texts if the label is even, else of tokens with an artifact; neighbours share a shard."""
    if label % 2:
        parts = [token_part(objects, [[label, 1]]), token_part(objects, [[label // 4, 2]])]
        return state_of(objects, parts, width=2, artifact=b"tokenizer %d" % (label // 4))
    return state_of(objects, [raw_part(objects, [f"text {label}"]), raw_part(objects, [f"shared {label // 4}"])])


def write(place: Place, model: Model, labels: Iterable[int], parents: tuple[Digest, ...], now: datetime) -> Made:
    """Store the objects of a commit without publishing it."""
    states = {f"table-{label}": state(place.objects, label) for label in labels}
    job = place.objects.put(encode(["job", sorted(states)]))
    tree = place.objects.put(encode(Tree(states).to_value()))
    commit = Commit(tree, parents, "Ada", utc_text(now), "", made_by_job("x", job))
    digest = place.objects.put(encode(commit.to_value()))
    made = Made(digest, parents, {tree, digest, job} | objects_of(place.objects, states))
    model.made[digest] = made
    return made


def objects_of(objects: Objects, states: Mapping[str, TableState]) -> set[Digest]:
    found: set[Digest] = set()
    for table in states.values():
        manifest = Manifest(objects, table.manifest)
        found |= {*manifest.nodes(), *table.artifacts.values()}
        for part in manifest.parts():
            found |= {part.shard, part.side} - {NO_DIGEST}
    return found


def publish_commit(place: Place, made: Made, branch: str, now: datetime) -> None:
    """Move a branch to a commit that may have been written long ago, as a careful writer does."""
    view = place.view()
    check_not_swept(place, view, sorted(made.objects))
    head = made.parents[0] if made.parents else None
    change = Change(f"branch/{branch}", head, made.commit)
    publish(place.oplog, view, [change], "Ada", "commit", guards=sweep_guards(view), now=now)


def stored(place: Place) -> set[Digest]:
    return {Digest(key.replace("/", "")[len("objects") :]) for key, _ in place.store.list("objects")}


def lists(place: Place) -> set[Digest]:
    """Return the listing objects that sweeps have left."""
    return {digest for digest in stored(place) if place.objects.get(digest).startswith(b"PFLIST01")}


class Killed(BaseException):
    """What ends a program in the middle of a call."""


def dying(store: Store, call: int, *, after: bool = False) -> Faulty:
    """Return a store that dies at a call, before or after it is done, and is dead from then on."""
    dead = False

    def die(number: int, method: str, key: str) -> None:
        nonlocal dead
        if dead or number >= call:
            dead = True
            raise Killed

    def refuse(number: int, method: str, key: str) -> None:
        if dead:
            raise Killed

    return Faulty(store, before=refuse if after else die, after=die if after else None)


def build() -> tuple[Place, Model, dict[str, Digest]]:
    """main: 0, 1; branch gone: 4, 5 from the first commit, deleted."""
    place, model = Place.create(), Model()
    first = write(place, model, [0, 1], (), NOW)
    publish_commit(place, first, "main", NOW)
    place.move("branch/gone", first.commit, NOW)
    other = write(place, model, [0, 4, 5], (first.commit,), NOW)
    publish_commit(place, other, "gone", NOW)
    place.move("branch/gone", None, NOW)
    return place, model, {"first": first.commit, "gone": other.commit}


def garbage(place: Place, model: Model, roots: list[Digest]) -> set[Digest]:
    return stored(place) - lists(place) - model.closure(roots)
