"""The whole line and a forgotten record: import, build, forget, build again, import again, prove; also by command."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pyfactory.cli import app
from pyfactory.errors import RefusedError
from pyfactory.factory import build, import_files
from pyfactory.repo.proof import prove
from pyfactory.repo.repository import Repository
from pyfactory.repo.sweep import gc
from pyfactory.shard.blank import forgotten_id
from pyfactory.shard.reader import open_shard, open_side
from pyfactory.stream.sample import describe_sample
from pyfactory.stream.stream import Stream
from tests.erasure_tables import delete_replaced
from tests.raw_files import STEPS, small_repository, write_job


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    small_repository(tmp_path, 30)
    return tmp_path


def ids_of(repo: Repository, table: str, ref: str = "main") -> list[str]:
    return [
        name
        for part in repo.version(table, ref).parts()
        for name in open_side(repo.objects.map(part.side), "side", verify=True).ids.to_pylist()
    ]


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, Any, Any]:
    """Run a command with --json; return its code, result and error."""
    code = app.run([*map(str, arguments), "--json"])
    out, err = capsys.readouterr()
    return code, json.loads(out) if out else None, json.loads(err)["error"] if err else None


def test_the_command(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = folder / "repository"
    repo = Repository.open(place)
    record = next(name for name in ids_of(repo, "corpus") if name in ids_of(repo, "raw"))
    code, dry, _ = run(capsys, "forget", place, "--record", record, "--reason", "asked to", "--dry-run")
    assert code == 0 and dry["redactions"] == [] and dry["runs"] == []
    assert {"raw", "corpus"} <= {found["holder"] for found in dry["places"]}
    assert any(found["holder"].startswith("memo/") for found in dry["places"]), "what tasks left is searched as well"
    code, done, _ = run(capsys, "forget", place, "--record", record, "--record", record, "--reason", "asked to")
    assert code == 0 and len(done["redactions"]) == 1 and done["shards"] == dry["shards"]
    code, proof, _ = run(capsys, "forget", place, "--prove")
    assert code == 1 and any("gc" in failure["hint"] for failure in proof["failures"])
    gc(Repository.open(place), who="Ada", now=datetime.now(UTC) + timedelta(minutes=1))
    code, proof, _ = run(capsys, "forget", place, "--prove", "--record", record)
    assert (code, proof["failures"]) == (0, []) and proof["outside"]
    for arguments, kind in (
        (["--record", record, "--reason", "again"], "not_found"),
        (["--record", "nobody", "--reason", "asked to"], "not_found"),
        (["--record", "doc-1-3"], "invalid_input"),
        (["--reason", "asked to"], "invalid_input"),
        (["--prove", "--reason", "asked to"], "invalid_input"),
        (["--prove", "--record", "nobody"], "not_found"),
    ):
        code, _, error = run(capsys, "forget", place, *arguments)
        assert (code, error["kind"]) == (1, kind), arguments
    assert app.run(["forget", str(place), "--prove"]) == 0
    shown = capsys.readouterr().out
    assert "none of them holds" in shown and "backups" in shown
    assert app.run(["forget", str(place), "--record", "doc-1-2", "--reason", "asked to"]) == 0
    assert "no run in the ledger saw them" in capsys.readouterr().out


def test_what_is_built_later_is_built_from_what_is_left(folder: Path) -> None:
    """Catches: a task over redacted shards remembered, or done, under the name of the task over the old ones."""
    repo = Repository.open(folder / "repository")
    before = repo.version("corpus", "v1")
    stream = Stream(before, seed=1, sequence_length=32)
    whole, digest = describe_sample(stream, 0)["records"], stream.digest(0, len(stream))
    record = whole[0]["id"]
    app.run(["forget", str(folder / "repository"), "--record", record, "--reason", "asked to", "--json"])
    delete_replaced(repo, marks=False)
    repo = Repository.open(folder / "repository")
    again = build(repo, write_job(folder / "again.yaml", STEPS, output="again"))
    assert again.commit == repo.head()
    state = repo.tables()["again"]
    # The same bytes as when nothing of the first build had ever been there.
    delete_replaced(repo)
    build(repo, write_job(folder / "anew.yaml", STEPS, output="anew"))
    assert repo.tables()["anew"].manifest == state.manifest
    assert record not in ids_of(repo, "again")
    assert prove(repo).failures == ()
    redacted = Stream(repo.version("corpus", "v1"), seed=1, sequence_length=32)
    found = describe_sample(redacted, 0)["records"]
    assert (found[0]["id"], found[0]["text"]) == (forgotten_id(record), "")
    assert found[1:] == whole[1:] and redacted.digest(0, len(stream)) != digest
    assert (redacted.tokens([0])[0][: found[0]["stop"] - found[0]["start"]] == 0).all()


def test_an_import_may_not_bring_it_back(folder: Path) -> None:
    repo = Repository.open(folder / "repository")
    app.run(["forget", str(folder / "repository"), "--record", "doc-1-4", "--reason", "asked to", "--json"])
    repo = Repository.open(folder / "repository")
    head = repo.head()
    assert not import_files(repo, "raw", [folder / "raw-1.jsonl"], id="id", columns=["n:int64"]).created
    with pytest.raises(RefusedError, match="'doc-1-4' must not come back: forgotten"):
        import_files(repo, "other", [folder / "raw-1.jsonl"], id="id")
    assert repo.head() == head
    texts = [
        text
        for part in repo.version("raw").parts()
        for text in open_shard(repo.objects.map(part.shard), "shard").column(0).to_pylist()
    ]
    assert texts.count("") == 1 and np.array(texts).size == 60
