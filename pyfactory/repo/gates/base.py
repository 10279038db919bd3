"""What a gate is, what it is shown, and what it answers.

A gate looks at one table as it is on the target branch and as it would become, and answers with a verdict. What it
counts comes from *measures*: pure functions of one content shard, kept per shard (see `sketch`), so that judging a
change costs the changed shards only.
"""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa

from pyfactory.core.canonical import Value, digest_of_value
from pyfactory.core.digest import Digest, digest_of_file
from pyfactory.core.durable import translate_os_error
from pyfactory.errors import CorruptError
from pyfactory.repo.fields import Fields, read_fields
from pyfactory.repo.objects import TableState
from pyfactory.shard.manifest import Part
from pyfactory.store.content import Objects

if TYPE_CHECKING:
    from pyfactory.repo.gates.sketch import Sketches

__all__ = ["EVIDENCE", "Counted", "Gate", "Measure", "Proposal", "Tally", "Verdict", "code_of", "measure_name"]

EVIDENCE = 20
"""Most record ids that a verdict names, and most rows that a tally keeps of one kind in one shard."""

Number = str | int

_MOST = 2**53  # of what a tally counts in a table; sums of forged ones shall still be canonical

_PACKAGE = f"{__package__}."


@dataclass(frozen=True)
class Proposal:
    """One table as it is and as it would become.

    Attributes:
        objects: Where the bytes are.
        table: Its name.
        before: What the target branch has now; None if it has no such table.
        after: What it would have; None if the table would be removed.
        added: Shards of `after` that `before` does not have, in order.
        removed: Shards of `before` that `after` does not have, in order.
        base: All tables of the target branch now, by name.
        sketches: Measures of shards and of whole tables.
    """

    objects: Objects
    table: str
    before: TableState | None
    after: TableState | None
    added: tuple[Part, ...]
    removed: tuple[Part, ...]
    base: Mapping[str, TableState]
    sketches: Sketches

    @property
    def added_rows(self) -> int:
        """Rows of the added shards."""
        return sum(part.rows for part in self.added)

    @property
    def removed_rows(self) -> int:
        """Rows of the removed shards."""
        return sum(part.rows for part in self.removed)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a gate says of one table. It becomes part of the commit, so it holds ids and numbers and never text.

    Attributes:
        gate: Name of the gate.
        table: The table that it judged.
        passed: Whether the commit may be made, as far as this gate goes.
        reason: One sentence with the numbers and the threshold.
        threshold: The options in force, by name; fractions are decimals as text.
        found: What was measured, by name; fractions are decimals as text.
        evidence: Ids of records that show it, at most `EVIDENCE`.
        code: `name/version:digest` of the gate that said so, the digest being the first 16 digits of its sources'.
    """

    gate: str
    table: str
    passed: bool
    reason: str
    threshold: Mapping[str, Number] = field(default_factory=dict)
    found: Mapping[str, Number] = field(default_factory=dict)
    evidence: tuple[str, ...] = ()
    code: str = ""

    def to_value(self) -> dict[str, Value]:
        """Return the canonical value, as commits keep it."""
        return {
            "code": self.code,
            "evidence": list(self.evidence),
            "found": dict(self.found),
            "gate": self.gate,
            "passed": self.passed,
            "reason": self.reason,
            "table": self.table,
            "threshold": dict(self.threshold),
        }

    @classmethod
    def from_value(cls, value: Value, what: str) -> Verdict:
        """Return the verdict that a stored value describes; `what` names it in a CorruptError."""
        names = ("code", "evidence", "found", "gate", "passed", "reason", "table", "threshold")
        fields = read_fields(value, names, what)
        passed, evidence = fields.value("passed"), fields.items("evidence")
        if not isinstance(passed, bool) or not all(isinstance(item, str) for item in evidence):
            raise CorruptError(f"{what} is not a verdict with evidence")
        return cls(
            gate=fields.text("gate"),
            table=fields.text("table"),
            passed=passed,
            reason=fields.text("reason"),
            threshold=_numbers(fields, "threshold", what),
            found=_numbers(fields, "found", what),
            evidence=tuple(evidence),
            code=fields.text("code"),
        )


class Gate(Protocol):
    """A check of one table. A gate is a frozen dataclass whose fields are its options; see `options.option`."""

    @property
    def name(self) -> str:
        """Its name in rules."""

    @property
    def version(self) -> int:
        """Rises when the same table may get another verdict."""

    def obstacle(self, proposal: Proposal) -> str:
        """Return why the table cannot be judged at all ("has no column 'text'"), or "" if it can.

        A rule for all tables passes over such a table; a rule that names it fails.
        """

    def judge(self, proposal: Proposal) -> Verdict:
        """Return the verdict on a table that has no obstacle. Equal proposals get equal verdicts."""


class Measure(Protocol):
    """A pure function of one content shard, whose values can be merged; kept per shard and per table by `Sketches`."""

    @property
    def name(self) -> str:
        """Names the function, its version and its parameters; see `measure_name`. Part of a key in the store."""

    def measure(self, batch: pa.RecordBatch) -> Value:
        """Return the canonical value of a shard; neither place nor ids of its rows may matter."""

    def check(self, value: Value, rows: int) -> Value:
        """Return a value that was stored for so many rows, or raise CorruptError if it cannot be one."""

    def empty(self) -> Value:
        """Return the value of no rows."""

    def merge(self, one: Value, other: Value) -> Value:
        """Return the value of the rows of both; neither order nor grouping may matter. Neither argument is changed."""

    def subtract(self, whole: Value, part: Value) -> Value | None:
        """Return the value of the rows of `whole` without those of `part`, exactly; None if it cannot be had so."""


Counted = tuple[Mapping[str, int], Mapping[str, Iterable[int]]]
"""Counts by name, and row numbers by name."""


class Tally(ABC):
    """A measure that counts things by name, and keeps the first row numbers of some as evidence.

    Its value is `{"counts": {name: count above 0}, "rows": {name: [row, ...]}}`. Rows are of one shard, ascending, at
    most `EVIDENCE` of a name; merged values have none.

    Attributes:
        name: See `Measure`.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """See `Measure`."""

    @abstractmethod
    def count(self, batch: pa.RecordBatch) -> Counted:
        """Return counts by name, and by name the rows to show, ascending."""

    def measure(self, batch: pa.RecordBatch) -> Value:
        """Return the value of a shard."""
        counts, rows = self.count(batch)
        kept = {name: [int(row) for row in islice(shown, EVIDENCE)] for name, shown in rows.items()}
        return {
            "counts": {name: int(count) for name, count in counts.items() if count},
            "rows": {name: shown for name, shown in kept.items() if shown},
        }

    def check(self, value: Value, rows: int) -> Value:
        """Return a stored value, or raise CorruptError."""
        fields = read_fields(value, ("counts", "rows"), f"a value of {self.name}")
        counts = Fields(fields.mapping("counts"), f"the counts of {self.name}")
        shown = Fields(fields.mapping("rows"), f"the rows of {self.name}")
        well = all(0 < counts.count(name) <= _MOST for name in value["counts"])
        for name in value["rows"]:
            listed = shown.items(name)
            well &= 0 < len(listed) <= EVIDENCE and all(type(row) is int and 0 <= row < rows for row in listed)
            well = well and all(low < high for low, high in pairwise(listed))
        if not well:
            raise CorruptError(f"a value of {self.name} has counts of nothing, or rows that do not ascend in the shard")
        return value

    def empty(self) -> Value:
        """Return no counts."""
        return {"counts": {}, "rows": {}}

    def merge(self, one: Value, other: Value) -> Value:
        """Return the sums."""
        return self._combined(one, other, 1)

    def subtract(self, whole: Value, part: Value) -> Value | None:
        """Return the differences; None if a count would fall below nothing, as wrong totals make it."""
        rest = self._combined(whole, part, -1)
        return None if any(count < 0 for count in rest["counts"].values()) else rest

    def _combined(self, one: Value, other: Value, sign: int) -> Value:
        counts = dict(one["counts"])
        for name, count in other["counts"].items():
            counts[name] = counts.get(name, 0) + sign * count
        return {"counts": {name: count for name, count in counts.items() if count}, "rows": {}}


