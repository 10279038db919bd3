"""Sweeps against a model with a clock: whatever the order of verbs and sweeps, nothing that is needed goes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from sweep_tables import Killed, Made, Model, Place, dying, lists, publish_commit, stored, write

from pyfactory.core.canonical import encode
from pyfactory.core.digest import Digest
from pyfactory.errors import ConflictError, NotFoundError
from pyfactory.repo.leases import Held, take
from pyfactory.repo.operation import Change, utc_moment
from pyfactory.repo.sweep import SWEEP, check_kept, gc, sweep_guards
from pyfactory.repo.transaction import publish
from pyfactory.store.wrap import Faulty

BRANCHES = st.sampled_from(["main", "dev"])
LABELS = st.lists(st.integers(0, 11), min_size=1, max_size=2, unique=True)
HOUR = timedelta(hours=1)
DAY = 24 * HOUR


class Sweeps(RuleBasedStateMachine):
    """The model knows every commit ever made; refs, runs, readers and leased writers say what must be there."""

    def __init__(self) -> None:
        super().__init__()
        self.place = Place.create()
        self.model = Model()
        self.now = datetime(2026, 3, 1, tzinfo=UTC)
        self.runs: list[Digest] = []
        self.readers: list[tuple[Held, Digest]] = []
        self.writing: tuple[Made, str, Held | None] | None = None
        self.guarded = False  # the writer's lease was there before any sweep that deletes

    def refs(self) -> dict[str, Digest]:
        return {ref: digest for ref, digest in self.place.view().refs.items() if ref.startswith(("branch/", "tag/"))}

    def head(self, branch: str) -> tuple[Digest, ...]:
        found = self.refs().get(f"branch/{branch}")
        return () if found is None else (found,)

    def name(self, ref: str, commit: Digest) -> None:
        """Let a ref name a commit, as a careful writer does."""
        view = self.place.view()
        if view.refs.get(ref) == commit:
            return
        try:
            check_kept(self.place, view, commit)
        except NotFoundError:
            assert not self.model.closure([commit]) <= stored(self.place) or SWEEP in view.refs
            return
        change = Change(ref, view.refs.get(ref), commit)
        publish(self.place.oplog, view, [change], "Ada", ref, guards=sweep_guards(view), now=self.now)

    @rule(branch=BRANCHES, labels=LABELS)
    def commit(self, branch: str, labels: list[int]) -> None:
        made = write(self.place, self.model, labels, self.head(branch), self.now)
        if (made.commit,) != self.head(branch):
            self.publish(made, branch)

    @rule(branch=BRANCHES, labels=LABELS, leased=st.booleans())
    @precondition(lambda self: self.writing is None)
    def begin(self, branch: str, labels: list[int], leased: bool) -> None:
        """Store objects now, publish them later."""
        held = take(self.place, "writer", "Bob", now=self.now) if leased else None
        self.guarded = leased and SWEEP not in self.place.view().refs
        self.writing = write(self.place, self.model, labels, self.head(branch), self.now), branch, held

    @rule()
    @precondition(lambda self: self.writing is not None)
    def finish(self) -> None:
        assert self.writing is not None
        made, branch, held = self.writing
        if made.parents == self.head(branch):
            self.publish(made, branch)
        if held is not None:
            held.release()
        self.writing = None

    def publish(self, made: Made, branch: str) -> None:
        try:
            publish_commit(self.place, made, branch, self.now)
        except ConflictError:
            gone = not made.objects <= stored(self.place)
            assert gone or SWEEP in self.place.view().refs, "only what is swept is refused"

    @rule(pick=st.integers(0, 20), ref=st.sampled_from(["branch/main", "branch/dev", "tag/v1"]))
    @precondition(lambda self: self.model.made)
    def point(self, pick: int, ref: str) -> None:
        """Make a branch or tag at any commit ever made, or roll a branch back to it."""
        made = [*self.model.made]
        if not (ref.startswith("tag/") and ref in self.refs()):
            self.name(ref, made[pick % len(made)])

    @rule(branch=BRANCHES)
    def delete(self, branch: str) -> None:
        self.place.move(f"branch/{branch}", None, self.now)

    @rule(branch=BRANCHES)
    def train(self, branch: str) -> None:
        for commit in self.head(branch):
            start = {"v": 1, "n": 0, "version": {"table": "x", "commit": commit}}
            self.place.store.create(f"runs/{len(self.runs)}/00000000", encode(start))
            self.runs.append(commit)

    @rule(branch=BRANCHES)
    def read(self, branch: str) -> None:
        for commit in self.head(branch):
            self.readers.append((take(self.place, "reader", "Eve", commit=commit, now=self.now), commit))

    @rule(hours=st.sampled_from([1, 20, 24 * 8, 24 * 15]))
    def wait(self, hours: int) -> None:
        """Let time pass; half of the readers renew."""
        self.now += hours * HOUR
        for held, _ in self.readers[::2]:
            held.renew(self.now)
        if self.writing and self.writing[2]:
            self.writing[2].renew(self.now)

    @rule(days=st.sampled_from([0, 7, 14]), call=st.none() | st.integers(0, 60), after=st.booleans())
    def sweep(self, days: int, call: int | None, after: bool) -> None:
        """Sweep, perhaps killed at a call."""
        store = self.place.store if call is None else dying(self.place.store, call, after=after)
        self.swept(Place(store), days)

    @rule(days=st.sampled_from([0, 7, 14]), call=st.integers(0, 60))
    @precondition(lambda self: self.writing is not None)
    def sweep_while_a_writer_publishes(self, days: int, call: int) -> None:
        def act(number: int, method: str, key: str) -> None:
            if number == call and self.writing is not None:
                self.finish()

        self.swept(Place(Faulty(self.place.store, before=act)), days)

    def swept(self, place: Place, days: int) -> None:
        young = self.undoable(days * DAY)
        whole = [commit for commit in young if self.model.closure([commit]) <= stored(self.place)]
        try:
            gc(place, grace=days * DAY, now=self.now)
        except Killed:
            pass
        except ConflictError as error:
            assert "a gc of" in error.message, error
        assert self.model.closure(whole) <= stored(self.place), "young operations can be undone"

    def undoable(self, grace: timedelta) -> set[Digest]:
        found: set[Digest] = set()
        for operation in self.place.oplog.history(self.place.view()):
            if utc_moment(operation.time, "") > self.now - grace:
                for change in operation.changes:
                    if not change.ref.startswith("gc/"):
                        found |= {digest for digest in (change.old, change.new) if digest}
        return found

    def needed(self) -> set[Digest]:
        live = [commit for held, commit in self.readers if held.lease.is_live(self.now)]
        return self.model.closure([*self.refs().values(), *self.runs, *live])

    @invariant()
    def all_that_is_needed_is_there(self) -> None:
        missing = self.needed() - stored(self.place)
        assert not missing
        if self.guarded and self.writing is not None:
            assert self.writing[0].objects <= stored(self.place), "nothing is deleted while a writer holds a lease"

    def teardown(self) -> None:
        """Two sweeps, a grace period apart, leave no garbage."""
        self.writing = None
        self.now += 30 * DAY
        self.readers.clear()
        for _ in range(2):
            gc(self.place, now=self.now)
            self.now += 15 * DAY
        found = stored(self.place) - lists(self.place)
        assert found == self.needed()
        assert SWEEP not in self.place.view().refs


Sweeps.TestCase.settings = settings(
    max_examples=60, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestSweeps = Sweeps.TestCase
