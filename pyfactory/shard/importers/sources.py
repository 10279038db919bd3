"""Which raw files an import reads, in which order, and how they are cut into tasks.

Order and cut depend on names and sizes alone, never on the number of workers.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pyfactory.core.digest import Digest
from pyfactory.core.durable import translate_os_error
from pyfactory.errors import InvalidInputError, NotFoundError

__all__ = ["Compression", "Format", "SourceFile", "Task", "expand", "group"]

_BLOCK_BYTES = 4096
_UNREADABLE = {".7z", ".br", ".bz2", ".gz", ".lz4", ".rar", ".tar", ".tgz", ".xz", ".zip", ".zst"}


class Format(StrEnum):
    """What a file holds, told by its name."""

    JSONL = "jsonl"
    PARQUET = "parquet"
    TEXT = "text"


class Compression(StrEnum):
    """How a file is compressed, told by its name."""

    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"


_COMPRESSED = {".gz": Compression.GZIP, ".zst": Compression.ZSTD}
_LINES = {".jsonl", ".ndjson", ".json"}


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One raw file.

    Attributes:
        path: Where it is, as the caller named it or its folder.
        name: What is recorded: the file's name, or the folder's name and the path below it. No machine shows in it.
        member: Path below the folder given, or the file's name; the virtual field `path` of a text document.
        format: How to read it.
        compression: How to unpack it.
        size: Bytes when the import began.
        mtime_ns: Its time of change when the import began.
    """

    path: Path
    name: str
    member: str
    format: Format
    compression: Compression
    size: int
    mtime_ns: int

    def listed(self, digest: Digest, records: int, skipped: int) -> dict[str, Any]:
        """Return what an import that read the file says of it."""
        return {"name": self.name, "digest": digest, "bytes": self.size, "records": records, "skipped": skipped}


@dataclass(frozen=True, slots=True)
class Task:
    """Consecutive files that one worker reads.

    Attributes:
        number: Its place among the tasks.
        first: Number of its first file among all files of the import.
        files: At least one.
    """

    number: int
    first: int
    files: tuple[SourceFile, ...]


def expand(sources: Sequence[Path], glob: str = "*") -> list[SourceFile]:
    """Return the files that files and folders stand for, in import order.

    A folder stands for the regular files below it whose name matches `glob`, sorted by their path; names that start
    with a dot are left out. A file stands for itself, whatever its name.

    Raises:
        NotFoundError: A source does not exist, or a link in a folder leads nowhere.
        InvalidInputError: There is nothing to read, a file is empty, special or packed in an unknown way, or a folder
            is a repository, holds one or lies in one.
    """
    if not sources:
        raise InvalidInputError("there is nothing to import", hint="name at least one file or folder")
    files: list[SourceFile] = []
    for source in sources:
        with translate_os_error(source):
            mode = source.stat().st_mode
            if stat.S_ISDIR(mode):
                for place in source.resolve().parents:
                    _refuse_repository(place, source)
                files += _members(source, glob)
            elif stat.S_ISREG(mode):
                files.append(_source_file(source, source.name, source.name))
            else:
                raise InvalidInputError(
                    f"{source} is neither a regular file nor a folder", hint="save it as a file first"
                )
    return files


def group(files: Sequence[SourceFile], target_bytes: int) -> list[Task]:
    """Cut files into tasks: neighbours share one until it would exceed `target_bytes` on disk; a larger file is alone.

    A file counts in whole blocks of 4 KiB, so that a million tiny files are many tasks.
    """
    tasks: list[Task] = []
    start, held = 0, 0
    for number, file in enumerate(files):
        cost = -(-file.size // _BLOCK_BYTES) * _BLOCK_BYTES
        if number > start and held + cost > target_bytes:
            tasks.append(Task(len(tasks), start, tuple(files[start:number])))
            start, held = number, 0
        held += cost
    if start < len(files):
        tasks.append(Task(len(tasks), start, tuple(files[start:])))
    return tasks


def _members(folder: Path, glob: str) -> list[SourceFile]:
    title = folder.name if folder.name not in ("", "..") else folder.resolve().name
    prefix = f"{title}/" if title else ""
    found = sorted((path.relative_to(folder).as_posix(), path) for path in _walk(folder, glob))
    if not found:
        hint = "names that start with a dot are left out; choose another --glob"
        raise InvalidInputError(f"no files match {glob!r} in {folder}", hint=hint)
    return [_source_file(path, prefix + member, member) for member, path in found]


def _walk(folder: Path, glob: str) -> Iterator[Path]:
    pending = [folder]
    while pending:
        place = pending.pop()
        _refuse_repository(place, folder)
        with translate_os_error(place), os.scandir(place) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                path = Path(entry.path)
                if entry.is_dir(follow_symlinks=False):
                    pending.append(path)
                elif fnmatchcase(entry.name, glob) and _is_wanted(entry):
                    yield path


def _refuse_repository(place: Path, source: Path) -> None:
    """Refuse a source that is a repository, holds one or lies in one: its objects would be read as documents."""
    try:
        if not ((place / "format.json").is_file() and (place / "log").is_dir()):
            return
    except OSError:  # what cannot be looked into is told when it is to be read
        return
    message = f"{source} holds files of the pyfactory repository {place}, which are no documents"
    raise InvalidInputError(message, hint="name files, or folders that neither hold a repository nor lie in one")


def _is_wanted(entry: os.DirEntry[str]) -> bool:
    # Links to folders are not followed: they may lead back up. A link to nothing is rather told than passed over.
    if entry.is_symlink() and not Path(entry.path).exists():
        hint = "remove it or choose another --glob"
        raise NotFoundError(f"{entry.path} is a link to a file that does not exist", hint=hint)
    return entry.is_file()


def _source_file(path: Path, name: str, member: str) -> SourceFile:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        message = f"the name of {os.fsencode(path)!r} is not valid UTF-8"
        raise InvalidInputError(message, hint="rename the file") from error
    format_, compression = _kind(path)
    with translate_os_error(path):
        status = path.stat()
    if not status.st_size and format_ is not Format.TEXT:
        hint = "it may be left over from a copy that failed; remove or restore it"
        raise InvalidInputError(f"{path} is empty", hint=hint)
    return SourceFile(path, name, member, format_, compression, status.st_size, status.st_mtime_ns)


def _kind(path: Path) -> tuple[Format, Compression]:
    suffix = path.suffix.lower()
    if suffix in _LINES:
        return Format.JSONL, Compression.NONE
    if suffix == ".parquet":
        return Format.PARQUET, Compression.NONE
    inner = Path(path.stem).suffix.lower()
    if suffix in _COMPRESSED and inner in _LINES:
        return Format.JSONL, _COMPRESSED[suffix]
    if suffix in _UNREADABLE:
        raise InvalidInputError(
            f"{path} is packed in a way that is not read here",
            hint="JSON lines may end in .gz or .zst; unpack anything else, or leave it out with --glob",
        )
    return Format.TEXT, Compression.NONE
