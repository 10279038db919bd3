"""Packing tables: what they do to documents, and that they are made once, range by range."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyfactory.core.digest import NO_DIGEST
from pyfactory.errors import CorruptError, InvalidInputError
from pyfactory.job.executors.in_process import ThreadExecutor
from pyfactory.job.packing import Packed, cut, pack_table
from pyfactory.native import best_fit
from pyfactory.shard.manifest import Manifest, Part, new_batch, write_manifest
from pyfactory.shard.packing_format import METHODS, PackingIndex
from pyfactory.shard.packing_table import PackingTable, open_packing
from pyfactory.shard.writer import encode_shard, token_batch
from pyfactory.store.content import Objects
from pyfactory.store.memory import MemoryStore

Sample = list[tuple[int, int, int]]  # document, start, count


def samples_of(lengths: Sequence[int], length: int, method: str = "best_fit") -> list[Sample]:
    offsets, *columns = cut(np.array(lengths, np.int64), length, method)
    pieces = list(zip(*(column.tolist() for column in columns), strict=True))
    return [pieces[start:stop] for start, stop in pairwise(offsets.tolist())]


def by_the_book(lengths: Sequence[int], length: int) -> list[Sample]:
    """Best-fit decreasing as it is told, in O(documents * samples)."""
    alone: list[Sample] = []
    items: list[tuple[int, int, int]] = []  # document, start, tokens
    for document, tokens in enumerate(lengths):
        start = 0
        while tokens - start > length + 1:
            alone.append([(document, start, length + 1)])
            start += length
        rest = tokens - start
        if rest >= length:
            alone.append([(document, start, rest)])
        elif rest:
            items.append((document, start, rest))
    bins: list[Sample] = []
    room: list[tuple[int, int]] = []  # of each bin: its room, and when it came to that
    for time, item in enumerate(sorted(items, key=lambda item: -item[2])):
        fitting = [number for number, (left, _) in enumerate(room) if left >= item[2]]
        if fitting:
            best = min(fitting, key=lambda number: (room[number][0], -room[number][1]))
        else:
            best = len(bins)
            bins.append([])
            room.append((length, 0))
        bins[best].append(item)
        room[best] = room[best][0] - item[2], time
    return alone + bins


LENGTHS = st.lists(st.one_of(st.integers(0, 12), st.integers(0, 60)), max_size=40)


@given(LENGTHS, st.integers(1, 20))
def test_best_fit_is_that_of_the_book(lengths: list[int], length: int) -> None:
    """Mutants: worst fit, first fit, ties to the oldest bin, smallest first, a document of length + 1 is cut."""
    assert samples_of(lengths, length) == by_the_book(lengths, length)


@given(LENGTHS, st.integers(1, 20), st.sampled_from(["best_fit", "padded"]))
def test_every_token_is_an_input_once(lengths: list[int], length: int, method: str) -> None:
    """But the last token of a piece of length + 1 tokens at the end of its document, which is only a target."""
    samples = samples_of(lengths, length, method)
    seen: Counter[tuple[int, int]] = Counter()
    for sample in samples:
        tokens = [(document, start + i) for document, start, count in sample for i in range(count)]
        assert 1 <= len(tokens) <= length + 1
        assert len(sample) == 1 or len(tokens) <= length
        seen.update(tokens[:length])
    wanted = {(d, i) for d, tokens in enumerate(lengths) for i in range(tokens)}
    assert set(seen.values()) <= {1}
    left = wanted - set(seen)
    whole = {(d, start + n - 1) for sample in samples for d, start, n in sample if n == length + 1}
    assert not set(seen) - wanted and left <= whole and left <= {(d, n - 1) for d, n in enumerate(lengths)}
    cuts = Counter(document for sample in samples for document, _, _ in sample)
    assert all(cuts[d] == (1 if n <= length + 1 else cuts[d]) for d, n in enumerate(lengths) if n)
    pieces = sorted(piece for sample in by_the_book(lengths, length) for piece in sample)
    assert sorted(piece for sample in samples for piece in sample) == pieces  # both cut alike
    if method == "padded":
        assert all(len(sample) == 1 for sample in samples)
        assert [s[0] for s in samples] == sorted(s[0] for s in samples)


@given(LENGTHS, st.integers(1, 20))
def test_documents_gives_the_beginning_of_each(lengths: list[int], length: int) -> None:
    expected = [[(d, 0, min(n, length + 1))] for d, n in enumerate(lengths) if n]
    assert samples_of(lengths, length, "documents") == expected


def test_cuts_by_hand() -> None:
    """Mutant: off by one at length + 1."""
    assert samples_of([4], 4) == [[(0, 0, 4)]]
    assert samples_of([5], 4) == [[(0, 0, 5)]]
    assert samples_of([6], 4) == [[(0, 0, 5)], [(0, 4, 2)]]
    assert samples_of([9], 4) == [[(0, 0, 5)], [(0, 4, 5)]]
    assert samples_of([10], 4, "padded") == [[(0, 0, 5)], [(0, 4, 5)], [(0, 8, 2)]]
    assert samples_of([3, 1, 2, 1], 4) == [[(0, 0, 3), (1, 0, 1)], [(2, 0, 2), (3, 0, 1)]]
    # 5 + 3 and 4 + 4 leave nothing; worst fit or first fit of unsorted items would.
    assert samples_of([3, 4, 5, 4], 8) == [[(2, 0, 5), (0, 0, 3)], [(1, 0, 4), (3, 0, 4)]]


def test_a_bin_that_came_to_its_room_last_is_taken_first() -> None:
    # 6 and 6 leave room for 2 each: the next 2 goes to the second, then to the first, then to the one of 4.
    expected = [[(0, 0, 6), (4, 0, 2)], [(1, 0, 6), (3, 0, 2)], [(2, 0, 4), (5, 0, 2)]]
    assert samples_of([6, 6, 4, 2, 2, 2], 8) == expected


@pytest.mark.parametrize("length", [0, -1, 2**24 + 1])
def test_lengths_of_samples_that_are_refused(length: int) -> None:
    with pytest.raises(ValueError, match="2\\^24"):
        best_fit(np.array([3]), length)


def test_documents_that_are_refused() -> None:
    for lengths in ([-1], [2**62, 1], [2**62] * 8):
        with pytest.raises(ValueError, match="0 to 2\\^62"):
            best_fit(np.array(lengths), 2**24)
    with pytest.raises(TypeError):
        best_fit(np.array([1.5]), 4)


def test_large_samples() -> None:
    """Rooms up to 2^24, through all levels of the set of rooms."""
    random = np.random.default_rng(3)
    lengths = random.integers(1, 2**22, 300)
    length = 2**24
    assert samples_of(lengths.tolist(), length) == by_the_book(lengths.tolist(), length)


def source_lengths() -> list[int]:
    """Lengths of real text: functions, classes and paragraphs of Python's own sources, four characters a token."""
    folder = Path(json.__file__).parent.parent
    lengths = []
    for path in sorted(folder.rglob("*.py")):
        if "site-packages" not in path.parts:
            text = path.read_text(encoding="utf-8", errors="replace")
            lengths += [len(part) // 4 + 1 for part in text.split("\n\n") if part.strip()]
    return lengths


def test_real_documents_are_packed_well() -> None:
    """At least 99.5 % of the inputs are tokens, and few documents are cut."""
    lengths = source_lengths()
    assert len(lengths) >= 50_000
    offsets, _, _, count = best_fit(np.array(lengths), 2048)
    inputs = np.minimum(np.add.reduceat(count, offsets[:-1]), 2048).sum()
    assert inputs / ((len(offsets) - 1) * 2048) >= 0.995


ROWS = 4
"""Rows of a range, in these tests."""


def stored(objects: Objects, lengths: Sequence[int], cuts: Sequence[int] = ()) -> Manifest:
    """A table of documents, cut into shards."""
    parts = []
    for low, high in pairwise([0, *cuts, len(lengths)]):
        offsets = np.cumsum([0, *lengths[low:high]], dtype=np.int64)
        shard = encode_shard(token_batch(np.full(offsets[-1], low % 250, np.uint8), offsets))
        parts.append(Part(objects.put(memoryview(shard)), NO_DIGEST, high - low, int(offsets[-1]), shard.size))
    return Manifest(objects, write_manifest(objects, new_batch(parts, 1)))


def pack(objects: Objects, manifest: Manifest, method: str = "best_fit", length: int = 6, **more: Any) -> Packed:
    with ThreadExecutor(2) as executor:
        return pack_table(objects, manifest, method, length, executor, range_rows=ROWS, **more)


def opened(objects: Objects, packed: Packed) -> PackingTable:
    return open_packing(objects, packed.digest, "the packing")


def listed(table: PackingTable, samples: np.ndarray) -> list[list[int]]:
    first, length, offsets = table.pieces(samples)
    pieces = [list(range(f, f + n)) for f, n in zip(first.tolist(), length.tolist(), strict=True)]
    return [[token for piece in pieces[a:b] for token in piece] for a, b in pairwise(offsets.tolist())]


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.integers(0, 20), min_size=1, max_size=30).filter(any),
    st.integers(1, 9),
    st.sampled_from(METHODS),
    st.data(),
)
def test_a_table_reads_what_its_ranges_say(lengths: list[int], length: int, method: str, data: st.DataObject) -> None:
    """Against the packing of each range alone, for any cut into shards. Mutant: ranges hold tokens of the table."""
    objects = Objects(MemoryStore())
    cuts = sorted(data.draw(st.sets(st.integers(1, max(len(lengths) - 1, 1)), max_size=4)) - {len(lengths)})
    packed = pack(objects, stored(objects, lengths, cuts), method, length)
    table = opened(objects, packed)
    starts = np.cumsum([0, *lengths]).tolist()
    expected = [
        [starts[row + d] + s + i for d, s, n in sample for i in range(n)]
        for row in range(0, len(lengths), ROWS)
        for sample in samples_of(lengths[row : row + ROWS], length, method)
    ]
    assert table.samples == len(expected) and table.tokens == sum(lengths) and table.rows == len(lengths)
    order = np.array(data.draw(st.permutations(range(len(expected)))), np.int64)
    assert listed(table, order) == [expected[i] for i in order.tolist()]
    assert listed(table, order[:0]) == []
    tokens = np.arange(-2, sum(lengths) + 2)
    heads = {sample[0]: i for i, sample in enumerate(expected)}
    assert table.sample_at(tokens).tolist() == [heads.get(token, -1) for token in tokens.tolist()]
    first = data.draw(st.integers(0, sum(lengths)))
    stop = data.draw(st.integers(0, sum(lengths)))
    wanted = set(range(first, stop))
    assert table.samples_with(first, stop).tolist() == [i for i, s in enumerate(expected) if wanted & {*s}]
    check_report(table, expected, lengths, length)


