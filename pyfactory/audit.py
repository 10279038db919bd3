"""Questions about the past, answered from the repository alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pyfactory.core import canonical
from pyfactory.core.digest import Digest, parse_digest
from pyfactory.errors import CorruptError
from pyfactory.ledger import read_checkpoint, read_run
from pyfactory.repo.repository import Repository

__all__ = ["Consumed", "RawFile", "Trace", "trace"]


@dataclass(frozen=True, slots=True)
class Consumed:
    """A span of positions, and the run that received it.

    Attributes:
        run: Run id.
        start: First position.
        stop: One past the last.
        world_size: Ranks that shared it; 0 where the run did not live to say.
    """

    run: str
    start: int
    stop: int
    world_size: int


@dataclass(frozen=True, slots=True)
class RawFile:
    """A raw file that records came from."""

    name: str
    digest: str
    records: int


@dataclass(frozen=True, slots=True)
class Trace:
    """Which data trained a checkpoint.

    Attributes:
        repository: URL.
        run: The run that made the checkpoint.
        table: Table of the stream.
        version: Its version digest.
        commit: The commit it was opened at.
        asked: The name it was opened by.
        tags: Tags of that commit.
        seed: Seed of the stream.
        recipe: How samples are ordered.
        seen: What the model saw, oldest first: the spans of this run and of those it was resumed from.
        abandoned: What runs handed out after the checkpoint they were resumed from: in no model. At most these
        positions. samples: Samples seen.
        tokens: Input tokens seen.
        job: The canonical spec of the job that built the table, or None.
        job_digest: Its digest.
        code: Versions recorded by that job.
        raw_files: All raw files of the inputs.
    """

    repository: str
    run: str
    table: str
    version: str
    commit: str
    asked: str
    tags: list[str]
    seed: int
    recipe: dict[str, Any]
    seen: list[Consumed]
    abandoned: list[Consumed]
    samples: int
    tokens: int
    job: dict[str, Any] | None = None
    job_digest: str | None = None
    code: dict[str, str] = field(default_factory=dict)
    raw_files: list[RawFile] = field(default_factory=list)

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
    segments = list(_lineage(repo, record))
    start = segments[0].start
    seen = [segment.seen for segment in reversed(segments) if segment.seen.stop > segment.seen.start]
    samples = sum(span.stop - span.start for span in seen)
    commit, table = parse_digest(start["version"]["commit"]), start["version"]["table"]
    return Trace(
        repository=repo.url,
        run=record["run"],
        table=table,
        version=start["identity"]["sources"][0]["version"],
        commit=commit,
        asked=start["version"]["asked"],
        tags=sorted(name for name, target in repo.tags().items() if target == commit),
        seed=start["identity"]["seed"],
        recipe=start["identity"]["recipe"],
        seen=seen,
        abandoned=[segment.abandoned for segment in reversed(segments) if segment.abandoned],
        samples=samples,
        tokens=samples * start["identity"]["recipe"]["sequence_length"],
        **_origin(repo, commit, table),
    )


@dataclass(frozen=True, slots=True)
class _Segment:
    """What one run adds to the history of a checkpoint."""

    start: dict[str, Any]
    seen: Consumed
    abandoned: Consumed | None


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
        lost = parent and parent["abandoned"]
        yield _Segment(
            start,
            Consumed(run, checkpoint["span"][0], checkpoint["span"][1], checkpoint["world_size"]),
            Consumed(parent["run"], lost["span"][0], lost["span"][1], 0) if lost else None,
        )
        pointer, position = parent, start["position"]


def _origin(repo: Repository, commit: Digest, table: str) -> dict[str, Any]:
    """Return the job that built a table, its code, and the raw files of its inputs."""
    made_by = _maker(repo, commit, table)
    if made_by is None:
        return {}
    if made_by["kind"] == "import":
        return {"raw_files": list(_raw_files(repo, commit, table)), "code": made_by["code"]}
    job = canonical.decode(repo.objects.get(parse_digest(made_by["job"])), f"job {made_by['job']}")
    files = [
        file for name in made_by["inputs"] for file in _raw_files(repo, parse_digest(name["commit"]), name["table"])
    ]
    return {"job": job, "job_digest": made_by["job"], "code": made_by["code"], "raw_files": files}


def _maker(repo: Repository, commit: Digest, table: str) -> dict[str, Any] | None:
    """Return what made the newest state of a table at a commit."""
    return next((dict(made) for made in _makers(repo, commit) if _output(made) == table), None)


def _makers(repo: Repository, commit: Digest) -> Iterator[Mapping[str, Any]]:
    return (entry.made_by for entry in repo.log(commit) if entry.made_by is not None)


def _output(made_by: Mapping[str, Any]) -> str:
    return str(made_by.get("output" if made_by["kind"] == "job" else "table"))


def _raw_files(repo: Repository, commit: Digest, table: str) -> Iterator[RawFile]:
    """Yield the files of every import into a table up to a commit, the latest import first."""
    for made_by in _makers(repo, commit):
        if made_by["kind"] == "import" and made_by["table"] == table:
            what = f"the list of sources {made_by['sources']}"
            for source in canonical.decode(repo.objects.get(parse_digest(made_by["sources"])), what):
                yield RawFile(source["name"], source["digest"], source["records"])
