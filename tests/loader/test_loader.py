"""The loader: the same train steps on any number of ranks and threads, batches that never change, exact resume."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import threading
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyfactory.errors import CorruptError, InvalidInputError, NewerFormatError
from pyfactory.loader.batch import FIELDS
from pyfactory.loader.loader import DataLoader
from pyfactory.stream.stream import Stream
from tests.corpora import documents_of, memory_stream, token_repository

ROOT = Path(__file__).parents[2]
LENGTHS = [3, 1, 40, 7, 1, 1, 25, 60, 2, 18, 33, 50, 90, 21]


def a_stream(seed: int = 3, length: int = 8, cuts=(2, 7)) -> Stream:
    return memory_stream(documents_of(LENGTHS), cuts, seed=seed, sequence_length=length)


def steps_of(
    stream: Stream, count: int, *, world: int = 1, start: int = 0, global_batch: int = 24, **arguments
) -> list[tuple]:
    """What all ranks together receive: (span, rows by position) of each of `count` train steps."""
    per_rank = []
    for rank in range(world):
        with DataLoader(stream, global_batch=global_batch, rank=rank, world_size=world, **arguments) as loader:
            loader.load_state_dict({**loader.state_dict(), "position": start})
            received = []
            while len(received) < count:
                received += islice(loader, count - len(received))
            per_rank.append([(b["span"], b["indices"].tolist(), b["input_ids"].tolist()) for b in received])
    steps = []
    for parts in zip(*per_rank, strict=True):
        assert len({span for span, _, _ in parts}) == 1
        rows = dict(pair for _, indices, ids in parts for pair in zip(indices, ids, strict=True))
        steps.append((parts[0][0], rows))
    return steps


def test_train_steps_do_not_depend_on_ranks_threads_or_prefetch():
    """Catches: lanes that overlap, a prefetch that reorders, a step that moves with the world size."""
    stream = a_stream()
    expected = [
        (
            (k * 24, k * 24 + 24),
            dict(zip(range(k * 24, k * 24 + 24), stream.tokens(range(k * 24, k * 24 + 24)).tolist(), strict=True)),
        )
        for k in range(7)
    ]
    for world in (1, 2, 3, 4, 8):
        assert steps_of(stream, 7, world=world) == expected
    for workers in range(5):
        for prefetch in (1, 3):
            assert steps_of(stream, 7, world=2, num_workers=workers, prefetch_factor=prefetch) == expected


@settings(max_examples=25, deadline=None)
@given(start=st.integers(0, 200), world=st.sampled_from([1, 2, 3, 4, 8]), workers=st.integers(0, 2))
def test_resume_at_any_position_on_any_world_size(start, world, workers):
    """Catches: a cursor that counts batches of one rank, or what was prefetched."""
    stream = a_stream()
    steps = steps_of(stream, 3, world=world, start=start, num_workers=workers)
    assert [span for span, _ in steps] == [(start + 24 * k, start + 24 * k + 24) for k in range(3)]
    for _, rows in steps:
        for position, row in rows.items():
            assert row == stream.tokens([position])[0].tolist()


def test_state_counts_what_was_received_not_what_was_prefetched():
    stream = a_stream()
    with DataLoader(stream, batch_size=4, num_workers=3, prefetch_factor=4) as loader:
        for number, batch in enumerate(islice(loader, 5)):
            assert loader.state_dict()["position"] == batch["span"][1] == 4 * (number + 1)
        state = json.loads(json.dumps(loader.state_dict()))
    assert len(json.dumps(state)) <= 1024
    again = DataLoader(stream, batch_size=4)
    again.load_state_dict(state)
    assert next(iter(again))["span"] == (20, 24)
    ranks = [DataLoader(stream, global_batch=8, rank=rank, world_size=4) for rank in range(4)]
    for loader in ranks:
        list(islice(loader, 3))
    assert len({json.dumps(loader.state_dict(), sort_keys=True) for loader in ranks}) == 1


def test_epochs_visit_every_sample_once():
    """Catches: an epoch that drops or repeats the ragged end; a second loop that repeats the first."""
    stream = a_stream()
    n = len(stream)
    loader = DataLoader(stream, batch_size=7, num_workers=1)
    spans, lengths = [], []
    for epoch in range(4):
        assert loader.epoch == epoch
        expected = len(loader)
        batches = list(loader)
        assert len(batches) == expected == len(range(spans[-1][1] if spans else 0, (epoch + 1) * n, 7))
        spans += [batch["span"] for batch in batches]
        lengths.append(len(batches))
    assert [start for start, _ in spans] == list(range(0, 7 * len(spans), 7))
    rows = stream.addresses(np.arange(4 * n))
    for epoch in range(4):
        keys = {
            (int(rows.shard[rows.offsets[p]]), int(rows.first[rows.offsets[p]]))
            for p in range(epoch * n, epoch * n + n)
        }
        assert len(keys) == n
    loader.close()


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_batches_that_somebody_holds_never_change(workers):
    """Catches: a pool that reuses a buffer while a tensor, a view or only a NumPy array of it is alive."""
    stream = a_stream()
    loader = DataLoader(stream, batch_size=4, num_workers=workers)
    held = list(islice(loader, 64))
    while len(held) < 64:
        held += islice(loader, 64 - len(held))
    views = []
    for batch in islice(loader, 10):
        views.append((batch["span"], batch["input_ids"][1:3, 2:], batch["targets"].numpy()))
    list(islice(loader, 20))
    gc.collect()
    assert len({batch["span"] for batch in held}) == 64
    for batch in held:
        positions = np.arange(*batch["span"])
        assert (batch["input_ids"].numpy() == stream.tokens(positions)).all()
    for span, ids, targets in views:
        rows = stream.tokens(np.arange(*span))
        assert (ids.numpy() == rows[1:3, 2:]).all()
        expected = np.empty_like(rows)
        stream.fill(stream.addresses(np.arange(*span)), targets=expected)
        assert (targets == expected).all()
    loader.close()


def test_buffers_are_reused():
    """Catches: a pool that never finds a free buffer, so that every batch allocates."""
    loader = DataLoader(a_stream(), batch_size=4, fields=["input_ids"])
    addresses = set()
    for _ in range(5):
        for batch in loader:
            addresses.add(batch["input_ids"].data_ptr())
    assert len(addresses) <= 3


def test_the_batch_contract():
    stream = a_stream()
    batch = next(iter(DataLoader(stream, batch_size=4)))
    assert set(batch) == {*FIELDS, "span"}
    for name in ("input_ids", "targets", "position_ids"):
        assert batch[name].dtype == torch.int64
        assert batch[name].shape == (4, 8)
    assert batch["doc_ids"].dtype == torch.int32
    assert batch["doc_ids"].shape == (4, 8)
    assert batch["cu_seqlens"].dtype == torch.int32
    assert batch["indices"].dtype == torch.int64
    assert batch["indices"].tolist() == [0, 1, 2, 3]
    assert batch["span"] == (0, 4)
    assert isinstance(batch["max_seqlen"], int)
    bounds = batch["cu_seqlens"].tolist()
    assert bounds[0] == 0
    assert bounds[-1] == 32
    assert batch["max_seqlen"] == max(b - a for a, b in pairwise(bounds))
    starts = (batch["position_ids"].flatten() == 0).nonzero().flatten().tolist()
    assert starts == bounds[:-1]
    followed = batch["targets"][:, :-1] != -100
    assert (batch["targets"][:, :-1][followed] == batch["input_ids"][:, 1:][followed]).all()
    assert ((batch["doc_ids"].diff(dim=1) == 1) == ~followed).all()


@pytest.mark.parametrize("name", FIELDS)
def test_each_field_alone_is_the_same_as_with_all(name):
    """Catches: a field that is only right when another is asked for as well."""
    stream = a_stream()
    whole = next(iter(DataLoader(stream, batch_size=6)))
    alone = next(iter(DataLoader(stream, batch_size=6, fields=[name])))
    assert set(alone) == {name, "span"}
    assert torch.equal(torch.as_tensor(alone[name]), torch.as_tensor(whole[name]))


def test_state_of_another_stream_is_refused_and_the_difference_named():
    stream = a_stream(seed=3)
    state = DataLoader(stream, batch_size=4).state_dict()
    with pytest.raises(InvalidInputError, match="seed is 4 here and 3 in the state"):
        DataLoader(a_stream(seed=4), batch_size=4).load_state_dict(state)
    with pytest.raises(InvalidInputError, match="sequence_length is 9 here and 8"):
        DataLoader(a_stream(length=9), batch_size=4).load_state_dict(state)
    with pytest.raises(InvalidInputError, match="version is"):
        DataLoader(a_stream(cuts=(3,)), batch_size=4).load_state_dict(state)
    loader = DataLoader(stream, batch_size=4)
    for broken in ({}, None, [], {**state, "position": -1}, {**state, "position": "5"}, {**state, "identity": None}):
        with pytest.raises(InvalidInputError):
            loader.load_state_dict(broken)
    with pytest.raises(NewerFormatError):
        loader.load_state_dict({**state, "format": 2})
    assert loader.cursor == 0


def test_bad_arguments():
    stream = a_stream()
    for arguments in (
        {},
        {"batch_size": 3, "global_batch": 8},
        {"batch_size": 0},
        {"batch_size": -1},
        {"batch_size": len(stream) + 1},
        {"global_batch": 8, "rank": 0, "world_size": 3},
        {"global_batch": 0},
        {"batch_size": 4, "rank": 2, "world_size": 2},
        {"batch_size": 4, "rank": -1, "world_size": 2},
        {"batch_size": 4, "rank": 0},
        {"batch_size": 4, "num_workers": -1},
        {"batch_size": 4, "prefetch_factor": 0},
        {"batch_size": 4, "fields": ["input_idz"]},
    ):
        with pytest.raises(InvalidInputError):
            DataLoader(stream, **arguments)
    assert len(list(DataLoader(stream, batch_size=len(stream)))) == 1


def test_a_rank_is_never_guessed():
    """Catches: every process of a torchrun silently reading as rank 0."""
    script = "from tests.loader.test_loader import a_stream, DataLoader\nDataLoader(a_stream(), batch_size=2)"
    run = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "WORLD_SIZE": "2", "RANK": "1"},
        capture_output=True,
        text=True,
    )
    assert run.returncode != 0
    assert "init_process_group" in run.stderr


def test_an_older_iteration_ends_and_threads_do_not_leak():
    before = threading.active_count()
    loader = DataLoader(a_stream(), batch_size=2, num_workers=2)
    first = iter(loader)
    next(first)
    second = iter(loader)
    assert next(second)["span"] == (2, 4)
    with pytest.raises(InvalidInputError, match="another was started"):
        next(first)
    second.close()
    loader.close()
    assert threading.active_count() == before
    assert next(iter(loader))["span"] == (4, 6)
    loader.close()


def test_a_damaged_shard_ends_the_loop_with_its_name(tmp_path):
    repo = token_repository(tmp_path / "r", documents_of(LENGTHS), (4,))
    part = repo.version("corpus").manifest.part(1)
    path = repo.store.path(repo.objects.key(part.shard))
    path.unlink()
    path.write_bytes(b"nothing")
    for workers in (0, 2):
        with (
            DataLoader(
                Stream(repo.version("corpus"), seed=1, sequence_length=8), batch_size=4, num_workers=workers
            ) as loader,
            pytest.raises(CorruptError, match=part.shard[:12]),
        ):
            list(loader)


def test_stats_say_who_waits():
    loader = DataLoader(a_stream(), batch_size=4, num_workers=1)
    assert loader.stats()["tokens_per_second"] == 0
    batches = len(list(loader))
    stats = loader.stats()
    assert stats["batches"] == batches
    assert stats["tokens"] == batches * 4 * 8
    assert 0 <= stats["stall_share"] <= 1
    assert stats["stages"]["fill"]["busy"] > 0
    assert stats["stages"]["plan"]["busy"] > 0
    loader.close()


def test_steps_are_announced_before_they_are_handed_out():
    """Catches: a ledger that hears of a train step only after the loop has it."""
    loader = DataLoader(a_stream(), batch_size=4, num_workers=2)
    heard: list[tuple[int, int]] = []
    loader.on_step(heard.append)
    for batch in islice(loader, 4):
        assert heard[-1] == batch["span"]
    assert len(heard) == 4
    loader.close()


def test_results_that_wait_for_the_loop_are_counted():
    """Catches: stages that cannot be told apart, since nobody counts who waits for whom."""
    stream = a_stream()
    with DataLoader(stream, batch_size=4, num_workers=1, prefetch_factor=2) as loader:
        for batch in loader:
            stream.digest(0, 20_000)  # work that takes longer than a batch
            del batch
        stats = loader.stats()
    assert stats["stages"]["fill"]["blocked"] > stats["stall_seconds"]
    assert stats["stall_share"] < 0.5
