"""Processes that write one repository on a local disk at once."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from multiprocessing.pool import Pool
from pathlib import Path

import pytest
from races import hold_race

COMMITS = 1000
MOST = 16


@pytest.fixture(scope="module")
def processes() -> Iterator[Pool]:
    with multiprocessing.get_context("spawn").Pool(MOST) as pool:
        yield pool


def branches_of(workers: int, shared: bool) -> list[str]:
    return ["main"] if shared else [f"worker-{worker}" for worker in range(workers)]


@pytest.mark.parametrize("shared", [False, True], ids=["own branches", "one branch"])
def test_no_acknowledged_commit_is_lost_or_doubled(shared: bool, tmp_path: Path, processes: Pool) -> None:
    """Catches a publish that overwrites, or that believes "the key is taken" of its own entry and publishes again."""
    hold_race(processes, tmp_path, 8, 120, branches_of(8, shared))


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("workers", "branches"), [(2, ["main"]), (MOST, ["main", "main", *branches_of(MOST, False)])])
def test_a_thousand_commits(workers: int, branches: list[str], tmp_path: Path, processes: Pool) -> None:
    """Sixteen: two of them share `main`, each of the others has a branch of its own."""
    hold_race(processes, tmp_path, workers, COMMITS, branches[:workers])
