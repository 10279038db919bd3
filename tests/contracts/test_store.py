"""What every store promises; all backends and both wrappers pass the same suite."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import obstore.store
import pytest

from pyfactory.errors import InvalidInputError, NotFoundError
from pyfactory.store.base import Store, prove_put_if_absent
from pyfactory.store.cloud import CloudStore
from pyfactory.store.content import Objects
from pyfactory.store.local import LocalStore
from pyfactory.store.memory import MemoryStore
from pyfactory.store.open import open_store
from pyfactory.store.wrap import Counted, Faulty
from tests.s3_server import S3Server

MAKERS: dict[str, Callable[[Path], Store]] = {
    "local": LocalStore,
    "memory": lambda folder: MemoryStore(),
    "cloud over memory": lambda folder: CloudStore("s3://test/memory", obstore.store.MemoryStore()),
    "cloud over a disk": lambda folder: CloudStore("s3://test/disk", obstore.store.LocalStore(folder)),
    "counted local": lambda folder: Counted(LocalStore(folder)),
    "faulty local": lambda folder: Faulty(LocalStore(folder), lambda *call: None, lambda *call: None),
}

BAD_KEYS = [
    "",
    "/",
    "/a",
    "a/",
    "a//b",
    ".",
    "..",
    "a/../b",
    "a/./b",
    ".a",
    "a/.b",
    "a\0b",
    "a b",
    "a\\b",
    "a#1",
    "tmp/a",
]
BAD_KEYS += ["tmp", "ü", "a/" + "x" * 256, "/".join(["x" * 200] * 5), "a\n"]


@pytest.fixture(params=[*MAKERS, "s3 server"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    if request.param == "s3 server":
        server: S3Server = request.getfixturevalue("s3")
        return open_store(server.url())
    folder = tmp_path / "store"
    folder.mkdir()
    return MAKERS[request.param](folder)


def test_first_create_wins_and_stays(store: Store) -> None:
    """Catches a create that overwrites, or that calls a taken key a failure."""
    assert store.create("log/1", b"first") is True
    assert store.create("log/1", b"second") is False
    assert store.create("log/1", b"first") is False
    assert store.get("log/1") == b"first"
    assert list(store.list("")) == [("log/1", 5)]


def test_sixteen_threads_one_winner(store: Store) -> None:
    """Catches check-then-write: several winners, or a content that is not the winner's."""
    for turn in range(10):
        together = threading.Barrier(16)

        def contend(writer: int, turn: int = turn, together: threading.Barrier = together) -> bool:
            together.wait()
            return store.create(f"race/{turn}", b"%d" % writer * 1000)

        with ThreadPoolExecutor(16) as threads:
            won = list(threads.map(contend, range(16)))
        assert won.count(True) == 1
        assert store.get(f"race/{turn}") == b"%d" % won.index(True) * 1000


def test_proof_of_put_if_absent_leaves_nothing(store: Store) -> None:
    prove_put_if_absent(store)
    assert list(store.list("")) == []


@pytest.mark.parametrize("size", [0, 1, 1 << 20, 12 << 20])
def test_content_comes_back(store: Store, size: int) -> None:
    """12 MB is more than obstore sends in one part by itself."""
    content = random.Random(size).randbytes(size)
    assert store.create("objects/ab/cdef", content)
    assert store.get("objects/ab/cdef") == content
    assert store.size("objects/ab/cdef") == size
    assert list(store.list("objects")) == [("objects/ab/cdef", size)]


KINDS = [bytes, bytearray, lambda content: memoryview(content)[1:], memoryview, lambda c: memoryview(c).cast("b")]


@pytest.mark.parametrize("kind", KINDS)
def test_any_buffer_is_stored_and_copied(store: Store, kind: Callable[[bytes], bytearray]) -> None:
    """Catches a store that keeps the caller's buffer, which the caller goes on using, or refuses Arrow's."""
    buffer = kind(bytearray(b"xhello"))
    expected = bytes(buffer)
    store.create("a", buffer)
    store.replace("b", buffer)
    # What obstore has in memory is the buffer itself; services have a copy.
    if not isinstance(buffer, bytes) and store.url != "s3://test/memory":
        buffer[0] = 0
    assert store.get("a") == store.get("b") == expected


def test_ranges(store: Store) -> None:
    """Every range of a small object, also the empty ones and those that are none; catches clipping at the end."""
    store.create("a/b", b"hello")
    for start in range(-2, 8):
        for stop in range(-2, 8):
            if 0 <= start <= stop <= 5:
                assert store.get_range("a/b", start, stop) == b"hello"[start:stop]
            else:
                with pytest.raises(InvalidInputError):
                    store.get_range("a/b", start, stop)


