"""The streams that runs consumed, opened again from what the ledger says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from pyfactory.core.canonical import encode
from pyfactory.core.digest import Digest, parse_digest
from pyfactory.errors import CorruptError, PyfactoryError
from pyfactory.repo.repository import Repository
from pyfactory.repo.version import Version
from pyfactory.stream.replayed import open_identity
from pyfactory.stream.stream import Stream

__all__ = ["NamedVersion", "Replays", "versions_of_run"]

_Found = TypeVar("_Found", Repository, Version, Stream)


@dataclass(frozen=True, slots=True)
class NamedVersion:
    """A version as a run names it.

    Attributes:
        version: Its digest.
        table: The table.
        commit: The commit it was opened at.
        asked: The name it was opened by.
        repository: URL of the repository that it is in, "" for the one that holds the ledger.
    """

    version: str
    table: str
    commit: Digest
    asked: str
    repository: str = ""


def versions_of_run(start: Mapping[str, Any]) -> list[NamedVersion]:
    """Return the versions that the first entry of a run names; call it within `sound`."""
    listed = start.get("versions")
    if listed is None:
        listed = [{**start["version"], "version": start["identity"]["sources"][0]["version"], "repository": ""}]
    return [
        NamedVersion(
            str(named["version"]),
            str(named["table"]),
            parse_digest(named["commit"]),
            str(named["asked"]),
            str(named["repository"]),
        )
        for named in listed
    ]


class Replays:
    """The streams of the runs of a ledger; each repository, version and stream is opened once.

    Args:
        repo: The repository that holds the ledger.
    """

    def __init__(self, repo: Repository) -> None:
        self._repo = repo
        self._repositories: dict[str, Repository | PyfactoryError] = {"": repo}
        self._versions: dict[NamedVersion, Version | PyfactoryError] = {}
        self._streams: dict[bytes, Stream | PyfactoryError] = {}

    def repository(self, url: str) -> Repository:
        """Return a repository that runs name, "" being the one of the ledger.

        Raises:
            PyfactoryError: It cannot be opened.
        """
        url = "" if url == self._repo.url else url
        if url not in self._repositories:
            try:
                self._repositories[url] = Repository.open(url)
            except PyfactoryError as error:
                self._repositories[url] = error
        return _or_raise(self._repositories[url])

    def url_of(self, named: NamedVersion) -> str:
        """Return the URL of the repository that a version is in."""
        return named.repository or self._repo.url

    def version(self, named: NamedVersion) -> Version:
        """Return a version that a run names.

        Raises:
            PyfactoryError: It cannot be opened.
            CorruptError: The table is another one there.
        """
        if named not in self._versions:
            try:
                self._versions[named] = self._opened(named)
            except PyfactoryError as error:
                self._versions[named] = error
        return _or_raise(self._versions[named])

    def stream(self, start: Mapping[str, Any]) -> Stream:
        """Return the stream of a run, given its first entry; call it within `sound`.

        Raises:
            PyfactoryError: A version of it cannot be opened.
            CorruptError: It is no stream of these versions.
        """
        named = versions_of_run(start)
        key = encode([start["identity"], [[each.version, each.commit, each.repository] for each in named]])
        if key not in self._streams:
            try:
                versions: dict[str, Version] = {}
                for each in named:
                    if each.version not in versions:  # what has the same digest holds the same
                        versions[each.version] = self.version(each)
                self._streams[key] = open_identity(start["identity"], versions)
            except PyfactoryError as error:
                self._streams[key] = error
        return _or_raise(self._streams[key])

    def _opened(self, named: NamedVersion) -> Version:
        version = self.repository(named.repository).version(named.table, named.commit)
        if version.digest != named.version:
            raise CorruptError(
                f"{version.repository.url}: table {named.table!r} of commit {named.commit} is not version "
                f"{named.version}, which a run in {self._repo.url} says"
            )
        return version


def _or_raise(found: _Found | PyfactoryError) -> _Found:
    if isinstance(found, PyfactoryError):
        raise found
    return found
