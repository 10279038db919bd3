"""Processes that write one local repository at once."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from multiprocessing.pool import Pool
from pathlib import Path

import pytest
from repo_tables import raw_state
from repo_worker import race

from pyfactory.repo.repository import Repository

COMMITS = 25
WORKERS = 8


@pytest.fixture(scope="module")
def processes() -> Iterator[Pool]:
    with multiprocessing.get_context("spawn").Pool(WORKERS) as pool:
        yield pool


@pytest.mark.parametrize("shared", [False, True], ids=["own branches", "one branch"])
@pytest.mark.parametrize("workers", [2, WORKERS])
def test_no_acknowledged_commit_is_lost_or_doubled(workers: int, shared: bool, tmp_path: Path, processes: Pool) -> None:
    """Catches a publish that overwrites, or that believes "the key is taken" of its own entry and publishes again."""
    repository = Repository.create(tmp_path)
    repository.commit({"corpus": raw_state(repository.objects, "base")}, message="base")
    tasks = [(str(tmp_path), worker, COMMITS, shared) for worker in range(workers)]
    acknowledged = processes.starmap(race, tasks, chunksize=1)
    logged = [(entry.why, change.new) for entry in repository.operations() for change in entry.changes]
    assert len(set(logged)) == len(logged)
    for commits in acknowledged:
        assert len(commits) == COMMITS
        assert [entry for entry in reversed(logged) if entry in commits] == commits, "once each, in order"
    branches = ["main"] if shared else [f"worker-{worker}" for worker in range(workers)]
    assert sum(len(list(repository.log(branch))) - 1 for branch in branches) == workers * COMMITS
    assert repository.verify().problems == []
