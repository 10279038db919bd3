"""Processes that write one repository on an S3 server at once."""

from __future__ import annotations

import multiprocessing

import pytest
from races import hold_race

from tests.s3_server import S3Server


def branches_of(workers: int) -> list[str]:
    """A quarter of the writers share `main`, each of the others has a branch of its own."""
    return ["main" if worker % 4 == 0 else f"worker-{worker}" for worker in range(workers)]


@pytest.mark.parametrize("workers", [4])
def test_no_acknowledged_commit_is_lost_or_doubled(workers: int, s3: S3Server) -> None:
    """Catches an answer of 409 or 412 that is believed, and a store whose `create` overwrites."""
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        hold_race(pool, s3.url(), workers, 80, ["main", "main", "one", "two"])


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("workers", [2, 16])
def test_a_thousand_commits(workers: int, s3: S3Server) -> None:
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        hold_race(pool, s3.url(), workers, 1000, ["main"] if workers == 2 else branches_of(workers))
