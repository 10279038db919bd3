"""One sorted list of the record keys of many side shards, in which a key is found with two small reads.

Layout, all little-endian: the magic `PFKEYS01`, bits u32, 0 u32, rows u64, sides u64; the digests of the sides, 32
bytes each; a fence of 2^bits + 1 records (first entry u64, check 8 bytes); then the entries, ascending: key 16 bytes,
number of the side u32, row u32. Entries whose keys begin with the same `bits` bits are a block; keys are hashes, so
blocks hold about 64. A check covers its block: whatever an answer rests on is verified, also that there is none.

The file is a function of the sides, and named by them. It is advice: what is damaged is written again.
"""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from pyfactory.core.digest import Buffer, Digest, Hasher, digest_of
from pyfactory.errors import CorruptError
from pyfactory.shard.layout import KEY_BYTES

__all__ = ["Read", "Shape", "Sorted", "find_key", "name_of", "sides_of", "write_key_index"]

Read = Callable[[int, int], Buffer]
"""Returns the bytes start (included) to stop (excluded) of an index."""

Sorted = tuple[NDArray[Any], NDArray[np.uint32]]
"""The keys of a side, V16[rows], ascending, and the row of each."""

_MAGIC = b"PFKEYS01"
_HEADER = struct.Struct("<8sIIQQ")
_WIDTH = 32
_CHECK_BYTES = 8
_FENCE = np.dtype([("start", "<u8"), ("check", f"V{_CHECK_BYTES}")])
_BOUNDS = struct.Struct(f"<Q{_CHECK_BYTES}sQ")  # of a block: its fence record and the beginning of the next
_ABOUT = struct.Struct("<QQQ")
_ENTRY = np.dtype([("key", f"S{KEY_BYTES}"), ("side", "<u4"), ("row", "<u4")])
_BLOCK_BITS = 6  # a block holds up to 64 entries in the mean
_PARTITION_BYTES = 64_000_000  # sorted at a time
_MOST_PARTITION_BITS = 9
_MOST_SIDES = 1 << 32


@dataclass(frozen=True, slots=True)
class Shape:
    """What decides where things lie in an index.

    Attributes:
        sides: Number of sides.
        rows: Rows of all of them.
    """

    sides: int
    rows: int

    @property
    def bits(self) -> int:
        """Leading bits of a key that choose its block."""
        return max(1, (self.rows >> _BLOCK_BITS).bit_length())

    @property
    def fence(self) -> int:
        """Byte at which the fence begins."""
        return _HEADER.size + _WIDTH * self.sides

    @property
    def entries(self) -> int:
        """Byte at which the entries begin."""
        return self.fence + _FENCE.itemsize * ((1 << self.bits) + 1)

    @property
    def nbytes(self) -> int:
        """Bytes of the whole."""
        return self.entries + _ENTRY.itemsize * self.rows


def name_of(packed_sides: Buffer) -> Digest:
    """Return the name of the index over sides, given their digests one after the other, 32 bytes each."""
    return digest_of(_MAGIC + bytes(packed_sides))


def find_key(read: Read, name: Digest, shape: Shape, key: bytes) -> list[tuple[int, int]]:
    """Return (number of the side, row) of all entries with a key, ascending. Two reads.

    Args:
        read: Reads the index.
        name: Its name.
        shape: Its shape.
        key: The 16 bytes to look for.

    Raises:
        CorruptError: What was read is not what was written under this name.
    """
    block = int.from_bytes(key[:8], "big") >> (64 - shape.bits)
    at = shape.fence + block * _FENCE.itemsize
    what = f"block {block} of the record index {name}"
    start, check, stop = _BOUNDS.unpack(_whole(read, at, at + _BOUNDS.size, what))
    if not start <= stop <= shape.rows:
        raise CorruptError(f"{what} cannot be from entry {start} to {stop} of {shape.rows}")
    size = _ENTRY.itemsize
    content = _whole(read, shape.entries + start * size, shape.entries + stop * size, what)
    if _check(name, block, start, stop, content) != check:
        raise CorruptError(f"{what} is damaged")
    entries = np.frombuffer(content, _ENTRY)
    wanted = np.array(key, _ENTRY["key"])
    low = int(np.searchsorted(entries["key"], wanted, side="left"))
    high = int(np.searchsorted(entries["key"], wanted, side="right"))
    return list(zip(entries["side"][low:high].tolist(), entries["row"][low:high].tolist(), strict=True))


def sides_of(read: Read, name: Digest) -> Buffer:
    """Return the digests of the sides in an index, 32 bytes each; CorruptError if it is not the one of that name."""
    what = f"the record index {name}"
    magic, _, _, _, count = _HEADER.unpack(_whole(read, 0, _HEADER.size, what))
    if magic != _MAGIC or count > _MOST_SIDES:
        raise CorruptError(f"{what} is none")
    packed = _whole(read, _HEADER.size, _HEADER.size + _WIDTH * count, what)
    if name_of(packed) != name:
        raise CorruptError(f"the record index {name} lists other sides than it is named by")
    return packed


