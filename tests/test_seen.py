"""Which runs saw a record: the ledger and the order, inverted; compared with what the loops received."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from pyfactory.audit import runs_that_saw
from pyfactory.ledger import Run
from pyfactory.loader.loader import DataLoader
from pyfactory.repo.forget import forget
from pyfactory.repo.repository import Repository
from pyfactory.stream.find import find
from pyfactory.stream.mixture import Mixture
from pyfactory.stream.stream import Stream
from tests.corpora import documents_of, token_repository

BATCH = 4
LENGTHS = [50, 3, 20, 9, 30, 1, 44, 60, 2, 17, 8, 70]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    token_repository(tmp_path / "repo", documents_of(LENGTHS), (5,))
    return tmp_path


def train(folder: Path, steps: int, checkpoints: dict[int, str], resume: str = "", killed: bool = False) -> str:
    """Train, saving checkpoints after some steps; return the run's id."""
    repo = Repository.open(folder / "repo")
    stream = Stream(repo.version("corpus", "v1"), seed=7, sequence_length=8, block_size=2, window=3)
    loader = DataLoader(stream, global_batch=BATCH)
    run = Run(repo, loader, resume=folder / resume if resume else None)
    run.__enter__()
    done = 0
    while done < steps:
        for _ in islice(loader, steps - done):
            done += 1
            if done in checkpoints:
                (folder / checkpoints[done]).write_bytes(b"weights")
                run.checkpoint(folder / checkpoints[done])
    if not killed:
        run.__exit__(None, None, None)
    loader.close()
    return run.id


def received(folder: Path, start: int, stop: int) -> dict[str, list[int]]:
    """The positions at which a loop got tokens of each record, by looking at every sample."""
    repo = Repository.open(folder / "repo")
    stream = Stream(repo.version("corpus", "v1"), seed=7, sequence_length=8, block_size=2, window=3)
    bounds = np.cumsum([0, *LENGTHS])
    rows = stream.addresses(np.arange(start, stop))
    head = rows.offsets[:-1]
    firsts = stream.version.manifest.token_starts(rows.shard[head]) + rows.first[head]
    return {
        f"doc-{number}": [
            start + at
            for at, first in enumerate(firsts.tolist())
            if first < bounds[number + 1] and first + 9 > bounds[number]
        ]
        for number in range(len(LENGTHS))
    }


@pytest.mark.parametrize("after", [False, True])
def test_positions_are_those_that_were_received(folder: Path, after: bool) -> None:
    """Catches: a record at the end of a sample that is only a target, the second epoch, a record that was forgotten."""
    run = train(folder, 23, {3: "a.pt", 20: "b.pt"})
    names = [f"doc-{number}" for number in range(len(LENGTHS))]
    repo = Repository.open(folder / "repo")
    if after:
        forget(repo, names[::2], "asked to", who="Ada")
    wanted = received(folder, 0, 23 * BATCH)
    found = {seen.record: seen for seen in runs_that_saw(repo, [*names, "nobody"])}
    assert {name: list(seen.positions) for name, seen in found.items()} == {
        name: positions for name, positions in wanted.items() if positions
    }
    for name, seen in found.items():
        assert (seen.run, seen.table, seen.exact, seen.through) == (run, "corpus", True, "")
        assert seen.steps == tuple(sorted({position // BATCH for position in wanted[name]}))
        first = wanted[name][0]
        assert seen.checkpoints == tuple(position for position in (12, 80) if position > first)


def test_runs_resumed_from_a_model_that_saw_it_have_seen_it(folder: Path) -> None:
    """Catches: a descendant of a model that learnt from the record being called clean."""
    first = train(folder, 6, {2: "clean.pt", 6: "tainted.pt"})
    early, late = received(folder, 0, 8), received(folder, 8, 24)
    later = received(folder, 24, 32)
    name = next(name for name in late if late[name] and not early[name] and not later[name])
    second = train(folder, 2, {2: "child.pt"}, resume="tainted.pt")
    third = train(folder, 1, {1: "grandchild.pt"}, resume="child.pt")
    fourth = train(folder, 1, {1: "other.pt"}, resume="clean.pt")
    repo = Repository.open(folder / "repo")
    found = {seen.run: seen for seen in runs_that_saw(repo, [name])}
    assert found[first].checkpoints == (24,)
    assert (found[second].through, found[second].positions, found[second].checkpoints) == (first, (), (32,))
    assert found[third].through == second
    again = received(folder, 8, 12)[name]
    assert (fourth in found) == bool(again)
    if again:
        assert found[fourth].through == ""


def test_a_killed_run_saw_it_at_most(folder: Path) -> None:
    """Catches: steps after the last checkpoint of a killed run that nobody answers for."""
    train(folder, 3, {2: "a.pt"}, killed=True)
    repo = Repository.open(folder / "repo")
    name = next(name for name, positions in received(folder, 8, 12).items() if positions)
    (seen,) = runs_that_saw(repo, [name])
    assert not seen.exact and set(received(folder, 8, 12)[name]) <= set(seen.positions)


def test_without_runs_there_is_nothing_to_say(folder: Path) -> None:
    assert runs_that_saw(Repository.open(folder / "repo"), ["doc-1"]) == []


def test_mixtures_phases_and_other_repositories_are_answered_for(folder: Path) -> None:
    """Catches: only the first table or phase of a run asked; silence about a table that is not here any more."""
    other = token_repository(folder / "other", documents_of([5, 40, 3, 22], seed=4), (2,))
    repo = Repository.open(folder / "repo")
    mixture = Mixture({"here": (repo.version("corpus", "v1"), "0.6"), "there": (other.version("corpus", "v1"), "0.4")})
    stream = Stream(mixture, seed=3, sequence_length=7).then(at=30, weights={"here": "1", "there": "3"}, block_size=2)
    loader = DataLoader(stream, global_batch=BATCH)
    with Run(repo, loader) as run:
        while loader.cursor < 56:  # a pass over the loader ends with the phase
            for _ in islice(loader, (56 - loader.cursor) // BATCH):
                pass
    loader.close()
    met: set[tuple[str, int]] = set()
    for number in (0, 1, 3, 6):
        found = find(stream, f"doc-{number}", stop=56).found
        (seen,) = runs_that_saw(repo, [f"doc-{number}"])
        assert (seen.run, seen.exact, seen.table) == (run.id, True, "corpus")
        assert seen.positions == tuple(sorted({one.position for one in found}))
        met |= {(one.source, one.phase) for one in found}
    assert met == {(source, phase) for source in ("here", "there") for phase in (0, 1)}
    assert runs_that_saw(repo, ["nobody"]) == []
    (folder / "other").rename(folder / "elsewhere")
    assert runs_that_saw(repo, ["nobody"]) == []
    (seen,) = runs_that_saw(repo, ["doc-1"])
    assert "cannot be opened" in seen.unknown and not seen.exact
