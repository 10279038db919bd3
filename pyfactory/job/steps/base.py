"""What all steps share: checked parameters, the state they hand on, and the bench on which their tasks are done."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from pyfactory.core.canonical import Value
from pyfactory.core.digest import Digest
from pyfactory.core.durable import translate_os_error
from pyfactory.core.progress import Progress
from pyfactory.errors import InvalidInputError, NotFoundError, ReadOnlyError
from pyfactory.job.executors.base import Executor
from pyfactory.job.pieces import Piece
from pyfactory.job.task import Result, Work, perform
from pyfactory.store.content import Objects

__all__ = ["Bench", "FieldError", "Parameters", "Report", "State", "Step", "read_beside"]


@dataclass(frozen=True, slots=True)
class Report:
    """What a step did.

    Attributes:
        step: Its name.
        version: Version of its output.
        rows_in: Rows it was given.
        rows_out: Rows it passed on.
        dropped: Rows it dropped, by reason.
    """

    step: str
    version: int
    rows_in: int
    rows_out: int
    dropped: Mapping[str, int] = field(default_factory=dict)

    def value(self) -> dict[str, Any]:
        """Return the report as a canonical value."""
        counts = {"rows_in": self.rows_in, "rows_out": self.rows_out, "dropped": dict(self.dropped)}
        return {"step": self.step, "version": self.version, **counts}


@dataclass(frozen=True, slots=True)
class State:
    """What one step hands to the next.

    Attributes:
        pieces: The rows so far, in order.
        schema: Columns of the content shards of all pieces.
        tokenizer: Object of the tokenizer.json that is trained or was used, if there is one.
        attributes: What a token table says of itself.
        seed: Seed of the shuffle, if rows are to be shuffled.
    """

    pieces: tuple[Piece, ...]
    schema: pa.Schema
    tokenizer: Digest | None = None
    attributes: Mapping[str, int] = field(default_factory=dict)
    seed: int | None = None

    @property
    def rows(self) -> int:
        """Number of rows kept so far."""
        return sum(piece.rows for piece in self.pieces)


class Bench:
    """Where a job's tasks are done and counted.

    Args:
        objects: What tasks read and write.
        executor: Where they run.
        progress: Who is told.
    """

    def __init__(self, objects: Objects, executor: Executor, progress: Progress) -> None:
        self.objects = objects
        self.reused = 0
        self.computed = 0
        self._executor = executor
        self._progress = progress

    def perform(self, stage: str, works: Sequence[Work]) -> list[Result]:
        """Return the result of each task, in order; those that were done before are not done again."""

        def one(work: Work) -> tuple[Result, bool]:
            return perform(self.objects, work)

        outcomes = self._executor.map(one, works, stage=stage, progress=self._progress)
        reused = sum(remembered for _, remembered in outcomes)
        self.reused += reused
        self.computed += len(outcomes) - reused
        return [result for result, _ in outcomes]


class Step(Protocol):
    """A step of a job, ready to run: its parameters are complete, its files are read."""

    @property
    def name(self) -> str:
        """Name of the step in a job file."""

    def value(self) -> Value:
        """Return the parameters as a canonical value, with digests of files in place of their paths."""

    def run(self, bench: Bench, state: State) -> tuple[State, Report]:
        """Do the step's tasks and return what comes of them."""


class Parameters(BaseModel, ABC):
    """Base of the parameters of a step, as a job file gives them."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @abstractmethod
    def bind(self, folder: Path) -> Step:
        """Return the step; paths are relative to `folder`.

        Raises:
            FieldError: A parameter names something that is not there or does not fit.
        """


class FieldError(InvalidInputError):
    """A parameter is wrong for a reason that only its step can know.

    Args:
        name: The parameter.
        message: What is wrong.
        hint: The way out.
    """

    def __init__(self, name: str, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.name = name


def read_beside(folder: Path, name: str, path: str) -> bytes:
    """Return the content of the file that parameter `name` gives, relative to `folder`."""
    try:
        with translate_os_error(folder / path):
            return (folder / path).read_bytes()
    except (InvalidInputError, NotFoundError, ReadOnlyError) as error:
        raise FieldError(name, error.message, hint="give a file; paths are relative to the job file") from error
