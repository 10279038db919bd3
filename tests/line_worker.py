"""A program that kills the whole line at calls of the store and at random moments, and judges what is left each time.

    line_worker.py FOLDER sampled|full|random ACT...

Everything happens in forks of this process, which has loaded all modules and never starts a thread; it prints what the
repository showed after each kill, "old" or "new", in the order of the kills, by act.
"""

from __future__ import annotations

import json
import os
import random
import select
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.compute
import pyarrow.parquet  # noqa: F401 - what a child would load by itself takes longer than its work

import pyfactory.job.executors.in_process
import pyfactory.job.steps.open  # noqa: F401
from pyfactory.errors import ConflictError
from pyfactory.factory import build, import_files
from pyfactory.repo.repository import Repository
from pyfactory.store.local import LocalStore
from pyfactory.store.wrap import Faulty
from tests.raw_files import documents, small_repository, write_job, write_records

HERE = Path(sys.argv[1]) if len(sys.argv) > 1 else Path()
SAMPLE = 6
RANDOM_KILLS = 5

ACTS: dict[str, Callable[[Repository, int], Any]] = {
    "import": lambda repo, workers: import_files(repo, "other", [HERE / "new.jsonl"], id="id", workers=workers),
    "append": lambda repo, workers: import_files(
        repo, "raw", [HERE / "new.jsonl"], id="id", columns=["n:int64"], workers=workers
    ),
    "build": lambda repo, workers: build(repo, HERE / "other.yaml", workers=workers),
    "commit": lambda repo, workers: repo.commit({"copy": repo.tables()["raw"]}, message="copy"),
    "tag": lambda repo, workers: repo.tag("v2", message="release"),
}
REFUSED_AGAIN = {"tag": ConflictError}
"""What a rerun is told when the first run had come to its end: the records or the tag are there already."""


def forked(work: Callable[[], Any], delay: float | None = None) -> tuple[int, Any]:
    """Do work in a child, killed after `delay` seconds if it is still at it; return its exit code and its result."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writing, json.dumps(work()).encode())
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        os._exit(0)
    os.close(writing)
    if delay is not None:
        ended = os.pidfd_open(child)
        if not select.select([ended], [], [], delay)[0]:
            os.kill(child, signal.SIGKILL)
        os.close(ended)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    with os.fdopen(reading, "rb") as file:
        answer = file.read()
    return code, json.loads(answer) if code == 0 else None


def prepare() -> None:
    repo = small_repository(HERE, 30)
    write_records(HERE / "new.jsonl", documents(30, 3, "new"))
    write_job(HERE / "other.yaml", ("filter: {min_chars: 100}", "dedup: {method: exact}", *TAIL), target="10KB")
    assert repo.verify().problems == []


TAIL = ("train_tokenizer: {vocab_size: 260}", "tokenize: {}", "shuffle: {seed: 1}")


def seen(repo: Repository) -> list[Any]:
    """All that a reader can see: the tables of the branch, and the tags."""
    tables = {name: state.digest for name, state in repo.tables().items()}
    return [repo.load(repo.head()).tree, tables, repo.tags(), repo.view().n]


def undisturbed(act: str, copy: Path) -> dict[str, Any]:
    """Do the act and return what is seen before and after, its calls, its tasks and its seconds."""
    calls: list[tuple[int, str]] = []
    before = lambda number, method, key: calls.append((number, "before"))  # noqa: E731
    after = lambda number, method, key: calls.append((number, "after"))  # noqa: E731 - not of calls that raise
    old = seen(Repository.open(copy))
    started = time.perf_counter()
    report = ACTS[act](Repository.open(Faulty(LocalStore(copy), before, after)), 1)
    seconds = time.perf_counter() - started
    tasks = (report.computed, report.reused) if act == "build" else (0, 0)
    return {"old": old, "new": seen(Repository.open(copy)), "calls": calls, "tasks": tasks, "seconds": seconds}


def disturbed(act: str, copy: Path, call: int, when: str) -> None:
    """Do the act and die before or after a call."""

    def kill(number: int, method: str, key: str) -> None:
        if number == call:
            os.kill(os.getpid(), signal.SIGKILL)

    ACTS[act](Repository.open(Faulty(LocalStore(copy), **{when: kill})), 1)


def judged(act: str, copy: Path, expected: dict[str, Any]) -> str:
    """Check what a kill left, do the act again, check that too; return which view there was."""
    repo = Repository.open(copy)
    found = seen(repo)
    assert same(found, expected["old"]) or same(found, expected["new"]), found
    outcome = "old" if same(found, expected["old"]) else "new"
    assert repo.verify().problems == []
    marks = sum(1 for _ in repo.store.list("memo"))
    try:
        report = ACTS[act](repo, 2)
    except ConflictError as error:
        assert outcome == "new" and isinstance(error, REFUSED_AGAIN[act]), error
    else:
        assert outcome == "old" or act not in REFUSED_AGAIN
        if act == "build":
            done = marks - sum(1 for _ in Repository.open(HERE / "repository").store.list("memo"))
            computed, reused = expected["tasks"]  # tasks of the earlier build are reused in any case
            assert (report.computed, report.reused) == (computed - done, reused + done), (expected, done)
    assert same(seen(Repository.open(copy)), expected["new"])
    assert repo.verify().problems == []
    return outcome


def same(left: list[Any], right: list[Any]) -> bool:
    """Compare two states; commits have a time, so tags are compared by name."""
    return [left[0], left[1], sorted(left[2]), left[3]] == [right[0], right[1], sorted(right[2]), right[3]]


def single() -> bool:
    """Tell whether this process has one thread, besides the one by which an allocator of Arrow gives memory back."""
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    return len([name for name in names if not name.startswith("jemalloc")]) == 1


def chosen(calls: list[Any], mode: str) -> list[Any]:
    if mode == "full" or len(calls) <= 20 + SAMPLE:
        return calls
    early, publishing = calls[:-20], calls[-20:]  # what comes after the entry included
    return sorted(random.Random(len(calls)).sample(early, SAMPLE), key=early.index) + publishing


def kills(act: str, mode: str) -> list[str]:
    """Kill an act many times, each time in a copy of the repository of its own."""
    shutil.copytree(HERE / "repository", HERE / "undisturbed")
    code, expected = forked(lambda: undisturbed(act, HERE / "undisturbed"))
    assert code == 0
    shutil.rmtree(HERE / "undisturbed")
    outcomes = []
    chance = random.Random(7)
    turns = [chance.uniform(0, expected["seconds"]) for _ in range(RANDOM_KILLS)]
    for turn in turns if mode == "random" else chosen(expected["calls"], mode):
        copy = HERE / "killed"
        shutil.copytree(HERE / "repository", copy)
        if mode == "random":
            code, _ = forked(lambda: ACTS[act](Repository.open(copy), 2) and None, delay=turn)  # noqa: B023 - at once
            assert code in (0, -signal.SIGKILL), (act, turn, code)
        else:
            code, _ = forked(lambda: disturbed(act, copy, *turn))  # noqa: B023
            assert code == -signal.SIGKILL, (act, turn, code)
        code, outcome = forked(lambda: judged(act, copy, expected))  # noqa: B023
        assert code == 0, (act, turn)
        outcomes.append(outcome)
        shutil.rmtree(copy)
    return outcomes


if __name__ == "__main__":
    assert single()
    assert forked(prepare)[0] == 0
    found = {name: kills(name, sys.argv[2]) for name in sys.argv[3:]}
    assert single()
    print(json.dumps(found))
