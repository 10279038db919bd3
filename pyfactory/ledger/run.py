"""A training run, recorded while a loader hands out its train steps."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from pyfactory.core.versions import code_versions
from pyfactory.errors import InvalidInputError, NotFoundError, PyfactoryError
from pyfactory.ledger.chain import Chain, continued
from pyfactory.ledger.checkpoint import read_checkpoint, write_checkpoint
from pyfactory.order.lane import Lane
from pyfactory.repo.repository import Repository
from pyfactory.repo.version import Version
from pyfactory.stream.stream import Stream

__all__ = ["Consumer", "Run"]

# A claim should last about this long: rare enough to cost nothing, short enough to bound what a crash loses.
_CLAIM_SECONDS = 30.0
_FEWEST_STEPS, _MOST_STEPS = 16, 1 << 16


class Consumer(Protocol):
    """What a run records: a loader, or anything else that hands out train steps of a stream in order."""

    stream: Stream
    lane: Lane
    leads: bool

    @property
    def cursor(self) -> int:
        """The next position: every train step before it has been handed out, whole."""

    def state_dict(self) -> dict[str, Any]:
        """Return the state to resume from."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where a state was saved."""

    def on_step(self, listener: Callable[[tuple[int, int]], None]) -> None:
        """Call `listener(span)` once for each train step, before anything of it is handed out."""


class Run:
    """Records a training run; a context around the training loop. Of all processes only the leading one writes.

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
        # Lane 0 is not enough: tensor-parallel ranks, say, share it. Who writes nothing has no id.
        self._records = loader.leads
        self.id = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(4)}" if self._records else ""
        self._chain = Chain(repo.store, self.id)
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
        entry = {"position": position, "spans": self._received(), "world_size": self._loader.lane.world_size}
        number, digest = self._chain.append("checkpoint", entry)
        record = {
            "repository": self._repo.url,
            "run": self.id,
            "entry": number,
            "digest": digest,
            "position": position,
            "state": self._loader.state_dict(),
        }
        write_checkpoint(Path(path), record)

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
        entry = {
            "position": loader.cursor,
            "identity": loader.stream.identity,
            "version": {"table": version.table, "commit": version.commit, "asked": version.asked},
            "global_batch": loader.lane.global_batch,
            "world_size": loader.lane.world_size,
            "code": code_versions("pyfactory", "torch", "numpy", "pyarrow"),
            "parent": None if self._parent is None else continued(self._repo.store, self._parent),
            "note": self._note,
        }
        named = [self._named(each) for each in loader.stream.versions]
        # `version` says it all if there is one, here: such entries stay what they were before streams had several.
        plain = len(named) == 1 and not named[0]["repository"]
        return entry if plain else entry | {"versions": named}

    def _named(self, version: Version) -> dict[str, str]:
        url = version.repository.url
        return {
            "version": version.digest,
            "table": version.table,
            "commit": version.commit,
            "asked": version.asked,
            "repository": "" if url == self._repo.url else url,
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

    def _received(self) -> list[list[int]]:
        """Return the spans received, but for a train step of which only some micro-batches were handed out.

        Such a step is in no model, and comes again whole.
        """
        lane, position = self._loader.lane, self._loader.cursor
        if lane.accumulation == 1 or not self._spans or self._spans[-1][1] != position + lane.global_batch:
            return self._spans
        *before, (start, _) = self._spans
        return [*before, [start, position]] if start < position else before

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


def _go_to(loader: Consumer, record: dict[str, Any]) -> None:
    if loader.cursor not in (0, record["position"]):
        raise InvalidInputError(
            f"the loader is at position {loader.cursor} and the checkpoint at {record['position']}",
            hint="give resume= to a fresh loader",
        )
    loader.load_state_dict(record["state"])
