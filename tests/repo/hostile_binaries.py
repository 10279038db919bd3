"""The parsers of binary objects, and of the files of tokens that are imported."""

from __future__ import annotations

import io
import struct
import tempfile
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from hostile import INPUT, NEWER, TIME, A, B, Parser, Shelf
from repo_tables import token_part
from tokenizers import Tokenizer, models

from pyfactory.core.digest import NO_DIGEST, Digest, digest_of
from pyfactory.errors import CorruptError, InvalidInputError, NotFoundError
from pyfactory.job.selection import decode_selection, encode_selection
from pyfactory.job.steps.tokenizer_file import from_tokenizer_json
from pyfactory.repo.gates.contamination_sets import EvaluationSet, make_set
from pyfactory.repo.listing import Listing, digests_of, parse_listing
from pyfactory.shard.importers.sources import expand
from pyfactory.shard.importers.token_files import TokenFormat, open_token_file
from pyfactory.shard.layout import raw_schema
from pyfactory.shard.manifest import Manifest, new_batch
from pyfactory.shard.node import encode_node, parse_node
from pyfactory.shard.packing_format import (
    PackedRange,
    PackingIndex,
    RangeEntry,
    decode_index,
    decode_range,
    encode_range,
)
from pyfactory.shard.reader import open_shard, open_side, token_buffers
from pyfactory.shard.tree import Part, write_tree
from pyfactory.shard.writer import encode_shard, make_side

__all__ = ["binaries", "files"]


@cache
def _folder() -> Path:
    kept.append(tempfile.TemporaryDirectory(prefix="hostile-"))
    return Path(kept[-1].name)


kept: list[tempfile.TemporaryDirectory[str]] = []


def read_manifest(shelf: Shelf, digest: Digest) -> None:
    manifest = Manifest(shelf.objects, digest)
    parts = [*manifest.parts()]
    assert len(parts) == manifest.shards and sum(part.rows for part in parts) == manifest.rows
    if manifest.rows:
        shards, _ = manifest.locate_rows(np.array([0, manifest.rows - 1]))
        assert 0 <= shards[0] <= shards[1] < manifest.shards


def read_raw(verify: bool, content: bytes) -> Any:
    batch = open_shard(content, "it", verify=verify)
    return batch.to_pylist() if verify else [column.buffers() for column in batch.columns]


def read_tokens(verify: bool, content: bytes) -> Any:
    batch = open_shard(content, "it", verify=verify)
    try:
        values, offsets = token_buffers(batch)
    except InvalidInputError:
        return None  # a shard, but of another table
    return int(values.sum()), [values[low] for low in offsets[:-1] if low < len(values)]


def read_side(verify: bool, content: bytes) -> Any:
    side = open_side(content, "it", verify=verify)
    side.find("doc-1"), side.rows_of(side.keys[:2]), side.origins()
    return [side.origin(row) for row in range(len(side))], [side.id(row) for row in range(len(side))]


def read_token_file(format: TokenFormat, beside: bytes, content: bytes) -> Any:
    """Of a Megatron dataset the index is hostile, and what stands beside it are its tokens."""
    name, ending = ("it.bin", ".idx") if format is TokenFormat.megatron else (f"it.{format}", "")
    path = _folder() / name
    path.write_bytes(beside if ending else content)
    if ending:
        path.with_suffix(ending).write_bytes(content)
    (source,) = expand([path])
    others = tuple(expand([path.with_suffix(ending)])) if ending else ()
    dtype = "uint16" if format is TokenFormat.bin else None
    found = open_token_file(source, others, format, dtype=dtype, folder=_folder(), number=0)
    assert found.start + found.count * found.dtype.itemsize == source.size
    if found.ends is not None:
        assert (np.diff(found.ends) >= 0).all() and (not len(found.ends) or found.ends[-1] <= found.count)
    return found.count


