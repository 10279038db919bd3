"""Nodes as bytes: what is refused, and where they are cut."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pyfactory.core.digest import digest_of
from pyfactory.errors import CorruptError
from pyfactory.shard.node import Node, encode_node, leaf_records, parse_node, pieces, reference

NAME = "the manifest node 12ab"


def record(generation: int, batch: int, ordinal: int, rows: int = 1, tokens: int = 2, nbytes: int = 3) -> bytes:
    """A leaf record by the words of the format."""
    return struct.pack(
        "<Q32sQ32s32sQQQ", generation, bytes([batch]) * 32, ordinal, b"s" * 32, b"i" * 32, rows, tokens, nbytes
    )


def inner(generation: int, child: bytes, *totals: int) -> bytes:
    """An inner record by the words of the format; its first key is (generation, 0, 0)."""
    return struct.pack("<Q32sQ32sQQQQ", generation, b"\0" * 32, 0, child, *totals)


def node(level: int, *records: bytes) -> bytes:
    return struct.pack("<8sII", b"PFNODE01", level, len(records)) + b"".join(records)


LEAF = node(0, record(1, 1, 0), record(1, 1, 1, 0, 0, 5), record(2, 0, 0))
INNER = node(2, inner(1, b"c" * 32, 5, 6, 7, 8), inner(2, b"d" * 32, 1, 0, 0, 9))


def test_nodes_are_read() -> None:
    leaf, parent = parse_node(LEAF, NAME), parse_node(INNER, NAME)
    assert leaf.starts.tolist() == [[0, 1, 2, 3], [0, 1, 1, 2], [0, 2, 2, 4], [0, 3, 8, 11]]
    assert leaf.totals == (3, 2, 4, 11)
    assert leaf.key(2) == struct.pack("<Q32sQ", 2, b"\0" * 32, 0)
    assert parent.starts.tolist() == [[0, 5, 6], [0, 6, 6], [0, 7, 7], [0, 8, 17]]
    assert parent.child(1) == "64" * 32
    assert reference(parent, digest_of(INNER)) == inner(1, bytes.fromhex(digest_of(INNER)), 6, 6, 7, 17)
    empty = parse_node(node(0), NAME)
    assert empty.totals == (0, 0, 0, 0)


HUGE = 2**63
WRONG = {
    "nothing": b"",
    "half a header": LEAF[:15],
    "magic": b"PFNODE02" + LEAF[8:],
    "truncated": LEAF[:-1],
    "one byte more": LEAF + b"\0",
    "too many counted": LEAF[:12] + struct.pack("<I", 4) + LEAF[16:],
    "2^32 - 1 counted": LEAF[:12] + b"\xff" * 4 + LEAF[16:],
    "too few counted": LEAF[:12] + struct.pack("<I", 2) + LEAF[16:],
    "a leaf that claims to be inner": LEAF[:8] + struct.pack("<I", 1) + LEAF[12:],
    "high level": INNER[:8] + struct.pack("<I", 65) + INNER[12:],
    "an empty inner node": node(1),
    "an empty child": node(1, inner(1, b"c" * 32, 0, 0, 0, 0)),
    "equal keys": node(0, record(1, 1, 0), record(1, 1, 0)),
    "generations fall": node(0, record(2, 0, 0), record(1, 1, 1)),
    "batches fall": node(0, record(1, 2, 0), record(1, 1, 1)),
    "ordinals fall": node(0, record(1, 1, 256), record(1, 1, 255)),
    "rows": node(0, record(1, 1, 0, HUGE)),
    "tokens wrap around": node(0, record(1, 1, 0, 1, HUGE), record(1, 1, 1, 1, HUGE)),
    "bytes add up": node(0, record(1, 1, 0, 1, 1, HUGE - 1), record(1, 1, 1, 1, 1, 1)),
    "shards": node(1, inner(1, b"c" * 32, HUGE - 1, 0, 0, 0), inner(2, b"c" * 32, HUGE - 1, 0, 0, 0)),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_nodes_are_corrupt_by_name(case: str) -> None:
    with pytest.raises(CorruptError, match=NAME):
        parse_node(WRONG[case], NAME)


def test_batches_sort_as_text() -> None:
    """Catches comparing batches as little-endian words: here the last byte would decide."""
    low, high = b"\x00" * 31 + b"\xff", b"\x01" + b"\x00" * 31
    for first, second in ((low, high), (b"\0" * 7 + b"\1" + b"\0" * 24, b"\0" * 6 + b"\1\0" + b"\0" * 24)):
        one, other = record(1, 0, 5), record(1, 0, 4)
        one, other = one[:8] + first + one[40:], other[:8] + second + other[40:]
        parse_node(node(0, one, other), NAME)
        with pytest.raises(CorruptError, match="ascend"):
            parse_node(node(0, other, one), NAME)


def test_totals_may_reach_63_bits() -> None:
    assert parse_node(node(0, record(1, 1, 0, HUGE - 1), record(1, 1, 1, 0)), NAME).totals[1] == HUGE - 1


def check_or_corrupt(content: bytes) -> None:
    """A node that is taken must be what its bytes say."""
    try:
        taken = parse_node(content, NAME)
    except CorruptError as error:
        assert NAME in str(error)
        return
    assert isinstance(taken, Node) and encode_node(taken.level, taken.records) == content
    assert (np.diff(taken.starts) >= 0).all() and (taken.starts[:, 0] == 0).all()


@given(st.binary(max_size=400) | st.binary(max_size=300).map(lambda rest: b"PFNODE01" + rest))
def test_any_bytes_are_a_node_or_corrupt(content: bytes) -> None:
    check_or_corrupt(content)


@given(
    st.sampled_from([LEAF, INNER]),
    st.lists(st.tuples(st.integers(0, 500), st.binary(min_size=1, max_size=8)), min_size=1, max_size=4),
    st.integers(0, 500),
)
def test_changed_nodes_are_nodes_or_corrupt(content: bytes, changes: list[tuple[int, bytes]], end: int) -> None:
    for place, octets in changes:
        start = place % len(content)
        content = content[:start] + octets + content[start + len(octets) :]
    check_or_corrupt(content[: end + 100])


def records_of(hits: list[bool]) -> np.ndarray:
    """Leaf records whose shards hit the bound (last 8 bytes zero) or miss it by one bit."""
    packed = [record(1, 1, ordinal) for ordinal in range(len(hits))]
    digests = [b"\xff" * 24 + (b"\0" * 8 if hit else b"\1" + b"\0" * 7) for hit in hits]
    return leaf_records(b"".join(p[:48] + digest + p[80:] for p, digest in zip(packed, digests, strict=True)))


@given(st.lists(st.sampled_from([False] * 12 + [True]), max_size=120))
@example([False] * 16)
@example([False] * 15 + [True, False])
def test_cuts_follow_the_digests(hits: list[bool]) -> None:
    """Against the rule as a loop: a node ends after a hit, and after 8 times the mean since the last bound."""
    expected, length = [], 0
    for hit in hits:
        length += 1
        if hit or length == 16:
            expected.append((length, True))
            length = 0
    if length:
        expected.append((length, False))
    cut = list(pieces(records_of(hits), 2))
    assert [(len(piece), bounded) for piece, bounded in cut] == expected
    if hits:
        assert np.concatenate([piece for piece, _ in cut]).tobytes() == records_of(hits).tobytes()


def test_the_bound_is_in_the_last_eight_bytes() -> None:
    """Of the format: little-endian word, low bits, so byte 24 of the shard digest counts first."""
    packed = record(1, 1, 0)
    for place, value, hit in ((24, 1, False), (24, 2, False), (25, 8, False), (25, 16, True), (31, 255, True)):
        digest = bytearray(32)
        digest[place] = value
        records = leaf_records(packed[:48] + bytes(digest) + packed[80:])
        assert [bounded for _, bounded in pieces(records, 4096)] == [hit]
