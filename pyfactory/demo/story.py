"""The demo: raw files to a trained model, with a crash in the middle, and proof that it changed nothing."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

import pyfactory as pf
from pyfactory.core.digest import Digest, digest_of
from pyfactory.core.durable import translate_os_error
from pyfactory.core.progress import Progress
from pyfactory.demo.training import GLOBAL_BATCH, SEED, SEQUENCE_LENGTH
from pyfactory.errors import InvalidInputError, PyfactoryError
from pyfactory.ledger import CHECKPOINT_FILE

__all__ = ["Result", "play"]

KILL_AT = 35
"""Train step after which the first two processes are killed; the last checkpoint before it is at step 30."""
UNTIL = 80
"""Train steps of the whole run."""
_LIMIT_SECONDS = 300

_JOB = f"""\
# Python sources -> tokens for a small GPT
input: raw
output: corpus
steps:
  - filter: {{min_chars: 200}}
  - dedup: {{method: exact}}
  - train_tokenizer: {{vocab_size: 4096, special_tokens: ["<|endoftext|>"]}}
  - tokenize: {{append: "<|endoftext|>"}}
  - shuffle: {{seed: {SEED}}}
shards: {{target_bytes: 2MB}}
"""


@dataclass(frozen=True, slots=True)
class Result:
    """What the demo found.

    Attributes:
        folder: Where everything lies, or lay.
        kept: Whether it still does.
        import_commit: The commit of the raw files.
        commit: The commit of the tokens, tagged v1.
        tree_digest: Its tree: the same on any machine with the same Python sources and packages.
        version_digest: The token table.
        stream_digest: Hash of the tokens of all positions trained on.
        records: Raw records.
        tokens: Tokens of the table.
        positions: Positions compared.
        identical: Whether every row that a training process received equals the uninterrupted stream's.
        killed_after_step: Train step that both processes had finished when they were killed.
        resumed_at_step: Train step of the checkpoint that training went on from.
        loss_first: Mean loss of the first train step, nats.
        loss_last: Mean loss of the last train step.
        tokens_per_second: Of the resumed process, training included.
        stall_share: Share of that time in which training waited for data.
        trace: The answer to: which data trained the last checkpoint?
    """

    folder: str
    kept: bool
    import_commit: str
    commit: str
    tree_digest: str
    version_digest: str
    stream_digest: str
    records: int
    tokens: int
    positions: int
    identical: bool
    killed_after_step: int
    resumed_at_step: int
    loss_first: float
    loss_last: float
    tokens_per_second: float
    stall_share: float
    trace: dict[str, Any]

    def to_value(self) -> dict[str, Any]:
        """Return a plain dict."""
        return asdict(self)


def play(keep: Path | None, *, say: Callable[[str], None], progress: Progress) -> Result:
    """Play the whole story.

    Args:
        keep: A new or empty folder to keep; None uses a temporary one.
        say: Receives a line of the story now and then.
        progress: Receives progress.

    Raises:
        InvalidInputError: The folder is not empty.
        PyfactoryError: Something failed; the message says what.
    """
    folder = _folder(keep)
    try:
        return _play(folder.resolve(), keep is not None, say, progress)
    finally:
        if keep is None:
            shutil.rmtree(folder, ignore_errors=True)


def _play(folder: Path, kept: bool, say: Callable[[str], None], progress: Progress) -> Result:
    repo = pf.Repository.create(folder / "repository", author="demo")
    sources = Path(sysconfig.get_paths()["stdlib"])
    say(f"1. import: the sources of Python's standard library, {sources}")
    imported = pf.import_files(
        repo, "raw", _modules(sources), glob="*.py", on_bad_record="skip", message="Python sources", author="demo",
        progress=progress,
    )  # fmt: skip
    say(f"   {imported.records:,} records ({imported.skipped} skipped), commit {imported.commit[:12]}")
    job = folder / "job.yaml"
    job.write_text(_JOB)
    say("2. build: filter, dedup, train a tokenizer, tokenize, shuffle")
    built = pf.build(repo, job, message="tokens for the demo", author="demo", progress=progress)
    repo.tag("v1", built.commit, "the data of the demo", author="demo")
    say(f"   {built.tokens:,} tokens, commit {built.commit[:12]}, tagged v1")
    say(f"3. train a small GPT on 2 processes; kill both with SIGKILL after step {KILL_AT}")
    killed_after = _train_and_kill(folder, progress)
    checkpoint = _last_checkpoint(folder)
    say(f"   killed after step {killed_after}; the last checkpoint is {checkpoint.name}")
    say("4. resume on 1 process")
    _train_on(folder, checkpoint, progress)
    say("5. compare what the processes received with the uninterrupted stream, position by position")
    stream = pf.Stream(repo.version("corpus", "v1", strict=True), seed=SEED, sequence_length=SEQUENCE_LENGTH)
    before, after = _received(folder, 2), _received(folder, 1)
    identical = _identical(stream, before, after, checkpoint)
    last = folder / f"step-{UNTIL:05d}.pt"
    stats = after[-1]["stats"]
    return Result(
        folder=str(folder),
        kept=kept,
        import_commit=imported.commit,
        commit=built.commit,
        tree_digest=repo.load(Digest(built.commit)).tree,
        version_digest=built.version,
        stream_digest=stream.digest(0, UNTIL * GLOBAL_BATCH),
        records=imported.records,
        tokens=built.tokens,
        positions=UNTIL * GLOBAL_BATCH,
        identical=identical,
        killed_after_step=killed_after,
        resumed_at_step=_step_of(checkpoint),
        loss_first=before[0]["loss"],
        loss_last=after[-1]["loss"],
        tokens_per_second=stats["tokens_per_second"],
        stall_share=stats["stall_share"],
        trace=pf.trace(last, repository=repo).to_value(),
    )


def _folder(keep: Path | None) -> Path:
    if keep is None:
        return Path(tempfile.mkdtemp(prefix="pyfactory-demo-"))
    with translate_os_error(keep):
        if keep.exists() and not (keep.is_dir() and not any(keep.iterdir())):
            raise InvalidInputError(f"{keep} is not an empty folder", hint="give --keep a new folder")
        keep.mkdir(parents=True, exist_ok=True)
    return keep


def _modules(stdlib: Path) -> list[Path]:
    """Return what belongs to Python itself, without installed packages and tests."""
    left_out = {"site-packages", "dist-packages", "test", "tests", "idlelib", "__pycache__"}
    return sorted(
        path
        for path in stdlib.iterdir()
        if path.name not in left_out and (path.suffix == ".py" or (path / "__init__.py").is_file())
    )


def _start(folder: Path, rank: int, world_size: int, *more: str) -> subprocess.Popen[bytes]:
    # -P: the package that is installed, whatever lies in the current folder.
    command = [sys.executable, "-P", "-m", "pyfactory.demo.training", "--repo", str(folder / "repository")]
    command += ["--folder", str(folder), "--until", str(UNTIL), *more]
    command += ["--rank", str(rank), "--world-size", str(world_size)]
    errors = (folder / f"errors-{world_size}-{rank}.txt").open("wb")
    with errors:
        return subprocess.Popen(command, stdout=errors, stderr=errors, start_new_session=True)


@contextlib.contextmanager
def _processes(folder: Path, world_size: int, *more: str) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Run the ranks of a training; none outlives the block, whatever happens."""
    started: list[subprocess.Popen[bytes]] = []
    try:
        for rank in range(world_size):
            started.append(_start(folder, rank, world_size, *more))
        yield started
    finally:
        for process in started:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _train_and_kill(folder: Path, progress: Progress) -> int:
    """Kill both ranks once each has finished KILL_AT steps; return the last step that both had finished."""
    with _processes(folder, 2) as ranks:
        _follow(folder, ranks, 2, KILL_AT, "train on 2 processes", progress)
        for process in ranks:
            os.killpg(process.pid, signal.SIGKILL)
    return min(len(_lines(folder / f"received-2-{rank}.jsonl")) for rank in range(2))


