"""What only a store in a folder promises; crashes, full disks and permissions are in test_local_harm.py."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyfactory.errors import InvalidInputError, NotFoundError
from pyfactory.store.local import LocalStore

DAY_SECONDS = 86_400


@contextmanager
def watched(root: Path) -> Iterator[list[tuple[str, ...]]]:
    """Observe, without standing in for anything, which system functions run in this thread, in order.

    A sync is told with the files below `root` that are open at that moment (one: the synced) and their sizes.
    """
    seen: list[tuple[str, ...]] = []
    names = {os.fsync: "sync", os.link: "link", os.mkdir: "mkdir", os.replace: "replace", os.rename: "replace"}

    def observe(frame: FrameType, event: str, function: Any) -> None:
        if event != "c_call" or function not in names:
            return
        opened = []
        if function is os.fsync:
            for place in Path("/proc/self/fd").iterdir():
                if place.exists() and place.readlink().is_relative_to(root):
                    size = f":{place.stat().st_size}" if place.is_file() else "/"
                    opened.append(str(place.readlink().relative_to(root)).split(".")[0] + size)
        seen.append((names[function], *opened))

    sys.setprofile(observe)
    try:
        yield seen
    finally:
        sys.setprofile(None)


def test_content_name_and_folders_are_synced_in_that_order(tmp_path: Path) -> None:
    """Catches: no sync, sync before flush, link before sync, a folder not synced, also one that another made."""
    store = LocalStore(tmp_path)
    with watched(tmp_path) as seen:
        store.create("objects/ab/x", b"12345")
    named = [("sync", "tmp/:5"), ("link",), ("sync", "objects/ab/")]
    assert seen == [("mkdir",), ("mkdir",), ("sync", "/"), ("mkdir",), ("sync", "objects/"), *named]
    with watched(tmp_path) as seen:
        store.create("objects/ab/y", b"12345")
    assert seen == [("mkdir",), *named]
    with watched(tmp_path) as seen:  # the folders are there, but this store cannot know that they are on the disk
        LocalStore(tmp_path).create("objects/ab/z", b"12345")
    assert seen == [("mkdir",), ("mkdir",), ("sync", "/"), ("mkdir",), ("sync", "objects/"), *named]


def test_a_taken_name_is_synced_too(tmp_path: Path) -> None:
    """The winner may not have come to it, while the loser goes on to publish what relies on the object."""
    store = LocalStore(tmp_path)
    store.create("a/x", b"1")
    with watched(tmp_path) as seen:
        assert not store.create("a/x", b"1")
    assert seen[-2:] == [("link",), ("sync", "a/")]


def test_a_consumed_file_is_synced_before_it_is_named(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    source = store.staging() / "source"
    source.write_bytes(b"12345")
    with watched(tmp_path) as seen:
        store.create_from_file("a/x", source)
    assert seen[-3:] == [("sync", f"tmp/{os.getpid()}/source:5"), ("link",), ("sync", "a/")]


def test_a_replaced_file_is_synced_before_and_after(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    with watched(tmp_path) as seen:
        store.replace("a/x", b"12345")
    assert seen[-3:] == [("sync", "tmp/:5"), ("replace",), ("sync", "a/")]


def test_a_new_store_is_on_the_disk(tmp_path: Path) -> None:
    with watched(tmp_path) as seen:
        LocalStore(tmp_path / "one/two", create=True)
    assert {("sync", "/"), ("sync", "one/")} <= set(seen)


def test_a_staged_file_is_named_not_copied(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    source = store.staging() / "source"
    source.write_bytes(b"x")
    number = source.stat().st_ino
    store.create_from_file("a/x", source)
    assert store.path("a/x").stat().st_ino == number


def test_a_file_of_another_disk_is_copied(tmp_path: Path) -> None:
    """Catches a bare link, which fails across file systems."""
    if not os.access("/dev/shm", os.W_OK) or Path("/dev/shm").stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("needs /dev/shm on another file system")
    store = LocalStore(tmp_path)
    with tempfile.TemporaryDirectory(dir="/dev/shm") as elsewhere:
        for won in (True, False):
            source = Path(elsewhere, "source")
            source.write_bytes(b"x")
            assert store.create_from_file("a/x", source) is won
            assert not source.exists()
    assert store.get("a/x") == b"x"
    assert list(store.staging().iterdir()) == []


def test_a_consumed_private_file_is_as_open_as_the_store(tmp_path: Path) -> None:
    """`tempfile` makes files that only their owner reads; a colleague must be able to read objects."""
    tmp_path.chmod(0o750)
    store = LocalStore(tmp_path)
    descriptor, name = tempfile.mkstemp(dir=store.staging())
    os.close(descriptor)
    store.create_from_file("a", Path(name))
    assert store.path("a").stat().st_mode & 0o777 == 0o640


@settings(deadline=None)
@given(st.sets(st.from_regex(r"[a-c0-][a-c.0-]{0,2}(/[a-c0-][a-c.0-]?){0,3}", fullmatch=True), max_size=12))
def test_any_tree_is_listed_in_key_order(names: set[str]) -> None:
    """Against plain sorting; catches the order of a directory walk."""
    with tempfile.TemporaryDirectory() as folder:
        keys = {name for name in names if not any(other.startswith(f"{name}/") for other in names)}
        for key in keys:
            Path(folder, key).parent.mkdir(parents=True, exist_ok=True)
            Path(folder, key).touch()
        assert list(LocalStore(folder).list("")) == [(key, 0) for key in sorted(keys)]


def test_litter_of_others_is_not_listed(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    store.create("a/b", b"1")
    (tmp_path / "tmp/.1.00.part").write_bytes(b"half")
    (tmp_path / "a/b#1").write_bytes(b"half")
    (tmp_path / "a/.nfs0001").write_bytes(b"gone")
    (tmp_path / "a/dangling").symlink_to("nowhere")
    os.mkfifo(tmp_path / "a/pipe")
    assert list(store.list("")) == list(store.list("a")) == [("a/b", 1)]


def test_a_folder_in_the_way_is_not_an_object(tmp_path: Path) -> None:
    """Catches a create that takes EEXIST of a folder for "the key is taken"."""
    store = LocalStore(tmp_path)
    store.create("a/b", b"1")
    for write in (store.create, store.replace):
        with pytest.raises(InvalidInputError, match="directory"):
            write("a", b"1")
        with pytest.raises(InvalidInputError, match=r"exists|directory"):
            write("a/b/c", b"1")
    assert list((tmp_path / "tmp").iterdir()) == []


def test_what_is_no_folder(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"")
    with pytest.raises(InvalidInputError, match="is not a folder"):
        LocalStore(file)
    with pytest.raises(InvalidInputError, match="directory"):
        LocalStore(file / "below", create=True)
    with pytest.raises(InvalidInputError, match="is not a folder"):
        LocalStore(file, create=True)
    with pytest.raises(NotFoundError, match=r"there is no folder .*nowhere"):
        LocalStore(tmp_path / "nowhere")


def test_a_store_that_was_removed_says_so(tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "store", create=True)
    (tmp_path / "store").rmdir()
    with pytest.raises(NotFoundError, match=str(tmp_path)):
        store.create("a/b", b"1")
    with pytest.raises(NotFoundError, match=str(tmp_path)):
        store.staging()
    assert not (tmp_path / "store").exists()


def test_it_travels_as_its_path(tmp_path: Path) -> None:
    """Catches what is known about one machine's disk going to another."""
    store = LocalStore(tmp_path)
    store.create("a/b", b"1")
    twin = pickle.loads(pickle.dumps(store))
    with watched(tmp_path) as seen:
        twin.create("a/c", b"1")
    assert ("sync", "/") in seen


