"""Random tables and changes of them, as plain mappings, for the tests of trees that are compared and edited."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from hypothesis import strategies as st

from pyfactory.core.digest import Digest, digest_of
from pyfactory.shard.diff import Difference
from pyfactory.shard.manifest import Entry, Part
from pyfactory.shard.node import sort_key

Table = dict[tuple[int, int, int], int]
"""(generation, batch, ordinal) -> what stands there; the number decides the shard's digest, and so where nodes end."""

KEYS = st.tuples(
    st.sampled_from([0, 1, 2, 2**64 - 1]), st.integers(0, 3), st.integers(0, 40) | st.integers(0, 2**64 - 1)
)
CONTENTS = st.integers(0, 40)
TABLES = st.dictionaries(KEYS, CONTENTS, max_size=120)
LONG_RUNS = st.dictionaries(KEYS, st.just(-1) | CONTENTS, min_size=40, max_size=160)
"""Mostly shards after which no node ends: nodes are cut where they are too long, which every change before moves."""


@st.composite
def changes_of(draw: st.DrawFn, table: Mapping[tuple[int, int, int], int]) -> Table:
    """Draw another table: some keys gone, some changed, some new."""
    changed = dict(table)
    for key in draw(st.lists(st.sampled_from(sorted(table)), max_size=12)) if table else ():
        changed.pop(key, None)
    if table and draw(st.integers(0, 9)) == 0:  # a range, so that whole nodes go
        ordered = sorted(table)
        start, stop = sorted(draw(st.tuples(st.integers(0, len(ordered)), st.integers(0, len(ordered)))))
        for key in ordered[start:stop]:
            changed.pop(key, None)
    if table:
        changed |= draw(st.dictionaries(st.sampled_from(sorted(table)), CONTENTS, max_size=6))
    return changed | draw(st.dictionaries(KEYS, CONTENTS, max_size=draw(st.sampled_from([0, 3, 30]))))


def digest_for(content: int) -> Digest:
    """A name for a shard; that of -1 ends no node."""
    return Digest("ff" * 32) if content == -1 else digest_of(struct.pack("<q", content))


def entry_at(key: tuple[int, int, int], content: int) -> Entry:
    generation, batch, ordinal = key
    part = Part(digest_for(content), digest_of(b"side"), content % 7 + 1, content % 5 + 1, content % 3 + 1)
    return Entry(generation, digest_of(bytes([batch])), ordinal, part)


def key_of(entry: Entry) -> bytes:
    """The 48 stored bytes, by the words of the format."""
    return struct.pack("<Q32sQ", entry.generation, bytes.fromhex(entry.batch), entry.ordinal)


def entries(table: Mapping[tuple[int, int, int], int]) -> list[Entry]:
    return sorted((entry_at(*item) for item in table.items()), key=lambda entry: sort_key(key_of(entry)))


def differences(
    before: Mapping[tuple[int, int, int], int], after: Mapping[tuple[int, int, int], int]
) -> list[Difference]:
    """What differs, the plain way."""
    found = []
    for key in before.keys() | after.keys():
        old = entry_at(key, before[key]) if key in before else None
        new = entry_at(key, after[key]) if key in after else None
        if old != new:
            found.append(Difference(key_of(old or new), old, new))  # type: ignore[arg-type]
    return sorted(found, key=lambda difference: sort_key(difference.key))
