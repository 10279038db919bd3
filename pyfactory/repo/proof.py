"""The proof that records are gone: every object that can be reached is read, and none of them holds their bytes.

What no reading of this repository can show is listed as outside the proof.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pyfactory.core.digest import NO_DIGEST, Digest, parse_digest
from pyfactory.core.progress import Progress, no_progress
from pyfactory.errors import InvalidInputError, NotFoundError, PyfactoryError
from pyfactory.repo.home import Home
from pyfactory.repo.index_files import INDEX, index_sides
from pyfactory.repo.records import Everything, keys_of, marks
from pyfactory.repo.redaction import Overlay, Redaction, overlay_of
from pyfactory.shard.blank import FORGOTTEN, blank_rows, rows_with_text
from pyfactory.shard.layout import KEY_BYTES, key_of_id
from pyfactory.shard.reader import Side, open_shard, open_side
from pyfactory.shard.tree import Part

__all__ = ["OUTSIDE", "Failure", "Proof", "prove"]

OUTSIDE = (
    "backups and copies of the repository, and older versions that a bucket keeps of its objects",
    "raw files outside the repository, from which records were imported",
    "models trained on the records, and what was exported from the repository",
    "tokenizers and other artifacts learnt from the records: merges, statistics, totals of gates",
    "ids that somebody wrote into a message, a name or a file, or a gate into its evidence",
    "programs that still hold a deleted shard open, and disk blocks that are not yet overwritten",
)
"""What the proof does not cover."""

_VERIFY = "pyfactory verify lists all that is wrong"
_GC = "run pyfactory gc, then prove it again"
_MADE_FROM = ("sources", "skipped_list", "job")  # fields of a commit's `made_by` that name objects


@dataclass(frozen=True, slots=True)
class Failure:
    """Something that still holds what was to be gone, or that could not be read.

    Attributes:
        object: Digest or key of what holds it.
        message: What is wrong.
        hint: The way out.
    """

    object: str
    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class Proof:
    """What was checked.

    Attributes:
        redactions: Number of redactions that were to be proved.
        records: Number of records that they forgot.
        gone: Objects that had to be absent.
        objects: Objects read, each verified against its digest.
        nbytes: Bytes of these.
        failures: Why it is no proof; empty if it is one.
        outside: What it does not cover.
    """

    redactions: int
    records: int
    gone: int
    objects: int
    nbytes: int
    failures: tuple[Failure, ...]
    outside: tuple[str, ...] = OUTSIDE


def prove(home: Home, record_ids: Sequence[str] = (), progress: Progress = no_progress) -> Proof:
    """Show that forgotten records are gone, or what still holds them. Reads every object of the repository.

    Args:
        home: The repository.
        record_ids: Records to prove it of; none: all that were ever forgotten.
        progress: Told of each object read, as stage `prove`.

    Raises:
        NotFoundError: One of the records was never forgotten here, or nothing was.
    """
    view = home.view()
    overlay = overlay_of(home, view)
    search = _Search(home, overlay, _chosen(home, overlay, record_ids), progress)
    if record_ids:
        search.wanted = keys_of(record_ids)
    search.absent()
    search.caches()
    search.tables(Everything(home, view))
    return Proof(
        redactions=len(search.redactions),
        records=len(search.wanted),
        gone=len(search.old),
        objects=len(search.read),
        nbytes=sum(search.read.values()),
        failures=tuple(search.failures.values()),
    )


def _chosen(home: Home, overlay: Overlay, record_ids: Sequence[str]) -> list[Redaction]:
    if overlay.last is None:
        raise NotFoundError(f"{home.url}: no record was ever forgotten", hint="pyfactory forget REPO --record ID")
    chosen: dict[int, Redaction] = {}
    for record in record_ids:
        key = key_of_id(record).hex()
        found = [redaction for redaction in overlay.redactions.values() if key in redaction.keys]
        if not found:
            raise NotFoundError(f"{home.url}: record {record!r} was never forgotten", hint="forget it first")
        chosen |= {id(redaction): redaction for redaction in found}
    return [*chosen.values()] if record_ids else [*overlay.redactions.values()]


class _Search:
    """Looks for what is left of some redactions."""

    def __init__(self, home: Home, overlay: Overlay, redactions: Sequence[Redaction], progress: Progress) -> None:
        self.home = home
        self.redactions = redactions
        self.failures: dict[tuple[str, str], Failure] = {}
        self._raw = home.objects.raw
        self._progress = progress
        self.read: dict[Digest, int] = {}  # objects read; bytes of each
        self._content = {digest for redaction in redactions for digest in redaction.content}
        keys = sorted({key for redaction in redactions for key in redaction.keys})
        self.wanted: NDArray[np.void] = np.frombuffer(bytes.fromhex("".join(keys)), f"V{KEY_BYTES}")
        replaced = {old for redaction in redactions for old in (*redaction.shards, *redaction.sides)}
        self.old = {old for old in replaced if old in overlay.redirect}

    @cached_property
    def blank(self) -> NDArray[np.void]:
        """The keys of the ids that stand for the forgotten ones."""
        return keys_of([f"{FORGOTTEN}{key.tobytes().hex()}" for key in self.wanted])

    def absent(self) -> None:
        """Check that what was replaced is no longer stored."""
        for digest in sorted(self.old):
            if self._raw.exists(digest):
                self._fail(digest, f"the shard {digest}, which was replaced, is still stored", _GC)

    def caches(self) -> None:
        """Check that no completion mark, no sketch and no record index tells of what was replaced."""
        for key, result in marks(self.home):
            for digest in self.old.intersection(result.digests()):
                self._fail(key, f"the result of a task names {digest}, which was replaced", _GC)
        for key, _ in self.home.store.list("sketch"):
            if _shard_of(key) in self.old:
                self._fail(key, "a sketch tells of a shard that was replaced", _GC)
        for key, _ in self.home.store.list(INDEX):
            with suppress(PyfactoryError):  # what is no index tells nothing
                if not self.old.isdisjoint(index_sides(self.home.store, key)):
                    self._fail(key, "a record index tells of a side that was replaced", _GC)

    def tables(self, everything: Everything) -> None:
        """Read everything that commits lead to, shards with an eye to what is in them."""
        rest = self._others(everything)
        for holder, part, needed in everything.parts():
            batch = self._content_of(holder, part, needed)
            side = self._side_of(holder, part, needed)
            if batch is not None:
                self._look(batch, side, holder, part)
        for digest, needed, what in rest:
            self._bytes_of(digest, needed, what)

    def _others(self, everything: Everything) -> Iterator[tuple[Digest, bool, str]]:
        """Yield the objects of commits that are no shards; commits, trees and nodes were read on the way to shards."""
        for digest, (commit, needed) in everything.commits.items():
            yield digest, needed, "commit"
            yield commit.tree, needed, "tree"
            for name in _MADE_FROM:
                named = (commit.made_by or {}).get(name)
                if isinstance(named, str):
                    yield Digest(named), needed, name
        for digest in everything.artifacts:
            yield digest, False, "artifact"

    def _content_of(self, holder: str, part: Part, needed: bool) -> pa.RecordBatch | None:
        content = self._bytes_of(part.shard, needed, f"a shard of {holder!r}")
        if content is None:
            return None
        try:
            return open_shard(content, f"shard {part.shard}")
        except PyfactoryError as error:
            self._fail(part.shard, error.message, error.hint)
            return None

    def _side_of(self, holder: str, part: Part, needed: bool) -> Side | None:
        content = None if part.side == NO_DIGEST else self._bytes_of(part.side, needed, f"a side of {holder!r}")
        if content is None:
            return None
        try:
            return open_side(content, f"side {part.side}", verify=True)
        except PyfactoryError as error:
            self._fail(part.side, error.message, error.hint)
            return None

    def _look(self, batch: pa.RecordBatch, side: Side | None, holder: str, part: Part) -> None:
        """Check one part: no forgotten id, no forgotten text, and nothing in the rows of forgotten records."""
        if side is not None and len(side) != batch.num_rows:
            self._fail(part.side, f"it names {len(side)} rows of {holder}, but there are {batch.num_rows}", _VERIFY)
        elif side is not None:
            for row in side.rows_of(self.wanted).tolist():
                self._fail(part.side, f"record {side.id(row)!r} is in {holder}", "forget it again")
            left = side.rows_of(self.blank)
            for row in left[~blank_rows(batch, left)].tolist() if len(left) else ():
                self._fail(part.shard, f"row {row} of {holder} is that of a forgotten record, but not empty", "forget")
        if self._content:
            for row in rows_with_text(batch, self._content):
                record = repr(side.id(row)) if side is not None else f"in row {row}"
                message = f"the same text is also record {record} of {holder}"
                self._fail(part.shard, message, "forget it, too")

    def _bytes_of(self, digest: Digest, needed: bool, what: str) -> bytes | None:
        try:
            content = self._raw.get(digest)
        except NotFoundError:
            if needed:
                self._fail(digest, f"{what} is missing", _VERIFY)
            return None
        except PyfactoryError as error:
            self._fail(digest, f"{what}: {error.message}", error.hint)
            return None
        self.read[digest] = len(content)
        self._progress("prove", len(self.read), None)
        return content

    def _fail(self, name: str, message: str, hint: str) -> None:
        self.failures.setdefault((name, message), Failure(name, message, hint))


def _shard_of(key: str) -> Digest | None:
    try:
        return parse_digest("".join(key.split("/")[-2:]))
    except InvalidInputError:
        return None
