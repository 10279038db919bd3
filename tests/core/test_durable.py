from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from pyfactory.core.durable import (
    create_exclusive,
    is_disk_full,
    link_exclusive,
    overwrite,
    sync_file,
    sync_folder,
    translate_os_error,
    write_atomic,
)
from pyfactory.errors import InvalidInputError, NotFoundError, PyfactoryError, ReadOnlyError, UnavailableError

MEANING = [
    (errno.ENOSPC, UnavailableError, "no space"),
    (errno.EDQUOT, UnavailableError, "no space"),
    (errno.EFBIG, UnavailableError, "no space"),
    (errno.EACCES, ReadOnlyError, "permission"),
    (errno.EPERM, ReadOnlyError, "permission"),
    (errno.EROFS, ReadOnlyError, "the file system is read-only"),
    (errno.ENOENT, NotFoundError, "no such"),
    (errno.ENOTDIR, InvalidInputError, "directory"),
    (errno.EISDIR, InvalidInputError, "directory"),
    (errno.EEXIST, InvalidInputError, "exists"),
    (errno.ENAMETOOLONG, InvalidInputError, "too long"),
    (errno.EIO, UnavailableError, "error"),
    (errno.ESTALE, UnavailableError, "[Ss]tale"),
    (errno.EMFILE, UnavailableError, "open files"),
]


@pytest.mark.parametrize(("number", "kind", "says"), MEANING, ids=lambda value: str(value))
def test_every_number_has_a_meaning(number: int, kind: type[PyfactoryError], says: str) -> None:
    original = OSError(number, os.strerror(number))
    with pytest.raises(PyfactoryError, match=f"the/place: .*{says}") as caught, translate_os_error("the/place"):
        raise original
    assert type(caught.value) is kind
    assert caught.value.__cause__ is original


def test_errors_without_a_number_are_known_by_class() -> None:
    """As extensions in Rust raise them: blake3 does for a missing file."""
    with pytest.raises(NotFoundError), translate_os_error("x"):
        raise FileNotFoundError("no number")
    with pytest.raises(ReadOnlyError), translate_os_error("x"):
        raise PermissionError("no number")
    with pytest.raises(UnavailableError, match="no number"), translate_os_error("x"):
        raise TimeoutError("no number")


def test_other_errors_pass() -> None:
    """Ours are OSErrors themselves (UnavailableError) and must not be wrapped; bugs stay bugs."""
    for error in (UnavailableError("ours"), ReadOnlyError("ours"), KeyError("bug"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught, translate_os_error("x"):
            raise error
        assert caught.value is error


@pytest.mark.parametrize("apart", [False, True])
def test_write_atomic(tmp_path: Path, apart: bool) -> None:
    folder, staging = tmp_path / "folder", tmp_path / "staging"
    folder.mkdir()
    staging.mkdir()
    for content in (b"one", b"", b"three" * 100_000):
        write_atomic(folder / "file", memoryview(content), staging=staging if apart else None)
        assert (folder / "file").read_bytes() == content
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["file"]


def test_overwrite_leaves_nothing_of_what_was_there(tmp_path: Path) -> None:
    """Catches: the file is not cut where the new content ends."""
    for content in (b"one", b"three" * 100_000, b"", b"two"):
        overwrite(tmp_path / "new/folder/file", memoryview(content))
        assert (tmp_path / "new/folder/file").read_bytes() == content
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["file"]


@pytest.mark.parametrize("apart", [False, True])
def test_create_exclusive(tmp_path: Path, apart: bool) -> None:
    folder, staging = tmp_path / "folder", tmp_path / "staging"
    folder.mkdir()
    staging.mkdir()
    assert create_exclusive(folder / "file", b"one", staging=staging if apart else None) is True
    assert create_exclusive(folder / "file", b"two", staging=staging if apart else None) is False
    assert (folder / "file").read_bytes() == b"one"
    assert (folder / "file").stat().st_nlink == 1
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["file"]


def test_a_failed_write_leaves_nothing_and_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for write in (write_atomic, create_exclusive):
        with pytest.raises(NotFoundError, match="nowhere/file"):
            write(tmp_path / "nowhere/file", b"x")
    for write in (write_atomic, create_exclusive, overwrite):
        with pytest.raises(InvalidInputError, match=r"folder: .*directory"):
            write(tmp_path / "folder", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_link_that_is_ours_already_was_made_by_us(tmp_path: Path) -> None:
    """A network file system repeats a link whose answer was lost; catches calling our own success a defeat."""
    for name in ("source", "other"):
        (tmp_path / name).write_bytes(b"x")
    assert link_exclusive(tmp_path / "source", tmp_path / "name")
    assert link_exclusive(tmp_path / "source", tmp_path / "name")
    assert not link_exclusive(tmp_path / "other", tmp_path / "name")
    (tmp_path / "dangling").symlink_to("nowhere")
    assert not link_exclusive(tmp_path / "other", tmp_path / "dangling")


def test_links_and_syncs_say_what_is_missing(tmp_path: Path) -> None:
    for call in (sync_file, sync_folder, lambda path: link_exclusive(path, tmp_path / "name")):
        with pytest.raises(FileNotFoundError):
            call(tmp_path / "nowhere")
    sync_folder(tmp_path)


def test_a_full_disk_is_known_behind_other_errors() -> None:
    with pytest.raises(UnavailableError) as caught, translate_os_error("x"):
        raise OSError(errno.ENOSPC, "full")
    later = UnavailableError("later")
    later.__cause__ = caught.value
    assert is_disk_full(later) and is_disk_full(caught.value)
    assert not is_disk_full(UnavailableError("later")) and not is_disk_full(OSError(errno.EIO, "broken"))
