"""Files that survive a killed process and a lost power supply: written aside, fsynced, then named."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyfactory.core.digest import Buffer
from pyfactory.errors import InvalidInputError, NotFoundError, PyfactoryError, ReadOnlyError, UnavailableError

__all__ = [
    "create_exclusive",
    "is_disk_full",
    "link_exclusive",
    "overwrite",
    "sync_file",
    "sync_folder",
    "translate_os_error",
    "write_atomic",
]

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DENIED = {errno.EACCES, errno.EPERM}
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS}


@contextmanager
def translate_os_error(where: object) -> Iterator[None]:
    """Turn an OSError inside the block into the error that says what a caller can do."""
    try:
        yield
    except PyfactoryError:
        raise
    except OSError as error:
        raise _translated(error, where) from error


def _translated(error: OSError, where: object) -> PyfactoryError:
    if error.errno in _FULL:
        return UnavailableError(f"{where}: no space left on the disk", hint="free space and run the command again")
    if error.errno == errno.EROFS:
        return ReadOnlyError(
            f"{where}: the file system is read-only", hint="mount it for writing, or take another place"
        )
    # Extensions in Rust raise these without a number.
    if error.errno in _DENIED or isinstance(error, PermissionError):
        return ReadOnlyError(f"{where}: no permission", hint="check the owner and mode of the folder")
    if isinstance(error, FileNotFoundError):
        return NotFoundError(f"{where}: no such file or folder", hint="check the path")
    if error.errno in {errno.EEXIST, errno.EISDIR, errno.ENOTDIR, errno.ENAMETOOLONG}:
        return InvalidInputError(f"{where}: {error.strerror}", hint="check the path")
    return UnavailableError(f"{where}: {error.strerror or error}", hint="mend that, then run it again")


def is_disk_full(error: BaseException) -> bool:
    """Tell whether an error, or what it was raised from, says that there is no space left."""
    cause: BaseException | None = error
    while cause is not None and not (isinstance(cause, OSError) and cause.errno in _FULL):
        cause = cause.__cause__
    return cause is not None


def sync_file(path: Path) -> None:
    """Wait until the content of a file is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# A folder is synced as a file is: the call is the same, the promise is that its names are on the disk.
sync_folder = sync_file


def _write_aside(folder: Path, content: Buffer) -> Path:
    aside = folder / f".{os.getpid()}.{secrets.token_hex(8)}.part"
    try:
        with aside.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    return aside


def write_atomic(path: Path, content: Buffer, *, staging: Path | None = None) -> None:
    """Replace a file: after a crash it holds the old bytes or the new ones, never a mixture.

    `staging` is a folder of the same file system for the unfinished file, by default the one of `path`.
    """
    with translate_os_error(path):
        aside = _write_aside(staging or path.parent, content)
        try:
            aside.replace(path)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise
        sync_folder(path.parent)


def overwrite(path: Path, content: Buffer) -> None:
    """Write a file in its place, made if need be: the fastest way, for what readers can tell from rubbish.

    Readers at that moment, and after a kill or a power loss, may find a mixture of the old bytes and the new ones.
    """
    with translate_os_error(path):
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
        except FileNotFoundError:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
        with os.fdopen(descriptor, "wb", buffering=0) as file:
            view = memoryview(content).cast("B")
            while view:
                view = view[file.write(view) :]
            file.truncate()


def create_exclusive(path: Path, content: Buffer, *, staging: Path | None = None) -> bool:
    """Create a file that must not exist, durably; return False if it exists.

    A hard link gives the finished file its name, so that nobody ever sees half of it.
    """
    with translate_os_error(path):
        aside = _write_aside(staging or path.parent, content)
        try:
            return link_exclusive(aside, path)
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            # Writing the file aside has just worked, so this is not about permissions.
            raise UnavailableError(f"{path}: this file system has no hard links", hint="use another disk") from error
        finally:
            aside.unlink(missing_ok=True)


def link_exclusive(source: Path, path: Path) -> bool:
    """Give a finished and synced file a further name that must be free; return False if it is taken.

    Either way the name is on the disk when this returns: whoever finds it taken may build on it, though the one who
    took it may not have come to syncing the folder. Raises OSError.
    """
    try:
        os.link(source, path)
        created = True
    except FileExistsError:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path)) from None
        # A network file system may repeat a link whose answer was lost, and then finds its own.
        created = path.exists() and path.samefile(source)
    sync_folder(path.parent)
    return created
