"""What a training run consumed, written down as it happens.

A run is a chain of small entries `runs/<id>/<number>` in the repository, each created once and naming the digest of
the one before: start, claim, checkpoint, end. A *claim* is made before train steps are handed out and says how far
they may reach, so that even after a SIGKILL the ledger bounds what the lost steps saw. A checkpoint states the span
that its model saw.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from pyfactory.core import canonical
from pyfactory.core.digest import NO_DIGEST, Digest, digest_of
from pyfactory.core.durable import translate_os_error, write_atomic
from pyfactory.core.versions import code_versions
from pyfactory.errors import (
    ConflictError,
    CorruptError,
    InvalidInputError,
    NotFoundError,
    PyfactoryError,
    UnavailableError,
)
from pyfactory.order.lane import Lane
from pyfactory.repo.repository import Repository
from pyfactory.store.base import Store
from pyfactory.stream.stream import Stream

__all__ = ["CHECKPOINT_FILE", "Consumer", "Run", "read_checkpoint", "read_run"]

CHECKPOINT_FILE = "pyfactory.json"

# A claim should last about this long: rare enough to cost nothing, short enough to bound what a crash loses.
_CLAIM_SECONDS = 30.0
_FEWEST_STEPS, _MOST_STEPS = 16, 1 << 16


class Consumer(Protocol):
    """What a run records: a loader, or anything else that hands out train steps of a stream in order."""

    stream: Stream
    lane: Lane

    @property
    def cursor(self) -> int:
        """The next position."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state to resume from."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a state was saved."""

    def on_step(self, listener: Callable[[tuple[int, int]], None]) -> None:
        """Call `listener(span)` before each train step is handed out."""


class Run:
    """Records a training run; a context around the training loop. Only rank 0 writes.

    Args:
        repo: Where the ledger is kept, normally the repository of the data.
        loader: What the run consumes.
        resume: A checkpoint that an earlier run made with `checkpoint`: the loader goes on there, on any number of
            ranks, and what that run handed out afterwards is recorded as abandoned.
        note: Anything that helps to find the run again.

    Raises:
        NotFoundError: `resume` has no `pyfactory.json` beside it.
        InvalidInputError: The checkpoint belongs to another stream, or the loader stands elsewhere.
    """

    def __init__(self, repo: Repository, loader: Consumer, *, resume: str | Path | None = None, note: str = "") -> None:
        self._repo = repo
        self._loader = loader
        self._note = note
        self._parent = None if resume is None else read_checkpoint(resume)
        if self._parent is not None:
            _go_to(loader, self._parent)
        self._spans: list[list[int]] = []
        # Other ranks write nothing, so they have no id.
        self.id = "" if loader.lane.rank else f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}"
        self._records = loader.lane.rank == 0
        self._chain = _Chain(repo.store, self.id)
        self._claims = _Claims(loader.cursor)

    def __enter__(self) -> Run:
        """Write the start of the run."""
        if self._records:
            self._chain.append("start", self._start_entry())
            self._loader.on_step(self._on_step)
        return self

    def checkpoint(self, path: str | Path) -> None:
        """Record that the checkpoint at `path`, already saved, has seen everything received until now.

        Writes `pyfactory.json` into the folder `path`, or beside the file `path`. Call it on all ranks.

        Raises:
            NotFoundError: There is nothing at `path`.
        """
        if not self._records:
            return
        position = self._loader.cursor
        if not Path(path).exists():
            raise NotFoundError(f"there is no checkpoint {path}", hint="save the model, then call run.checkpoint(path)")
        entry = {"position": position, "spans": self._spans, "world_size": self._loader.lane.world_size}
        number, digest = self._chain.append("checkpoint", entry)
        record = {
            "repository": self._repo.url,
            "run": self.id,
            "entry": number,
            "digest": digest,
            "position": position,
            "state": self._loader.state_dict(),
        }
        _write_checkpoint(Path(path), record)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Write the end of the run, and whether it failed."""
        if self._records:
            self._records = False  # the loader may go on; this run does not
            outcome = "finished" if kind is None else "failed"
            try:
                self._chain.append("end", {"position": self._reached(), "outcome": outcome})
            except PyfactoryError as failure:
                if error is None:
                    raise
                # What went wrong in the training matters more than that the ledger could not be told.
                error.add_note(f"the ledger could not record the end of run {self.id}: {failure}")

    def _start_entry(self) -> dict[str, Any]:
        loader, version = self._loader, self._loader.stream.version
        return {
            "position": loader.cursor,
            "identity": loader.stream.identity,
            "version": {"table": version.table, "commit": version.commit, "asked": version.asked},
            "global_batch": loader.lane.global_batch,
            "world_size": loader.lane.world_size,
            "code": code_versions("pyfactory", "torch", "numpy", "pyarrow"),
            "parent": None if self._parent is None else _parent_entry(self._repo, self._parent),
            "note": self._note,
        }

    def _on_step(self, span: tuple[int, int]) -> None:
        """Claim a train step about to be handed out, and note it as received: it is, in the next instruction."""
        if not self._records:
            return
        position = self._claims.needed(span)
        if position is not None:
            self._chain.append("claim", {"position": position})
            self._claims.made(position)
        if self._spans and self._spans[-1][1] == span[0]:
            self._spans[-1][1] = span[1]
        else:
            self._spans.append([*span])  # the loader was moved

    def _reached(self) -> int:
        return max((stop for _, stop in self._spans), default=self._loader.cursor)


