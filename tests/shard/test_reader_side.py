"""Side shards: ids found by binary search, origins told, hostile ones refused."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfactory.core.digest import Digest, digest_of
from pyfactory.errors import CorruptError
from pyfactory.shard.layout import key_of_id, raw_schema, side_schema
from pyfactory.shard.reader import open_shard, open_side
from pyfactory.shard.writer import encode_shard, make_side

FILES = [digest_of(b"a"), digest_of(b"b")]
IDS = pa.array(["x", "y", "z"], pa.large_string())
SIDE = make_side(IDS, FILES, np.array([1, 0, 1], np.int32), np.array([4, 5, 6]))


def written(batch: pa.RecordBatch) -> bytes:
    """Write as any other program would."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, batch.schema) as file:
        file.write_batch(batch)
    return bytes(sink.getvalue())


@given(st.lists(st.text(max_size=4), max_size=30), st.text(max_size=4))
def test_sides_find_ids(ids: list[str], other: str) -> None:
    """Catches a binary search off by one, and a wrong row among equal ids: the first one counts."""
    side = open_side(make_side(pa.array(ids, pa.large_string())), "side", verify=True)
    assert len(side) == len(ids)
    for id_ in [*ids, other]:
        assert side.find(id_) == (ids.index(id_) if id_ in ids else None)
    assert [side.id(row) for row in range(len(ids))] == ids
    assert side.keys.dtype == "V16" and [key.tobytes() for key in side.keys] == sorted(map(key_of_id, ids))


def test_sides_tell_the_origin() -> None:
    side = open_side(SIDE, "side", verify=True)
    assert side.files == FILES
    assert [side.origin(row) for row in range(3)] == [(FILES[1], 4), (FILES[0], 5), (FILES[1], 6)]
    assert open_side(make_side(IDS), "side").origin(0) is None


def hand_made(keys: list[bytes], rows: list[int], file: list[int], line: list[int], files: list[Digest]) -> bytes:
    columns = [
        pa.array(["x", "y"], pa.large_string()),
        pa.array(keys, pa.binary(16)),
        pa.array(rows, pa.uint32()),
        pa.array(file, pa.int32()),
        pa.array(line, pa.int64()),
    ]
    listing = "[" + ",".join(f'"{digest}"' for digest in files) + "]"
    return written(pa.RecordBatch.from_arrays(columns, schema=side_schema(True).with_metadata({"files": listing})))


def test_two_ids_with_one_key_are_told_apart() -> None:
    """Catches trusting the key alone: 16 bytes may collide."""
    key = key_of_id("x")
    side = open_side(hand_made([key, key], [1, 0], [0, 0], [1, 2], FILES), "side")
    assert side.find("x") == 0


X, Y = key_of_id("x"), key_of_id("y")
KEYS = sorted([X, Y])
ROWS = [[X, Y].index(key) for key in KEYS]


@pytest.mark.parametrize(
    ("keys", "rows", "file", "line"),
    [
        (KEYS[::-1], ROWS[::-1], [0, 0], [1, 1]),
        (KEYS, ROWS[::-1], [0, 0], [1, 1]),
        (KEYS, [0, 0], [0, 0], [1, 1]),
        (KEYS, [0, 2], [0, 0], [1, 1]),
        (KEYS, ROWS, [0, 2], [1, 1]),
        (KEYS, ROWS, [0, -1], [1, 1]),
        (KEYS, ROWS, [0, 0], [1, 0]),
    ],
)
def test_wrong_sides_are_found_by_verify(keys: list[bytes], rows: list[int], file: list[int], line: list[int]) -> None:
    hostile = hand_made(keys, rows, file, line, FILES)
    with pytest.raises(CorruptError, match="side 12ab"):
        open_side(hostile, "side 12ab", verify=True)


def test_wrong_rows_and_origins_do_not_pass_look_ups() -> None:
    side = open_side(hand_made(KEYS, [7, 7], [2, -1], [1, 1], FILES), "side")
    with pytest.raises(CorruptError, match="row 7 of 2"):
        side.find("x")
    for row in (0, 1):
        with pytest.raises(CorruptError, match="of 2"):
            side.origin(row)


def test_a_table_is_not_a_side() -> None:
    table = pa.RecordBatch.from_arrays([pa.array(["a"], pa.large_string())], schema=raw_schema())
    with pytest.raises(CorruptError, match="not a side"):
        open_side(encode_shard(table), "side")


def test_hand_made_sides_are_right_otherwise() -> None:
    """Without this, the cases above could all fail for a reason of their own."""
    side = open_side(hand_made(KEYS, ROWS, [0, 1], [1, 1], FILES), "side", verify=True)
    assert (side.find("x"), side.find("y"), side.origin(1)) == (0, 1, (FILES[1], 1))


@pytest.mark.parametrize("listing", ["", "[", "{}", "7", '["ab"]', "[7]", "[ ]"])
def test_hostile_lists_of_files_are_corrupt(listing: str) -> None:
    batch = open_shard(SIDE, "s").replace_schema_metadata({"files": listing})
    with pytest.raises(CorruptError, match="files"):
        open_side(written(batch), "side")
