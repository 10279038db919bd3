"""Entries of the log as bytes, and the fold. The bytes here are the format: written by hand, they never change."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfactory.core.canonical import decode, encode
from pyfactory.core.digest import NO_DIGEST, Digest, digest_of
from pyfactory.errors import CorruptError, NewerFormatError
from pyfactory.repo.operation import Change, Operation, follow, utc_now

A, B = Digest("a" * 64), Digest("b" * 64)
ZERO = Operation(0, NO_DIGEST, "0123456789abcdef" * 2, "2026-01-02T03:04:05Z", "Ada", "initialise", ())
ZERO_BYTES = (
    b'{"changes":[],"n":0,"previous":"0000000000000000000000000000000000000000000000000000000000000000",'
    b'"time":"2026-01-02T03:04:05Z","transaction":"0123456789abcdef0123456789abcdef","v":1,"who":"Ada","why":"initialise"}'
)
ONE = Operation(
    1,
    digest_of(ZERO_BYTES),
    "f" * 32,
    "2026-01-02T03:04:06Z",
    "Ünal",
    'says "hi"',
    (Change("branch/main", None, A), Change("tag/v1", None, B)),
)
ONE_BYTES = (
    '{"changes":[{"new":"' + A + '","old":null,"ref":"branch/main"},{"new":"' + B + '","old":null,"ref":"tag/v1"}],'
    '"n":1,"previous":"' + digest_of(ZERO_BYTES) + '","time":"2026-01-02T03:04:06Z",'
    '"transaction":"ffffffffffffffffffffffffffffffff","v":1,"who":"Ünal","why":"says \\"hi\\""}'
).encode()


def test_the_format_of_the_log_is_frozen() -> None:
    """Fails when a field is renamed, added or reordered: the chain of every log depends on these bytes."""
    assert ZERO.to_bytes() == ZERO_BYTES
    assert ONE.to_bytes() == ONE_BYTES
    assert Operation.from_bytes(ZERO_BYTES, "x") == ZERO
    assert Operation.from_bytes(ONE_BYTES, "x") == ONE


def test_the_fold_of_the_log_are_the_refs() -> None:
    view = follow(None, [ZERO_BYTES, ONE_BYTES], "u")
    assert (view.n, view.digest, dict(view.refs)) == (1, digest_of(ONE_BYTES), {"branch/main": A, "tag/v1": B})
    two = replace(ONE, n=2, previous=view.digest, changes=(Change("branch/main", A, B), Change("tag/v1", B, None)))
    after = follow(view, [two.to_bytes()], "u")
    assert dict(after.refs) == {"branch/main": B}
    assert dict(view.refs) == {"branch/main": A, "tag/v1": B}, "a view is a value"
    assert follow(None, [ZERO_BYTES, ONE_BYTES, two.to_bytes()], "u") == after


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (replace(ONE, n=2), "says that it is entry 2"),
        (replace(ONE, previous=A), "does not follow entry 0"),
        (replace(ONE, previous=NO_DIGEST), "does not follow entry 0"),
        (replace(ONE, changes=(Change("branch/main", B, A),)), "moves branch/main"),
        (replace(ONE, changes=(Change("branch/x", B, None),)), "moves branch/x"),
    ],
)
def test_an_entry_must_fit_what_precedes_it(wrong: Operation, message: str) -> None:
    with pytest.raises(CorruptError, match=f"log entry 1 .*{message}|log entry 1 {message}"):
        follow(None, [ZERO_BYTES, wrong.to_bytes()], "memory://x")


def test_entry_zero_changes_nothing() -> None:
    for wrong in (replace(ZERO, changes=ONE.changes), replace(ZERO, previous=A)):
        with pytest.raises(CorruptError, match="log entry 0"):
            follow(None, [wrong.to_bytes()], "memory://x")


CHANGE = {"new": A, "old": None, "ref": "branch/main"}
WRONG: list[tuple[str, Any]] = [
    ("n", -1),
    ("n", True),
    ("n", "1"),
    ("n", 2**63),
    ("v", 0),
    ("previous", None),
    ("transaction", "F" * 32),
    ("transaction", "f" * 31),
    ("time", "yesterday"),
    ("who", None),
    ("why", 1),
    ("extra", 1),
    ("changes", {}),
    ("changes", [1]),
    ("changes", [CHANGE, CHANGE]),
    ("changes", [CHANGE | {"ref": "tag/b"}, CHANGE]),
    ("changes", [CHANGE | {"new": None}]),
    ("changes", [CHANGE | {"old": A}]),
    ("changes", [CHANGE | {"ref": "main"}]),
    ("changes", [CHANGE | {"ref": "branch/../x"}]),
    ("changes", [CHANGE | {"ref": "branch/x\n"}]),
    ("changes", [CHANGE | {"ref": 1}]),
    ("changes", [CHANGE | {"more": 1}]),
    ("changes", [{"new": A, "ref": "branch/main"}]),
]


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_an_entry_with_a_wrong_field_is_corrupt(name: str, value: object) -> None:
    content = encode(decode(ONE_BYTES, "x") | {name: value})
    with pytest.raises(CorruptError, match="the entry"):
        Operation.from_bytes(content, "the entry")


def test_refs_of_kinds_that_come_later_are_read() -> None:
    """What later formats name by digest is a ref as well, or old programs could not follow the log at all."""
    operation = replace(ONE, changes=(Change(f"redaction/{A}", None, B), Change("rule/main", None, A)))
    assert Operation.from_bytes(operation.to_bytes(), "x") == operation


def test_a_later_format_asks_for_an_upgrade() -> None:
    with pytest.raises(NewerFormatError):
        Operation.from_bytes(encode(decode(ONE_BYTES, "x") | {"v": 2, "new": 1}), "x")


@given(st.integers(0, len(ONE_BYTES) - 1), st.integers(0, 255), st.booleans())
def test_hostile_bytes_are_an_entry_or_corrupt(at: int, byte: int, cut: bool) -> None:
    """Bytes that are read are canonical: two entries that mean the same are the same bytes."""
    hostile = ONE_BYTES[:at] + bytes([byte]) + (b"" if cut else ONE_BYTES[at + 1 :])
    with suppress(CorruptError, NewerFormatError):
        assert Operation.from_bytes(hostile, "x").to_bytes() == hostile


def test_now_is_a_time_that_is_read() -> None:
    operation = replace(ZERO, time=utc_now())
    assert Operation.from_bytes(operation.to_bytes(), "x") == operation