def test_absent_objects(store: Store) -> None:
    store.create("a/b", b"")
    # A bucket has no folders, but one that obstore plays on a disk has, and stumbles over them.
    inside = [] if store.url == "s3://test/disk" else ["a", "a/b/c"]
    for key in ["x", "a/bb", *inside]:
        assert store.size(key) is None
        store.delete(key)
        for read in (store.get, lambda key: store.get_range(key, 0, 1), lambda key: store.get_range(key, 0, 0)):
            with pytest.raises(NotFoundError, match=key):
                read(key)
    assert store.get("a/b") == b""


def test_listing_takes_whole_segments_in_order(store: Store) -> None:
    """Catches string prefixes, and the order of a directory walk, where a/c comes before a-b and a.b."""
    keys = ["a-b", "a.b", "a/c", "a/b/c", "a/b-c", "a/b.c/d", "a0", "B", "log/00000000000000000042", "logs/1", "log0"]
    for key in keys:
        store.create(key, key.encode())
    assert list(store.list("")) == [(key, len(key)) for key in sorted(keys)]
    assert [key for key, _ in store.list("a")] == ["a/b-c", "a/b.c/d", "a/b/c", "a/c"]
    assert [key for key, _ in store.list("a/b")] == [key for key, _ in store.list("a/b/")] == ["a/b/c"]
    assert [key for key, _ in store.list("log")] == ["log/00000000000000000042"]
    assert list(store.list("lo")) == list(store.list("nothing/here")) == list(store.list("a/c")) == []


def test_replace_and_delete(store: Store) -> None:
    store.replace("hint", b"one")
    store.replace("hint", b"two and more")
    assert store.get("hint") == b"two and more"
    store.delete("hint")
    store.delete("hint")
    assert store.size("hint") is None
    assert store.create("hint", b"three")


@pytest.mark.parametrize("key", BAD_KEYS)
def test_bad_keys_are_refused_everywhere(store: Store, tmp_path: Path, key: str) -> None:
    """Catches a method that forgets to look; a key must never lead out of the store, nor into tmp/."""
    source = tmp_path / "source"
    source.write_bytes(b"x")
    calls: list[Callable[[], object]] = [
        lambda: store.get(key),
        lambda: store.get_range(key, 0, 0),
        lambda: store.size(key),
        lambda: store.create(key, b"x"),
        lambda: store.create_from_file(key, source),
        lambda: store.replace(key, b"x"),
        lambda: store.delete(key),
        lambda: store.path(key),
    ]
    if key not in {"", "a/"}:  # which are prefixes
        calls.append(lambda: store.list(key))
    for call in calls:
        with pytest.raises(InvalidInputError, match="cannot be the key"):
            call()
    assert source.read_bytes() == b"x"
    assert list(store.list("")) == []


@pytest.mark.parametrize("size", [0, 5, 1 << 20])
@pytest.mark.parametrize("staged", [True, False])
def test_a_file_is_consumed_though_the_key_is_taken(store: Store, tmp_path: Path, size: int, staged: bool) -> None:
    folder = store.staging() if staged else tmp_path
    content = random.Random(size).randbytes(size)
    for turn in range(2):
        source = folder / "source"
        source.write_bytes(content if turn == 0 else b"other")
        assert store.create_from_file("objects/x", source) is (turn == 0)
        assert not source.exists()
    assert store.get("objects/x") == content
    assert list(store.list("")) == [("objects/x", size)]


def test_a_missing_file_is_said(store: Store, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="nowhere"):
        store.create_from_file("a", tmp_path / "nowhere")
    assert store.size("a") is None


def test_staged_files_are_nobodys_objects(store: Store) -> None:
    (store.staging() / "part").write_bytes(b"x")
    (store.staging() / "more").mkdir()
    assert store.staging() == store.staging()
    assert list(store.list("")) == []


def test_path_is_a_file_with_the_content_or_nothing(store: Store) -> None:
    store.create("a/b", b"hello")
    path = store.path("a/b")
    assert path is None or path.read_bytes() == b"hello"


def test_objects_over_any_store(store: Store, tmp_path: Path) -> None:
    objects = Objects(store)
    for content in (b"", b"x", bytes(100_000)):
        source = tmp_path / "source"
        source.write_bytes(content)
        digest = objects.put(content)
        assert objects.put_file(source) == objects.put(content) == digest
        assert objects.get(digest) == bytes(objects.map(digest)) == content
        assert objects.map(digest).readonly
        assert objects.exists(digest)
        assert not source.exists()
