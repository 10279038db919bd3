"""filter: keeps the rows whose text fulfils every condition. Stores which rows are kept, copies nothing.

Conditions are looked at in the order of `FilterParameters`; a row counts as dropped by the first that it fails.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from pyfactory.core.canonical import Value
from pyfactory.errors import InvalidInputError
from pyfactory.job.pieces import Piece, kept_mask, narrowed, open_ids, open_text, store_selection, text_of
from pyfactory.job.steps.base import Bench, Parameters, Report, State
from pyfactory.job.steps.function import Function, Predicate, importable, locate_function
from pyfactory.job.task import Result, Task, library_versions
from pyfactory.store.content import Objects

__all__ = ["VERSION", "Filter", "FilterParameters", "failed_condition"]

VERSION = 1

Mask = NDArray[np.bool_]


class FilterParameters(Parameters):
    """Parameters of `filter`; at least one is needed.

    Attributes:
        min_chars: Least number of Unicode code points.
        max_chars: Greatest number of Unicode code points.
        matches: RE2 pattern that must match somewhere in the text.
        rejects: RE2 pattern that must match nowhere in the text.
        function: "module:name" of a Python function from the text (str) to bool; true keeps the row.
    """

    min_chars: Annotated[int, Field(ge=0)] | None = None
    max_chars: Annotated[int, Field(ge=0)] | None = None
    matches: str | None = None
    rejects: str | None = None
    function: str | None = None

    @field_validator("matches", "rejects")
    @classmethod
    def _compile(cls, pattern: str | None) -> str | None:
        try:
            pc.match_substring_regex(pa.array([""]), pattern or "")
        except pa.ArrowInvalid as error:
            raise ValueError(f"{pattern!r} is not an RE2 pattern: {str(error).partition(': ')[2] or error}") from error
        return pattern

    @model_validator(mode="after")
    def _some_condition(self) -> FilterParameters:
        if self.model_dump(exclude_none=True) == {}:
            raise ValueError(f"a filter needs at least one of {', '.join(type(self).model_fields)}")
        if self.min_chars is not None and self.max_chars is not None and self.min_chars > self.max_chars:
            raise ValueError(f"no text has at least {self.min_chars} and at most {self.max_chars} characters")
        return self

    def bind(self, folder: Path) -> Filter:
        """Return the step; the function's module is looked for in `folder` first."""
        function = None
        if self.function is not None:
            function = locate_function(self.function, folder)
        return Filter(self, function, folder)


@dataclass(frozen=True, slots=True)
class Filter:
    """The step `filter`; see the module."""

    parameters: FilterParameters
    function: Function | None
    folder: Path
    name = "filter"

    def value(self) -> Value:
        """Return the parameters as a canonical value, with the digest of the function's module."""
        source = {} if self.function is None else {"source": self.function.source_digest}
        return {**self.parameters.model_dump(exclude_none=True), **source}

    def run(self, bench: Bench, state: State) -> tuple[State, Report]:
        """Select rows, one task per piece."""
        with importable(self.folder):
            predicate = None if self.function is None else self.function.load()
            works = [FilterWork(self, predicate, piece) for piece in state.pieces]
            results = bench.perform(self.name, works)
        kept = [result.numbers[0] for result in results]
        pieces = narrowed(state.pieces, [result.objects[0] for result in results], kept)
        dropped = {reason: sum(result.counts.get(reason, 0) for result in results) for reason in self.reasons()}
        return replace(state, pieces=pieces), Report(self.name, VERSION, state.rows, sum(kept), dropped)

    def reasons(self) -> list[str]:
        """Return the conditions, in the order in which they are looked at."""
        return [*self.parameters.model_dump(exclude_none=True)]


@dataclass(frozen=True, slots=True)
class FilterWork:
    """The rows of one piece that a filter keeps.

    The result holds the selection (NO_DIGEST: nothing is lost), the number of rows kept and the rows dropped by reason.
    """

    step: Filter
    predicate: Predicate | None
    piece: Piece

    def task(self) -> Task:
        """Return the task; ids have no part in it, they are only named in errors."""
        versions = library_versions("pyarrow")
        if self.predicate is not None:
            versions = {**versions, "python": platform.python_version()}
        return Task("filter", VERSION, self.step.value(), self.piece.inputs(side=False), versions)

    def run(self, objects: Objects) -> Result:
        """Look at every row that is kept so far."""
        text = open_text(objects, self.piece.part)
        kept = kept_mask(objects, self.piece)
        counts = {}
        for reason in self.step.reasons():
            passed = self._passed(reason, text, kept, objects)
            counts[reason] = int(np.count_nonzero(kept & ~passed))
            kept &= passed
        selection = store_selection(objects, self.piece, kept)
        return Result(objects=(selection,), counts=counts, numbers=(int(np.count_nonzero(kept)),))

    def _passed(self, reason: str, text: pa.LargeStringArray, kept: Mask, objects: Objects) -> Mask:
        if reason == "function":
            return self._judged(text, kept, objects)
        return _fulfilled(self.step.parameters, reason, text)

    def _judged(self, text: pa.LargeStringArray, kept: Mask, objects: Objects) -> Mask:
        passed = np.zeros(len(kept), np.bool_)
        for row in np.flatnonzero(kept).tolist():
            passed[row] = self._verdict(text_of(text, row, self.piece.part), row, objects)
        return passed

    def _verdict(self, text: str, row: int, objects: Objects) -> bool:
        assert self.predicate is not None
        try:
            verdict = self.predicate(text)
        except (Exception, SystemExit) as error:
            raise InvalidInputError(
                f"the filter function {self.step.parameters.function} failed on record {self._id(row, objects)!r}: "
                f"{type(error).__name__}: {error}",
                hint="mend the function, or let it return False for such records",
            ) from error
        if not isinstance(verdict, bool):
            raise InvalidInputError(
                f"the filter function {self.step.parameters.function} returned {verdict!r} for record "
                f"{self._id(row, objects)!r}",
                hint="it must return True (keep) or False (drop)",
            )
        return verdict

    def _id(self, row: int, objects: Objects) -> str:
        return open_ids(objects, self.piece.part).id(row)


def failed_condition(parameters: FilterParameters, text: str) -> str | None:
    """Return the first condition that a text fails, None if it fulfils all; a function is not asked."""
    array = pa.array([text], pa.large_string())
    for reason in parameters.model_dump(exclude_none=True):
        if reason != "function" and not _fulfilled(parameters, reason, array)[0]:
            return reason
    return None


def _fulfilled(parameters: FilterParameters, reason: str, text: pa.LargeStringArray) -> Mask:
    """Return which texts fulfil a condition that is no function: bool[rows]."""
    match reason:
        case "min_chars":
            return _mask(pc.greater_equal(pc.utf8_length(text), parameters.min_chars))
        case "max_chars":
            return _mask(pc.less_equal(pc.utf8_length(text), parameters.max_chars))
        case "matches":
            return _mask(pc.match_substring_regex(text, parameters.matches))
    return ~_mask(pc.match_substring_regex(text, parameters.rejects))


def _mask(array: pa.BooleanArray) -> Mask:
    mask: Mask = array.to_numpy(zero_copy_only=False)
    return mask
