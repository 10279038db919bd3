"""The sweep: deletes what nothing leads to any more, in two steps with a grace period between them.

    1  condemn: what is stored and not reachable is listed, and `gc/condemned` names the list.
    2  sweep, when the list is older than the grace period and nobody holds a writer's lease: what is still not
       reachable is listed again, `gc/sweep` names that list, its objects are deleted, `gc/sweep` goes.

Both steps publish exactly the entry after the view they looked at, so nothing can become reachable unseen. A writer
whose commit needs an object of the list that is being deleted, or one that is gone, is told so before its entry is
written (`check_not_swept`), and its entry is placed only while the two refs stay as it saw them (`sweep_guards`).
A sweep that was killed leaves `gc/sweep`; the next one finishes it. What a redaction replaces is deleted without a
grace period, as soon as nobody who began before the redaction is at work.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from pyfactory.core.digest import Digest
from pyfactory.core.durable import is_disk_full
from pyfactory.core.progress import Progress, no_progress
from pyfactory.errors import ConflictError, InvalidInputError, UnavailableError
from pyfactory.repo.format import check_writable, read_format, require_feature
from pyfactory.repo.home import Home
from pyfactory.repo.leases import Held, Lease, all_leases, take
from pyfactory.repo.listing import EMPTY, Digests, Listing, contains, digests_of
from pyfactory.repo.operation import Change, View, utc_moment, utc_text
from pyfactory.repo.reachable import Overlaid, Reachable, overlaid
from pyfactory.repo.stored import Stored, added, delete_all, delete_caches, kinds_of, stored_objects
from pyfactory.repo.sweep_report import GcReport
from pyfactory.repo.swept import CONDEMNED, SWEEP, check_kept, check_not_swept, load_listing, sweep_guards
from pyfactory.repo.transaction import publish

__all__ = ["CONDEMNED", "GRACE", "SWEEP", "GcReport", "check_kept", "check_not_swept", "gc", "sweep_guards"]

GRACE = timedelta(days=14)
"""How long something stays that nothing leads to any more, unless another period is asked for."""

_TRIES = 10
_LONGEST = timedelta(days=36500)
_LEASE = timedelta(minutes=10)
_NEEDS_SPACE = (
    "free space: gc itself writes some KB before it deletes anything, so move a file that is not of this repository to"
    " another disk, and run gc again"
)
_FEW = 16  # lists of earlier sweeps that wait for other garbage before they are condemned


def gc(
    home: Home,
    *,
    who: str = "unknown",
    grace: timedelta = GRACE,
    dry_run: bool = False,
    now: datetime | None = None,
    progress: Progress = no_progress,
) -> GcReport:
    """Delete what nothing has led to for the grace period, and condemn what nothing leads to now.

    Time grows with what is stored; memory with about 100 bytes for each object.

    Args:
        home: The repository.
        who: Who does it.
        grace: How long something stays that nothing leads to, and how far back operations can be undone. With 0, what
            nothing leads to now is deleted at once: only for a repository that nobody else writes to.
        dry_run: Change nothing.
        now: The moment that ages and leases are compared with, by default this one.
        progress: Told as stages `mark`, `list` and `delete`.

    Raises:
        CorruptError: Something reachable is missing or damaged, so that nobody knows what else is needed.
        ConflictError: Another sweep is deleting, or the log moves too fast.
        InvalidInputError: The repository must be upgraded before.
    """
    if not timedelta() <= grace <= _LONGEST:
        raise InvalidInputError(f"a grace period of {grace} is none", hint=f"give 0 to {_LONGEST.days} days")
    moment = now or datetime.now(UTC)
    sweep = _Sweep(home, who, grace, moment, progress)
    if dry_run:
        return sweep.foretell()
    check_writable(home.url, read_format(home.store))
    require_feature(home, "sweep")
    try:
        with _alone(home, who, moment) as held:
            return sweep.run(held)
    except UnavailableError as error:
        if not is_disk_full(error):
            raise
        raise UnavailableError(error.message, hint=_NEEDS_SPACE) from error


@contextmanager
def _alone(home: Home, who: str, now: datetime) -> Iterator[Held]:
    """Hold the lease of a sweep, of which there may be one at a time."""
    with take(home, "sweeper", who, now=now, length=_LEASE) as held:
        for lease in all_leases(home):
            if lease.purpose == "sweeper" and lease.id != held.lease.id and lease.is_live(now):
                raise ConflictError(
                    f"{home.url}: a gc of {lease.who} is at work",
                    hint=f"wait for it; if it was killed, run gc again after {lease.expires}",
                )
        yield held


class _Sweep:
    def __init__(self, home: Home, who: str, grace: timedelta, now: datetime, progress: Progress) -> None:
        self._home = home
        self._who = who
        self._grace = grace
        self._now = now
        self._progress = progress
        self._reach = Reachable(home.store, self._told)
        self._stored = stored_objects(home.store, progress)
        self._held: Held | None = None
        self._leases: tuple[Lease, ...] = ()
        self._freed: dict[str, tuple[int, int]] = {}

    def run(self, held: Held) -> GcReport:
        """Finish what was begun, delete what is due, condemn what is new."""
        self._held = held
        stored = self._stored
        view = self._look()
        left = load_listing(self._home, view, SWEEP)
        if left is not None:
            self._delete(left.digests[~contains(self._reachable(view), left.digests)])
        blocked = self._delete_due()
        waiting = self._condemn(bool(blocked))
        if not self._grace and not blocked:
            # What nothing leads to now is due at once.
            blocked = self._delete_due()
            waiting = self._condemn(bool(blocked))
        self._drop_leases()
        return self._report(stored, self._freed.get("objects", (0, 0)), waiting, blocked)

    def foretell(self) -> GcReport:
        """Tell what `run` would do; what an earlier sweep left undone counts as well."""
        view = self._look()
        due, blocked = self._due(view)
        unreachable = self._stored.without(self._reachable(view))
        left = load_listing(self._home, view, SWEEP)
        if not self._grace and not blocked:
            due = unreachable.digests
        dead = self._stored.among(due if left is None else digests_of(due.tobytes() + left.digests.tobytes()))
        self._freed = kinds_of(self._home.store, dead)
        listing = load_listing(self._home, view, CONDEMNED)
        waiting = unreachable.without(dead.digests)
        if listing is not None and len(listing.digests) and not self._is_due(listing):
            waiting = waiting.among(listing.digests)
        time = utc_text(self._now) if listing is None or self._is_due(listing) else listing.time
        report = self._report(self._stored, (len(dead), dead.total), (waiting, time), blocked)
        return replace(report, dry_run=True)

    def _delete_due(self) -> str:
        """Delete what may be deleted; return what stood in the way."""
        for _ in range(_TRIES):
            view = self._look()
            due, blocked = self._due(view)
            dead = self._stored.among(due)
            if not len(dead):
                return blocked
            changes = [Change(SWEEP, None, self._put(view, dead))]
            if CONDEMNED in view.refs:
                changes.append(Change(CONDEMNED, view.refs[CONDEMNED], None))
            if self._published(view, changes, f"sweep {len(dead)} objects"):
                self._delete(dead.digests)
                return blocked
        raise self._busy()

    def _condemn(self, blocked: bool) -> tuple[Stored, str]:
        """List what nothing leads to, unless a list waits for its time already; return what waits, and since when."""
        for _ in range(_TRIES):
            view = self._look()
            dead = self._stored.without(self._reachable(view))
            listing = load_listing(self._home, view, CONDEMNED)
            known = listing is not None and len(listing.digests) > 0
            if listing is not None and known and (blocked or not self._is_due(listing)):
                return dead.among(listing.digests), listing.time
            now = utc_text(self._now)
            if not known and self._is_own(dead):
                return self._stored.among(EMPTY), now
            change = Change(CONDEMNED, view.refs.get(CONDEMNED), self._put(view, dead))
            if self._published(view, [change], f"condemn {len(dead)} objects"):
                return dead, now
        raise self._busy()

    def _delete(self, digests: Digests) -> None:
        """Delete objects that `gc/sweep` lists, and let it go."""
        dead = self._stored.among(digests)
        freed = {"objects": (len(dead), dead.total), **delete_caches(self._home.store, digests, self._check_alone)}
        delete_all(self._home.store, digests, self._check_alone, self._progress)
        self._stored = self._stored.without(digests)
        self._freed = added(self._freed, freed)
        self._check_alone()
        view = self._home.view()
        # An empty list: from now on writers make sure that what they need is there.
        none = self._put(view, self._stored.among(EMPTY))
        changes = [Change(SWEEP, view.refs.get(SWEEP), None), Change(CONDEMNED, view.refs.get(CONDEMNED), none)]
        publish(self._home.oplog, view, changes, self._who, f"swept {len(dead)} objects", now=self._now)

    def _due(self, view: View) -> tuple[Digests, str]:
        """Return what may be deleted after a view, and which writer stands in the way of that."""
        listing = load_listing(self._home, view, CONDEMNED)
        due = EMPTY if listing is None or not self._is_due(listing) else listing.digests
        due = digests_of(due.tobytes() + self._overlay(view).old.tobytes())
        due = self._stored.among(due[~contains(self._reachable(view), due)]).digests
        writer = next((lease for lease in self._leases if lease.purpose == "writer"), None)
        if writer is not None and len(due):
            return EMPTY, f"{writer.who} writes, until {writer.expires} at the latest"
        return due, ""

    def _look(self) -> View:
        """Mark what is reachable now, and return the view of which that is true."""
        view = self._home.view()
        found = [lease for lease in all_leases(self._home) if lease.is_live(self._now)]
        self._leases = tuple(lease for lease in found if lease.purpose != "sweeper")
        self._reach.mark_view(view)
        self._reach.mark_history(self._home, view, self._now - self._grace)
        self._reach.mark_runs(self._home.store)
        for lease in self._leases:
            if lease.commit is not None:
                self._reach.mark_commit(lease.commit)
        return view

    def _overlay(self, view: View) -> Overlaid:
        began = [utc_moment(lease.began, lease.key) for lease in self._leases]
        return overlaid(self._home, view, min(began, default=None))

    def _reachable(self, view: View) -> Digests:
        return self._reach.array(self._overlay(view))

    def _is_due(self, listing: Listing) -> bool:
        return utc_moment(listing.time, "a list of a sweep") + self._grace <= self._now

    def _is_own(self, dead: Stored) -> bool:
        """Tell whether these are only lists of earlier sweeps, which can wait: each sweep leaves some behind."""
        return len(dead) <= _FEW and kinds_of(self._home.store, dead).keys() <= {"lists"}

    def _put(self, view: View, listed: Stored) -> Digest:
        listing = Listing(view.n, utc_text(self._now), listed.total, listed.digests)
        return self._home.objects.put(listing.to_bytes())

    def _published(self, view: View, changes: Iterable[Change], why: str) -> bool:
        """Publish exactly after a view; False when somebody else was faster and all must be looked at anew."""
        try:
            publish(self._home.oplog, view, changes, self._who, why, exact=True, now=self._now)
        except ConflictError:
            newer = self._home.view()
            if any(newer.refs.get(ref) != view.refs.get(ref) for ref in (SWEEP, CONDEMNED)):
                raise
            return False
        return True

    def _busy(self) -> ConflictError:
        return ConflictError(
            f"{self._home.url}: the log moves faster than a sweep can look at it", hint="run gc when less is written"
        )

    def _check_alone(self) -> None:
        """Stop before anybody can have taken this sweep for dead: what is deleted later may have been written anew."""
        if self._held is None or not self._held.is_safe:
            raise ConflictError(
                f"{self._home.url}: this sweep was held up for so long that another may have taken over",
                hint="run gc again, which finishes it",
            )
        self._held.renew_if_due()

    def _told(self, stage: str, done: int, total: int | None) -> None:
        if self._held is not None:
            self._held.renew_if_due()
        self._progress(stage, done, total)

    def _drop_leases(self) -> None:
        ended = [lease for lease in all_leases(self._home) if not lease.is_live(self._now)]
        for lease in ended:
            self._home.store.delete(lease.key)
        if ended:
            self._freed = added(self._freed, {"leases": (len(ended), sum(len(lease.to_bytes()) for lease in ended))})

    def _report(self, stored: Stored, freed: tuple[int, int], waiting: tuple[Stored, str], blocked: str) -> GcReport:
        dead, since = waiting
        due = utc_text(utc_moment(since, "a sweep") + self._grace) if len(dead) else ""
        spared = self._overlay(self._home.view()).spared
        reasons = [blocked, f"{spared} forgotten shards may be read by who began before" if spared else ""]
        return GcReport(
            dry_run=False,
            stored=len(stored),
            stored_bytes=stored.total,
            freed=freed[0],
            freed_bytes=freed[1],
            by_kind=self._freed,
            condemned=len(dead),
            condemned_bytes=dead.total,
            due=due,
            held=self._leases,
            blocked="; ".join(reason for reason in reasons if reason),
        )
