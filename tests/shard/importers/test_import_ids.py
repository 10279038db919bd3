"""Ids are unique and do not depend on how the work is cut; the oracle is a set that sees record after record."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfactory.errors import InvalidInputError
from pyfactory.shard.importers.existing import Existing
from pyfactory.shard.importers.ids import PARTITION_ROWS, IdResolver, partitions_for
from pyfactory.shard.importers.rows import Rows, content_hashes, strings
from pyfactory.shard.importers.sources import Compression, Format, SourceFile
from pyfactory.shard.importers.staging import (
    KEY_DTYPE,
    ShardCutter,
    StagedShard,
    content_id,
    key_array,
    keys_of_partition,
    read_spill,
)
from pyfactory.shard.layout import key_of_id, raw_schema
from pyfactory.shard.reader import Side, open_side
from pyfactory.shard.writer import make_side
from pyfactory.store.content import Objects
from pyfactory.store.memory import MemoryStore

FILES = [SourceFile(Path(name), name, name, Format.JSONL, Compression.NONE, 1, 0) for name in ("a.jsonl", "b.jsonl")]


def batch_of(texts: Sequence[str]) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array(texts, pa.large_string())], schema=raw_schema())


def staged(folder: Path, texts: Sequence[str], cuts: Sequence[int], *, ids: bool, keyed: bool) -> list[StagedShard]:
    """Rows as shards that end at `cuts`; with ids, these are the texts. Line is the row, file 1 from row 3 on."""
    cutter = ShardCutter(Objects(MemoryStore()), folder, 0, 1 << 20, with_ids=ids, key_of_content=keyed)
    bounds = [0, *sorted(cuts), len(texts)]
    for start, stop in pairwise(bounds):
        mine = texts[start:stop]
        lines = np.arange(start, stop)
        rows_ids = strings([text.encode() for text in mine]) if ids else None
        cutter.add(Rows(batch_of(mine), rows_ids, (lines >= 3).astype(np.int32), lines))
        cutter.flush()
    return cutter.staged


def sides_of(ids: Sequence[str], cuts: Sequence[int]) -> list[Side]:
    bounds = [0, *sorted(cuts), len(ids)]
    parts = [pa.array(ids[start:stop], pa.large_string()) for start, stop in pairwise(bounds)]
    return [open_side(make_side(part), "side") for part in parts]


def hash_of(text: str) -> bytes:
    return content_hashes(batch_of([text]))


def smallest_free(texts: Sequence[str], taken: Sequence[str]) -> list[int]:
    """The oracle."""
    known, numbers = set(taken), []
    for text in texts:
        number = 0
        while content_id(hash_of(text), number) in known:
            number += 1
        known.add(content_id(hash_of(text), number))
        numbers.append(number)
    return numbers


cuts_below = st.lists(st.integers(0, 30), max_size=4)
few_texts = st.lists(st.sampled_from(["", "a", "b", "c", "d"]), min_size=1, max_size=30)


@given(
    few_texts,
    cuts_below,
    st.lists(st.tuples(st.sampled_from(["", "a", "b", "x"]), st.integers(0, 6)), unique=True, max_size=12),
    cuts_below,
    st.integers(1, 9),
    st.integers(1, 12),
)
def test_numbers_are_the_smallest_free_ones(
    tmp_path_factory: pytest.TempPathFactory,
    texts: list[str],
    cuts: list[int],
    old: list[tuple[str, int]],
    old_cuts: list[int],
    partitions: int,
    block_rows: int,
) -> None:
    """Tables with holes, partitions, blocks and shards of any size.

    Catches counts that restart in a block or a shard, and numbers that a table with holes has already.
    """
    folder = tmp_path_factory.mktemp("ids")
    taken = [content_id(hash_of(text), number) for text, number in old]
    shards = staged(folder, texts, [cut for cut in cuts if cut <= len(texts)], ids=False, keyed=bool(old))
    existing = Existing(
        sides_of(taken, [cut for cut in old_cuts if cut <= len(old)]) if old else [], partitions, folder
    )
    resolver = IdResolver(shards, existing, partitions, block_rows)
    numbers = resolver.occurrence_numbers(folder / "numbers")
    assert numbers[: len(texts)].tolist() == smallest_free(texts, taken)


@pytest.mark.parametrize(("taken", "numbers"), [([], [0, 1, 0, 2]), ([0], [1, 2, 0, 3]), ([1], [0, 2, 0, 3])])
def test_numbers_go_on_from_block_to_block(tmp_path: Path, taken: list[int], numbers: list[int]) -> None:
    existing = Existing(sides_of([content_id(hash_of("a"), one) for one in taken], []) if taken else [], 1, tmp_path)
    shards = staged(tmp_path, ["a", "a", "b", "a"], [1, 2, 3], ids=False, keyed=bool(taken))
    resolver = IdResolver(shards, existing, partitions=1, block_rows=1)
    assert resolver.occurrence_numbers(tmp_path / "numbers").tolist() == numbers


def test_many_taken_numbers_and_a_hole(tmp_path: Path) -> None:
    """Windows grow from 2 to 4, 8, ...: the hole is filled first, then what follows the last."""
    taken = [content_id(hash_of("a"), number) for number in range(3000) if number != 7]
    existing = Existing(sides_of(taken, [1000, 2000]), 1, tmp_path)
    shards = staged(tmp_path, ["a", "b", "a", "a"], [2], ids=False, keyed=True)
    assert IdResolver(shards, existing, 1).occurrence_numbers(tmp_path / "n").tolist() == [7, 0, 3000, 3001]


@given(
    st.lists(st.sampled_from([f"id{number}" for number in range(40)]), min_size=1, max_size=20),
    cuts_below,
    st.lists(st.sampled_from([f"id{number}" for number in range(30, 50)]), unique=True, max_size=4),
    st.integers(1, 9),
    st.integers(1, 12),
)
def test_the_first_duplicate_is_named_with_both_places(
    tmp_path_factory: pytest.TempPathFactory,
    ids: list[str],
    cuts: list[int],
    old: list[str],
    partitions: int,
    block_rows: int,
) -> None:
    folder = tmp_path_factory.mktemp("ids")
    shards = staged(folder, ids, [cut for cut in cuts if cut <= len(ids)], ids=True, keyed=False)
    resolver = IdResolver(
        shards, Existing(sides_of(old, []) if old else [], partitions, folder), partitions, block_rows
    )
    seen: dict[str, int | None] = dict.fromkeys(old)
    duplicates = []
    for row, one in enumerate(ids):
        if one in seen:
            duplicates.append((row, one, seen[one]))
        seen.setdefault(one, row)
    if not duplicates:
        resolver.refuse_duplicates(FILES)
        return
    row, one, earlier = duplicates[0]
    place = f"{'ab'[row >= 3]}.jsonl:{row}"
    if earlier is None:
        expected = f"id '{one}' of {place} is in the table already"
    else:
        expected = f"id '{one}' occurs twice: {'ab'[earlier >= 3]}.jsonl:{earlier} and {place}"
    if len(duplicates) > 1:
        expected += f"; {len(duplicates)} records have an id that is taken"
    with pytest.raises(InvalidInputError) as caught:
        resolver.refuse_duplicates(FILES)
    assert caught.value.message == expected
    assert caught.value.hint


def test_an_origin_in_the_table_is_told(tmp_path: Path) -> None:
    digest = "ab" * 32
    side = make_side(pa.array(["x", "y"], pa.large_string()), [digest], np.zeros(2, np.int32), np.array([5, 9]))
    shards = staged(tmp_path, ["y"], [], ids=True, keyed=False)
    resolver = IdResolver(shards, Existing([lambda: open_side(side, "side")], 1, tmp_path), 1)
    with pytest.raises(InvalidInputError, match=rf"already \(from line 9 of the file with digest {digest}\)"):
        resolver.refuse_duplicates(FILES)


def test_a_shown_id_is_short(tmp_path: Path) -> None:
    resolver = IdResolver(staged(tmp_path, ["x" * 4000] * 2, [], ids=True, keyed=False), Existing([], 1, tmp_path), 1)
    with pytest.raises(InvalidInputError) as caught:
        resolver.refuse_duplicates(FILES)
    assert len(caught.value.message) < 200


@given(st.lists(st.binary(min_size=16, max_size=16)), st.integers(1, 300))
def test_partitions_hold_every_key_once(keys: list[bytes], partitions: int) -> None:
    """Catches edges that drop or double a key, and trailing zeros that a string comparison may not see."""
    ascending = key_array(b"".join(sorted([*keys, bytes(16), b"\xff" * 16, b"\x80" + bytes(15)])))
    found, end = [], 0
    for partition in range(partitions):
        mine, start = keys_of_partition(ascending, partition, partitions)
        assert start == end
        end += len(mine)
        found.append(mine)
        octets = mine.tobytes()
        for at in range(0, len(octets), 16):
            top = int.from_bytes(octets[at : at + 8], "big")
            assert (partition << 64) // partitions <= top < ((partition + 1) << 64) // partitions
    assert np.array_equal(np.concatenate(found), ascending)


def test_partitions_bound_what_is_held() -> None:
    for rows in (0, 1, PARTITION_ROWS, PARTITION_ROWS + 1, 10**10):
        assert partitions_for(rows) >= 1
        assert rows <= partitions_for(rows) * PARTITION_ROWS < rows + 2 * PARTITION_ROWS


@given(
    st.lists(st.integers(0, 60), unique=True),
    st.lists(st.lists(st.integers(0, 60), unique=True), min_size=1, max_size=5),
    st.integers(1, 4),
)
def test_existing_ids_are_found_in_the_first_side_that_has_them(
    tmp_path_factory: pytest.TempPathFactory, wanted: list[int], known: list[list[int]], partitions: int
) -> None:
    sides = [open_side(make_side(pa.array([str(one) for one in ids], pa.large_string())), "side") for ids in known]
    existing = Existing(sides, partitions, tmp_path_factory.mktemp("known"))
    keyed = open_side(make_side(pa.array([str(one) for one in wanted], pa.large_string())), "side")
    keys = keyed.keys.view(KEY_DTYPE)
    expected = {one: next((number for number, ids in enumerate(known) if one in ids), -1) for one in wanted}
    in_order = sorted(wanted, key=lambda one: key_of_id(str(one)))
    assert existing.find(keys).tolist() == [expected[one] for one in in_order]
    by_partition = [
        existing.find(keys_of_partition(keys, partition, partitions)[0], partition) for partition in range(partitions)
    ]
    assert np.concatenate(by_partition).tolist() == [expected[one] for one in in_order]


def test_spills_hold_what_the_side_needs(tmp_path: Path) -> None:
    (shard,) = staged(tmp_path, ["b", "a", "b", "c"], [], ids=True, keyed=False)
    spill = read_spill(shard.spill)
    assert spill.column("base").to_pylist() == ["b", "a", "b", "c"]
    assert spill.column("file").to_pylist() == [0, 0, 0, 1]
    keys = [key_of_id(one) for one in ("b", "a", "b", "c")]
    assert spill.column("key").to_pylist() == sorted(keys)
    assert [keys[row] for row in spill.column("row").to_pylist()] == sorted(keys)
    rows = spill.column("row").to_pylist()
    assert rows.index(0) < rows.index(2)


@given(st.lists(st.integers(0, 40), max_size=25), st.integers(1, 100), st.lists(st.integers(0, 25), max_size=4))
def test_shards_end_with_the_row_that_reaches_the_target(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], target: int, batches: list[int]
) -> None:
    """However the rows arrive, the cut is the same."""
    texts = ["x" * size for size in sizes]
    cutter = ShardCutter(
        Objects(MemoryStore()), tmp_path_factory.mktemp("cut"), 0, target, with_ids=False, key_of_content=False
    )
    bounds = sorted({0, len(texts), *(cut for cut in batches if cut < len(texts))})
    for start, stop in pairwise(bounds):
        lines = np.arange(start, stop)
        cutter.add(Rows(batch_of(texts[start:stop]), None, np.zeros(stop - start, np.int32), lines))
    cutter.flush()
    expected, held, rows = [], 0, 0
    for size in sizes:
        held, rows = held + size, rows + 1
        if held >= target:
            expected.append(rows)
            held, rows = 0, 0
    assert [shard.rows for shard in cutter.staged] == expected + [rows] * bool(rows)
