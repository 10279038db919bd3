"""Where tables came from: jobs and imports, back to raw files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pyfactory.core import canonical
from pyfactory.core.digest import Digest, parse_digest
from pyfactory.repo.objects import Commit
from pyfactory.repo.repository import Repository

__all__ = ["Job", "Origin", "RawFile"]


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
        commit: The commit that recorded it.
        digest: Digest of its canonical spec.
        spec: The spec.
        code: Versions of what took part.
    """

    output: str
    commit: str
    digest: str
    spec: dict[str, Any]
    code: dict[str, str]


class Origin:
    """Where tables of one repository came from, followed back through jobs and imports to raw files.

    Attributes:
        jobs: What was found: the jobs.
        raw_files: The raw files.
        unknown: What nobody wrote down, one sentence each.
    """

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
            self.jobs.append(Job(table, digest, made_by["job"], spec, made_by["code"]))
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