def check_report(table: PackingTable, expected: list[list[int]], lengths: list[int], length: int) -> None:
    report = table.report
    inputs = [token for sample in expected for token in sample[:length]]
    read = {token for sample in expected for token in sample}
    assert len(set(inputs)) == len(inputs) == report.input_tokens
    assert report.padding == len(expected) * length - len(inputs)
    assert report.target_only_tokens == len(read) - len(inputs)
    assert report.truncated_tokens == sum(lengths) - len(read)
    assert report.documents == sum(map(bool, lengths)) and report.samples == len(expected)
    assert report.split_documents == (0 if report.packing == "documents" else sum(n > length + 1 for n in lengths))
    assert report.useful_share == len(inputs) / (len(expected) * length)


LENGTHS_A = [3, 5, 2, 8, 1, 1, 9, 4, 2, 2]


def test_shards_do_not_matter() -> None:
    """Mutants: the index names shards; a range depends on where it stands."""
    objects = Objects(MemoryStore())
    whole = pack(objects, stored(objects, LENGTHS_A))
    for cuts in ([1], [4], [3, 4, 5], [2, 9]):
        assert pack(objects, stored(objects, LENGTHS_A, cuts)).digest == whole.digest


def test_equal_ranges_are_one_object() -> None:
    """Mutant: tokens are counted from the start of the table."""
    objects = Objects(MemoryStore())
    packed = pack(objects, stored(objects, [1, 2, 3, 4] * 3))
    assert len({entry.digest for entry in packed.index.ranges}) == 1
    assert listed(opened(objects, packed), np.array([5]))[0][0] >= 20


