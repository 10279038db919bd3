"""Rank and world size from a real torch.distributed group of several processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from pyfactory.repo.repository import Repository
from pyfactory.stream.stream import Stream
from tests.corpora import documents_of, token_repository

ROOT = Path(__file__).parents[2]

_RANK = """
import json, sys
from itertools import islice
import torch.distributed as dist
from torch.distributed import FileStore
import pyfactory as pf
folder, rank, world = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
dist.init_process_group("gloo", store=FileStore(folder + f"/meet-{world}", world), rank=rank, world_size=world)
stream = pf.Stream(pf.Repository.open(folder + "/repo").version("corpus", "v1"), seed=7, sequence_length=8)
with pf.DataLoader(stream, global_batch=12, num_workers=1) as loader:
    batches = list(islice(loader, 4))
    states = [None] * world
    dist.all_gather_object(states, loader.state_dict())
assert all(state == states[0] for state in states)
rows = [(b["indices"].tolist(), b["input_ids"].tolist(), b["span"]) for b in batches]
print(json.dumps({"lane": [loader.lane.rank, loader.lane.world_size], "rows": rows}))
dist.destroy_process_group()
"""


def received(folder: Path, world: int) -> list[dict]:
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", _RANK, str(folder), str(rank), str(world)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for rank in range(world)
    ]
    answers = [rank.communicate(timeout=100)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0] * world
    return [json.loads(answer) for answer in answers]


def test_ranks_of_a_process_group_share_each_train_step(tmp_path):
    """Catches: a loader that takes rank 0 everywhere, or a state that differs between ranks."""
    token_repository(tmp_path / "repo", documents_of([50] * 30), (11,))
    stream = Stream(Repository.open(tmp_path / "repo").version("corpus", "v1"), seed=7, sequence_length=8)
    for world in (2, 3):
        answers = received(tmp_path, world)
        assert [answer["lane"] for answer in answers] == [[rank, world] for rank in range(world)]
        for step in range(4):
            parts = [answer["rows"][step] for answer in answers]
            assert all(span == [12 * step, 12 * step + 12] for _, _, span in parts)
            indices = [index for part, _, _ in parts for index in part]
            rows = [row for _, part, _ in parts for row in part]
            assert indices == list(range(12 * step, 12 * step + 12))
            assert rows == stream.tokens(indices).tolist()
