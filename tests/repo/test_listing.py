"""Sets of digests: against Python's own, and hostile bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfactory.core.digest import Digest
from pyfactory.errors import CorruptError
from pyfactory.repo.listing import DigestSet, Listing, contains, digests_of, hexadecimal, packed_digests, parse_listing

# Few values of each byte, with zeros at the end: what a comparison of padded text would get wrong.
DIGESTS = st.lists(st.lists(st.sampled_from([0, 1, 255]), min_size=32, max_size=32).map(bytes), max_size=8)


@given(DIGESTS, DIGESTS)
def test_sets_agree_with_pythons(known: list[bytes], wanted: list[bytes]) -> None:
    array = digests_of(b"".join(known))
    assert [*hexadecimal(array)] == [digest.hex() for digest in sorted(set(known))]
    asked = digests_of(b"".join(wanted))
    assert contains(array, asked).tolist() == [digest in known for digest in sorted(set(wanted))]
    grown = DigestSet()
    for digest in known:
        grown.add(Digest(digest.hex()))
    grown.array()
    grown.add_packed(b"".join(wanted))
    assert grown.array().tobytes() == b"".join(sorted({*known, *wanted}))


@given(DIGESTS)
def test_a_listing_comes_back(digests: list[bytes]) -> None:
    listing = Listing(3, "2026-03-01T00:00:00Z", 77, digests_of(b"".join(digests)))
    read = parse_listing(listing.to_bytes(), "x")
    assert (read.n, read.time, read.nbytes) == (3, "2026-03-01T00:00:00Z", 77)
    assert read.digests.tobytes() == listing.digests.tobytes()


def test_the_listing_is_frozen() -> None:
    digests = digests_of(packed_digests([Digest("02" * 32), Digest("01" * 32)]))
    header = b'{"bytes":5,"count":2,"n":1,"time":"2026-03-01T00:00:00Z","v":1}'
    content = Listing(1, "2026-03-01T00:00:00Z", 5, digests).to_bytes()
    assert content == b"PFLIST01" + len(header).to_bytes(4, "little") + header + b"\1" * 32 + b"\2" * 32


def test_hostile_listings_are_corrupt() -> None:
    good = Listing(1, "2026-03-01T00:00:00Z", 5, digests_of(b"\1" * 32 + b"\2" * 32)).to_bytes()
    for at in range(len(good) - 64):
        for byte in (0, 0x7F, 0xFF, good[at] ^ 1):
            content = good[:at] + bytes([byte]) + good[at + 1 :]
            try:
                parse_listing(content, "x")
            except CorruptError:
                continue
            assert content == good or content[12:] != good[12:], "a digit of a number or time"
    for content in (b"", good[:-1], good + b"\0", good[:-64] + b"\2" * 32 + b"\1" * 32, good[:-32] + b"\1" * 32):
        with pytest.raises(CorruptError):
            parse_listing(content, "x")


@given(st.binary(max_size=100))
def test_any_bytes_are_a_listing_or_corrupt(content: bytes) -> None:
    for start in (b"", b"PFLIST01"):
        with pytest.raises(CorruptError):
            parse_listing(start + content, "x")