def test_an_append_makes_the_tail_anew() -> None:
    """Mutant: the task of a range does not name the rows of its last shard."""
    objects = Objects(MemoryStore())
    before = pack(objects, stored(objects, LENGTHS_A, [5]))
    assert (before.computed, before.reused) == (3, 0)
    after = pack(objects, stored(objects, [*LENGTHS_A, 7, 7, 7], [5, len(LENGTHS_A)]))
    assert (after.computed, after.reused) == (2, 2)
    assert [e.digest for e in after.index.ranges[:2]] == [e.digest for e in before.index.ranges[:2]]
    again = pack(objects, stored(objects, LENGTHS_A, [5]))
    assert (again.computed, again.reused, again.digest) == (0, 3, before.digest)
    assert pack(objects, stored(objects, LENGTHS_A, [5]), length=7).reused == 0
    assert pack(objects, stored(objects, LENGTHS_A, [5]), "padded").reused == 0


def test_other_rows_of_a_shard_are_another_task() -> None:
    """Mutants: the task names not where its rows begin in the first part, or not where they end in the last."""
    objects = Objects(MemoryStore())
    table = stored(objects, [1, 2, 3, 4, 5, 6, 1, 1])
    with ThreadExecutor(1) as executor:
        for rows in (4, 2, 3, 8):
            found = pack_table(objects, table, "padded", 9, executor, range_rows=rows)
            assert [entry.rows for entry in found.index.ranges] == [min(rows, 8 - at) for at in range(0, 8, rows)]
            assert opened(objects, found).tokens == 23


