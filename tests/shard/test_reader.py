"""Opening shards in place, and what hostile bytes do: CorruptError, never a crash."""

from __future__ import annotations

import mmap
import random
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfactory.core.digest import digest_of
from pyfactory.errors import CorruptError, InvalidInputError
from pyfactory.shard.layout import is_side_schema, raw_schema, token_width
from pyfactory.shard.reader import Side, open_shard, token_buffers
from pyfactory.shard.writer import encode_shard, make_side, token_batch

FILES = [digest_of(b"a"), digest_of(b"b")]
KEPT = [pa.field("n", pa.int64()), pa.field("l", pa.large_list(pa.float32())), pa.field("b", pa.string())]
RAW = pa.RecordBatch.from_arrays(
    [
        pa.array(["ab", "", "cde\u0301", "x"], pa.large_string()),
        pa.array([1, None, 3, 4]),
        pa.array([None, [1.5, None], [], [2.0]], pa.large_list(pa.float32())),
        pa.array(["1", None, "", "zz"]),
    ],
    schema=raw_schema(KEPT),
)
TOKENS = token_batch(np.array([7, 8, 9, 300, 65535], np.uint16), np.array([0, 3, 3, 5]))
IDS = pa.array(["x", "y", "z"], pa.large_string())
SIDE = make_side(IDS, FILES, np.array([1, 0, 1], np.int32), np.array([4, 5, 6]))


def written(batch: pa.RecordBatch, *, batches: int = 1, codec: str | None = None) -> bytes:
    """Write as any other program would."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, batch.schema, options=pa.ipc.IpcWriteOptions(compression=codec)) as file:
        for _ in range(batches):
            file.write_batch(batch)
    return bytes(sink.getvalue())


def use(shard: bytes) -> None:
    """Open and read everything, as far as it lets us."""
    batch = open_shard(shard, "shard 12ab")
    if token_width(batch.schema):
        values, offsets = token_buffers(batch)
        assert offsets[0] == 0 and offsets[-1] == len(values) and values.sum() >= 0
    elif is_side_schema(batch.schema):
        side = Side(batch, "shard 12ab")
        assert side.find("absent") is None
        side.check()
    with suppress(UnicodeDecodeError):  # found by verify=True only
        batch.to_pylist()


def damaged(shard: bytes, place: int, octets: bytes) -> bytes:
    return shard[:place] + octets + shard[place + len(octets) :]


@pytest.mark.parametrize("batch", [RAW, TOKENS, RAW.slice(0, 0), TOKENS.slice(0, 0)])
def test_what_was_written_is_read(batch: pa.RecordBatch) -> None:
    assert open_shard(encode_shard(batch), "s", verify=True).equals(batch, check_metadata=True)


def test_opening_a_memory_map_copies_nothing(tmp_path: Path) -> None:
    (tmp_path / "shard").write_bytes(encode_shard(TOKENS))
    with (tmp_path / "shard").open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    view = pa.py_buffer(memoryview(mapped))
    before = pa.total_allocated_bytes()
    batch = open_shard(memoryview(mapped), "s", verify=True)
    values, offsets = token_buffers(batch)
    assert pa.total_allocated_bytes() == before
    for array in (values, offsets):
        assert view.address <= array.ctypes.data < view.address + view.size
        assert not array.flags.writeable and array.flags.c_contiguous


@pytest.mark.parametrize("width", [1, 2, 4])
def test_token_buffers_are_the_tokens(width: int) -> None:
    tokens = np.array([1, 2, 3, 200, 255], f"u{width}")
    values, offsets = token_buffers(open_shard(encode_shard(token_batch(tokens, np.array([0, 0, 4, 5, 5]))), "s"))
    assert values.dtype == tokens.dtype and values.tolist() == tokens.tolist()
    assert offsets.dtype == np.int64 and offsets.tolist() == [0, 0, 4, 5, 5]


@given(st.lists(st.integers(0, 4), max_size=8), st.data())
def test_token_buffers_of_a_slice_start_at_zero(lengths: list[int], draw: st.DataObject) -> None:
    """Catches offsets that still count from the whole batch."""
    bounds = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    batch = token_batch(np.arange(bounds[-1], dtype=np.uint8), bounds)
    start = draw.draw(st.integers(0, len(lengths)))
    stop = draw.draw(st.integers(start, len(lengths)))
    values, offsets = token_buffers(batch.slice(start, stop - start))
    assert [values[a:b].tolist() for a, b in pairwise(offsets)] == [
        list(range(bounds[i], bounds[i + 1])) for i in range(start, stop)
    ]
    assert offsets[0] == 0 and offsets[-1] == len(values)


def test_token_buffers_want_a_token_table() -> None:
    with pytest.raises(InvalidInputError, match="text"):
        token_buffers(RAW)


def test_a_file_at_an_odd_address_is_read() -> None:
    """An object store may hand out a view that starts anywhere; kernels rely on aligned arrays."""
    odd = memoryview(b"-" + bytes(encode_shard(TOKENS)))[1:]
    values, offsets = token_buffers(open_shard(odd, "s"))
    assert values.flags.aligned and offsets.flags.aligned and values.tolist() == [7, 8, 9, 300, 65535]


def with_footer_of(shard: bytes, other: bytes) -> bytes:
    """An Arrow file ends with its footer, the footer's length (i32) and the magic."""
    body, footer = (len(file) - 10 - int.from_bytes(file[-10:-6], "little") for file in (shard, other))
    return shard[:body] + other[footer:]


