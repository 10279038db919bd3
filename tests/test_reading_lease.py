"""A loader that a training file opens holds a reader's lease until it is closed."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyfactory.factory import open_loader
from pyfactory.repo.leases import all_leases
from pyfactory.repo.repository import Repository
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
        [lease] = all_leases(repo)
        assert (lease.purpose, lease.commit) == ("reader", repo.tags()["v1"])
        batches = iter(loader)
        path = repo.store.path(lease.key)
        assert path is not None
        written = path.stat().st_ino
        next(batches)
        assert path.stat().st_ino == written, "not due yet"
        clock[0] += 3600 / 4 + 1
        next(batches)
        assert path.stat().st_ino != written
    assert list(all_leases(repo)) == []
    with open_loader(file, rank=1, world_size=2):
        assert list(all_leases(repo)) == [], "one lease is enough for all ranks"
