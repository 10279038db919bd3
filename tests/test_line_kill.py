"""The whole line, killed or interrupted at any moment: the old view or the new one, and a rerun that goes on."""

from __future__ import annotations

import fcntl
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pyfactory.factory import build, import_files
from pyfactory.repo.repository import Repository
from tests.raw_files import documents, small_repository, write_job, write_records

HERE = Path(__file__).parent
ACTS = ("import", "append", "build", "commit", "tag")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A folder where syncing costs nothing, if there is one: a kill does not touch what the kernel holds."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else tmp_path) as folder:
        yield Path(folder)


def killed(place: Path, mode: str, *acts: str) -> dict[str, list[str]]:
    """What the program says that kills; it forks, so no library may start a thread in it by itself."""
    environment = os.environ | {"PYTHONPATH": str(HERE.parent), "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(HERE / "line_worker.py"), str(place), mode, *acts]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]] = json.loads(done.stdout)
    return found


def check(found: dict[str, list[str]]) -> None:
    for act, outcomes in found.items():
        assert outcomes == sorted(outcomes, reverse=True), "once new, always new"
        assert {"old", "new"} == set(outcomes)
        leased = act in ("import", "append", "build")
        # Besides, a writer gives its lease back, and an import reads what it reports.
        assert outcomes.count("new") >= 3 + 2 * leased, "after the entry, before the hint and after it"


def test_a_kill_at_some_calls(place: Path) -> None:
    """Catches what the test below does, in most cases: a sample of the kills, with all of those around publishing."""
    check(killed(place, "sampled", "append", "build", "tag"))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("act", ACTS)
def test_a_kill_at_every_call(act: str, place: Path) -> None:
    """Catches an entry created before what it names, a completion mark before its objects, a lock left behind.

    After each kill, the rerun ends in the digests of an undisturbed run, and a build computes unfinished tasks only.
    """
    check(killed(place, "full", act))


def test_a_kill_at_random_moments(place: Path) -> None:
    """Catches what happens between calls, on several threads: half a file under its final name."""
    found = killed(place, "random", "append", "build")
    assert [len(outcomes) for outcomes in found.values()] == [5, 5]


@contextmanager
def held(path: Path) -> Iterator[Callable[[subprocess.Popen[str]], None]]:
    """Let whoever opens a file wait until this context ends; gives what returns when a process does."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    handler = signal.signal(signal.SIGIO, lambda *_: None)
    waker = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    descriptor = os.open(path, os.O_RDONLY)

    def opened(process: subprocess.Popen[str]) -> None:
        told: list[int] = []
        while signal.SIGIO not in told:
            if select.select([ours], [], [], 1)[0]:
                told += ours.recv(64)
            assert process.poll() is None, process.communicate()

    try:
        try:
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        except OSError as error:
            pytest.skip(f"no file can be held here: {error}")
        yield opened
    finally:
        os.close(descriptor)  # which ends the lease
        signal.set_wakeup_fd(waker)
        signal.signal(signal.SIGIO, handler)
        ours.close()
        theirs.close()


def run(*arguments: object) -> subprocess.Popen[str]:
    # A shell that starts tests in the background lets them ignore the interrupt.
    program = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
    command = [sys.executable, "-c", program + "from pyfactory.cli import main; main()", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def check_interrupt(repo: Repository, held_file: Path, *arguments: object) -> None:
    """Interrupt a command while it opens a file in the middle of its work, then run it again to its end."""
    before = repo.view()
    with held(held_file) as opened:
        process = run(*arguments)
        opened(process)
        process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (1, ""), err
    assert [line for line in err.splitlines() if "interrupted" in line] == ["error: interrupted"]
    assert "Traceback" not in err and "Error" not in err
    assert Repository.open(repo.store.url).view() == before
    assert repo.verify().problems == []
    again = run(*arguments)
    out, err = again.communicate(timeout=60)
    assert again.returncode == 0, err


def test_an_interrupted_import_commits_nothing(place: Path) -> None:
    """Catches an interrupt that shows a stack trace, ends with another code, or does not keep the commit back."""
    repo = small_repository(place, 20)
    sources = [write_records(place / f"more-{seed}.jsonl", documents(20, seed, f"more-{seed}")) for seed in (5, 6)]
    arguments = ["import", repo.url, "raw", *sources, "--id", "id", "--columns", "n:int64", "--workers", "2"]
    check_interrupt(repo, sources[1], *arguments)
    other = small_repository(place / "other", 20)
    import_files(other, "raw", sources, id="id", columns=["n:int64"])
    assert repo.version("raw").digest == other.version("raw").digest


def test_an_interrupted_build_commits_nothing_and_goes_on(place: Path) -> None:
    """Catches the same of a build, and an interrupt that leaves a task half done and marked."""
    repo = small_repository(place, 20)
    shard = [part.shard for part in repo.version("raw").parts()][1]
    held_file = repo.store.path(repo.objects.key(shard))
    assert held_file is not None
    job = write_job(
        place / "other.yaml", ("filter: {min_chars: 90}", "train_tokenizer: {vocab_size: 256}", "tokenize: {}")
    )
    check_interrupt(repo, held_file, "build", repo.url, job, "--workers", "2")
    other = small_repository(place / "other", 20)
    assert repo.version("corpus").digest == build(other, job).version
