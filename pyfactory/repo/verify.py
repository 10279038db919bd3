"""Verification: reads everything that the log leads to, each object once, and compares it with its digest.

    log -> commits -> trees -> tables -> manifest nodes -> shards and their sides
        |             `-> what made them (sources, job)    `-> artifacts
        `-> rules, keys, redactions, refusals, lists of sweeps; evaluation sets that the rules in force need
    runs -> their entries, and the commits that they consumed        completion marks

It goes on after a problem. Objects that tables share are read for the first; if one is damaged, a second look over the
manifests finds the other tables that need it. After a sweep, what no ref leads to may be missing; where it is there, it
must be right.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from pyfactory.core.digest import Digest, digest_of
from pyfactory.core.durable import translate_os_error
from pyfactory.core.progress import Progress, no_progress
from pyfactory.errors import InvalidInputError
from pyfactory.repo.findings import Findings, Problem, VerifyReport
from pyfactory.repo.format import FORMAT_KEY
from pyfactory.repo.home import Home
from pyfactory.repo.names import BRANCH, TAG
from pyfactory.repo.oplog import log_key
from pyfactory.repo.reachable import GC, REDACTION
from pyfactory.repo.scrub import Sample, Scrub, Tally, Verified
from pyfactory.repo.verify_history import Counting, History
from pyfactory.repo.verify_log import LogCheck
from pyfactory.repo.verify_rest import check_documents, check_marks, check_rules, check_runs
from pyfactory.repo.verify_tables import Tables, named_by
from pyfactory.store.content import Objects

__all__ = ["Check", "Problem", "Sample", "VerifyReport", "verify"]

Check = Callable[[Home, Findings], object]
"""A further check, such as that of signatures: it notes what it finds."""


def verify(
    home: Home,
    progress: Progress = no_progress,
    *,
    workers: int | None = None,
    sample: Sample | None = None,
    resume: Path | None = None,
    checks: Sequence[Check] = (),
) -> VerifyReport:
    """Verify a repository.

    The log, commits, trees, manifests, rules, runs and marks are always read in full.

    Args:
        home: The repository.
        progress: Told of each object read, as stage `verify`; nobody knows how many there will be.
        workers: Shards read at a time; by default as many as there are CPUs. The report does not depend on it.
        sample: Reads only a part of the shards and sides.
        resume: A file that keeps what was verified: cut off and run again, it goes on there. Removed at the end.
        checks: Further checks, done at the end.

    Returns:
        What was read, and every problem found. Memory grows with the number of shards, about 250 bytes each.

    Raises:
        InvalidInputError: `resume` is another file or inside the repository, or `workers` no number of threads.
        NotFoundError: The first entry of the log is missing, and `resume` is asked for.
    """
    _check_options(home, workers, resume)
    findings, advice, tally = Findings(), Findings(), Tally(progress)
    chain = LogCheck(home.store, findings)
    chain.run()
    objects = Counting(home.store, tally)
    entries, consumed = check_runs(home.store, findings)
    history = History(objects, findings)
    history.run(*_commits(chain, consumed))
    threads = workers or os.cpu_count() or 1
    with _verified(home, resume) as verified, Scrub(findings, tally, threads, sample, verified) as scrub:
        tables = Tables(objects, findings, scrub, _redirect(home, chain, findings))
        for use in history.uses.values():
            tables.check(use)
        scrub.drain()
    _check_named(home, chain, objects, findings)
    check_marks(home.store, advice)
    _attribute(home, history, findings)
    for check in checks:
        check(home, findings)
    return VerifyReport(
        operations=chain.operations,
        commits=history.commits,
        objects=tally.objects,
        nbytes=tally.nbytes,
        problems=findings.all(),
        runs=entries,
        resumed=tally.resumed,
        skipped=tally.skipped,
        redacted=tally.redacted,
        advice=advice.all(),
    )


def _check_options(home: Home, workers: int | None, resume: Path | None) -> None:
    if workers is not None and workers < 1:
        raise InvalidInputError(f"{workers} workers cannot verify anything", hint="give at least 1")
    if resume is not None:
        _check_outside(home, resume)


def _check_outside(home: Home, file: Path) -> None:
    """Refuse a file of ours in the folder of a repository, where it could replace what is to be verified."""
    mark = home.store.path(FORMAT_KEY)
    if mark is None:
        return
    with translate_os_error(file):
        inside = file.resolve().is_relative_to(mark.parent.resolve())
    if inside:
        raise InvalidInputError(f"{file} is inside the repository {home.url}", hint="name a file outside of it")


@contextmanager
def _verified(home: Home, path: Path | None) -> Iterator[Verified | None]:
    """Keep in a file what is verified, if there is to be one, and remove it when the block has read everything."""
    if path is None:
        yield None
        return
    with closing(Verified(path, digest_of(home.store.get(log_key(0))))) as verified:
        yield verified
        verified.finish()


def _check_named(home: Home, chain: LogCheck, objects: Counting, findings: Findings) -> None:
    """Check what the log names besides commits: rules, keys, redactions, lists of sweeps."""
    refs = chain.refs()
    listed = {digest: ref for ref, digest in refs.items() if ref.startswith(GC)}
    check_documents(home, objects, findings, chain.documents | listed)
    check_rules(home, objects, findings, refs)


def _commits(chain: LogCheck, consumed: Mapping[Digest, str]) -> tuple[dict[Digest, str], dict[Digest, str]]:
    """Return the commits that must be there, and those that may be gone, with what names them."""
    if not chain.swept:
        return chain.commits, {**consumed}
    now = {digest: ref for ref, digest in chain.refs().items() if ref.startswith((BRANCH, TAG))}
    named = {digest: ref for digest, ref in chain.commits.items() if digest in now}
    return named, {**chain.commits, **consumed}


def _redirect(home: Home, chain: LogCheck, findings: Findings) -> Mapping[Digest, Digest]:
    """Return what redactions replace by what; a redaction that cannot be read excuses nothing."""
    if not any(ref.startswith(REDACTION) for ref in chain.refs()):
        return {}
    from pyfactory.repo.redaction import LAST, overlay_of

    with findings.noting(chain.refs().get(LAST, "redaction")):
        return overlay_of(home, chain.view()).redirect
    return {}


def _attribute(home: Home, history: History, findings: Findings) -> None:
    damaged = findings.names()
    for use in history.uses.values() if damaged else ():
        for name in named_by(Objects(home.store), use.state.manifest, damaged):
            findings.attribute(name, use.tables)
