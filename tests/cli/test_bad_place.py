"""Where and when a command may run: no permission, no space, others at work, files too large, a Ctrl-C."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_runs import COMMAND, Ran, Shell, check_refusal

from pyfactory.errors import PyfactoryError
from pyfactory.factory import import_files
from pyfactory.repo.repository import Repository
from tests.raw_files import documents, write_job, write_records

SEVERAL = """
import contextlib, io, json, os, sys
from pyfactory.cli.app import run

def ran(*arguments):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(arguments)
    return code, out.getvalue(), err.getvalue()

warm_up, user, commands = json.loads(sys.argv[1])
for arguments in warm_up:
    assert ran(*arguments)[0] == 0, ran(*arguments)
if user is not None and os.geteuid() == 0:  # whom no mode stops
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)
print(json.dumps([ran(*arguments) for arguments in commands]))
"""


def several(commands: Any, *, before: Any = (), warm_up: Any = (), user: int | None = None) -> list[Ran]:
    """Run commands one after the other in one other process, maybe as another user or in a place of its own."""
    texts = [[str(argument) for argument in arguments] for arguments in commands]
    first = [[str(argument) for argument in arguments] for arguments in warm_up]
    done = subprocess.run(
        [*before, sys.executable, "-c", SEVERAL, json.dumps([first, user, texts])],
        capture_output=True,
        text=True,
        timeout=100,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    return [Ran(*result) for result in json.loads(done.stdout)]


@pytest.fixture
def read_only(original: Path) -> Iterator[Path]:
    """A copy that every user may read, unlike tmp_path, and nobody may write to."""
    folder = Path(tempfile.mkdtemp())
    shutil.copytree(original / "repository", folder / "repository")
    shutil.copy(original / "raw-1.jsonl", folder)
    write_job(folder / "job.yaml", target="3KB")
    (folder / "secret.jsonl").write_text('{"text": "a"}\n')
    (folder / "secret.jsonl").chmod(0)
    folders = [folder, *(path for path in folder.rglob("*") if path.is_dir())]
    for path in folders:
        path.chmod(0o555)
    yield folder
    for path in folders:
        path.chmod(0o755)
    shutil.rmtree(folder)


def test_without_permission(read_only: Path, original: Path, tmp_path: Path) -> None:
    """Another user may read all and is told plainly what may not be written."""
    repo, sample = read_only / "repository", ["corpus", "--seed", "1", "--sequence-length", "9"]
    # Every module is loaded first: the other user may not see where Python lies.
    warm_up = [
        ["init", tmp_path / "repo"],
        ["import", tmp_path / "repo", "raw", original / "raw-1.jsonl"],
        ["build", tmp_path / "repo", read_only / "job.yaml"],
        ["sample", tmp_path / "repo", *sample],
        ["verify", tmp_path / "repo"],
        ["log", tmp_path / "repo"],
    ]
    ran = several(
        [
            ["log", repo],
            ["verify", repo],
            ["sample", repo, *sample],
            ["import", repo, "notes", read_only / "raw-1.jsonl"],
            ["build", repo, read_only / "job.yaml"],
            ["tag", repo, "v2"],
            ["branch", repo, "dev"],
            ["init", read_only / "new"],
            ["import", repo, "notes", read_only / "secret.jsonl"],
        ],
        warm_up=warm_up,
        user=65534,
    )
    assert [one.code for one in ran] == [0, 0, 0, 1, 1, 1, 1, 1, 2]
    for one in ran[3:8]:
        said = check_refusal(one)
        assert f"{read_only}/" in said and ": no permission | check the owner and mode" in said
    assert "secret.jsonl' is not readable" in check_refusal(ran[8], 2)
    assert Repository.open(repo).tags().keys() == {"v1"}


def test_a_full_disk(tmp_path: Path) -> None:
    """On a file system of 3 MB: what was committed stays whole, and work goes on when there is space."""
    isolated = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    mount = [*isolated, 'mount -t tmpfs -o size=3m none "$0" && exec "$@"', str(tmp_path / "disk")]
    (tmp_path / "disk").mkdir()
    try:
        subprocess.run([*mount, "true"], check=True, capture_output=True, timeout=30)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"this machine does not let a process mount a small file system: {error}")
    small = write_records(tmp_path / "small.jsonl", documents(20, 1))
    large = write_records(tmp_path / "large.jsonl", ({"text": f"{n} " * 200} for n in range(5000)))
    repo = tmp_path / "disk" / "repo"
    ran = several(
        [
            ["init", repo],
            ["import", repo, "raw", small],
            ["import", repo, "raw", large],
            ["demo", "--keep", tmp_path / "disk" / "demo"],
            ["verify", repo],
            ["tag", repo, "v1"],
            ["log", repo],
        ],
        before=mount,
    )
    assert [one.code for one in ran] == [0, 0, 1, 1, 0, 0, 0]
    assert "no space left on the disk | free space and run the command again" in check_refusal(ran[2])
    assert "no space left on the disk" in ran[3].err and "Traceback" not in ran[3].err
    assert "all is well" in ran[4].out and ran[6].out.count("\n") == 2


def test_two_builds_at_once(repo: Path, tmp_path: Path) -> None:
    """Two tables on one branch: both are built and committed, whoever comes first."""
    jobs = [write_job(tmp_path / f"{name}.yaml", output=name, target="2KB") for name in ("one", "two")]
    started = [
        subprocess.Popen([*COMMAND, "build", str(repo), str(job)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for job in jobs
    ]
    for process in started:
        _, err = process.communicate(timeout=60)
        assert process.returncode == 0, err.decode()
    opened = Repository.open(repo)
    assert {"one", "two", "corpus", "raw"} == set(opened.tables())
    assert opened.version("one").digest == opened.version("two").digest
    assert opened.verify().problems == []


def shorten(path: Path) -> None:
    os.truncate(path, 1000)


def lengthen(path: Path) -> None:
    with path.open("a") as file:
        file.write("{}\n")


@pytest.mark.parametrize(
    ("change", "message"), [(shorten, "changes while"), (lengthen, "changes while"), (Path.unlink, "no such file")]
)
def test_a_file_that_changes_while_it_is_read(
    repo: Path, tmp_path: Path, change: Callable[[Path], None], message: str
) -> None:
    """Catches the half of a record, which the change has left, being blamed for it."""
    opened = Repository.open(repo)
    before = opened.view()
    source = write_records(tmp_path / "log.jsonl", ({"text": f"{n} " * 200} for n in range(5000)))
    todo = [change]

    def act(stage: str, done: int, total: int | None) -> None:
        if stage == "read" and done and todo:
            todo.pop()(source)

    with pytest.raises(PyfactoryError, match=rf"log\.jsonl:? {message}"):
        import_files(opened, "notes", [source], workers=1, progress=act)
    assert opened.view() == before and opened.verify().problems == []


MEASURED = """
import sys
from pathlib import Path
from pyfactory.cli.app import run

