"""Measures of shards and tables, kept in the store so that nothing is measured twice.

The value of a shard is kept under `sketch/<measure>/<ab>/<rest of the shard's digest>`, that of a whole table under
`sketch/<measure>/total/<ab>/<rest of the digest of its manifest>`. Totals of a changed table come from the total of the
table it was made from, by its added and removed shards. Both tell what is read now: a redacted shard has the value of
its replacement, and totals name the redactions they were made under. All of it is advice: what is missing or cannot be
read is measured again, and a store that may not be written is only slower. Whoever can write to it can also forge it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from pyfactory.core.canonical import Value, decode, digest_of_value, encode
from pyfactory.core.digest import Digest
from pyfactory.errors import CorruptError, NewerFormatError, NotFoundError, ReadOnlyError
from pyfactory.repo.fields import read_versioned
from pyfactory.repo.gates.base import Measure
from pyfactory.repo.gates.rows import open_content, sound_rows
from pyfactory.repo.objects import TableState
from pyfactory.shard.manifest import Manifest, Part
from pyfactory.store.content import Objects

__all__ = ["THREADS", "Sketches", "sketch_key"]

THREADS = 4
"""Shards that are measured side by side."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def sketch_key(measure: str, digest: Digest, *, total: bool = False) -> str:
    """Return the key of the value of a shard, or of the total of a manifest."""
    return f"sketch/{measure}/{'total/' if total else ''}{digest[:2]}/{digest[2:]}"


@dataclass(frozen=True, slots=True)
class _Neighbour:
    """A manifest that another one was made from: other = root + added - removed."""

    root: Digest
    added: tuple[Part, ...]
    removed: tuple[Part, ...]