def test_four_processes_one_winner(tmp_path: Path) -> None:
    """Each process meets the same keys at about the same time; catches locks that hold within one process only."""
    store = LocalStore(tmp_path)
    tasks = [(f"log/{number}", b"%d" % process * 1000) for number in range(150) for process in range(4)]
    with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("spawn")) as processes:
        won = list(processes.map(store.create, *zip(*tasks, strict=True)))
    assert sum(won) == 150
    assert [(key, content) for (key, content), first in zip(tasks, won, strict=True) if first] == [
        (key, store.get(key)) for key in dict.fromkeys(key for key, _ in tasks)
    ]


def dead_pid() -> int:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return ended.pid


def aged(path: Path, days: float) -> Path:
    when = time.time() - days * DAY_SECONDS
    os.utime(path, (when, when))
    return path


FILES: list[tuple[str, Callable[[], int], float, bool]] = [
    (".{}.00.part", dead_pid, 2, False),
    (".{}.00.part", dead_pid, 0.9, True),
    (".{}.00.part", os.getpid, 2, True),
    (".{}.00.part", os.getpid, 8, False),
    (".{}.00.part", lambda: 1, 2, True),
    (".{}.00.part", lambda: 10**30, 2, False),
    ("stranger", lambda: 0, 2, True),
    ("stranger", lambda: 0, 8, False),
]


@pytest.mark.parametrize(("name", "pid", "days", "stays"), FILES)
def test_the_first_write_sweeps_what_dead_writers_left(
    tmp_path: Path, name: str, pid: Callable[[], int], days: float, stays: bool
) -> None:
    """Catches sweeping a living writer's file, or never sweeping."""
    (tmp_path / "tmp").mkdir()
    left = tmp_path / "tmp" / name.format(pid())
    left.write_bytes(b"half")
    aged(left, days)
    store = LocalStore(tmp_path)
    list(store.list(""))
    assert left.exists()  # readers do not write
    store.create("a", b"1")
    assert left.exists() is stays


@pytest.mark.parametrize(("file_days", "stays"), [(2, False), (0.5, True)])
def test_a_staging_folder_is_swept_when_nothing_in_it_is_young(tmp_path: Path, file_days: float, stays: bool) -> None:
    staging = tmp_path / "tmp" / str(dead_pid())
    staging.mkdir(parents=True)
    (staging / "shard").write_bytes(b"x")
    aged(staging / "shard", file_days)
    aged(staging, 3)
    LocalStore(tmp_path).create("a", b"1")
    assert staging.exists() is stays
