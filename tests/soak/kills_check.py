"""What must hold after a kill, looked at by a process that has seen nothing of it."""

from __future__ import annotations

import traceback
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from pyfactory.repo.operation import Operation
from pyfactory.repo.proof import prove
from pyfactory.repo.redaction import overlay_of
from pyfactory.repo.repository import Repository
from pyfactory.repo.signing import Signer
from pyfactory.repo.sweep import SWEEP, gc
from pyfactory.repo.verify import verify
from pyfactory.repo.verify_signatures import check_signatures
from pyfactory.shard.layout import key_of_id
from pyfactory.shard.reader import open_shard, open_side
from tests.soak.kills_worker import Told, grown, text_of, tokens_of

__all__ = ["Act", "Facts", "check"]


@dataclass
class Act:
    """One act of a child: what it tried, and how it ended as far as it could say."""

    who: str
    verb: str
    told: Told | None = None
    forgets: list[str] = field(default_factory=list)


@dataclass
class Facts:
    """What a check found.

    Attributes:
        problems: What must not be.
        landed: Acts that were not acknowledged and are in the log.
        leftovers: What lies about, by kind: unfinished files, leases, sweeps begun.
        entries: Length of the log.
    """

    problems: list[str] = field(default_factory=list)
    landed: int = 0
    leftovers: dict[str, int] = field(default_factory=dict)
    entries: int = 0


def check(place: str, key: str, acts: list[Act], probe: str, final: str, pipe: Connection) -> None:
    """Check a repository that nobody writes to, commit to it, and send the facts.

    `acts` are all since it was made; `final`, if given, is the moment of a last sweep, after which what was forgotten
    must be gone.
    """
    facts = Facts()
    try:
        _look(place, acts, facts)
        _commit(Repository.open(place), Signer.load(Path(key)), probe, facts)
        if final:
            _sweep(Repository.open(place), datetime.fromisoformat(final), facts)
    except BaseException:
        facts.problems.append(f"the check ended in {traceback.format_exc()}")
    pipe.send(facts)


def _look(place: str, acts: list[Act], facts: Facts) -> None:
    repo = Repository.open(place)
    view = repo.view()
    facts.entries = view.n + 1
    places = {"files in tmp": "tmp", "leases": "leases"}
    for kind, folder in places.items():
        facts.leftovers[kind] = sum(1 for path in (Path(place) / folder).rglob("*") if path.is_file())
    facts.leftovers["sweeps begun"] = int(SWEEP in view.refs)
    report = verify(repo, checks=[check_signatures])
    facts.problems += [f"verify: {problem.kind} {problem.message}" for problem in report.problems]
    by_who: dict[str, list[Operation]] = defaultdict(list)
    for operation in repo.operations():
        by_who[operation.who].append(operation)
    for act in acts:
        facts.problems += _wrong(act, by_who.get(act.who, []))
    facts.landed = sum(1 for act in acts if act.told is None and by_who.get(act.who))
    known = {"make", "sweep", *(act.who for act in acts)}
    strangers = [who for who in by_who if who not in known and not who.startswith("probe")]
    facts.problems += [f"the log tells of {who}, which nobody tried" for who in strangers]
    forgotten = {name for act in acts for name in _forgot(act, by_who)}
    facts.problems += _still_there(repo, sorted(forgotten))


def _wrong(act: Act, entries: list[Operation]) -> Iterator[str]:
    """Yield what is wrong between what an act was told and what the log says of it."""
    what = f"{act.verb} {act.who}"
    fewest, most = _expected(act, entries)
    if not fewest <= len(entries) <= most:
        end = "not acknowledged" if act.told is None else act.told["end"]
        yield f"{what} ({end}) is in the log {len(entries)} times, not {fewest} to {most}"
    logged = [[change.ref, change.new] for entry in entries for change in entry.changes]
    for move in act.told["moves"] if act.told is not None else ():
        if logged.count(move) != 1:
            yield f"{what}: the move of {move[0]} to {move[1]} is in the log {logged.count(move)} times"
    for problem in act.told.get("problems", ()) if act.told is not None else ():
        yield f"{what}: {problem}"


