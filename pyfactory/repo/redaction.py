"""Redactions: what was forgotten, what is read in its place, and when and why that was decided.

A redaction is an object that maps shards to replacements without some records. `redaction/last` names the newest; each
names the one before it, so they have one order. Folded in that order they make an overlay that every reader of every
commit looks through, while commits, trees and manifests stay as they are.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyfactory.core.canonical import Value, decode, encode
from pyfactory.core.digest import Digest
from pyfactory.core.forks import renew_in_children
from pyfactory.errors import CorruptError, NotFoundError
from pyfactory.repo.fields import Fields, read_fields, read_versioned
from pyfactory.repo.home import Home
from pyfactory.repo.operation import View
from pyfactory.shard.layout import KEY_BYTES, key_of_id
from pyfactory.store.content import Masks

__all__ = [
    "LAST",
    "NO_OVERLAY",
    "REDACTION",
    "Follower",
    "Overlay",
    "Redaction",
    "Replacement",
    "load_redaction",
    "overlay_of",
]

REDACTION = "redaction/"
"""What the full name of the ref of a redaction starts with; the first 16 digits of its object follow."""

LAST = "redaction/last"
"""Full name of the ref of the newest redaction."""

_KEY = re.compile(rf"[0-9a-f]{{{2 * KEY_BYTES}}}", re.ASCII)
_FIELDS = ("content", "keys", "previous", "reason", "shards", "sides", "time", "who")


@dataclass(frozen=True, slots=True)
class Replacement:
    """What is read in place of a content shard.

    Attributes:
        shard: The replacement; the shard itself if nothing was in the forgotten rows.
        nbytes: Size of its file.
        masked: Tokens of the forgotten records as (first, one past the last) in the shard, ascending.
    """

    shard: Digest
    nbytes: int
    masked: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Redaction:
    """Records that were forgotten together.

    Attributes:
        previous: The redaction before it, None for the first.
        reason: Why.
        who: Who decided it.
        time: When, in UTC, ISO 8601, whole seconds, `Z`.
        keys: The keys of the ids, hexadecimal, ascending.
        content: Digests of the texts, ascending.
        shards: What replaces content shards.
        sides: What replaces side shards.
    """

    previous: Digest | None
    reason: str
    who: str
    time: str
    keys: tuple[str, ...]
    content: tuple[Digest, ...]
    shards: Mapping[Digest, Replacement]
    sides: Mapping[Digest, Digest]

    def to_bytes(self) -> bytes:
        """Return the canonical bytes."""
        shards = {
            old: {"bytes": new.nbytes, "masked": [list(span) for span in new.masked], "shard": new.shard}
            for old, new in self.shards.items()
        }
        told = {"reason": self.reason, "time": self.time, "who": self.who}
        gone = {"content": list(self.content), "keys": list(self.keys)}
        places = {"shards": shards, "sides": dict(self.sides)}
        return encode({"kind": "redaction", "previous": self.previous, "v": 1, **told, **gone, **places})

    @classmethod
    def from_value(cls, value: Value, what: str) -> Redaction:
        """Return the redaction of a hostile value; `what` names it in the CorruptError."""
        fields = read_versioned(value, _FIELDS, what, kind="redaction")
        keys = tuple(fields.items("keys"))
        if not all(isinstance(key, str) and _KEY.fullmatch(key) for key in keys) or list(keys) != sorted(set(keys)):
            raise CorruptError(f"{what}: 'keys' is not an ascending list of keys")
        content = fields.items("content")
        return cls(
            previous=fields.digest_or_none("previous"),
            reason=fields.text("reason"),
            who=fields.text("who"),
            time=fields.time("time"),
            keys=keys,
            content=tuple(Fields({"content": digest}, what).digest("content") for digest in content),
            shards=_by_digest(fields, "shards", what, _replacement),
            sides=_by_digest(fields, "sides", what, lambda side, name: Fields({name: side}, what).digest(name)),
        )


@dataclass(frozen=True)
class Overlay:
    """All redactions of a view, folded.

    Attributes:
        last: The newest redaction, None if there is none.
        redactions: All of them by digest, oldest first.
        redirect: What is read in place of what: of each object that was ever replaced, its newest replacement.
        masks: Which tokens of which shards stand for nothing, by what a manifest may name; see `store.content.Masks`.
    """

    last: Digest | None = None
    redactions: Mapping[Digest, Redaction] = field(default_factory=dict)
    redirect: Mapping[Digest, Digest] = field(default_factory=dict)
    masks: Masks = field(default_factory=dict)

    @classmethod
    def load(cls, home: Home, view: View) -> Overlay:
        """Return all redactions of a view; see `overlay_of`."""
        return overlay_of(home, view)

    def redaction_of(self, record_id: str) -> Redaction | None:
        """Return the first redaction that forgot a record, None if none did."""
        return self._by_key.get(key_of_id(record_id).hex())

    @cached_property
    def keys(self) -> NDArray[Any]:
        """The keys of all forgotten ids: V16[n], ascending."""
        return np.frombuffer(bytes.fromhex("".join(sorted(self._by_key))), f"V{KEY_BYTES}")

    @cached_property
    def _by_key(self) -> dict[str, Redaction]:
        return {key: found for found in reversed([*self.redactions.values()]) for key in found.keys}


NO_OVERLAY = Overlay()
"""What a repository without redactions is read through."""


def overlay_of(home: Home, view: View, known: Overlay = NO_OVERLAY) -> Overlay:
    """Return all redactions of a view.

    Args:
        home: The repository.
        view: The refs that count.
        known: An overlay of an earlier or the same view: what it holds is not read again.

    Raises:
        CorruptError: A redaction is missing or damaged. Nothing may then be read: it might be what was to be forgotten.
    """
    last = view.refs.get(LAST)
    if last == known.last:
        return known
    found: dict[Digest, Redaction] = {}
    digest = last
    while digest is not None:
        found[digest] = known.redactions.get(digest) or load_redaction(home, digest)
        digest = found[digest].previous
    redactions = dict(reversed(found.items()))
    redirect, masks = _folded([*redactions.values()])
    return Overlay(last, redactions, redirect, masks)


def load_redaction(home: Home, digest: Digest) -> Redaction:
    """Return the redaction that an object holds; CorruptError if it is missing or none."""
    what = f"{home.url}: redaction {digest}"
    try:
        content = home.objects.raw.get(digest)
    except NotFoundError as error:
        raise CorruptError(f"{what} is missing", hint="put the object back from a copy of the repository") from error
    return Redaction.from_value(decode(content, what), what)


class Follower:
    """Keeps what the objects of a repository are read through as new as the views that are seen. Thread-safe."""

    def __init__(self) -> None:
        self._n = -1
        self.overlay = NO_OVERLAY
        self.renew_lock()
        renew_in_children(self)

    def renew_lock(self) -> None:
        """Take a new lock; see `core.forks`."""
        self._lock = threading.Lock()

    def follow(self, home: Home, view: View) -> None:
        """Read the objects of a repository through the redactions of a view from now on, unless it is an older one."""
        if view.n <= self._n and view.refs.get(LAST) == self.overlay.last:
            return
        with self._lock:
            if view.n < self._n:
                return
            overlay = overlay_of(home, view, self.overlay)
            if overlay is not self.overlay:
                home.objects.redact(overlay.redirect, overlay.masks)
            self._n, self.overlay = view.n, overlay


_Step = tuple[Digest, tuple[tuple[int, int, int], ...]]


def _folded(redactions: list[Redaction]) -> tuple[dict[Digest, Digest], Masks]:
    """Return redirections and masks, O(entries): from the newest back, each replacement is already known to its end."""
    final: dict[Digest, _Step] = {}
    for number in range(len(redactions) - 1, -1, -1):
        steps: dict[Digest, _Step] = {}  # apart: entries of one redaction all hold for what was there before it
        for old, new in redactions[number].shards.items():
            end, later = final.get(new.shard, (new.shard, ()))
            steps[old] = end, (*((number, first, stop) for first, stop in new.masked), *later)
        for old_side, side in redactions[number].sides.items():
            steps[old_side] = final.get(side, (side, ()))
        final |= steps
    redirect = {old: end for old, (end, _) in final.items() if end != old}
    return redirect, {old: masked for old, (_, masked) in final.items() if masked}


def _by_digest(fields: Fields, name: str, what: str, parsed: Any) -> dict[Digest, Any]:
    found = {}
    for old, value in fields.mapping(name).items():
        found[Fields({name: old}, what).digest(name)] = parsed(value, f"{what}: {name} {old}"[:200])
    return found


def _replacement(value: Value, what: str) -> Replacement:
    fields = read_fields(value, ("bytes", "masked", "shard"), what)
    masked, end = [], 0
    for span in fields.items("masked"):
        match span:
            case [int(first), int(stop)] if end <= first < stop < 2**63 and bool not in (type(first), type(stop)):
                masked.append((first, stop))
                end = stop
            case _:
                raise CorruptError(f"{what}: 'masked' is not a list of ascending ranges")
    return Replacement(fields.digest("shard"), fields.count("bytes"), tuple(masked))
