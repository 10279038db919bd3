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
from pyfactory.repo.fields import sound
from pyfactory.repo.objects import Commit
from pyfactory.repo.repository import Repository

__all__ = ["Consumed", "Job", "RawFile", "Trace", "trace"]


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
class Job:
    """A job on the way from raw files to a table.

    Attributes:
        output: The table it made.
        digest: Digest of its canonical spec.
        spec: The spec.
        code: Versions of what took part.
    """

    output: str
    digest: str
    spec: dict[str, Any]
    code: dict[str, str]


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
        abandoned: What runs handed out behind a checkpoint that others were resumed from: in no model. Where a run did
            not live to say how far it came, at most these positions.
        samples: Samples seen.
        tokens: Input tokens seen.
        jobs: The jobs that the table came through, the last one first.
        raw_files: All raw files that its records came from.
        unknown: What nobody wrote down, one sentence each; empty if all is accounted for.
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
    segments = list(_lineage(repo, record))
    newest, oldest = segments[0].start, segments[-1].start
    seen = [span for segment in reversed(segments) for span in segment.seen]
    samples = sum(span.stop - span.start for span in seen)
    commit, table = parse_digest(newest["version"]["commit"]), newest["version"]["table"]
    origin = _Origin(repo)
    origin.follow(commit, table)
    if oldest["position"]:
        origin.unknown.append(f"the first run began at position {oldest['position']} and names no run before it")
    return Trace(
        repository=repo.url,
        run=record["run"],
        table=table,
        version=newest["identity"]["sources"][0]["version"],
        commit=commit,
        asked=newest["version"]["asked"],
        tags=sorted(name for name, target in repo.tags().items() if target == commit),
        seed=newest["identity"]["seed"],
        recipe=newest["identity"]["recipe"],
        seen=seen,
        abandoned=[span for segment in reversed(segments) for span in segment.abandoned],
        samples=samples,
        tokens=samples * newest["identity"]["recipe"]["sequence_length"],
        jobs=origin.jobs,
        raw_files=origin.raw_files,
        unknown=origin.unknown,
    )


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


class _Origin:
    """Where a table came from, followed back through jobs and imports to raw files."""

    def __init__(self, repo: Repository) -> None:
        self._repo = repo
        self._followed: set[tuple[str, str]] = set()
        self.jobs: list[Job] = []
        self.raw_files: list[RawFile] = []
        self.unknown: list[str] = []

    def follow(self, commit: Digest, table: str) -> None:
        """Add what made a table at a commit, and what made that; of a merge, what made it on either side."""
        waiting = [(commit, table)]
        while waiting:
            at, name = waiting.pop()
            maker, digest = self._maker(at, name)
            if (digest, name) not in self._followed:
                self._followed.add((digest, name))
                waiting += reversed(self._add(maker, digest, name))

    def _add(self, maker: Commit, digest: Digest, table: str) -> list[tuple[Digest, str]]:
        """Take down what a commit says of how it made a table; return what it made it from."""
        made_by: Mapping[str, Any] = maker.made_by or {}
        kind = made_by.get("kind")
        if kind == "job" and made_by["output"] == table:
            spec = canonical.decode(self._repo.objects.get(parse_digest(made_by["job"])), f"job {made_by['job']}")
            self.jobs.append(Job(table, made_by["job"], spec, made_by["code"]))
            return [(parse_digest(used["commit"]), used["table"]) for used in made_by["inputs"]]
        if kind == "import" and made_by["table"] == table:
            self._add_files(made_by)
        elif kind == "commit" and (took := [used for used in made_by["took"] if used["table"] == table]):
            return [(parse_digest(used["commit"]), table) for used in took]
        elif kind == "revert":
            taken = made_by["commit"][:12]
            self.unknown.append(
                f"commit {digest} took back commit {taken} in table {table!r}: its files are listed too"
            )
        elif kind not in ("merge", "pack"):  # packing leaves the rows as they are
            self.unknown.append(f"commit {digest} does not say how it made table {table!r}")
            return []
        return [(parent, table) for parent in maker.parents if table in self._repo.tables(parent)]

    def _maker(self, commit: Digest, table: str) -> tuple[Commit, Digest]:
        """Return the commit that gave a table the state it has at a commit."""
        state = self._repo.tables(commit)[table].digest
        while True:
            found = self._repo.load(commit)
            same = [parent for parent in found.parents if _state(self._repo, parent, table) == state]
            if not same:
                return found, commit
            commit = same[0]

    def _add_files(self, made_by: Mapping[str, Any]) -> None:
        what = f"the list of sources {made_by['sources']}"
        for source in canonical.decode(self._repo.objects.get(parse_digest(made_by["sources"])), what):
            self.raw_files.append(RawFile(source["name"], source["digest"], source["records"]))


def _state(repo: Repository, commit: Digest, table: str) -> Digest | None:
    state = repo.tables(commit).get(table)
    return None if state is None else state.digest