def measure_name(name: str, version: int, **parameters: Value) -> str:
    """Return the name of a measure: `name-version`, and the start of the digest of its parameters if it has any."""
    return f"{name}-{version}" + (f"-{digest_of_value(parameters)[:16]}" if parameters else "")


def code_of(gate: Gate) -> str:
    """Return `name/version:digest` of a gate; the digest names the sources of its module and of those it stands on."""
    return f"{gate.name}/{gate.version}:{_source_digest(type(gate).__module__)[:16]}"


@cache
def _source_digest(module: str) -> Digest:
    digests = {}
    for name in sorted(_sources(module, set())):
        path = Path(str(sys.modules[name].__file__))
        with translate_os_error(path):
            digests[name] = digest_of_file(path)
    return digest_of_value(digests)


def _sources(module: str, met: set[str]) -> set[str]:
    """Add a module of gates, and those of them that it takes functions or classes from."""
    if module not in met:
        met.add(module)
        for value in vars(sys.modules[module]).values():
            home = getattr(value, "__module__", None)
            if isinstance(home, str) and home.startswith(_PACKAGE):
                _sources(home, met)
    return met


def _numbers(fields: Fields, name: str, what: str) -> dict[str, Any]:
    numbers = fields.mapping(name)
    if not all(type(number) in (int, str) for number in numbers.values()):
        raise CorruptError(f"{what}: {name!r} does not map names to numbers and texts")
    return numbers