class _Claims:
    """How far ahead to claim: about `_CLAIM_SECONDS` of train steps, as fast as they go."""

    def __init__(self, position: int) -> None:
        self._claimed = position
        self._steps = 0
        self._time = 0.0

    def needed(self, span: tuple[int, int]) -> int | None:
        """Return the position to claim before a train step, or None if it is claimed."""
        if span[1] <= self._claimed:
            return None
        elapsed = max(time.monotonic() - self._time, 0.001)
        scaled = int(self._steps * min(4.0, _CLAIM_SECONDS / elapsed))
        self._steps = min(max(scaled, _FEWEST_STEPS), _MOST_STEPS)
        return span[0] + self._steps * (span[1] - span[0])

    def made(self, position: int) -> None:
        """Note that a claim is written."""
        self._claimed, self._time = position, time.monotonic()


class _Chain:
    """The entries of one run, each naming the digest of the one before."""

    def __init__(self, store: Store, run: str) -> None:
        self._store = store
        self._run = run
        self._next = 0
        self._previous = NO_DIGEST

    def append(self, kind: str, entry: dict[str, Any]) -> tuple[int, Digest]:
        now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
        whole = {"v": 1, "n": self._next, "previous": self._previous, "time": now, "kind": kind, **entry}
        content = canonical.encode(whole)
        key = _key(self._run, self._next)
        # Nobody else writes this run: a key that is taken holds either these bytes, from a try whose answer was lost,
        # or a fault.
        if not self._created(key, content) and self._store.get(key) != content:
            raise ConflictError(f"{key} in {self._store.url} was written by somebody else")
        number, self._previous = self._next, digest_of(content)
        self._next += 1
        return number, self._previous

    def _created(self, key: str, content: bytes) -> bool:
        try:
            return self._store.create(key, content)
        except UnavailableError:
            if self._store.size(key) is None:
                raise
            return False  # it landed, and the answer was lost


def read_run(store: Store, run: str) -> list[dict[str, Any]]:
    """Return the entries of a run, oldest first.

    Raises:
        NotFoundError: No such run.
        CorruptError: The chain of entries is broken.
    """
    entries: list[dict[str, Any]] = []
    previous = NO_DIGEST
    while store.size(key := _key(run, len(entries))) is not None:
        content = store.get(key)
        entry = canonical.decode(content, f"{key} in {store.url}")
        if not isinstance(entry, dict) or entry.get("n") != len(entries) or entry.get("previous") != previous:
            raise CorruptError(f"{key} in {store.url} does not follow the entry before it")
        previous = digest_of(content)
        entries.append(entry | {"digest": previous})
    if not entries:
        raise NotFoundError(f"there is no run {run} in {store.url}")
    return entries


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """Return what `Run.checkpoint` wrote for a checkpoint: repository, run, entry, digest, position and loader state.

    Args:
        path: The checkpoint file or folder, or the `pyfactory.json` itself.

    Raises:
        NotFoundError: Nothing is written for this checkpoint.
        CorruptError: The file is not what `Run.checkpoint` writes.
    """
    file, name = _checkpoint_file(Path(path))
    records = _read_records(file)
    if name is None and len(records) == 1:
        (name,) = records
    if name not in records:
        raise NotFoundError(
            f"{file} does not tell of {name or 'one single checkpoint'}",
            hint=f"it tells of {', '.join(sorted(records))}" if records else "call run.checkpoint(path) after saving",
        )
    record = records[name]
    expected = {"repository": str, "run": str, "entry": int, "digest": str, "position": int, "state": dict}
    if not isinstance(record, dict) or any(not isinstance(record.get(key), kind) for key, kind in expected.items()):
        raise CorruptError(f"{file} is damaged: the record of {name} is incomplete")
    return record


