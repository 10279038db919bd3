"""Lanes from a DeviceMesh, in real process groups of four processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pyfactory.repo.repository import Repository
from pyfactory.stream.stream import Stream
from tests.corpora import documents_of, token_repository

ROOT = Path(__file__).parents[2]

# One group of processes for all meshes: starting torch costs more than the tests.
_RANK = """
import json, sys
from itertools import islice
import torch.distributed as dist
from torch.distributed import FileStore
from torch.distributed.device_mesh import init_device_mesh
import pyfactory as pf
folder, rank = sys.argv[1], int(sys.argv[2])
dist.init_process_group("gloo", store=FileStore(folder + "/meet", 4), rank=rank, world_size=4)
stream = pf.Stream(pf.Repository.open(folder + "/repo").version("corpus", "v1"), seed=7, sequence_length=8)
found = {}
for name, (shape, names, arguments, part) in json.loads(sys.argv[3]).items():
    mesh = init_device_mesh("cpu", tuple(shape), mesh_dim_names=tuple(names) if names else None)
    if part:
        mesh = mesh[part]
    try:
        with pf.DataLoader(stream, 3, global_batch=12, mesh=mesh, **arguments) as loader:
            batches = list(islice(loader, 3 * loader.accumulation))
        lane = loader.lane
        found[name] = {
            "lane": [lane.rank, lane.world_size, lane.accumulation],
            "leads": loader.leads,
            "indices": [batch["indices"].tolist() for batch in batches],
            "rows": [batch["input_ids"].tolist() for batch in batches],
            "bounds": [batch["cu_seqlens"].tolist() for batch in batches],
            "span": [batch["span"] for batch in batches],
        }
    except pf.PyfactoryError as error:
        found[name] = str(error)
