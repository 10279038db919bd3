"""Train steps of several micro-batches: counted, announced and resumed as steps."""

from __future__ import annotations

from itertools import islice

import pytest
import torch

from pyfactory.errors import InvalidInputError
from pyfactory.ledger import CHECKPOINT_FILE, Run, read_checkpoint, read_run
from pyfactory.loader.loader import DataLoader
from pyfactory.repo.repository import Repository
from pyfactory.stream.stream import Stream
from tests.corpora import documents_of, token_repository
from tests.loader.test_loader import a_stream


def steps_of(count: int, world: int, batch_size: int, **arguments) -> list[dict[int, list[int]]]:
    """Rows by position of each of the first train steps, from all ranks together."""
    stream = a_stream()
    steps: list[dict[int, list[int]]] = [{} for _ in range(count)]
    for rank in range(world):
        with DataLoader(stream, batch_size, global_batch=24, rank=rank, world_size=world, **arguments) as loader:
            wanted, received = count * loader.accumulation, []
            while len(received) < wanted:
                received += islice(loader, wanted - len(received))
        for number, batch in enumerate(received):
            step = number // loader.accumulation
            assert batch["span"] == (24 * step, 24 * step + 24)
            assert len(batch["indices"]) == batch_size
            rows = dict(zip(batch["indices"].tolist(), batch["input_ids"].tolist(), strict=True))
            assert not rows.keys() & steps[step].keys()
            steps[step] |= rows
    return steps


@pytest.mark.parametrize("strided", [False, True])
def test_a_step_is_the_same_for_any_world_and_micro_batch(strided):
    """Catches: micro-batches that repeat or skip samples; a lane that depends on accumulation; threads that reorder."""
    tokens = a_stream().tokens(range(72)).tolist()
    expected = [dict(enumerate(tokens[first : first + 24], first)) for first in (0, 24, 48)]
    for world, batch_size in ((1, 24), (1, 4), (2, 3), (3, 8), (4, 1), (8, 3)):
        assert steps_of(3, world, batch_size, strided=strided, num_workers=world % 3) == expected


