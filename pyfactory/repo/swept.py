"""What a writer asks about sweeps before it publishes: is what it needs being deleted, or gone already?"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from pyfactory.core.digest import NO_DIGEST, Digest
from pyfactory.errors import ConflictError, CorruptError, NotFoundError
from pyfactory.repo.home import Home
from pyfactory.repo.listing import WIDTH, Listing, contains, hexadecimal, packed_digests, parse_listing
from pyfactory.repo.names import BRANCH, TAG
from pyfactory.repo.objects import load_commit
from pyfactory.repo.operation import View
from pyfactory.repo.reachable import Reachable
from pyfactory.repo.threads import in_order
from pyfactory.store.content import Objects

__all__ = ["CONDEMNED", "SWEEP", "check_kept", "check_not_swept", "load_listing", "sweep_guards"]

CONDEMNED = "gc/condemned"
"""Full name of the ref of what may be deleted after the grace period. From the first sweep on, it or `SWEEP` is set."""

SWEEP = "gc/sweep"
"""Full name of the ref of what is being deleted."""

_ALONE = 256  # so many are looked up by one thread
_WORKERS = 16
_KINDS = ("commits", "trees", "artifacts", "nodes", "shards", "sides")


def sweep_guards(view: View) -> dict[str, Digest | None]:
    """Return the refs that must stay as they are until the entry that was checked is written: see `publish`.

    No two lists are the same object, so a sweep that comes and goes meanwhile is noticed.
    """
    return {ref: view.refs.get(ref) for ref in (CONDEMNED, SWEEP)}


def load_listing(home: Home, view: View, ref: str) -> Listing | None:
    """Return what a sweep's ref lists, None if there is no such ref; CorruptError if the list is missing or damaged."""
    digest = view.refs.get(ref)
    if digest is None:
        return None
    what = f"{home.url}: the list {digest} of {ref}"
    try:
        return parse_listing(Objects(home.store).get(digest), what)
    except NotFoundError as error:
        raise CorruptError(f"{what} is missing", hint="put it back from a copy of the repository") from error


def check_not_swept(home: Home, view: View, digests: Iterable[Digest]) -> None:
    """Make sure that nothing which a new commit needs is being deleted or was deleted. Free before the first sweep.

    Afterwards a request for each object, and one for the list while a sweep deletes. What was checked holds at the
    next entry of the log as long as the refs of `sweep_guards` stay.

    Args:
        home: The repository.
        view: The view that the commit is to follow.
        digests: What the commit needs and its parents do not hold; not drawn from if there was never a sweep.

    Raises:
        ConflictError: An object is being deleted, or is gone.
    """
    if CONDEMNED not in view.refs and SWEEP not in view.refs:
        return
    redirect = home.objects.redirect  # what is forgotten may well be gone
    wanted = [digest for digest in digests if digest != NO_DIGEST and digest not in redirect]
    listing = load_listing(home, view, SWEEP)
    if listing is not None and wanted:
        packed = np.frombuffer(packed_digests(wanted), f"S{WIDTH}")
        for digest in hexadecimal(packed[contains(listing.digests, packed)]):
            raise ConflictError(
                f"{home.url}: a sweep is deleting object {digest}, which this commit needs",
                hint="run it again when the sweep has ended; pyfactory gc finishes one that was cut off",
            )
    for digest in _missing(home, wanted):
        raise ConflictError(
            f"{home.url}: object {digest}, which this commit needs, was swept meanwhile", hint="run it again"
        )


def check_kept(home: Home, view: View, commit: Digest) -> None:
    """Make sure that a commit is whole before a ref names it. Free before the first sweep.

    Afterwards it reads commits until one that a branch or tag names leads to this one; if none does, it looks for
    every object of the commit and of those before it. What was checked holds as long as `sweep_guards` stay.

    Raises:
        NotFoundError: Parts of it are being deleted, or are gone.
    """
    if (CONDEMNED not in view.refs and SWEEP not in view.refs) or _is_named(home, view, commit):
        return
    closure = Reachable(home.store)
    try:
        closure.mark_commit(commit, "it")
    except CorruptError as error:
        raise _swept(home, commit) from error
    redirect = home.objects.redirect
    listing = load_listing(home, view, SWEEP)
    for kind in _KINDS:
        found = closure.of_kind(kind)
        if listing is not None and contains(listing.digests, found).any():
            raise _swept(home, commit)
        wanted = [digest for digest in hexadecimal(found) if digest not in redirect]
        if any(_missing(home, wanted)):
            raise _swept(home, commit)


def _missing(home: Home, wanted: list[Digest]) -> Iterable[Digest]:
    objects = Objects(home.store)
    alone = len(wanted) <= _ALONE
    exist = map(objects.exists, wanted) if alone else in_order(objects.exists, wanted, _WORKERS)
    return (digest for digest, exists in zip(wanted, exist, strict=True) if not exists)


def _is_named(home: Home, view: View, commit: Digest) -> bool:
    waiting = [digest for ref, digest in view.refs.items() if ref.startswith((BRANCH, TAG))]
    met = set(waiting)
    while waiting:
        if commit in met:
            return True
        digest = waiting.pop()
        parents = [parent for parent in load_commit(home.objects, digest, "a ref").parents if parent not in met]
        met.update(parents)
        waiting += parents
    return commit in met


def _swept(home: Home, commit: Digest) -> NotFoundError:
    return NotFoundError(
        f"{home.url}: commit {commit} is not whole any more: nothing led to it, and a sweep has deleted parts of it",
        hint="name another commit; pyfactory log shows them",
    )