def binaries() -> list[Parser]:
    shelf = Shelf()
    objects = shelf.objects
    parts = [Part(digest_of(bytes([n])), NO_DIGEST, n + 1, 0, 100 + n) for n in range(40)]
    leaf = objects.get(write_tree(objects, new_batch(parts[:5], 3)))
    root = objects.get(write_tree(objects, new_batch(parts, 3), leaf_mean=4, inner_mean=4))
    listing = Listing(4, TIME, 99, digests_of(bytes(range(96))))
    mask = np.array([1, 0, 1, 1, 0, 0, 0, 1, 1, 0, 1], np.bool_)
    columns = [pa.field("n", pa.int32()), pa.field("s", pa.string()), pa.field("b", pa.bool_(), nullable=False)]
    values = [pa.array(["one", "", "drei ü"], pa.large_string()), pa.array([1, None, 3], pa.int32())]
    values += [pa.array([None, "a", ""]), pa.array([True, False, True])]
    raw = bytes(encode_shard(pa.RecordBatch.from_arrays(values, schema=raw_schema(columns))))
    token = objects.get(token_part(objects, [[1, 2, 3], [], [4, 5]]).shard)
    ids = pa.array([f"doc-{n}" for n in range(3)], pa.large_string())
    side = bytes(make_side(ids, [A, B], np.array([0, 1, 0], np.int32), np.array([1, 2, 3])))
    node = lambda it: parse_node(it, "it")  # noqa: E731
    again = lambda it: encode_node(it.level, it.records)  # noqa: E731
    reads = partial(Parser, text=False)
    pieces = np.array([0, 9, 5]), np.array([0, 1, 3]), np.array([5, 2, 2], np.uint32)
    packed = encode_range(PackedRange(4, 11, *pieces))
    entries = (RangeEntry(A, 3, 3, 11, 3, 10, 0, 1), RangeEntry(B, 2, 1, 4, 1, 4, 0, 0))
    index = PackingIndex("best_fit", 4, 3, entries).encode()
    found = [
        reads("leaf node", leaf, node, write=again),
        reads("inner node", root, node, write=again),
        reads("manifest", root, partial(shelf.load, read_manifest), (CorruptError, NotFoundError)),
        reads("range of a packing", packed, lambda it: decode_range(it, "it"), write=encode_range),
        Parser("packing", index, lambda it: decode_index(it, "it"), NEWER, PackingIndex.encode),
        reads("listing", listing.to_bytes(), lambda it: parse_listing(it, "it"), NEWER, Listing.to_bytes),
        reads(
            "selection", encode_selection(mask), lambda it: decode_selection(it, 11, 6, "it"), write=encode_selection
        ),
        reads(
            "evaluation set",
            make_set(["one two three four five"], 3).to_bytes(),
            lambda it: EvaluationSet.from_bytes(it, "it"),
            NEWER,
            EvaluationSet.to_bytes,
        ),
    ]
    for verify in (False, True):
        kind = "verified " if verify else ""
        found.append(reads(f"{kind}raw shard", raw, partial(read_raw, verify)))
        found.append(reads(f"{kind}token shard", token, partial(read_tokens, verify)))
        found.append(reads(f"{kind}side shard", side, partial(read_side, verify)))
    return found


def files() -> list[Parser]:
    npy = io.BytesIO()
    np.save(npy, np.arange(24, dtype=np.uint16).reshape(4, 6))
    lengths, bounds = np.array([3, 1, 4], "<i4"), np.array([0, 2, 3], "<i8")
    index = struct.pack("<9sQBQQ", b"MMIDIDX\0\0", 1, 8, 3, 3) + lengths.tobytes()
    index += np.array([0, 6, 8], "<i8").tobytes() + bounds.tobytes()
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "b": 1, "[UNK]": 2}, "[UNK]")).to_str().encode()
    bytes_ = np.arange(8, dtype="<u2").tobytes()
    reads = partial(Parser, raises=INPUT, text=False)
    return [
        reads("npy", npy.getvalue(), partial(read_token_file, TokenFormat.npy, b"")),
        reads("bin", bytes_, partial(read_token_file, TokenFormat.bin, b"")),
        reads("megatron index", index, partial(read_token_file, TokenFormat.megatron, bytes_)),
        Parser("tokenizer.json", tokenizer, lambda it: from_tokenizer_json(it, "it"), INPUT),
    ]