def _expected(act: Act, entries: list[Operation]) -> tuple[int, int]:
    """Return how many entries an act may have, at least and at most."""
    if act.told is None:  # killed: once, or not at all; a forget may need several, a sweep always does
        return 0, 9 if act.verb in ("forget", "gc") else 1
    if act.told["end"] == "done":
        fewest, most = act.told.get("entries", (1, 1))
        return fewest, most
    # A refusal is written down by whoever was refused; a sweep or forget may stop between two of its entries.
    refused = any(change.ref == "refusal/last" for entry in entries for change in entry.changes)
    if act.told["end"] == "RefusedError":
        return 1, 1 if refused else 0
    return 0, 9 if act.verb in ("forget", "gc") and act.told["end"] != "nothing" else 0


def _forgot(act: Act, by_who: dict[str, list[Operation]]) -> list[str]:
    """Return the records that are forgotten, acknowledged or not: the log has the redaction."""
    if act.verb != "forget":
        return []
    if act.told is not None and act.told["end"] == "done":
        return [*act.told["forgot"]]
    landed = any(change.ref == "redaction/last" for entry in by_who.get(act.who, ()) for change in entry.changes)
    return act.forgets if landed else []


def _still_there(repo: Repository, forgotten: list[str]) -> Iterator[str]:
    """Yield every forgotten record whose id, text or tokens some ref leads to."""
    keys = overlay_of(repo, repo.view()).keys.tobytes()
    for name in forgotten:
        if key_of_id(name) not in keys:
            yield f"{name} was forgotten, and no redaction says so"
    met: set[str] = set()
    read: list[bytes] = []
    for ref in [*repo.branches(), *repo.tags()]:
        for table in repo.tables(ref):
            for part in repo.version(table, ref).parts():
                for digest in {part.shard, part.side} - met:
                    content = repo.objects.map(digest, verify=True)
                    open_shard(content, digest, verify=True)
                    read.append(bytes(content))
                    met.add(digest)
    everything = b"\0".join(read)
    for name in forgotten:
        for kind, needle in (("id", name), ("text", text_of(name)), ("tokens", tokens_of(name))):
            found = needle.encode() if isinstance(needle, str) else needle.tobytes()
            # An id may be the beginning of another one.
            if found in everything and (kind != "id" or _whole_id(repo, name)):
                yield f"{name} was forgotten, and its {kind} can be read"


def _whole_id(repo: Repository, name: str) -> bool:
    sides = {
        part.side
        for ref in [*repo.branches(), *repo.tags()]
        for table in repo.tables(ref)
        for part in repo.version(table, ref).parts()
    }
    return any(open_side(repo.objects.map(side), side).find(name) is not None for side in sides)


def _commit(repo: Repository, signer: Signer, probe: str, facts: Facts) -> None:
    """A new commit must work."""
    state = grown(repo, "raw", None, [[f"{probe}-0", f"{probe}-1"]])
    commit = partial(repo.commit, {"probe": state}, "main", message=probe, author=probe, signer=signer)
    done: Any = commit()
    if not done.created or repo.head("main") != done.digest:
        facts.problems.append(f"{probe} was not made")


def _sweep(repo: Repository, now: datetime, facts: Facts) -> None:
    """A last sweep must work, and prove that what was forgotten is gone."""
    for hours in (0, 2):
        gc(repo, grace=timedelta(0), who="sweep", now=now + timedelta(hours=hours))
    if repo.verify().problems:
        facts.problems.append("after the last sweep something is missing")
    if overlay_of(repo, repo.view()).last is not None:
        facts.problems += [f"proof: {failure.message}" for failure in prove(repo).failures]