code = run(sys.argv[1:])
# Unlike getrusage, this says nothing of the process that started this one.
peak = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
print(int(peak.split()[1]) / 1e6, file=sys.stderr)
sys.exit(code)
"""


def measured(*arguments: object) -> tuple[Ran, float]:
    """Run a command; return also the most memory it had, in GB."""
    command = [sys.executable, "-c", MEASURED, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500)
    *err, peak = done.stderr.splitlines()
    return Ran(done.returncode, done.stdout, "\n".join([*err, ""])), float(peak)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_document_of_200_mb(repo: Path, tmp_path: Path) -> None:
    """It takes a few times its size of memory, in import and in a build with all steps."""
    text = "the quick brown fox jumps over the lazy dog, as it did before; " * 3_200_000
    source = tmp_path / "large.jsonl"
    source.write_text(json.dumps({"text": text[:200_000_000]}) + '\n{"text": "small"}\n')
    (tmp_path / "large.txt").write_text(text[:200_000_000])
    steps = ("filter: {min_chars: 2}", "dedup: {method: exact}", "train_tokenizer: {vocab_size: 256}", "tokenize: {}")
    job = write_job(tmp_path / "large.yaml", steps, source="large", output="tokens")
    for arguments in (["import", repo, "large", source], ["import", repo, "text", tmp_path / "large.txt"]):
        ran, memory = measured(*arguments)
        assert ran.code == 0 and memory < 1.3, (ran, memory)
    ran, memory = measured("build", repo, job)
    assert ran.code == 0 and "2 rows, 200,000,005 tokens" in ran.out and memory < 3, (ran, memory)
    opened = Repository.open(repo)
    assert opened.version("tokens").tokens == 200_000_005 and opened.verify().problems == []


@pytest.mark.slow
def test_a_line_beyond_the_limit(shell: Shell, repo: Path, tmp_path: Path) -> None:
    """It is a bad record like others, refused or skipped, and is never held in memory whole."""
    source = tmp_path / "long.jsonl"
    source.write_text('{"text": "a"}\n{"text": "' + "b" * (300 << 20) + '"}\n{"text": "c"}\n')
    ran, memory = measured("import", repo, "notes", source)
    assert "long.jsonl:2: longer than the limit of 268,435,456 bytes" in check_refusal(ran) and memory < 0.6, memory
    assert "notes" not in Repository.open(repo).tables()
    out = shell.done("import", repo, "notes", source, "--on-bad-record", "skip")
    assert "imported 2 records" in out and "skipped 1 bad record;" in out
    source.rename(tmp_path / "long.txt")
    assert "long.txt:1: longer than the limit" in check_refusal(shell("import", repo, "notes", tmp_path / "long.txt"))