def beside_text(column: pa.Array) -> pa.RecordBatch:
    schema = raw_schema().append(pa.field("c", column.type))
    return pa.RecordBatch.from_arrays([pa.array(["a"], pa.large_string()), column], schema=schema)


REFUSED = {
    "several batches": written(RAW, batches=2),
    "no batch": written(RAW, batches=0),
    "a footer that knows no batch": with_footer_of(written(RAW), written(RAW, batches=0)),
    "compressed": written(RAW, codec="zstd"),
    "metadata": written(RAW.replace_schema_metadata({"a": "b"})),
    "other columns": written(pa.record_batch({"a": [1]})),
    "other types": written(pa.RecordBatch.from_arrays([pa.array(["a"])], names=["text"])),
    "dictionary": written(beside_text(pa.array(["b"]).dictionary_encode())),
    "list items": written(beside_text(pa.array([[1]], pa.large_list(pa.field("element", pa.int8()))))),
    "nulls in text": written(
        pa.RecordBatch.from_arrays([pa.array(["a", None], pa.large_string())], schema=raw_schema())
    ),
    "metadata of a side": written(open_shard(SIDE, "s").replace_schema_metadata({"files": "[]", "a": "b"})),
    "a stream": bytes(RAW.serialize()),
    "nothing": b"",
    "noise": random.Random(1).randbytes(4096),
    "magic only": b"ARROW1\0\0" + b"\0" * 64 + b"ARROW1",
}


@pytest.mark.parametrize("case", REFUSED)
def test_other_files_are_refused(case: str) -> None:
    with pytest.raises(CorruptError, match="shard 12ab"):
        open_shard(REFUSED[case], "shard 12ab")


def test_a_bomb_is_not_unpacked() -> None:
    """64 MB of zeros in a small file: catches looking for the codec after Arrow has read the batch."""
    text = pa.array(["\0" * 2**20] * 64, pa.large_string())
    bomb = written(pa.RecordBatch.from_arrays([text], schema=raw_schema()), codec="zstd")
    assert len(bomb) < 2**18
    usual = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(usual)
    pa.set_memory_pool(pool)
    try:
        with pytest.raises(CorruptError, match="compressed"):
            open_shard(bomb, "s")
    finally:
        pa.set_memory_pool(usual)
    assert pool.max_memory() < 2**20


def test_falling_offsets_are_found_at_opening() -> None:
    """Catches trusting inner offsets: first and last are right here, as Arrow's own quick check wants them."""
    for shard, bounds in (
        (encode_shard(TOKENS), [0, 3, 3, 5]),
        (encode_shard(RAW.select(["text"])), [0, 2, 2, 7, 8]),
    ):
        place = bytes(shard).index(np.array(bounds).tobytes())
        for wrong in (-1, 2**40, 4 if bounds[-1] == 5 else 8):
            with pytest.raises(CorruptError, match="offsets that fall"):
                open_shard(damaged(bytes(shard), place + 8, np.int64(wrong).tobytes()), "s")


def test_bad_text_is_found_by_verify() -> None:
    shard = bytes(encode_shard(RAW))
    broken = shard.replace(b"cde\xcc\x81", b"cde\xcc\xff")
    assert open_shard(broken, "s").num_rows == 4
    with pytest.raises(CorruptError, match="UTF8"):
        open_shard(broken, "s", verify=True)


SHARDS = [bytes(encode_shard(RAW)), bytes(encode_shard(TOKENS)), bytes(SIDE), bytes(make_side(IDS))]


@pytest.mark.parametrize("shard", SHARDS)
def test_truncated_files_are_corrupt(shard: bytes) -> None:
    for length in range(len(shard)):
        with pytest.raises(CorruptError):
            open_shard(shard[:length], "s")


@pytest.mark.parametrize("shard", SHARDS)
def test_any_one_changed_byte_is_read_or_corrupt(shard: bytes) -> None:
    """Every byte, a few values each; a wild read would end the test run."""
    draw = random.Random(0)
    for place in range(len(shard)):
        for value in {0, 255, shard[place] ^ 1, shard[place] ^ 128, draw.randrange(256)}:
            try:
                use(damaged(shard, place, bytes([value])))
            except CorruptError as error:
                assert "shard 12ab" in str(error)


@given(
    st.sampled_from(SHARDS), st.lists(st.tuples(st.integers(0, 2**16), st.binary(min_size=1, max_size=8)), max_size=6)
)
def test_any_changed_bytes_are_read_or_corrupt(shard: bytes, changes: list[tuple[int, bytes]]) -> None:
    changed = shard
    for place, octets in changes:
        changed = damaged(changed, place % len(shard), octets)
    try:
        use(changed)
    except CorruptError as error:
        assert "shard 12ab" in str(error)