def write_key_index(file: IO[bytes], scratch: Path, packed_sides: Buffer, rows: int, sides: Iterable[Sorted]) -> Digest:
    """Write the index over sides and return its name. O(rows log rows) time, memory for 64 MB of entries at a time.

    Args:
        file: An empty file, open for writing at any place.
        scratch: A folder for as many bytes as the index has.
        packed_sides: The digests of the sides, 32 bytes each.
        rows: Rows of all sides.
        sides: What is in each side, in this order; NO_DIGEST has nothing.

    Raises:
        CorruptError: The sides have another number of rows.
    """
    name, shape = name_of(packed_sides), Shape(len(packed_sides) // _WIDTH, rows)
    bits = 0
    while bits < min(shape.bits, _MOST_PARTITION_BITS) and (rows * _ENTRY.itemsize) >> bits > _PARTITION_BYTES:
        bits += 1
    file.write(_HEADER.pack(_MAGIC, shape.bits, 0, rows, shape.sides) + bytes(packed_sides))
    with ExitStack() as stack:
        spills = [stack.enter_context(tempfile.TemporaryFile(dir=scratch)) for _ in range(1 << bits)]
        _spill(spills, sides)
        held = sum(spill.tell() for spill in spills) // _ENTRY.itemsize
        if held != rows:  # before anything is made as large as is claimed
            raise CorruptError(f"the sides of a table hold {held} rows, and its manifest says {rows}")
        done = 0
        for number, spill in enumerate(spills):
            spill.seek(0)
            entries = _ascending(np.frombuffer(spill.read(), _ENTRY))
            _write_partition(
                file, name, shape, (number << (shape.bits - bits), 1 << (shape.bits - bits)), done, entries
            )
            done += len(entries)
    file.seek(shape.entries - _FENCE.itemsize)
    file.write(np.array([(rows, bytes(_CHECK_BYTES))], _FENCE).tobytes())
    return name


def _whole(read: Read, start: int, stop: int, what: str) -> Buffer:
    content = read(start, stop)
    if len(content) != stop - start:
        raise CorruptError(f"{what} is truncated")
    return content


def _spill(spills: Sequence[IO[bytes]], sides: Iterable[Sorted]) -> None:
    """Put the entries of each side into the files that their leading bits choose."""
    shift = np.uint64(65 - len(spills).bit_length())
    for number, (keys, rows) in enumerate(sides):
        entries = np.empty(len(keys), _ENTRY)
        entries["key"], entries["side"], entries["row"] = keys.view(_ENTRY["key"]), number, rows
        if len(spills) == 1:
            spills[0].write(entries.tobytes())
            continue
        bounds = np.searchsorted(_leading(entries) >> shift, np.arange(len(spills) + 1, dtype=np.uint64))
        for spill, low, high in zip(spills, bounds[:-1].tolist(), bounds[1:].tolist(), strict=True):
            spill.write(entries[low:high].tobytes())


def _leading(entries: NDArray[Any]) -> NDArray[np.uint64]:
    """Return the first 8 bytes of keys as numbers that compare as the keys do."""
    words = np.ascontiguousarray(entries["key"]).view(">u8").reshape(-1, 2)
    return words[:, 0].astype(np.uint64)


def _ascending(entries: NDArray[Any]) -> NDArray[Any]:
    words = np.ascontiguousarray(entries["key"]).view(">u8").reshape(-1, 2).astype(np.uint64)
    # Stable: entries of equal keys stay in the order of sides and rows.
    found: NDArray[Any] = entries[np.lexsort((words[:, 1], words[:, 0]))]
    return found


def _write_partition(
    file: IO[bytes], name: Digest, shape: Shape, blocks: tuple[int, int], start: int, entries: NDArray[Any]
) -> None:
    """Write the entries of some blocks, given as (first, number of them), and their fence; `start` entries precede."""
    first, count = blocks
    numbers = np.arange(first, first + count + 1, dtype=np.uint64)
    bounds = np.searchsorted(_leading(entries) >> np.uint64(64 - shape.bits), numbers).tolist()
    content = entries.tobytes()
    fence = np.empty(count, _FENCE)
    for at in range(count):
        low, high = bounds[at], bounds[at + 1]
        block = content[low * _ENTRY.itemsize : high * _ENTRY.itemsize]
        fence[at] = start + low, _check(name, first + at, start + low, start + high, block)
    file.seek(shape.fence + first * _FENCE.itemsize)
    file.write(fence.tobytes())
    file.seek(shape.entries + start * _ENTRY.itemsize)
    file.write(content)


def _check(name: Digest, block: int, start: int, stop: int, content: Buffer) -> bytes:
    about = bytes.fromhex(name) + _ABOUT.pack(block, start, stop)
    return Hasher(about + bytes(content)).digest(length=_CHECK_BYTES)
