"""Where a record stands in the tables of a commit: shard, row, tokens, and the raw file and line it came from."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from pyfactory.core.canonical import decode
from pyfactory.core.digest import NO_DIGEST, Digest, parse_digest
from pyfactory.core.progress import Progress, no_progress
from pyfactory.repo.fields import sound
from pyfactory.repo.history import ancestors
from pyfactory.repo.home import Home
from pyfactory.repo.record_index import rows_of_record, tokens_of_rows
from pyfactory.repo.version import Version
from pyfactory.shard.reader import open_side

__all__ = ["Standing", "standings"]


@dataclass(frozen=True, slots=True)
class Standing:
    """A row of a table.

    Attributes:
        table: The table.
        shard: Number of the shard in the table.
        digest: The shard.
        row: Row in the shard.
        tokens: Tokens of the row, (first, one past the last) counted in the whole table; None in a raw table.
        file: Name of the raw file it came from, its digest if no import tells the name, "" if no file is known.
        line: Line or row number in that file, from 1; 0 if no file is known.
    """

    table: str
    shard: int
    digest: str
    row: int
    tokens: tuple[int, int] | None
    file: str
    line: int


def standings(versions: Iterable[Version], record_id: str, progress: Progress = no_progress) -> list[Standing]:
    """Return where a record stands in tables, in their order; nothing where it is not.

    Warm two small reads for each table. Names of raw files are those in the imports that led to a table: O(commits).

    Raises:
        CorruptError: A table or a commit is damaged.
    """
    return [standing for version in versions for standing in _in_table(version, record_id, progress)]


def _in_table(version: Version, record_id: str, progress: Progress) -> Iterable[Standing]:
    rows = rows_of_record(version, record_id, progress)
    tokens = tokens_of_rows(version, rows) if rows and "width" in version.attributes else [None] * len(rows)
    files = _Files(version.repository, version.commit)
    for (shard, row), span in zip(rows, tokens, strict=True):
        part = version.manifest.part(shard)
        origin = None
        if part.side != NO_DIGEST:
            what = f"the side {part.side} of table {version.table!r} in {version.repository.url}"
            origin = open_side(version.repository.objects.map(part.side), what).origin(row)
        file, line = ("", 0) if origin is None else (files.named(origin[0]), origin[1])
        yield Standing(version.table, shard, version.repository.objects.current(part.shard), row, span, file, line)


class _Files:
    """The names of raw files, as imports before a commit tell them."""

    def __init__(self, home: Home, commit: Digest) -> None:
        self._home = home
        self._commit = commit

    def named(self, digest: Digest) -> str:
        return self._names.get(digest, digest)

    @cached_property
    def _names(self) -> dict[Digest, str]:
        names: dict[Digest, str] = {}
        for commit in ancestors(self._home.objects, self._commit, self._home.url):
            made_by = commit.made_by or {}
            if made_by.get("kind") == "import":
                what = f"the list of sources {made_by['sources']}"
                with sound(f"{self._home.url}: {what}"):
                    listed = decode(self._home.objects.get(parse_digest(made_by["sources"])), what)
                    for source in listed if isinstance(listed, list) else ():
                        names.setdefault(parse_digest(source["digest"]), str(source["name"]))
        return names
