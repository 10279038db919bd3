"""Repositories that older versions wrote, kept for ever: every later version reads them and goes on with them.

`format-N` is a repository as its writer left it, `format-N.json` what that writer said of it. Neither is ever written
again: the digests below are the freeze. A change of format adds a new pair.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from blake3 import blake3

import pyfactory as pf
from pyfactory.repo.repository import Repository
from pyfactory.shard.reader import open_shard, open_side

HERE = Path(__file__).parent
FROZEN = {"format-1": "355920d752c9c9bfa47574717620c6f783fd2155c14eb6cc44d601ce50dd117f"}


@pytest.fixture(params=FROZEN)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def repo(name: str, tmp_path: Path) -> Repository:
    shutil.copytree(HERE / name, tmp_path / "repo")
    return Repository.open(tmp_path / "repo")


@pytest.fixture
def facts(name: str) -> dict[str, Any]:
    said: dict[str, Any] = json.loads((HERE / f"{name}.json").read_text())
    return said


def test_the_stored_bytes_are_frozen(name: str) -> None:
    """Catches whoever regenerates the files to make the other tests pass."""
    total = hashlib.sha256()
    for path in sorted((HERE / name).rglob("*")):
        if path.is_file():
            total.update(path.relative_to(HERE).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    total.update((HERE / f"{name}.json").read_bytes())
    assert total.hexdigest() == FROZEN[name]


def test_objects_are_named_by_their_bytes(name: str) -> None:
    """By blake3 alone: an independent reading of what a digest is."""
    paths = [path for path in (HERE / name / "objects").rglob("*") if path.is_file()]
    assert len(paths) > 20
    for path in paths:
        assert blake3(path.read_bytes()).hexdigest() == path.parent.name + path.name


def test_names_and_history_are_read(repo: Repository, facts: dict[str, Any]) -> None:
    assert repo.branches() == facts["branches"]
    assert repo.tags() == facts["tags"]
    assert [commit.digest for commit in repo.log()] == facts["commits"]
    said = [[each.n, each.who, each.why, [change.ref for change in each.changes]] for each in repo.operations()]
    assert said == facts["operations"]


def test_rows_are_read(repo: Repository, facts: dict[str, Any]) -> None:
    """Ids, origins and values, as the writer listed them. Catches a reader that takes columns or sides for others."""
    for table, said in facts["tables"].items():
        version = repo.version(table, "v1")
        assert version.digest == said["version"]
        assert [version.rows, version.tokens, version.shards, version.nbytes] == said["count"]
        rows = []
        for part in version.parts():
            side = open_side(repo.objects.map(part.side), "a side", verify=True)
            batch = open_shard(repo.objects.map(part.shard), "a shard", verify=True)
            for row in range(part.rows):
                rows.append([side.id(row), side.origin(row), batch.slice(row, 1).to_pylist()[0]])
        assert json.loads(json.dumps(rows[:3] + rows[-2:])) == said["rows"]


def test_streams_replay(repo: Repository, facts: dict[str, Any]) -> None:
    """What a loader of today receives is what the loader of then received, and its state still resumes."""
    stream = pf.Stream(repo.version("corpus", "v1"), seed=7, sequence_length=32)
    with pf.DataLoader(stream, batch_size=4) as loader:
        batch = next(iter(loader))
    assert np.asarray(batch["input_ids"]).tolist() == facts["received"]
    resumed = pf.DataLoader(stream, batch_size=2)
    resumed.load_state_dict(facts["state"])
    assert resumed.state_dict() == facts["state"]


def test_work_goes_on(repo: Repository, facts: dict[str, Any], tmp_path: Path) -> None:
    """It verifies, can be written to, and old commits stay what they were."""
    assert repo.verify().problems == []
    (tmp_path / "new.jsonl").write_text('{"id": "doc-new", "text": "new", "source": "web", "score": 1}\n')
    pf.import_files(repo, "raw", [tmp_path / "new.jsonl"], id="id", columns=["source", "score:int64"])
    assert repo.version("raw").rows == facts["tables"]["raw"]["count"][0] + 1
    assert repo.version("raw", "v1").digest == facts["tables"]["raw"]["version"]
    assert repo.verify().problems == []
