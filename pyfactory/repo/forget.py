"""Forgetting records: every shard that holds one gets a replacement without it, in all commits and tags at once.

Replacements and the redaction are stored first, then one log entry makes them count: a kill at any instant leaves the
old view or the new one. The old bytes go with the next sweep; `proof` shows whether they are gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pyfactory.core.digest import Digest, digest_of
from pyfactory.core.progress import Progress, no_progress
from pyfactory.errors import ConflictError, InvalidInputError
from pyfactory.repo.forgotten import missing_record
from pyfactory.repo.format import check_writable, read_format, require_feature
from pyfactory.repo.home import Home
from pyfactory.repo.leases import writing
from pyfactory.repo.names import check_text
from pyfactory.repo.operation import Change, View, utc_now
from pyfactory.repo.records import keys_of
from pyfactory.repo.redaction import LAST, REDACTION, Redaction
from pyfactory.repo.refusal import refuse
from pyfactory.repo.replacing import Found, Place, find_everywhere, refuse_others, replacements
from pyfactory.repo.rules import KEYS, trusted_keys
from pyfactory.repo.signatures import change_statement, sign
from pyfactory.repo.swept import check_not_swept, sweep_guards
from pyfactory.repo.transaction import publish
from pyfactory.shard.blank import is_forgotten

if TYPE_CHECKING:
    from pyfactory.repo.signing import Signer

__all__ = ["Forgotten", "Place", "forget"]

_TRIES = 8
_LONGEST_WHY = 200


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What `forget` did, or would do.

    Attributes:
        redactions: The redactions made; none in a dry run.
        places: Where the records stood.
        shards: Content shards that were replaced.
        sides: Side shards that were replaced.
        nbytes: Bytes of both, as they were.
        tokens: Tokens masked.
    """

    redactions: tuple[Digest, ...]
    places: tuple[Place, ...]
    shards: int
    sides: int
    nbytes: int
    tokens: int


@dataclass(frozen=True, slots=True)
class _Step:
    """A redaction that is ready, and what it found; `nbytes` and `tokens` as in `Forgotten`."""

    found: Found
    redaction: Redaction
    nbytes: int
    tokens: int


def forget(
    home: Home,
    record_ids: Sequence[str],
    reason: str,
    *,
    who: str,
    signer: Signer | None = None,
    dry_run: bool = False,
    progress: Progress = no_progress,
) -> Forgotten:
    """Make every commit and tag read as if records had been empty, for ever. O(side shards of the repository).

    Args:
        home: The repository.
        record_ids: The records; one given twice counts once.
        reason: Why; kept for ever and shown to whoever looks for them.
        who: Who decides it.
        signer: Signs it; needed where the repository trusts keys.
        dry_run: Only say what would be done; nothing is written.
        progress: Told of each side shard searched (`search`) and each shard replaced (`replace`).

    Raises:
        NotFoundError: One of the records is nowhere, or was forgotten before. Nothing was written.
        InvalidInputError: The same bytes are also a record that was not named, one is named by what stands in its place
            since it was forgotten, or the repository is of an older format (`pyfactory upgrade`). Nothing was written.
        RefusedError: Keys are trusted here, and none of them signs. Nothing was written but the refusal.
        ConflictError: A sweep deletes what is needed, or others forget records all the time.
    """
    wanted = _checked(record_ids, reason, who)
    if dry_run:
        return _searched(home, wanted, (reason, who), signer, True, progress)
    check_writable(home.url, read_format(home.store))
    require_feature(home, "redactions")
    with writing(home, f"forget by {who}", progress) as telling:
        return _searched(home, wanted, (reason, who), signer, False, telling)


