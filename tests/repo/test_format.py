"""`format.json`: who may read and write."""

from __future__ import annotations

import pytest

from pyfactory.core.canonical import encode
from pyfactory.errors import CorruptError, NewerFormatError, NotFoundError
from pyfactory.repo.format import FORMAT_KEY, check_writable, read_format, write_format
from pyfactory.repo.repository import Repository
from pyfactory.store.memory import MemoryStore


def store_with(content: bytes) -> MemoryStore:
    store = MemoryStore()
    store.create(FORMAT_KEY, content)
    return store


def test_the_format_object_is_frozen() -> None:
    store = MemoryStore()
    write_format(store)
    assert store.get("format.json") == b'{"format":1,"reader":["redactions"],"writer":["rules","sweep"]}'
    assert read_format(store) == ("rules", "sweep")
    write_format(store)


def test_no_format_is_no_repository() -> None:
    store = MemoryStore()
    with pytest.raises(NotFoundError, match=f"no pyfactory repository at {store.url}.*pyfactory init {store.url}"):
        read_format(store)


@pytest.mark.parametrize(
    "value",
    [
        {"format": 2, "reader": [], "writer": []},
        {"format": 7, "anything": {"else": 1}},
        {"format": 1, "reader": ["redaction"], "writer": []},
    ],
)
def test_a_newer_repository_is_not_read(value: object) -> None:
    with pytest.raises(NewerFormatError, match="upgrade pyfactory"):
        read_format(store_with(encode(value)))


def test_a_feature_of_writers_stops_writers_only() -> None:
    store = MemoryStore()
    Repository.create(store)
    store.replace(FORMAT_KEY, encode({"format": 1, "reader": [], "writer": ["gates"]}))
    repository = Repository.open(store)
    assert repository.branches() == {}
    for write in (
        lambda: repository.commit({}, message=""),
        lambda: repository.branch("x"),
        lambda: repository.tag("x"),
    ):
        with pytest.raises(NewerFormatError, match="gates"):
            write()
    assert repository.view().n == 0
    check_writable(store.url, ())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{}",
        b"[]",
        b'{"format": 1,"reader":[],"writer":[]}',
        b'{"format":0,"reader":[],"writer":[]}',
        b'{"format":true,"reader":[],"writer":[]}',
        b'{"format":"1","reader":[],"writer":[]}',
        b'{"format":1,"reader":[1],"writer":[]}',
        b'{"format":1,"reader":[],"writer":[null]}',
        b'{"format":1,"reader":{},"writer":[]}',
        b'{"format":1,"more":1,"reader":[],"writer":[]}',
        b'{"format":1,"reader":[]}',
    ],
)
def test_hostile_formats_are_corrupt(content: bytes) -> None:
    with pytest.raises(CorruptError, match=r"format\.json"):
        read_format(store_with(content))
