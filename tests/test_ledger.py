"""Runs: what a checkpoint saw, what a crash lost, and that nobody can change it unnoticed."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest

from pyfactory.audit import trace
from pyfactory.errors import CorruptError, InvalidInputError, NotFoundError, UnavailableError
from pyfactory.ledger import CHECKPOINT_FILE, Run, read_checkpoint, read_run
from pyfactory.loader.loader import DataLoader
from pyfactory.repo.repository import Repository
from pyfactory.store.local import LocalStore
from pyfactory.store.wrap import Faulty
from pyfactory.stream.stream import Stream
from tests.corpora import documents_of, token_repository

BATCH = 4
ROOT = Path(__file__).parents[1]


@pytest.fixture
def folder(tmp_path):
    token_repository(tmp_path / "repo", documents_of([50] * 60), (20,))
    return tmp_path


def a_loader(folder, **arguments) -> tuple[Repository, DataLoader]:
    repo = Repository.open(folder / "repo")
    stream = Stream(repo.version("corpus", "v1"), seed=7, sequence_length=8)
    return repo, DataLoader(stream, global_batch=BATCH, **arguments)


def train(folder, steps: int, checkpoint: str, resume=None, **arguments) -> str:
    """Train, then save a checkpoint; return the run's id."""
    repo, loader = a_loader(folder, **arguments)
    with Run(repo, loader, resume=resume) as run:
        list(islice(loader, steps))
        (folder / checkpoint).write_bytes(b"weights")
        run.checkpoint(folder / checkpoint)
    return run.id


def test_a_checkpoint_leads_back_to_what_it_saw(folder):
    run = train(folder, 5, "a.pt")
    found = trace(folder / "a.pt")
    assert [(s.run, s.start, s.stop, s.world_size) for s in found.seen] == [(run, 0, 20, 1)]
    assert found.abandoned == []
    assert (found.samples, found.tokens, found.seed, found.unknown[1:]) == (20, 160, 7, [])
    (source,) = found.sources
    assert (source.name, source.table, source.asked, source.tags) == ("corpus", "corpus", "v1", ["v1"])
    assert (source.samples, source.tokens) == (20, 160)
    repo = Repository.open(folder / "repo")
    assert source.commit == repo.resolve("v1").commit
    assert source.version == repo.version("corpus").digest
    assert source.repository == found.repository == repo.url
    assert [entry["kind"] for entry in read_run(repo.store, run)] == ["start", "claim", "checkpoint", "end"]


def test_resuming_joins_the_spans_and_names_what_was_abandoned(folder):
    """Catches: lost train steps counted as seen, or forgotten."""
    first = train(folder, 5, "a.pt")
    repo, loader = a_loader(folder)
    with Run(repo, loader, resume=folder / "a.pt") as second:
        list(islice(loader, 3))
        (folder / "b.pt").write_bytes(b"weights")
        second.checkpoint(folder / "b.pt")
        list(islice(loader, 2))
    third = train(folder, 4, "c.pt", resume=folder / "b.pt", rank=0, world_size=2)
    found = trace(folder / "c.pt")
    assert [(s.run, s.start, s.stop, s.world_size) for s in found.seen] == [
        (first, 0, 20, 1),
        (second.id, 20, 32, 1),
        (third, 32, 48, 2),
    ]
    # The second run wrote its end, so this is exact.
    assert [(s.run, s.start, s.stop) for s in found.abandoned] == [(second.id, 32, 40)]
    assert found.samples == 48