def _train_on(folder: Path, checkpoint: Path, progress: Progress) -> None:
    with _processes(folder, 1, "--resume", str(checkpoint)) as ranks:
        _follow(folder, ranks, 1, UNTIL, "train on 1 process", progress)
        if ranks[0].wait(_LIMIT_SECONDS):
            raise _failed(folder, 1, 0)


def _follow(
    folder: Path, ranks: list[subprocess.Popen[bytes]], world_size: int, until: int, stage: str, progress: Progress
) -> None:
    """Wait until every rank has noted a train step; look at what they write ten times a second."""
    tick = threading.Event()
    logs = [folder / f"received-{world_size}-{rank}.jsonl" for rank in range(world_size)]
    for _ in range(_LIMIT_SECONDS * 10):
        done = min(_steps_in(log) for log in logs)
        progress(stage, done, until)
        if done >= until:
            return
        for rank, process in enumerate(ranks):
            if process.poll() and _steps_in(logs[rank]) < until:
                raise _failed(folder, world_size, rank)
        tick.wait(0.1)
    raise PyfactoryError(f"{stage} did not reach step {until} in {_LIMIT_SECONDS} s", hint="is the machine very busy?")


def _failed(folder: Path, world_size: int, rank: int) -> PyfactoryError:
    errors = (folder / f"errors-{world_size}-{rank}.txt").read_text(errors="replace").strip().splitlines()
    said = errors[-1] if errors else "it said nothing"
    return PyfactoryError(f"training process {rank} of {world_size} failed: {said}")


