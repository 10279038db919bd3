"""The sorted list of keys: compared with a dictionary, damaged at every byte, cut into partitions."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyfactory.core.digest import digest_of
from pyfactory.errors import CorruptError
from pyfactory.shard import key_index
from pyfactory.shard.key_index import Read, Shape, Sorted, find_key, name_of, sides_of, write_key_index
from pyfactory.shard.layout import key_of_id


def side_of(ids: list[str]) -> Sorted:
    keyed = sorted((key_of_id(record), row) for row, record in enumerate(ids))
    keys = np.frombuffer(b"".join(key for key, _ in keyed), "V16")
    return keys, np.array([row for _, row in keyed], np.uint32)


def packed(count: int) -> bytes:
    return b"".join(bytes.fromhex(digest_of(bytes([at]))) for at in range(count))


def written(folder: Path, tables: list[list[str]]) -> bytes:
    path = folder / "index"
    with path.open("wb") as file:
        rows = sum(map(len, tables))
        assert write_key_index(file, folder, packed(len(tables)), rows, map(side_of, tables)) == name_of(
            packed(len(tables))
        )
    return path.read_bytes()


def reading(content: bytes) -> Read:
    return lambda start, stop: content[start:stop]


def place(tables: list[list[str]], record: str) -> list[tuple[int, int]]:
    return [(side, row) for side, ids in enumerate(tables) for row, name in enumerate(ids) if name == record]


def shape_of(tables: list[list[str]]) -> Shape:
    return Shape(len(tables), sum(map(len, tables)))


@settings(max_examples=60, deadline=None)
@given(
    tables=st.lists(st.lists(st.integers(0, 300).map(str), max_size=120), max_size=5),
    partition=st.sampled_from([24, 1000, 10**8]),
)
def test_every_key_leads_to_all_its_rows(
    tmp_path_factory: pytest.TempPathFactory, tables: list[list[str]], partition: int
) -> None:
    """Catches: the lower bound searched twice (duplicates lost), a block one off, a partition that is cut wrong."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(key_index, "_PARTITION_BYTES", partition)
        content = written(tmp_path_factory.mktemp("index"), tables)
    shape, name = shape_of(tables), name_of(packed(len(tables)))
    assert len(content) == shape.nbytes
    for record in map(str, range(0, 310, 3)):
        assert find_key(reading(content), name, shape, key_of_id(record)) == place(tables, record)
    assert bytes(sides_of(reading(content), name)) == packed(len(tables))


def test_partitions_do_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tables = [[f"{side}-{row}" for row in range(700)] for side in range(7)]
    whole = written(tmp_path, tables)
    monkeypatch.setattr(key_index, "_PARTITION_BYTES", 3000)
    assert written(tmp_path, tables) == whole


def test_blocks_are_small(tmp_path: Path) -> None:
    """Catches: a fence that grows slower than the table, so that a look-up reads more and more."""
    tables = [[f"{side}-{row}" for row in range(2000)] for side in range(10)]
    content, reads = written(tmp_path, tables), Counter[int]()

    def read(start: int, stop: int) -> bytes:
        reads[stop - start] += 1
        return content[start:stop]

    for row in range(0, 2000, 50):
        assert find_key(read, name_of(packed(10)), shape_of(tables), key_of_id(f"3-{row}")) == [(3, row)]
    assert sum(reads.values()) == 2 * 40
    assert max(reads) < 24 * 150


def test_damage_never_gives_an_answer(tmp_path: Path) -> None:
    """Catches: an answer from bytes that no check covers, also the answer that there is no such record."""
    tables = [["a", "b", "c"], ["b", "d"]]
    content, shape, name = written(tmp_path, tables), shape_of(tables), name_of(packed(2))
    good = {record: find_key(reading(content), name, shape, key_of_id(record)) for record in "abcdx"}
    noticed = 0
    for at in range(len(content)):
        for bit in (0, 7):
            harmed = bytearray(content)
            harmed[at] ^= 1 << bit
            for record, places in good.items():
                try:
                    assert find_key(reading(bytes(harmed)), name, shape, key_of_id(record)) == places
                except CorruptError:
                    noticed += 1
    assert noticed > 2 * 24 * 5
    for size in range(len(content)):
        with pytest.raises(CorruptError):
            for record in "abcdx":
                find_key(reading(content[:size]), name, shape, key_of_id(record))
    with pytest.raises(CorruptError, match="other sides"):
        sides_of(reading(content), digest_of(b"another"))
    with pytest.raises(CorruptError, match="none"):
        sides_of(reading(b"x" * len(content)), name)


def test_other_rows_than_promised_are_corrupt(tmp_path: Path) -> None:
    """Catches: a claim of a manifest that costs memory."""
    for rows in (1, 4, 2**62):
        with (tmp_path / "index").open("wb") as file, pytest.raises(CorruptError, match="rows"):
            write_key_index(file, tmp_path, packed(1), rows, [side_of(["a", "b"])])
