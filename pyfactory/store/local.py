"""A store in a folder: put-if-absent by hard link, durable on return, maps for readers.

The folder holds
    objects/ab/cdef...   a file per object; a name appears only when the content is on the disk
    tmp/.PID.XXXX.part   what writer PID has not finished
    tmp/PID/             what process PID stages (`staging`)
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pyfactory.core.digest import Buffer
from pyfactory.core.durable import (
    create_exclusive,
    link_exclusive,
    overwrite,
    sync_file,
    sync_folder,
    translate_os_error,
    write_atomic,
)
from pyfactory.errors import InvalidInputError, NotFoundError
from pyfactory.store.base import RESERVED, check_key, check_prefix, check_range, is_key_segment

__all__ = ["LocalStore"]

_WRITER = re.compile(r"\.?(\d+)(\..+)?")
_DAY_SECONDS = 86_400.0
_WEEK_SECONDS = 7 * _DAY_SECONDS
# Another disk; a file of another owner or with too many names already: then the content is copied.
_NOT_LINKABLE = {errno.EXDEV, errno.EPERM, errno.EACCES, errno.EMLINK}


class LocalStore:
    """Bytes by key in a folder, shared by any number of threads and processes.

    Args:
        folder: Where; it must exist unless `create`.
        create: Make the folder and its parents.

    Raises:
        NotFoundError: There is no such folder.
        InvalidInputError: Something else has that name.
        ReadOnlyError: The folder cannot be made here.
    """

    def __init__(self, folder: str | Path, *, create: bool = False) -> None:
        if not str(folder) or "\0" in str(folder):
            raise InvalidInputError(f"{str(folder)!r} is not the path of a folder", hint="name a folder")
        self.root = Path(folder).absolute()
        self.url = self.root.as_uri()
        self._tmp = self.root / RESERVED
        self._settled: set[Path] = set()  # folders whose names are known to be on the disk
        self._swept = False
        if create:
            _make_folder(self.root)
        with translate_os_error(self.root):
            if not self.root.exists():
                raise NotFoundError(f"there is no folder {self.root}")
            if not self.root.is_dir():
                raise InvalidInputError(f"{self.root} is not a folder", hint="name a folder")

    def __reduce__(self) -> tuple[object, ...]:
        """Travel as a path: what is known about this machine's disk stays here."""
        return (LocalStore, (str(self.root),))

    def get(self, key: str) -> bytes:
        """Return the whole object."""
        with self._reading(key) as path:
            return path.read_bytes()

    def get_range(self, key: str, start: int, stop: int) -> bytes:
        """Return bytes start (included) to stop (excluded)."""
        check_range(key, start, stop)
        with self._reading(key) as path, path.open("rb", buffering=0) as file:
            check_range(key, start, stop, os.fstat(file.fileno()).st_size)
            file.seek(start)
            return _read(file.fileno(), stop - start)

    def size(self, key: str) -> int | None:
        """Return the object's size in bytes, or None when there is no such object."""
        try:
            with self._reading(key) as path:
                return path.stat().st_size if path.is_file() else None
        except NotFoundError:
            return None

    def create(self, key: str, content: Buffer) -> bool:
        """Store an object under a key that must be free; durable when it returns, False when the key is taken."""
        path = self._place(key)
        return create_exclusive(path, content, staging=self._tmp)

    def create_from_file(self, key: str, path: Path) -> bool:
        """Do as `create` with a local file, which is linked (copied only from another disk) and gone afterwards."""
        place = self._place(key)
        with translate_os_error(f"{path} into {place}"):
            try:
                # A file from `tempfile` is private to its owner, but an object is as open as the store is.
                path.chmod(self.root.stat().st_mode & 0o666 | 0o600)
                sync_file(path)
                created = link_exclusive(path, place)
            except OSError as error:
                if error.errno not in _NOT_LINKABLE:
                    raise
                created = self._copy(path, place)
            path.unlink()
        return created

    def replace(self, key: str, content: Buffer, *, durable: bool = True) -> None:
        """Store an object whether or not the key is taken; atomically, if it is to be durable."""
        if durable:
            write_atomic(self._place(key), content, staging=self._tmp)
        else:
            overwrite(self.path(key), content)

    def delete(self, key: str) -> None:
        """Remove an object; an absent one is fine. After a power loss it may be back: deleting again is harmless."""
        with suppress(NotFoundError), self._reading(key) as path:
            path.unlink()

    def list(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Yield (key, size in bytes) of all objects below a folder, ascending; holds one folder of names at a time."""
        return self._list(check_prefix(prefix))

    def path(self, key: str) -> Path:
        """Return the file of an object, whether or not it exists."""
        return self.root / check_key(key)

    def staging(self) -> Path:
        """Return this process's folder for temporary files, on the same disk; swept when the process is long gone."""
        folder = self._tmp / str(os.getpid())
        with translate_os_error(folder):
            self._tmp.mkdir(exist_ok=True)
            folder.mkdir(exist_ok=True)
        return folder

    @contextmanager
    def _reading(self, key: str) -> Iterator[Path]:
        path = self.path(key)
        with translate_os_error(path):
            try:
                yield path
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                raise NotFoundError(f"there is no object {key} in {self.root}") from None

    def _place(self, key: str) -> Path:
        path = self.path(key)
        with translate_os_error(path.parent):
            self._tmp.mkdir(exist_ok=True)
            if not self._swept:
                self._swept = True
                _sweep(self._tmp, time.time())
            self._settle(path.parent)
        return path

    def _settle(self, folder: Path) -> None:
        # Also when another process made the folder: it may not have come to syncing it yet.
        if folder in self._settled or folder == self.root:
            return
        self._settle(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)
        self._settled.add(folder)

    def _copy(self, source: Path, place: Path) -> bool:
        aside = self.staging() / place.name
        try:
            shutil.copyfile(source, aside)
            sync_file(aside)
            return link_exclusive(aside, place)
        finally:
            aside.unlink(missing_ok=True)

    def _list(self, prefix: str) -> Iterator[tuple[str, int]]:
        with translate_os_error(self.root / prefix):
            yield from _walk(self.root / prefix, f"{prefix}/" if prefix else "")


def _make_folder(folder: Path) -> None:
    with translate_os_error(folder):
        if folder.exists() and not folder.is_dir():
            raise InvalidInputError(f"{folder} is not a folder", hint="name a new folder")
        missing = [place for place in (folder, *folder.parents) if not place.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        for made in missing:
            sync_folder(made.parent)


def _read(descriptor: int, count: int) -> bytes:
    content = os.read(descriptor, count)
    while len(content) < count:  # one read returns 2 GiB at most
        piece = os.read(descriptor, count - len(content))
        if not piece:
            raise OSError(errno.EIO, "the file became shorter while it was read")
        content += piece
    return content


def _walk(folder: Path, prefix: str) -> Iterator[tuple[str, int]]:
    try:
        with os.scandir(folder) as entries:
            # A folder sorts as its keys do: `a-b` stands before `a/c`, though `a` stands before `a-b`.
            found = sorted(
                (f"{entry.name}/" if entry.is_dir() else entry.name, entry.path)
                for entry in entries
                if entry.is_dir() or entry.is_file()
            )
    except (FileNotFoundError, NotADirectoryError):
        return
    for name, path in found:
        segment = name.removesuffix("/")
        if not is_key_segment(segment) or (not prefix and segment == RESERVED):
            continue
        if name != segment:
            yield from _walk(Path(path), prefix + name)
        else:
            with suppress(FileNotFoundError):  # deleted meanwhile
                yield prefix + name, Path(path).stat().st_size


def _sweep(tmp: Path, now: float) -> None:
    # Best effort: another process may sweep too, and what cannot be removed harms nobody.
    with suppress(OSError), os.scandir(tmp) as entries:
        for entry in entries:
            with suppress(OSError):
                age = now - _last_touched(Path(entry.path))
                # Beyond a week the pid says nothing: it may be another's by now, or of another machine.
                if age > _WEEK_SECONDS or (age > _DAY_SECONDS and not _is_alive(entry.name)):
                    _remove(Path(entry.path))


def _last_touched(path: Path) -> float:
    inside = [*path.iterdir()] if path.is_dir() else []
    return max(place.stat().st_mtime for place in (path, *inside))


def _is_alive(name: str) -> bool:
    writer = _WRITER.fullmatch(name)
    if writer is None:
        return True
    try:
        os.kill(int(writer[1]), 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
