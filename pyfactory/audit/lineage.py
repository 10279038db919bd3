"""Questions about the past, answered from the repository alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pyfactory.audit.origin import Job, Origin, RawFile
from pyfactory.audit.replays import Replays
from pyfactory.audit.sources import Consumed, TracedSource, traced_sources
from pyfactory.core.digest import parse_digest
from pyfactory.errors import CorruptError, PyfactoryError
from pyfactory.ledger import read_checkpoint, read_run
from pyfactory.repo.fields import sound
from pyfactory.repo.repository import Repository

__all__ = ["Trace", "trace"]


@dataclass(frozen=True, slots=True)
class Trace:
    """Which data trained a checkpoint.

    Attributes:
        repository: URL of the one that holds the ledger.
        run: The run that made the checkpoint.
        sources: The versions of the stream, in the order in which its phases name them.
        seed: Seed of the stream.
        recipe: How samples are cut and ordered in the first phase.
        phases: The further phases that were asked for, as the replay identity names them: `at`, `recipe`, `sources`.
        seen: What the model saw, oldest first: the spans of this run and of those it was resumed from.
        abandoned: What runs handed out behind a checkpoint that others were resumed from: in no model. Where a run did
            not live to say how far it came, at most these positions.
        samples: Samples seen.
        tokens: Input tokens seen, without padding; None if a table that was seen cannot be opened.
        jobs: The jobs that the tables came through, of each table the last one first.
        raw_files: All raw files that their records came from.
        unknown: What nobody wrote down or nobody can read, one sentence each; empty if all is accounted for.
    """

    repository: str
    run: str
    sources: list[TracedSource]
    seed: int
    recipe: dict[str, Any]
    phases: list[dict[str, Any]]
    seen: list[Consumed]
    abandoned: list[Consumed]
    samples: int
    tokens: int | None
    jobs: list[Job] = field(default_factory=list)
    raw_files: list[RawFile] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    def to_value(self) -> dict[str, Any]:
        """Return plain dicts and lists."""
        return asdict(self)


def trace(path: str | Path, *, repository: Repository | None = None) -> Trace:
    """Return which data trained a checkpoint, from its `pyfactory.json` and the repository.

    Args:
        path: The checkpoint, or its `pyfactory.json`.
        repository: Where to look, if the repository has moved since.

    Raises:
        NotFoundError: Nothing is recorded for this checkpoint, or its repository is gone.
        CorruptError: The ledger or the repository does not say what the checkpoint says.
    """
    record = read_checkpoint(path)
    repo = repository or Repository.open(record["repository"])
    with sound(f"what {repo.url} tells of the past of {path}"):
        return _traced(repo, record)


def _traced(repo: Repository, record: dict[str, Any]) -> Trace:
    segments = [*reversed([*_lineage(repo, record)])]  # oldest first
    seen = [span for segment in segments for span in segment.seen]
    replays, unknown = Replays(repo), list[str]()
    sources = traced_sources(replays, [(each.start, each.seen) for each in segments], unknown)
    jobs, raw_files = _origins(replays, sources, repo.url, unknown)
    if began := segments[0].start["position"]:
        unknown.append(f"the first run began at position {began} and names no run before it")
    identity = segments[-1].start["identity"]
    return Trace(
        repository=repo.url,
        run=record["run"],
        sources=sources,
        seed=identity["seed"],
        recipe=identity["recipe"],
        phases=identity.get("then", []),
        seen=seen,
        abandoned=[span for segment in segments for span in segment.abandoned],
        samples=sum(span.stop - span.start for span in seen),
        tokens=None if any(each.tokens is None for each in sources) else sum(each.tokens or 0 for each in sources),
        jobs=jobs,
        raw_files=raw_files,
        unknown=unknown,
    )


def _origins(
    replays: Replays, sources: Sequence[TracedSource], here: str, unknown: list[str]
) -> tuple[list[Job], list[RawFile]]:
    """Follow what the model saw, or may have seen, back to raw files."""
    origins: dict[str, Origin] = {}
    for source in sources:
        if source.samples == 0:
            continue
        try:
            repo = replays.repository(source.repository)
            origins.setdefault(repo.url, Origin(repo)).follow(parse_digest(source.commit), source.table)
        except PyfactoryError as error:
            if source.repository == here:
                raise
            unknown.append(f"source {source.name!r} came from {source.repository}: {error.message}")
    found = origins.values()
    unknown += [gap for origin in found for gap in origin.unknown]
    return [job for origin in found for job in origin.jobs], [file for origin in found for file in origin.raw_files]


@dataclass(frozen=True, slots=True)
class _Segment:
    """What one run adds to the history of a checkpoint."""

    start: dict[str, Any]
    seen: list[Consumed]
    abandoned: list[Consumed]


def _lineage(repo: Repository, record: dict[str, Any]) -> Iterator[_Segment]:
    """Yield the run that made a checkpoint, the run that it was resumed from, and so on back."""
    position: int = record["position"]
    pointer: dict[str, Any] | None = record
    while pointer is not None:
        run, number = pointer["run"], pointer["entry"]
        entries = read_run(repo.store, run)
        if number >= len(entries) or entries[number]["digest"] != pointer["digest"]:
            raise CorruptError(
                f"run {run} in {repo.url} does not hold the checkpoint that is recorded as its entry {number}"
            )
        start, checkpoint = entries[0], entries[number]
        if checkpoint["kind"] != "checkpoint" or checkpoint["position"] != position:
            raise CorruptError(f"entry {number} of run {run} in {repo.url} is no checkpoint at position {position}")
        parent = start["parent"]
        abandoned = parent["abandoned"] if parent else []
        yield _Segment(
            start,
            [Consumed(run, first, stop, checkpoint["world_size"]) for first, stop in checkpoint["spans"]],
            [Consumed(lost["run"], lost["span"][0], lost["span"][1], 0) for lost in abandoned],
        )
        pointer, position = parent, start["position"]