def _key(run: str, number: int) -> str:
    return f"runs/{run}/{number:08d}"


def _checkpoint_file(path: Path) -> tuple[Path, str | None]:
    """Return the json file that tells of a checkpoint, and its name there (None: whatever is in there)."""
    if path.name == CHECKPOINT_FILE:
        return path, None
    return (path / CHECKPOINT_FILE, ".") if path.is_dir() else (path.parent / CHECKPOINT_FILE, path.name)


def _read_records(file: Path) -> dict[str, Any]:
    with translate_os_error(file):
        try:
            text = file.read_text()
        except FileNotFoundError:
            raise NotFoundError(
                f"there is no {file.absolute()}", hint="run.checkpoint(path) writes it beside a checkpoint"
            ) from None
        except UnicodeDecodeError as error:
            raise CorruptError(f"{file} is damaged: {error}") from error
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise CorruptError(f"{file} is damaged: {error}") from error
    if not isinstance(value, dict) or value.get("format") != 1 or not isinstance(value.get("checkpoints"), dict):
        raise CorruptError(f"{file} was not written by pyfactory, or by a newer one")
    records: dict[str, Any] = value["checkpoints"]
    return records


def _write_checkpoint(path: Path, record: dict[str, Any]) -> None:
    if not path.exists():
        raise NotFoundError(
            f"there is no checkpoint {path}", hint="save the model first, then call run.checkpoint(path)"
        )
    file, name = _checkpoint_file(path)
    records = _read_records(file) if file.exists() else {}
    # Records of checkpoints that were deleted since would only mislead.
    kept = {other: old for other, old in records.items() if (file.parent / other).exists()}
    value = {"format": 1, "checkpoints": kept | {str(name): record}}
    write_atomic(file, json.dumps(value, indent=1, sort_keys=True).encode())


def _go_to(loader: Consumer, record: dict[str, Any]) -> None:
    if loader.cursor not in (0, record["position"]):
        raise InvalidInputError(
            f"the loader is at position {loader.cursor} and the checkpoint at {record['position']}",
            hint="give resume= to a fresh loader",
        )
    loader.load_state_dict(record["state"])


def _parent_entry(repo: Repository, record: dict[str, Any]) -> dict[str, Any]:
    """Tell which checkpoint a run continues, and what was handed out after it, which is now in no model.

    That is what the run of the checkpoint did next, and what others did that were resumed from the same checkpoint.
    """
    tried = [record["run"], *_resumed_from(repo.store, record)]
    abandoned = [lost for run in tried if (lost := _lost(repo.store, run, record["position"])) is not None]
    return {"run": record["run"], "entry": record["entry"], "digest": record["digest"], "abandoned": abandoned}


def _resumed_from(store: Store, record: dict[str, Any]) -> Iterator[str]:
    for key, _ in store.list("runs"):
        _, run, number = key.split("/")
        if number == f"{0:08d}" and run != record["run"]:
            parent = canonical.decode(store.get(key), key).get("parent")
            if parent is not None and parent["digest"] == record["digest"]:
                yield run


def _lost(store: Store, run: str, position: int) -> dict[str, Any] | None:
    """Return what a run handed out behind a position: exactly if it wrote its end, at most if it did not live to."""
    entries = read_run(store, run)
    ended = entries[-1]["kind"] == "end"
    reached = entries[-1]["position"] if ended else max(entry["position"] for entry in entries)
    return {"run": run, "span": [position, reached], "exact": ended} if reached > position else None