def _searched(
    home: Home, wanted: Sequence[str], told: tuple[str, str], signer: Signer | None, dry_run: bool, progress: Progress
) -> Forgotten:
    """Search and publish until nothing is found any more; `told` is reason and who."""
    done: list[_Step] = []
    for _ in range(_TRIES):
        view = home.view()
        if not dry_run:
            check_writable(home.url, read_format(home.store))
            require_feature(home, "redactions")
            _check_signer(home, view, told[1], signer)
        found = find_everywhere(home, view, wanted, progress)
        _check_found(home, wanted if not done else [], found)
        if not found.sides:
            return _report(done, made=True)
        step = _prepared(home, found, told, store=not dry_run, progress=progress)
        if dry_run:
            return _report([step], made=False)
        newer = _published(home, view, step.redaction, signer)
        if newer is not None:
            done.append(step)
            # Who committed while we searched may have brought one of the records back: then once more.
            if newer.n == view.n + 1:
                return _report(done, made=True)
    raise ConflictError(f"{home.url}: others change it all the time", hint="run it again when it is quiet")


def _checked(record_ids: Sequence[str], reason: str, who: str) -> list[str]:
    wanted = list(dict.fromkeys(record_ids))
    if not wanted:
        raise InvalidInputError("no record is named", hint="pyfactory forget REPO --record ID --reason TEXT")
    check_text(reason, "reason")
    check_text(who, "author")
    if not reason.strip():
        raise InvalidInputError("records are not forgotten without a reason", hint="say why with --reason")
    keys_of(wanted)  # which refuses what is no text
    for record in filter(is_forgotten, wanted):
        # A second redaction would name a key that no record has, and hide from the first who forgot it.
        raise InvalidInputError(f"record {record!r} was forgotten already", hint="pyfactory forget REPO --prove")
    return wanted


def _check_found(home: Home, wanted: Sequence[str], found: Found) -> None:
    """Raise unless every wanted record was found and no other record shares the bytes that are to go."""
    known = {place.id for place in found.places}
    for record in wanted:
        if record not in known:
            raise missing_record(home, record)
    for shard, rows in found.shards.items():
        refuse_others(home, found, shard, rows)


def _prepared(home: Home, found: Found, told: tuple[str, str], *, store: bool, progress: Progress) -> _Step:
    made = replacements(home, found, store=store, progress=progress)
    reason, who = told
    keys = tuple(sorted(key.tobytes().hex() for key in keys_of(found.wanted)))
    previous = found.view.refs.get(LAST)
    redaction = Redaction(previous, reason, who, utc_now(), keys, made.content, made.shards, made.sides)
    tokens = sum(stop - start for new in made.shards.values() for start, stop in new.masked)
    return _Step(found, redaction, made.nbytes, tokens)


def _published(home: Home, view: View, redaction: Redaction, signer: Signer | None) -> View | None:
    """Store a redaction and let it count; None if another redaction came first, so that it must be made anew."""
    digest = home.objects.put(redaction.to_bytes())
    shards = (new.shard for new in redaction.shards.values())
    check_not_swept(home, view, [digest, *shards, *redaction.sides.values()])
    changes = [Change(REDACTION + digest[:16], None, digest), Change(LAST, redaction.previous, digest)]
    if signer is not None:
        sign(home, change_statement(home, changes[1]), signer)
    guards = {KEYS: view.refs.get(KEYS), **sweep_guards(view)}
    try:
        newer = publish(home.oplog, view, changes, redaction.who, _why(redaction.reason), guards=guards)
    except ConflictError:
        return None
    home.view()  # from now on this process, too, reads the replacements
    return newer


def _check_signer(home: Home, view: View, who: str, signer: Signer | None) -> None:
    trusted = trusted_keys(home, view)
    if trusted and (signer is None or signer.public not in trusted.values()):
        whose = "none was given" if signer is None else f"{signer.public[:12]}… is not one of them"
        why = f"records are forgotten only when a trusted key signs it, and {whose}"
        raise refuse(home, who, "forget", why, {}, "give a trusted private key with --key")


def _report(steps: Sequence[_Step], *, made: bool) -> Forgotten:
    redactions = tuple(digest_of(step.redaction.to_bytes()) for step in steps) if made else ()
    return Forgotten(
        redactions=redactions,
        places=tuple(place for step in steps for place in step.found.places),
        shards=sum(len(step.redaction.shards) for step in steps),
        sides=sum(len(step.redaction.sides) for step in steps),
        nbytes=sum(step.nbytes for step in steps),
        tokens=sum(step.tokens for step in steps),
    )


def _why(reason: str) -> str:
    return reason.partition("\n")[0][:_LONGEST_WHY]
