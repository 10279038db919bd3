"""Runs verbs on a disk that is full from some write on; as a program, on a small file system that is really full."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from pathlib import Path

from verbs_worker import ACTS, LATER, looks, prepared, stages

from pyfactory.core.durable import translate_os_error
from pyfactory.errors import UnavailableError
from pyfactory.repo.repository import Repository
from pyfactory.store.base import Store
from pyfactory.store.local import LocalStore
from pyfactory.store.wrap import Faulty

WRITES = ("create", "create_from_file", "replace")
BLOCK = 4096
MOST_BLOCKS = 40


class FullAfter:
    """A hook: writes after the first `room` ones find no space, as on a local disk; all of them, or one alone."""

    def __init__(self, room: int, once: bool) -> None:
        self.room = room
        self.once = once
        self.refused = 0

    def __call__(self, number: int, method: str, key: str) -> None:
        if method in WRITES:
            self.room -= 1
            if self.room == -1 or (self.room < 0 and not self.once):
                self.refused += 1
                with translate_os_error(key):
                    raise OSError(errno.ENOSPC, "no space left on device")


def wanted_stages(act: str, base: Path, place: Path) -> list[dict[str, str]]:
    """Return how the refs look before an act and after each of its entries."""
    first = Repository.open(base).view().n
    shutil.copytree(base, place / "whole")
    ACTS[act](Repository.open(place / "whole"), place)
    return stages(Repository.open(place / "whole"), first)


def attempted(act: str, place: Path, store: Store) -> bool:
    """Do it on a disk that may be full; return whether it was done. What it says must name the cause and a remedy."""
    try:
        ACTS[act](Repository.open(store), place)
    except UnavailableError as error:
        assert "no space left on the disk" in error.message, error.message
        assert "free space" in error.hint, error.hint
        return False
    return True


def check(act: str, place: Path, copy: Path, expected: list[dict[str, str]], done: bool) -> str:
    """Check what is left now that there is room again: a whole view, and a verb that works."""
    repo = Repository.open(copy)
    found = looks(repo, repo.view())
    assert found in expected, (act, found, expected)
    assert found == expected[-1] if done else found != expected[-1] or act == "sweep", (act, done)
    assert repo.verify().problems == []
    if not done:
        LATER.get(act, ACTS[act])(repo, place)
    again = Repository.open(copy)
    assert looks(again, again.view()) == expected[-1] and again.verify().problems == []
    return "new" if done else "old" if found == expected[0] else "between"


def full_at_every_write(act: str, place: Path, once: bool) -> list[str]:
    """Return what the repository was like after each attempt; the last one had room for all. See `FullAfter`."""
    base = prepared(act, place)
    expected = wanted_stages(act, base, place)
    outcomes: list[str] = []
    while True:
        copy = place / f"room-{len(outcomes)}"
        shutil.copytree(base, copy)
        full = FullAfter(len(outcomes), once)
        done = attempted(act, place, Faulty(LocalStore(copy), before=full))
        outcomes.append(check(act, place, copy, expected, done))
        shutil.rmtree(copy)
        if not full.refused:
            return outcomes


def really_full(act: str, place: Path, disk: Path) -> list[str]:
    """Do the same on a file system with so many free blocks."""
    base = prepared(act, place)
    expected = wanted_stages(act, base, place)
    outcomes: list[str] = []
    while not outcomes or outcomes[-1] != "new":
        assert len(outcomes) < MOST_BLOCKS
        copy, filler = disk / "repo", disk / "filler"
        shutil.copytree(base, copy)
        free = os.statvfs(disk).f_bavail * BLOCK - len(outcomes) * BLOCK
        filler.write_bytes(bytes(free))
        done = attempted(act, place, LocalStore(copy))
        filler.unlink()
        outcomes.append(check(act, place, copy, expected, done))
        shutil.rmtree(copy)
    return outcomes


if __name__ == "__main__":
    print(json.dumps(really_full(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))))
