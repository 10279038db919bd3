"""`pyfactory trace`, over a repository that the commands of the README have made."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.raw_files import documents, write_job, write_records

COMMAND = [sys.executable, "-c", "import sys; from pyfactory.cli import main; sys.exit(main())"]


def typed(*arguments: object, code: int = 0, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*COMMAND, *map(str, arguments)], capture_output=True, text=True, timeout=110, cwd=cwd)
    assert done.returncode == code, (arguments, done.stdout, done.stderr)
    assert "Traceback" not in done.stderr + done.stdout
    assert "\x1b[" not in done.stdout + done.stderr  # nothing for terminals in a pipe
    return done


def told(*arguments: object) -> object:
    return json.loads(typed(*arguments, "--json").stdout)


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a repository: imported, built and tagged by the commands of the README."""
    folder = tmp_path_factory.mktemp("line")
    write_records(folder / "docs.jsonl", documents(40, 1))
    write_job(folder / "job.yaml")
    typed("init", folder / "repo")
    typed("import", folder / "repo", "raw", folder / "docs.jsonl", "--branch", "main", "-m", "first docs")
    typed("build", folder / "repo", folder / "job.yaml", "--branch", "main")
    typed("tag", folder / "repo", "v1", "main")
    return folder


def test_trace_reads_the_checkpoint_and_the_repository(line: Path) -> None:
    script = f"""
import pyfactory as pf
repo = pf.Repository.open({str(line / "repo" / ".." / "repo")!r})
loader = pf.DataLoader(pf.Stream(repo.version("corpus", "v1"), seed=7, sequence_length=16), batch_size=2)
with pf.Run(repo, loader) as run:
    next(iter(loader))
    open({str(line / "a.pt")!r}, "w").close()
    run.checkpoint({str(line / "a.pt")!r})
"""
    subprocess.run([sys.executable, "-c", script], check=True)
    found = told("trace", line / "a.pt")
    assert [source["tags"] for source in found["sources"]] == [["v1"]]
    assert found["samples"] == 2
    assert [file["name"] for file in found["raw_files"]] == ["docs.jsonl"]
    assert [job["output"] for job in found["jobs"]] == ["corpus"]
    assert found["unknown"] == []
    shown = typed("trace", line / "a.pt").stdout
    assert "docs.jsonl" in shown and f"corpus of commit {found['jobs'][0]['commit'][:12]} was built by job" in shown
    assert f"in {(line / 'repo').resolve().as_uri()}\n" in shown