_KILLED = """
import os, signal, sys
from itertools import islice
from pathlib import Path
from tests.test_ledger import a_loader, Run
folder = Path(sys.argv[1])
repo, loader = a_loader(folder)
run = Run(repo, loader).__enter__()
list(islice(loader, 6))
(folder / "a.pt").write_bytes(b"weights")
run.checkpoint(folder / "a.pt")
batches = list(islice(loader, 3))
print(batches[-1]["span"][1], flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_run_is_bounded_by_its_claims(folder):
    """Catches: steps handed out without a claim before them, which a SIGKILL then hides."""
    killed = subprocess.run([sys.executable, "-c", _KILLED, str(folder)], capture_output=True, text=True, cwd=ROOT)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    reached = int(killed.stdout)
    train(folder, 2, "b.pt", resume=folder / "a.pt")
    found = trace(folder / "b.pt")
    assert [(s.start, s.stop) for s in found.seen] == [(0, 24), (24, 32)]
    (lost,) = found.abandoned
    assert lost.start == 24
    # The first claim is 16 steps; a bound that is no bound would say nothing.
    assert reached == 36
    assert reached <= lost.stop <= 16 * BATCH


def test_only_rank_zero_writes(folder):
    repo, loader = a_loader(folder, rank=1, world_size=2)
    with Run(repo, loader) as run:
        list(islice(loader, 2))
        run.checkpoint(folder / "missing.pt")
    assert not list(repo.store.list("runs"))


def test_a_failed_run_says_so(folder):
    repo, loader = a_loader(folder)
    with pytest.raises(RuntimeError), Run(repo, loader) as run:
        next(iter(loader))
        raise RuntimeError("loss is NaN")
    assert read_run(repo.store, run.id)[-1]["outcome"] == "failed"


def test_several_checkpoints_of_a_folder_and_folders_as_checkpoints(folder):
    repo, loader = a_loader(folder)
    with Run(repo, loader) as run:
        for step in range(3):
            list(islice(loader, 2))
            (folder / f"{step}.pt").write_bytes(b"weights")
            run.checkpoint(folder / f"{step}.pt")
        (folder / "sharded").mkdir()
        run.checkpoint(folder / "sharded")
    assert [trace(folder / f"{step}.pt").samples for step in range(3)] == [8, 16, 24]
    assert trace(folder / "sharded").samples == trace(folder / "sharded" / CHECKPOINT_FILE).samples == 24
    (folder / "0.pt").unlink()
    with pytest.raises(NotFoundError, match="one single checkpoint"):
        trace(folder / CHECKPOINT_FILE)


def test_a_tampered_ledger_is_found(folder):
    """Catches: a trace that believes the checkpoint file or a single entry."""
    run = train(folder, 5, "a.pt")
    repo = Repository.open(folder / "repo")
    path = repo.store.path(f"runs/{run}/00000002")
    entry = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(entry.replace(b'"position":20', b'"position":24'))
    with pytest.raises(CorruptError, match=run):
        trace(folder / "a.pt")
    path.write_bytes(entry)
    trace(folder / "a.pt")
    record = json.loads((folder / CHECKPOINT_FILE).read_text())
    record["checkpoints"]["a.pt"]["position"] = 24
    (folder / CHECKPOINT_FILE).write_text(json.dumps(record))
    with pytest.raises(CorruptError, match="position 24"):
        trace(folder / "a.pt")


def test_bad_input(folder):
    repo, loader = a_loader(folder)
    with pytest.raises(NotFoundError, match=r"pyfactory\.json"):
        Run(repo, loader, resume=folder / "none.pt")
    with pytest.raises(NotFoundError):
        trace(folder / "none.pt")
    for broken in ("", "[]", "{", '{"format":1,"checkpoints":{"a.pt":{}}}', '{"format":2,"checkpoints":{}}', "\xff"):
        (folder / CHECKPOINT_FILE).write_bytes(broken.encode("latin-1"))
        with pytest.raises(CorruptError, match=r"pyfactory\.json"):
            read_checkpoint(folder / "a.pt")
    (folder / CHECKPOINT_FILE).unlink()
    with Run(repo, loader) as run, pytest.raises(NotFoundError, match="save the model"):
        run.checkpoint(folder / "nothing.pt")
    train(folder, 3, "a.pt")
    _, elsewhere = a_loader(folder)
    list(islice(elsewhere, 1))
    with pytest.raises(InvalidInputError, match="fresh loader"):
        Run(repo, elsewhere, resume=folder / "a.pt")
    other = DataLoader(Stream(repo.version("corpus"), seed=8, sequence_length=8), global_batch=BATCH)
    with pytest.raises(InvalidInputError, match="seed"):
        Run(repo, other, resume=folder / "a.pt")
    (folder / "repo").rename(folder / "moved")
    with pytest.raises(NotFoundError, match="no pyfactory repository"):
        trace(folder / "a.pt")
    assert trace(folder / "a.pt", repository=Repository.open(folder / "moved")).samples == 12


def test_what_comes_after_the_run_is_not_in_it(folder):
    """Catches: a run that goes on claiming what the loader hands out after its end."""
    repo, loader = a_loader(folder)
    with Run(repo, loader) as run:
        list(islice(loader, 1))
    list(islice(loader, 40))
    assert [entry["kind"] for entry in read_run(repo.store, run.id)] == ["start", "claim", "end"]


def test_an_entry_whose_answer_was_lost_is_written_once(folder):
    """Catches: giving up, or writing again, when the store fails after the entry has landed."""
    lost: list[str] = []

    def lose(number: int, method: str, key: str) -> None:
        if method == "create" and key.startswith("runs/") and key not in lost:
            lost.append(key)
            raise UnavailableError("the answer was lost")

    repo = Repository.open(Faulty(LocalStore(folder / "repo"), after=lose))
    loader = DataLoader(Stream(repo.version("corpus", "v1"), seed=7, sequence_length=8), global_batch=BATCH)
    with Run(repo, loader) as run:
        list(islice(loader, 2))
    assert [entry["kind"] for entry in read_run(repo.store, run.id)] == ["start", "claim", "end"]
    assert len(lost) == 3


def test_a_run_that_died_before_its_own_checkpoint_is_not_forgotten(folder):
    """Catches: a crash loop whose steps no trace tells of."""
    train(folder, 5, "a.pt")
    lost = []
    for _ in range(2):
        repo, loader = a_loader(folder)
        with pytest.raises(RuntimeError), Run(repo, loader, resume=folder / "a.pt") as run:
            list(islice(loader, 3))
            raise RuntimeError("out of memory")
        lost.append((run.id, 20, 32))
    train(folder, 1, "b.pt", resume=folder / "a.pt")
    found = trace(folder / "b.pt")
    assert sorted((s.run, s.start, s.stop) for s in found.abandoned) == sorted(lost)
    assert [(s.start, s.stop) for s in found.seen] == [(0, 20), (20, 24)]


def test_only_what_was_received_is_seen(folder):
    """Catches: a span from the start of the run to its end, whatever the loader did in between."""
    repo, loader = a_loader(folder)
    with Run(repo, loader) as run:
        list(islice(loader, 2))
        loader.load_state_dict({**loader.state_dict(), "position": 200})
        list(islice(loader, 1))
        (folder / "a.pt").write_bytes(b"weights")
        run.checkpoint(folder / "a.pt")
    assert [(s.start, s.stop) for s in trace(folder / "a.pt").seen] == [(0, 8), (200, 204)]
    repo, loader = a_loader(folder)
    loader.load_state_dict({**loader.state_dict(), "position": 40})
    with Run(repo, loader) as run:
        list(islice(loader, 1))
        (folder / "b.pt").write_bytes(b"weights")
        run.checkpoint(folder / "b.pt")
    found = trace(folder / "b.pt")
    assert [(s.start, s.stop) for s in found.seen] == [(40, 44)]
    assert any("position 40" in gap for gap in found.unknown)


def test_a_claim_that_failed_is_not_made(folder):
    """Catches: a store that fails once, and train steps behind it that no claim bounds."""
    failing = []

    def fail(number: int, method: str, key: str) -> None:
        if method == "create" and key.endswith("00000001") and key.startswith("runs/") and not failing:
            failing.append(key)
            raise UnavailableError("the store is down")

    repo = Repository.open(Faulty(LocalStore(folder / "repo"), before=fail))
    loader = DataLoader(Stream(repo.version("corpus", "v1"), seed=7, sequence_length=8), global_batch=BATCH)
    with Run(repo, loader) as run:
        with pytest.raises(UnavailableError):
            next(iter(loader))
        assert loader.cursor == 0
        next(iter(loader))
    assert [entry["kind"] for entry in read_run(repo.store, run.id)] == ["start", "claim", "end"]


def test_the_error_of_the_training_is_not_hidden(folder):
    """Catches: a ledger that cannot write its end and tells of that instead of what went wrong."""

    def fail(number: int, method: str, key: str) -> None:
        if method == "create" and key.endswith("00000002"):
            raise UnavailableError("the store is down")

    repo = Repository.open(Faulty(LocalStore(folder / "repo"), before=fail))
    loader = DataLoader(Stream(repo.version("corpus", "v1"), seed=7, sequence_length=8), global_batch=BATCH)
    with pytest.raises(RuntimeError, match="NaN") as caught, Run(repo, loader):
        next(iter(loader))
        raise RuntimeError("loss is NaN")
    assert "the store is down" in caught.value.__notes__[0]


def test_tags_of_other_commits_are_not_named(folder):
    repo = Repository.open(folder / "repo")
    repo.commit({"copy": repo.tables()["corpus"]}, message="another commit")
    repo.tag("v2")
    train(folder, 1, "a.pt")
    found = trace(folder / "a.pt")
    (source,) = found.sources
    assert source.tags == ["v1"]
    # The table of these tests was made by hand.
    assert found.unknown == [f"commit {source.commit} does not say how it made table 'corpus'"]
