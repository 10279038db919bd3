from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfactory.core.digest import NO_DIGEST, Digest, Hasher, digest_of, digest_of_file, parse_digest
from pyfactory.errors import InvalidInputError

# The first 32 bytes of "hash" in test_vectors.json of github.com/BLAKE3-team/BLAKE3; input is 0, 1, ... 250, 0, 1, ...
# The lengths are those round a chunk (1,024 bytes), a parent, and a tree that is large and not full.
VECTORS = {
    0: "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262",
    1: "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213",
    1023: "10108970eeda3eb932baac1428c7a2163b0e924c9a9e25b35bba72b28f70bd11",
    1024: "42214739f095a406f3fc83deb889744ac00df831c10daa55189b5d121c855af7",
    1025: "d00278ae47eb27b34faecf67b4fe263f82d5412916c1ffd97c8cb7fb814b8444",
    2049: "5f4d72f40d7a5f82b15ca2b2e44b1de3c2ef86c426c95c1af0b6879522563030",
    31744: "62b6960e1a44bcc1eb1a611a8d6235b6b4b78f32e7abc4fb4c6cdcce94895c47",
    102400: "bc3e3d41a1146b069abffad3c0d44860cf664390afce4d9661f7902e7943e085",
}


def counting(size: int) -> bytes:
    return bytes(number % 251 for number in range(size))


@pytest.mark.parametrize("size", VECTORS)
def test_vectors_of_the_specification(tmp_path: Path, size: int) -> None:
    """Catches another hash, another length or keyed mode: names of stored objects would change."""
    path = tmp_path / "file"
    path.write_bytes(counting(size))
    assert digest_of(counting(size)) == digest_of_file(path) == VECTORS[size]


@given(st.binary(max_size=3000), st.integers(0, 3000))
def test_however_it_is_fed(content: bytes, cut: int) -> None:
    parts = Hasher(content[:cut])
    parts.update(content[cut:])
    assert digest_of(content) == digest_of(bytearray(content)) == digest_of(memoryview(content)) == parts.hexdigest()


def test_a_large_file(tmp_path: Path) -> None:
    """Long enough for the memory map, and not a multiple of anything."""
    content = random.Random(1).randbytes(3_000_001)
    path = tmp_path / "file"
    path.write_bytes(content)
    assert digest_of_file(path) == digest_of(content)


def test_digests_are_parsed_strictly() -> None:
    assert parse_digest(digest_of(b"")) == digest_of(b"")
    assert parse_digest(NO_DIGEST) == NO_DIGEST == Digest("0" * 64)
    good = digest_of(b"")
    for bad in (
        "",
        good[:-1],
        good + "0",
        good.upper(),
        good + "\n",
        " " + good[1:],
        good.encode(),
        None,
        7,
        "\u0660" * 64,
    ):
        with pytest.raises(InvalidInputError, match="not a digest"):
            parse_digest(bad)
