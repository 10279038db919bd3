"""A loader holds a reader's lease from its first batch until it is closed."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from pyfactory.errors import NotFoundError
from pyfactory.factory import open_loader
from pyfactory.loader.loader import DataLoader
from pyfactory.repo.leases import all_leases
from pyfactory.repo.repository import Repository
from pyfactory.repo.sweep import gc
from pyfactory.stream.stream import Stream
from tests.raw_files import small_repository


def training_file(place: Path) -> tuple[Repository, Path]:
    repo = small_repository(place, 20)
    (place / "recipe.yaml").write_text("sequence_length: 16\n")
    file = place / "training.yaml"
    what = f"repository: {repo.url}\ntable: corpus\nversion: v1\n"
    file.write_text(f"{what}recipe: recipe.yaml\nglobal_batch: 2\nseed: 1\n")
    return repo, file


def test_the_lease_is_taken_renewed_and_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a loader without a lease, one that keeps it for ever, and one that writes at each batch."""
    clock = [0.0]
    monkeypatch.setattr("pyfactory.repo.leases._elapsed", lambda: clock[0])
    repo, file = training_file(tmp_path)
    with open_loader(file, rank=0, world_size=1) as loader:
        batches = iter(loader)
        next(batches)
        [lease] = all_leases(repo)
        assert (lease.purpose, lease.commit) == ("reader", repo.tags()["v1"])
        path = repo.store.path(lease.key)
        assert path is not None
        written = path.stat().st_ino
        next(batches)
        assert path.stat().st_ino == written, "not due yet"
        clock[0] += 3600 / 4 + 1
        next(batches)
        assert path.stat().st_ino != written
    assert list(all_leases(repo)) == []
    with open_loader(file, rank=1, world_size=2) as loader:
        next(iter(loader))
        assert list(all_leases(repo)) == [], "one lease is enough for all ranks"


def test_what_a_plain_loader_reads_is_not_swept(tmp_path: Path) -> None:
    """The branch goes while the loader is open. Catches a lease that only loaders of training files have."""
    repo = small_repository(tmp_path, 20)
    repo.branch("exp", "main")
    repo.commit({"raw": None}, "exp", message="only here")
    stream = Stream(repo.version("corpus", "exp"), seed=1, sequence_length=16)
    with DataLoader(stream, global_batch=2) as loader:
        batches = iter(loader)
        next(batches)
        repo.delete_branch("exp")
        gc(repo, grace=timedelta(0), who="gc")
        assert repo.resolve(stream.version.commit).commit == stream.version.commit
        assert repo.tables(stream.version.commit)
    gc(repo, grace=timedelta(0), who="gc")
    with pytest.raises(NotFoundError):
        repo.resolve(stream.version.commit)


PROGRAM = """
import gc, os, sys
from pyfactory.factory import open_loader
from pyfactory.repo.leases import all_leases
how, file = sys.argv[1:]
loader = open_loader(file, rank=0, world_size=1)
next(iter(loader))
repo = loader.stream.version.repository
if how == "killed":
    os.kill(os.getpid(), 9)
if how == "dropped":
    del loader
    assert not list(all_leases(repo)), "a collected loader"
if how == "forked":
    child = os.fork()
    if child == 0:
        del loader
        sys.exit()
    assert os.waitpid(child, 0)[1] == 0
    assert len(list(all_leases(repo))) == 1, "a child ends no lease of its parent"
if how == "failed":
    raise SystemExit(3)
"""


@pytest.mark.parametrize(
    ("how", "code", "left"), [("ended", 0, 0), ("failed", 3, 0), ("dropped", 0, 0), ("forked", 0, 0), ("killed", -9, 1)]
)
def test_a_loader_that_is_not_closed_leaves_no_lease(tmp_path: Path, how: str, code: int, left: int) -> None:
    """Catches a lease that blocks `gc` for an hour after the program; a finalizer that keeps the loader alive."""
    repo, file = training_file(tmp_path)
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, how, str(file)]
    assert subprocess.run(command, timeout=60, check=False).returncode == code
    assert len(list(all_leases(repo))) == left