print(json.dumps(found))
dist.destroy_process_group()
"""

MESHES = {
    "dp x tp": [[2, 2], ["dp", "tp"], {}, None],
    "pp x dp": [[2, 2], ["pp", "dp"], {"strided": True}, None],
    "dp x cp": [[2, 2], ["dp", "cp"], {"cp_dim": "cp"}, None],
    "dp x cp contiguous": [[2, 2], ["dp", "cp"], {"cp_dim": "cp", "cp_layout": "contiguous"}, None],
    "hsdp": [[2, 2], ["dp_replicate", "dp_shard"], {}, None],
    "chosen": [[2, 2], ["left", "right"], {"dp_dims": ["right"]}, None],
    "all the same": [[4], ["tp"], {"dp_dims": []}, None],
    "part": [[2, 2], ["dp", "tp"], {}, "dp"],
    "unnamed": [[4], None, {}, None],
    "expert": [[2, 2], ["dp", "ep"], {}, None],
    "no dp": [[4], ["tp"], {}, None],
    "wrong dim": [[2, 2], ["dp", "tp"], {"dp_dims": ["dp", "cp"]}, None],
    "wrong cp": [[2, 2], ["dp", "tp"], {"cp_dim": "cp"}, None],
    "both": [[2, 2], ["dp", "cp"], {"dp_dims": ["dp", "cp"], "cp_dim": "cp"}, None],
    "rank too": [[2, 2], ["dp", "tp"], {"rank": 0, "world_size": 2}, None],
}


@pytest.fixture(scope="module")
def stream_and_ranks(tmp_path_factory):
    """The stream, and what each of four processes found for each mesh."""
    folder = tmp_path_factory.mktemp("mesh")
    token_repository(folder / "repo", documents_of([50] * 30), (11,))
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", _RANK, str(folder), str(rank), json.dumps(MESHES)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for rank in range(4)
    ]
    answers = [rank.communicate(timeout=100)[0] for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0] * 4
    stream = Stream(Repository.open(folder / "repo").version("corpus", "v1"), seed=7, sequence_length=8)
    return stream, [json.loads(answer) for answer in answers]


def check_union(stream: Stream, lanes: list[dict]) -> None:
    """Assert that lanes, one answer each, are together the first three train steps of 12."""
    for step in range(3):
        rows = {}
        for lane in lanes:
            count = lane["lane"][2]
            for number in range(step * count, (step + 1) * count):
                assert lane["span"][number] == [12 * step, 12 * step + 12]
                for position, row in zip(lane["indices"][number], lane["rows"][number], strict=True):
                    assert position not in rows
                    rows[position] = row
        assert sorted(rows) == list(range(12 * step, 12 * step + 12))
        assert [rows[position] for position in sorted(rows)] == stream.tokens(sorted(rows)).tolist()


@pytest.mark.parametrize(
    ("name", "lanes"),
    [
        ("dp x tp", [0, 0, 1, 1]),
        ("pp x dp", [0, 1, 0, 1]),
        ("hsdp", [0, 1, 2, 3]),
        ("chosen", [0, 1, 0, 1]),
        ("all the same", [0, 0, 0, 0]),
        ("part", [0, 0, 1, 1]),
    ],
)
def test_ranks_of_one_lane_get_the_same_and_lanes_are_the_step(stream_and_ranks, name, lanes):
    """Catches: the global rank as lane; coordinates flattened in the wrong order; the wrong dimension."""
    stream, ranks = stream_and_ranks
    answers = [rank[name] for rank in ranks]
    assert [answer["lane"][0] for answer in answers] == lanes
    assert {answer["lane"][1] for answer in answers} == {max(lanes) + 1}
    assert [answer["leads"] for answer in answers] == [True, False, False, False]
    first = {}
    for lane, answer in zip(lanes, answers, strict=True):
        same = first.setdefault(lane, answer)
        assert all(answer[key] == same[key] for key in ("indices", "rows", "bounds", "span"))
    check_union(stream, list(first.values()))


@pytest.mark.parametrize(
    ("name", "columns"),
    [("dp x cp", [[0, 1, 6, 7], [2, 3, 4, 5]]), ("dp x cp contiguous", [[0, 1, 2, 3], [4, 5, 6, 7]])],
)
def test_context_parallel_ranks_share_each_sequence(stream_and_ranks, name, columns):
    """Catches: context ranks that are lanes; chunks given to the wrong rank; documents counted in the part."""
    stream, ranks = stream_and_ranks
    answers = [rank[name] for rank in ranks]
    assert [answer["lane"][0] for answer in answers] == [0, 0, 1, 1]
    lanes = []
    for pair in (answers[:2], answers[2:]):
        assert pair[0]["indices"] == pair[1]["indices"]
        assert pair[0]["bounds"] == pair[1]["bounds"]
        assert all(bounds[-1] == 3 * 8 for bounds in pair[0]["bounds"])
        rows = np.empty((len(pair[0]["rows"]), 3, 8), np.int64)
        for part, places in zip(pair, columns, strict=True):
            rows[:, :, places] = part["rows"]
        lanes.append({**pair[0], "rows": rows.tolist()})
    check_union(stream, lanes)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("unnamed", "the dimensions of the mesh have no names"),
        ("expert", "a mesh of dp, ep does not say whether ranks along 'ep' share batches"),
        ("no dp", "a mesh of tp does not say which dimension is data-parallel"),
        ("wrong dim", "the mesh has no dimension 'cp' (it has dp, tp)"),
        ("wrong cp", "the mesh has no dimension 'cp' (it has dp, tp)"),
        ("both", "'cp' is both cp_dim and in dp_dims"),
        ("rank too", "a mesh says which rank this is"),
    ],
)
def test_a_mesh_that_leaves_the_lane_open_is_refused(stream_and_ranks, name, message):
    """Catches: a guess, with which ranks would silently train on the same samples."""
    _, ranks = stream_and_ranks
    assert all(message in rank[name] for rank in ranks)
