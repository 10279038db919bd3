"""The loader over what the real import and build have made, against the program that knows only the specification."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from pyfactory.core.digest import digest_of
from pyfactory.factory import build, import_files
from pyfactory.loader.loader import DataLoader
from pyfactory.repo.forget import forget
from pyfactory.repo.repository import Repository
from pyfactory.stream.stream import Stream
from tests.erasure_tables import delete_replaced
from tests.raw_files import documents, small_repository, write_job, write_records

REPLAY = Path(__file__).parent / "replay.py"
LARGEST = 2**64 - 1
TAGGED_TOKENS = 30_000  # more than this many, see the fixture

Heard = dict[int, str]
"""SHA-256 of the input ids, as little-endian 32-bit words, by position."""


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """Tag v1 names ten or so shuffled shards; `main` went on to a longer table since, and `plain.e` is one shard."""
    folder = tmp_path_factory.mktemp("replayed")
    repository = small_repository(folder)
    source = write_records(folder / "raw-3.jsonl", documents(40, 3, "doc-3"))
    import_files(repository, "raw", [source], id="id", columns=["n:int64"])
    build(repository, folder / "job.yaml")
    steps = ("filter: {max_chars: 500}", "train_tokenizer: {vocab_size: 270}", "tokenize: {}")
    build(repository, write_job(folder / "plain.yaml", steps, output="plain.e", target="1MB"))
    tagged = repository.version("corpus", "v1")
    assert tagged.shards >= 8
    assert tagged.tokens > TAGGED_TOKENS
    assert repository.version("corpus").tokens > tagged.tokens
    return repository


def replayed(repo: Repository, table: str, ref: str, stop: int, recipe: dict[str, int]) -> tuple[Heard, list[int]]:
    """What the independent program says of positions [0, stop): hashes, and samples in order of position."""
    options = [f"--{name.replace('_', '-')}={value}" for name, value in recipe.items()]
    where = repo.url.removeprefix("file://")
    command = [sys.executable, str(REPLAY), where, table, ref, *options, f"--stop={stop}"]
    printed = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True).stdout
    lines = [line.split() for line in printed.splitlines()]
    assert [int(position) for position, _, _ in lines] == list(range(stop))
    return {int(position): digest for position, _, digest in lines}, [int(sample) for _, sample, _ in lines]


def heard(batches: Iterator[dict[str, Any]] | DataLoader) -> Heard:
    """What a loader hands out in one loop; no position twice."""
    found: Heard = {}
    for batch in batches:
        rows = batch["input_ids"]
        assert rows.dtype == torch.int64
        for position, row in zip(batch["indices"].tolist(), rows.numpy().astype("<u4"), strict=True):
            assert position not in found
            found[position] = hashlib.sha256(row.tobytes()).hexdigest()
    return found


RECIPES = [
    {"seed": 7, "sequence_length": 64},
    {"seed": 0, "sequence_length": 61, "block_size": 8, "window": 3},
    {"seed": LARGEST, "sequence_length": 1000, "block_size": 1, "window": 16},
    {"seed": 7, "sequence_length": 128, "block_size": 5, "window": 1},
    {"seed": 2**33, "sequence_length": 97, "block_size": 10_000, "window": 10_000},
    {"seed": 7, "sequence_length": TAGGED_TOKENS, "block_size": 4, "window": 2},
]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: "-".join(map(str, recipe.values())))
def test_two_epochs_are_what_the_independent_program_says(repo: Repository, recipe: dict[str, int]) -> None:
    """Catches shards read in another order, a cut of the next shard that is off by one, an epoch keyed otherwise.

    Of two shards or more in a sample as well (length 1000), and where a sample is the whole table.
    """
    stream = Stream(repo.version("corpus", "v1", strict=True), **recipe)
    loader = DataLoader(stream, batch_size=min(5, len(stream)), num_workers=2)
    first, second = heard(loader), heard(loader)
    expected, samples = replayed(repo, "corpus", "v1", loader.cursor, recipe)
    assert first | second == expected
    assert len(first) + len(second) == len(expected) >= 2 * len(stream)
    for epoch in range(2):
        assert sorted(samples[epoch * len(stream) : (epoch + 1) * len(stream)]) == list(range(len(stream)))


def test_ranks_and_a_restart_hear_the_same_stream(repo: Repository) -> None:
    """Catches ranks that take each other's positions, and a resumed loader that begins somewhere else."""
    recipe = {"seed": 11, "sequence_length": 50, "block_size": 4, "window": 8}
    version = repo.version("corpus", "v1", strict=True)
    found: Heard = {}
    state = None
    for world_size in (3, 1, 2):
        loaders = [
            DataLoader(Stream(version, **recipe), global_batch=12, rank=rank, world_size=world_size, num_workers=rank)
            for rank in range(world_size)
        ]
        for loader in loaders:
            if state is not None:
                loader.load_state_dict(state)
            steps = zip(range(10), loader, strict=False)
            part = heard(batch for _, batch in steps)
            assert min(part) == (0 if state is None else state["position"]) + loader.lane.rank * loader.batch_size
            assert not part.keys() & found.keys()
            found |= part
        state = loaders[0].state_dict()
        assert all(loader.state_dict() == state for loader in loaders)
        for loader in loaders:
            loader.close()
    assert found == replayed(repo, "corpus", "v1", 360, recipe)[0]


@pytest.mark.parametrize(("table", "ref"), [("corpus", "main"), ("plain.e", "main")])
def test_other_tables_and_refs(repo: Repository, table: str, ref: str) -> None:
    """Catches an order that is not keyed by the name of the table, and a branch read as the tag beside it."""
    recipe = {"seed": 7, "sequence_length": 64}
    stream = Stream(repo.version(table, ref), **recipe)
    assert heard(DataLoader(stream, batch_size=len(stream))) == replayed(repo, table, ref, len(stream), recipe)[0]


def test_the_hash_of_a_span_is_that_of_what_was_received(repo: Repository) -> None:
    """Catches a digest() that hashes other bytes than a training loop gets, or in another order."""
    stream = Stream(repo.version("corpus", "v1"), seed=3, sequence_length=40)
    rows = next(iter(DataLoader(stream, batch_size=len(stream))))["input_ids"]
    assert stream.digest(0, len(stream)) == digest_of(rows.numpy().astype("<u4").tobytes())
    assert stream.digest(7, 9) == digest_of(rows[7:9].numpy().astype("<u4").tobytes())


def test_what_was_forgotten_is_replayed_as_zeros(repo: Repository, tmp_path: Path) -> None:
    """Catches an order or a length that changes with a redaction, and a second one that is read without the first."""
    changed = Repository.open(shutil.copytree(repo.url.removeprefix("file://"), tmp_path / "repository"))
    recipe = {"seed": 7, "sequence_length": 64}
    stream = Stream(changed.version("corpus", "v1"), **recipe)
    before = heard(DataLoader(stream, batch_size=len(stream)))
    gone = {next(iter(stream.records(position, position + 1))).id for position in (0, 11, 12)}
    for record in sorted(gone):
        forget(changed, [record], "asked to", who="Ada")
    delete_replaced(changed)
    stream = Stream(Repository.open(tmp_path / "repository").version("corpus", "v1"), **recipe)
    after = heard(DataLoader(stream, batch_size=len(stream)))
    assert after == replayed(changed, "corpus", "v1", len(stream), recipe)[0]
    assert 3 <= sum(after[position] != before[position] for position in before) < len(before) // 2
