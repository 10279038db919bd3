"""Two people, two branches, one merge, one model: the line over branches, and back from the checkpoint to all files."""

from __future__ import annotations

from pathlib import Path

import pytest

import pyfactory as pf
from pyfactory.factory import take_tables
from pyfactory.repo.repository import Repository
from pyfactory.store.memory import MemoryStore
from tests.raw_files import documents, write_job, write_records


def imported(repo: Repository, folder: Path, name: str, branch: str, seed: int) -> Path:
    path = write_records(folder / f"{name}.jsonl", documents(30, seed, name))
    pf.import_files(repo, "raw", [path], id="id", columns=["n:int64"], branch=branch, message=name)
    return path


@pytest.fixture
def merged(tmp_path: Path) -> Repository:
    """main: start, ada (branch), bob (branch), both merged; corpus built from all of it."""
    repo = Repository.create(tmp_path / "repo")
    imported(repo, tmp_path, "start", "main", 1)
    for name, seed in (("ada", 2), ("bob", 3)):
        repo.branch(name, "main")
        imported(repo, tmp_path, name, name, seed)
    repo.merge("ada", "main")
    repo.merge("bob", "main")
    pf.build(repo, write_job(tmp_path / "job.yaml"))
    return repo


def traced(repo: Repository, folder: Path) -> pf.Trace:
    stream = pf.Stream(repo.version("corpus"), seed=7, sequence_length=32)
    checkpoint = folder / "model.pt"
    with pf.DataLoader(stream, global_batch=4) as loader, pf.Run(repo, loader) as run:
        next(iter(loader))
        checkpoint.write_bytes(b"weights")
        run.checkpoint(checkpoint)
    return pf.trace(checkpoint, repository=repo)


def test_the_rows_of_both_branches_are_there_once(merged: Repository) -> None:
    assert merged.version("raw").rows == 90
    found = [record for change, table, record in merged.diff_records("ada", "main") if table == "raw"]
    assert sorted(found) == sorted(f"bob-{number}" for number in range(30))


def test_a_checkpoint_leads_to_the_files_of_both_branches(merged: Repository, tmp_path: Path) -> None:
    """Catches a lineage that follows the first parent only."""
    trace = traced(merged, tmp_path)
    names = sorted(Path(file.name).name for file in trace.raw_files)
    assert names == ["ada.jsonl", "bob.jsonl", "start.jsonl"]
    assert trace.unknown == []


def test_what_was_taken_back_is_said(merged: Repository, tmp_path: Path) -> None:
    """A reverted import may have left nothing, and its files are still named: the trace says so."""
    bob = next(commit.digest for commit in merged.log() if commit.message == "bob")
    merged.revert(bob, "main")
    pf.build(merged, write_job(tmp_path / "job.yaml"))
    assert merged.version("raw").rows == 60
    (sentence,) = traced(merged, tmp_path).unknown
    assert f"took back commit {bob[:12]}" in sentence


def test_a_taken_table_leads_to_where_it_was_made(merged: Repository, tmp_path: Path) -> None:
    """Catches a lineage that follows the branch which took the table instead."""
    merged.branch("apart", next(commit.digest for commit in merged.log() if not commit.parents))
    imported(merged, tmp_path, "eve", "apart", 4)
    take_tables(merged, ["raw@apart"], branch="main")
    pf.build(merged, write_job(tmp_path / "job.yaml"))
    trace = traced(merged, tmp_path)
    assert sorted(Path(file.name).name for file in trace.raw_files) == ["eve.jsonl", "start.jsonl"]
    assert trace.unknown == [] and merged.verify().problems == []


def test_a_long_history_is_followed(tmp_path: Path) -> None:
    """Catches a lineage that recurses from commit to commit."""
    repo = Repository.create(MemoryStore())
    imported(repo, tmp_path, "start", "main", 1)
    state = repo.tables("main")["raw"]
    for number in range(600):  # two commits each that change the table: away and back
        repo.commit({"raw": None, "other": state}, message=f"{number}")
        repo.commit({"raw": state, "other": None}, message=f"{number} back")
    pf.build(repo, write_job(tmp_path / "job.yaml"))
    assert traced(repo, tmp_path).unknown