def _lines(log: Path) -> list[dict[str, Any]]:
    # A killed process may leave half a line.
    whole = log.read_text().rpartition("\n")[0] if log.exists() else ""
    return [json.loads(text) for text in whole.splitlines()]


def _steps_in(log: Path) -> int:
    lines = _lines(log)
    return int(lines[-1]["step"]) if lines else 0


def _received(folder: Path, world_size: int) -> list[dict[str, Any]]:
    """Return the train steps that all ranks noted, with the rows of all of them."""
    logs = [_lines(folder / f"received-{world_size}-{rank}.jsonl") for rank in range(world_size)]
    return [
        steps[0] | {"rows": {position: row for step in steps for position, row in step["rows"].items()}}
        for steps in zip(*logs, strict=False)
    ]


def _last_checkpoint(folder: Path) -> Path:
    # The newest one whose record was written: the kill may have come between the two files.
    recorded: dict[str, Any] = json.loads((folder / CHECKPOINT_FILE).read_text())["checkpoints"]
    return folder / max(recorded)


def _step_of(checkpoint: Path) -> int:
    return int(checkpoint.stem.removeprefix("step-"))


def _identical(stream: pf.Stream, before: list[dict[str, Any]], after: list[dict[str, Any]], checkpoint: Path) -> bool:
    """Tell whether both runs received exactly their positions, each with the tokens of the uninterrupted stream."""
    expected = {
        str(position): digest_of(row.astype(np.int32).tobytes())
        for position, row in enumerate(stream.tokens(np.arange(UNTIL * GLOBAL_BATCH)))
    }
    first = {position: row for step in before for position, row in step["rows"].items()}
    second = {position: row for step in after for position, row in step["rows"].items()}
    resumed = _step_of(checkpoint) * GLOBAL_BATCH
    complete = set(first) == {str(p) for p in range(len(before) * GLOBAL_BATCH)}
    complete &= set(second) == {str(p) for p in range(resumed, UNTIL * GLOBAL_BATCH)}
    return complete and all(row == expected[position] for rows in (first, second) for position, row in rows.items())