def test_more_ranges_than_are_asked_for_at_once() -> None:
    objects = Objects(MemoryStore())
    lengths = [1, 2, 3] * 200
    told: list[tuple[str, int, int | None]] = []
    packed = pack(objects, stored(objects, lengths, [37, 300]), progress=lambda *seen: told.append(seen))
    assert len(packed.index.ranges) == 150 == packed.computed
    assert told[-1] == ("pack", 150, 150) and sorted({seen[1] for seen in told}) == list(range(151))
    table = opened(objects, packed)
    assert sorted(token for s in listed(table, np.arange(table.samples)) for token in s) == list(range(sum(lengths)))


def test_ranges_are_let_go_and_opened_again() -> None:
    objects = Objects(MemoryStore())
    packed = pack(objects, stored(objects, [4] * 400))
    table = opened(objects, packed)
    everything = listed(table, np.arange(table.samples))
    assert listed(table, np.arange(table.samples)[::-1]) == everything[::-1]


def test_a_damaged_range_is_told() -> None:
    objects = Objects(MemoryStore())
    packed = pack(objects, stored(objects, LENGTHS_A))
    first, other = packed.index.ranges[0], packed.index.ranges[1]
    forged = PackingIndex("best_fit", 6, ROWS, (type(first)(other.digest, *list_of(first)), *packed.index.ranges[1:]))
    table = open_packing(objects, objects.put(forged.encode()), "the packing")
    with pytest.raises(CorruptError, match="range 0"):
        table.pieces(np.array([0]))


def list_of(entry: Any) -> list[int]:
    return [getattr(entry, name) for name in ("rows", "documents", "tokens", "samples", "inputs", "truncated", "split")]


def test_what_cannot_be_packed() -> None:
    objects = Objects(MemoryStore())
    table = stored(objects, [3])
    for method, length in (("concat", 4), ("worst", 4), ("padded", 0), ("padded", 2**25)):
        with pytest.raises(InvalidInputError, match=rf"'{method}'|{length}"):
            pack(objects, table, method, length)
    with pytest.raises(InvalidInputError, match="without tokens"):
        pack(objects, stored(objects, [0]))