class Sketches:
    """The measures of one repository. Any number of threads may share one.

    Args:
        objects: Where shards and sketches are.
        threads: Shards measured side by side; each thread holds one shard at a time.
        keep: Whether values are stored; without, nothing is ever written.
    """

    def __init__(self, objects: Objects, *, threads: int = THREADS, keep: bool = True) -> None:
        self.objects = objects
        self._threads = threads
        self._keep = keep
        self._redacted = digest_of_value(dict(objects.redirect)) if objects.redirect else ""
        self._neighbours: dict[Digest, _Neighbour] = {}
        self._totals: dict[tuple[str, Digest], Value] = {}
        self._asked: dict[tuple[str, Digest], tuple[Measure, Digest]] = {}

    def of(self, measure: Measure, part: Part) -> Value:
        """Return the value of one shard, read if it is kept, else measured and kept.

        Raises:
            CorruptError: The shard is missing or damaged.
        """
        shard = self.objects.current(part.shard)  # nothing may tell of a shard that was redacted
        key = sketch_key(measure.name, shard)
        return self._kept(measure, key, shard, part.rows, lambda: self._measured(measure, part))

    def over(self, measure: Measure, parts: Iterable[Part]) -> Iterator[tuple[Part, Value]]:
        """Yield each shard with its value, in order, measuring some side by side."""
        return self.each(lambda part: (part, self.of(measure, part)), parts)

    def each(self, function: Callable[[_Item], _Result], items: Iterable[_Item]) -> Iterator[_Result]:
        """Yield a function of each item, in order, working on at most `threads` of them at a time."""
        if self._threads == 1:
            yield from map(function, items)
            return
        waiting: deque[Future[_Result]] = deque()
        with ThreadPoolExecutor(self._threads, "pyfactory-gate") as threads:
            try:
                for item in items:
                    if len(waiting) == self._threads:
                        yield waiting.popleft().result()
                    waiting.append(threads.submit(function, item))
                while waiting:
                    yield waiting.popleft().result()
            finally:
                for future in waiting:
                    future.cancel()

    def total(self, measure: Measure, table: TableState | Sequence[Part] | None) -> Value:
        """Return the value of a whole table, or of some shards; None has no rows.

        The total of a table is kept. Made anew it costs one read for each shard whose value is kept, else the shard.
        """
        if table is None:
            return measure.empty()
        if not isinstance(table, TableState):
            return self._sum(measure, table)
        name = (measure.name, table.manifest)
        self._asked[name] = measure, table.manifest
        if name not in self._totals:
            key = sketch_key(measure.name, table.manifest, total=True)
            self._totals[name] = self._kept(
                measure, key, table.manifest, table.rows, lambda: self._total_anew(measure, table)
            )
        return self._totals[name]

    def relate(self, after: TableState, before: TableState, added: Sequence[Part], removed: Sequence[Part]) -> None:
        """Say that a table is another one with shards added and removed, from which totals can be derived."""
        if after.manifest != before.manifest:
            self._neighbours[after.manifest] = _Neighbour(before.manifest, tuple(added), tuple(removed))

    def carry(self, before: TableState, after: TableState) -> None:
        """Keep the totals of `after` that were asked for of `before`: they are what the next change needs."""
        wanted = [measure for measure, root in self._asked.values() if root == before.manifest]
        for measure in wanted if self._keep else ():
            self.total(measure, after)

    def _total_anew(self, measure: Measure, table: TableState) -> Value:
        neighbour = self._neighbours.get(table.manifest)
        if neighbour is not None:
            rows = table.rows + sum(part.rows for part in neighbour.removed)
            total = self._known_total(measure, neighbour.root, rows)
            if total is not None and neighbour.removed:
                total = measure.subtract(total, self._sum(measure, neighbour.removed))
            if total is not None:
                return measure.merge(total, self._sum(measure, neighbour.added))
        return self._sum(measure, Manifest(self.objects, table.manifest).parts())

    def _known_total(self, measure: Measure, root: Digest, rows: int) -> Value | None:
        """Return a total that is kept; None if none is."""
        known = self._totals.get((measure.name, root))
        if known is not None:
            return known
        return self._read(measure, sketch_key(measure.name, root, total=True), root, rows)[0]

    def _sum(self, measure: Measure, parts: Iterable[Part]) -> Value:
        total = measure.empty()
        for _, value in self.over(measure, parts):
            total = measure.merge(total, value)
        return total

    def _measured(self, measure: Measure, part: Part) -> Value:
        batch = open_content(self.objects, part)
        with sound_rows(f"shard {part.shard} in {self.objects.store.url}"):
            return measure.measure(batch)

    def _kept(self, measure: Measure, key: str, of: Digest, rows: int, make: Callable[[], Value]) -> Value:
        value, taken = self._read(measure, key, of, rows)
        if value is None:
            value = make()
            self._write(measure, key, of, value, taken)
        return value

    def _read(self, measure: Measure, key: str, of: Digest, rows: int) -> tuple[Value | None, bool]:
        """Return the value under a key, None if it is not there or not sound, and whether there was something."""
        try:
            content = self.objects.store.get(key)
        except NotFoundError:
            return None, False
        try:
            fields = read_versioned(decode(content, key), ("measure", "of", "redacted", "value"), key, kind="sketch")
            said = (fields.text("measure"), fields.text("of"), fields.text("redacted"))
            if said != (measure.name, of, self._redactions(key)):
                return None, True
            return measure.check(fields.value("value"), rows), True
        except (CorruptError, NewerFormatError):
            return None, True

    def _redactions(self, key: str) -> str:
        """Return the name of the redactions that a value depends on: a total is made of what is read now."""
        return self._redacted if "/total/" in key else ""

    def _write(self, measure: Measure, key: str, of: Digest, value: Value, taken: bool) -> None:
        if not self._keep:
            return
        about: dict[str, Value] = {"measure": measure.name, "of": of, "redacted": self._redactions(key)}
        content = encode({**about, "kind": "sketch", "v": 1, "value": value})
        try:
            if taken:  # by what cannot be read; nothing relies on it
                self.objects.store.replace(key, content)
            else:
                self.objects.store.create(key, content)
        except ReadOnlyError:
            self._keep = False