def test_the_cursor_counts_whole_steps():
    """Catches: a cursor that moves with the first micro-batch, or by what one rank got."""
    loader = DataLoader(a_stream(), 2, global_batch=12, rank=1, world_size=2, num_workers=1)
    assert (loader.accumulation, loader.batch_size, loader.lane.global_batch) == (3, 2, 12)
    for number, batch in enumerate(islice(loader, 7), 1):
        assert loader.cursor == loader.state_dict()["position"] == 12 * (number // 3)
        assert (loader.cursor == batch["span"][1]) == (number % 3 == 0)
    loader.close()


def test_a_step_half_received_comes_again_whole():
    """In the same process and from a state. Catches: a resume in the middle of a step, whose gradients are gone."""
    stream = a_stream()
    loader = DataLoader(stream, 2, global_batch=8)
    first = [batch["indices"].tolist() for batch in islice(loader, 6)]
    assert first == [[0, 1], [2, 3], [4, 5], [6, 7], [8, 9], [10, 11]]
    resumed = DataLoader(stream, 4, global_batch=8)
    resumed.load_state_dict(loader.state_dict())
    assert next(iter(resumed))["indices"].tolist() == [8, 9, 10, 11]
    assert next(iter(loader))["indices"].tolist() == [8, 9]


def test_an_epoch_has_accumulation_times_as_many_batches():
    """Catches: a length in steps; an epoch that ends in the middle of a step."""
    loader = DataLoader(a_stream(), 2, global_batch=6)
    whole = DataLoader(a_stream(), 6)
    for _ in range(3):
        expected = len(whole)
        assert len(list(whole)) == expected
        assert len(loader) == 3 * expected
        assert len(list(loader)) == 3 * expected


def test_a_step_is_announced_once_before_its_first_batch():
    """Catches: an announcement for each micro-batch; another one when a step comes again after a break."""
    loader = DataLoader(a_stream(), 2, global_batch=8, num_workers=1)
    heard: list[tuple[int, int]] = []
    loader.on_step(heard.append)
    for number, batch in enumerate(islice(loader, 6)):
        assert heard == [(0, 8), (8, 16)][: number // 4 + 1]
        assert batch["span"] == heard[-1]
    list(islice(loader, 5))
    assert heard == [(0, 8), (8, 16), (16, 24)]
    late: list[tuple[int, int]] = []
    loader.on_step(late.append)
    list(islice(loader, 1))
    assert late == [(16, 24)]
    loader.load_state_dict({**loader.state_dict(), "position": 8})
    list(islice(loader, 1))
    assert late == [(16, 24), (8, 16)]
    loader.close()


def test_a_run_records_steps(tmp_path):
    """Catches: a checkpoint that claims to have seen half a step; spans twice as long with two micro-batches."""
    repo = token_repository(tmp_path / "repo", documents_of([50] * 30), (11,))
    stream = Stream(repo.version("corpus", "v1"), seed=7, sequence_length=8)
    (tmp_path / "a.pt").write_bytes(b"weights")
    (tmp_path / "b.pt").write_bytes(b"weights")
    loader = DataLoader(stream, 2, global_batch=4)
    with Run(repo, loader) as run:
        run.checkpoint(tmp_path / "a.pt")
        list(islice(loader, 6))
        run.checkpoint(tmp_path / "a.pt")
        list(islice(loader, 5))
        run.checkpoint(tmp_path / "b.pt")
    entries = read_run(repo.store, run.id)
    assert [entry["spans"] for entry in entries if entry["kind"] == "checkpoint"] == [[], [[0, 12]], [[0, 20]]]
    assert [entry["position"] for entry in entries if entry["kind"] in ("checkpoint", "end")] == [0, 12, 20, 24]
    assert (entries[0]["global_batch"], entries[0]["world_size"]) == (4, 1)
    again = DataLoader(stream, 4)
    with Run(repo, again, resume=tmp_path / "b.pt") as resumed:
        assert next(iter(again))["span"] == (20, 24)
    parent = read_run(repo.store, resumed.id)[0]["parent"]
    assert parent["abandoned"] == [{"run": run.id, "span": [20, 24], "exact": True}]
    assert (tmp_path / CHECKPOINT_FILE).exists()
    assert read_checkpoint(tmp_path / "b.pt")["position"] == 20


def test_only_the_leading_process_writes(tmp_path):
    """Catches: a run for each of the ranks that share lane 0."""
    repo = token_repository(tmp_path / "repo", documents_of([50] * 30), (11,))
    stream = Stream(Repository.open(tmp_path / "repo").version("corpus", "v1"), seed=7, sequence_length=8)
    loader = DataLoader(stream, 2, rank=0, world_size=2, cp_rank=1, cp_size=2)
    with Run(repo, loader) as run:
        list(islice(loader, 2))
    assert run.id == ""
    assert list(repo.store.list("runs")) == []


def test_context_slices_of_every_field():
    """Each rank's part of each field; the rest whole. Catches: a field that stays whole; documents of the part."""
    stream = a_stream(length=8)
    whole = next(iter(DataLoader(stream, 6)))
    for layout, columns in (("zigzag", ([0, 1, 6, 7], [2, 3, 4, 5])), ("contiguous", ([0, 1, 2, 3], [4, 5, 6, 7]))):
        for rank in range(2):
            arguments = {"rank": 0, "world_size": 1, "cp_rank": rank, "cp_size": 2, "cp_layout": layout}
            with DataLoader(stream, 6, num_workers=2, **arguments) as loader:
                part = next(iter(loader))
                for name in ("input_ids", "targets", "position_ids", "doc_ids"):
                    assert part[name].is_contiguous()
                    assert part[name].dtype == whole[name].dtype
                    assert torch.equal(part[name], whole[name][:, columns[rank]])
                for name in ("cu_seqlens", "indices"):
                    assert torch.equal(part[name], whole[name])
                assert (part["max_seqlen"], part["span"]) == (whole["max_seqlen"], whole["span"])
                assert loader.stats()["tokens"] == 6 * 4
    only = next(iter(DataLoader(stream, 6, rank=0, world_size=1, cp_rank=1, cp_size=2, fields=["targets"])))
    assert torch.equal(only["targets"], whole["targets"][:, 2:6])
    assert set(only) == {"targets", "span"}


def test_batches_of_context_slices_are_never_written_again():
    """Catches: buffers for whole sequences that are delivered, or reused while a batch is held."""
    stream = a_stream(length=8)
    loader = DataLoader(stream, 4, rank=0, world_size=1, cp_rank=0, cp_size=2, cp_layout="contiguous", num_workers=3)
    held = list(islice(loader, 20))
    loader.close()
    for batch in held:
        rows = stream.tokens(batch["indices"].tolist())
        assert (batch["input_ids"].numpy() == rows[:, :4]).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"cp_rank": 0, "cp_size": 2}, "cp_rank goes with rank"),
        ({"rank": 0, "world_size": 1, "cp_rank": 0}, "cp_rank and cp_size go together"),
        ({"rank": 0, "world_size": 1, "cp_rank": 2, "cp_size": 2}, "cp_rank 2 of cp_size 2"),
        ({"rank": 0, "world_size": 1, "cp_rank": 0, "cp_size": 3}, "cannot be cut into 6 chunks"),
        ({"rank": 0, "world_size": 1, "cp_rank": 0, "cp_size": 2, "cp_layout": "ring"}, "cp_layout is 'ring'"),
        ({"cp_dim": "cp"}, "give mesh= as well"),
        ({"dp_dims": ("dp",)}, "give mesh= as well"),
        ({"global_batch": 10, "rank": 0, "world_size": 2}, "no whole number of batches of 4"),
        ({"global_batch": 10, "rank": 0, "world_size": 4}, "cannot be shared by 4 ranks"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(InvalidInputError, match=message):
        DataLoader(a_stream(), 4, **arguments)
