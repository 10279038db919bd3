from __future__ import annotations

import gc
import pickle
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyfactory.core.digest import NO_DIGEST, Digest, digest_of
from pyfactory.errors import CorruptError, InvalidInputError, NotFoundError
from pyfactory.store.content import Objects
from pyfactory.store.local import LocalStore
from pyfactory.store.memory import MemoryStore
from pyfactory.store.wrap import Counted


@given(st.binary(max_size=300))
def test_what_is_put_is_got(content: bytes) -> None:
    objects = Objects(MemoryStore())
    digest = objects.put(memoryview(content))
    assert digest == digest_of(content)
    assert objects.get(digest) == bytes(objects.map(digest)) == content
    assert list(objects.store.list("")) == [(f"objects/{digest[:2]}/{digest[2:]}", len(content))]


@given(st.binary(min_size=1, max_size=50), st.data())
def test_any_changed_byte_is_found(content: bytes, data: st.DataObject) -> None:
    """Catches a get, or a map over bytes that come from elsewhere, that does not verify."""
    objects = Objects(MemoryStore())
    digest = objects.put(content)
    place = data.draw(st.integers(0, len(content) - 1))
    flipped = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
    for bad in (flipped, content[:place], content + b"x"):
        objects.store.replace(objects.key(digest), bad)
        for read in (objects.get, objects.map):
            with pytest.raises(CorruptError, match=digest):
                read(digest)


def test_absent_and_malformed(tmp_path: Path) -> None:
    for objects in (Objects(MemoryStore()), Objects(LocalStore(tmp_path))):
        assert not objects.exists(NO_DIGEST)
        for read in (objects.get, objects.map):
            with pytest.raises(NotFoundError, match=NO_DIGEST[2:]):
                read(NO_DIGEST)
        for name in ("", "../../etc/passwd", "ab" * 31, "AB" * 32):
            for method in (objects.get, objects.map, objects.exists, objects.key):
                with pytest.raises(InvalidInputError, match="not a digest"):
                    method(Digest(name))
        with pytest.raises(NotFoundError, match="nowhere"):
            objects.put_file(tmp_path / "nowhere")


def test_a_map_is_a_map_and_lives_as_long_as_its_view(tmp_path: Path) -> None:
    """Catches reading into memory (the file's pages must be mapped) and a map that closes too early."""
    store = LocalStore(tmp_path)
    objects = Objects(store)
    content = bytes(range(256)) * 4096
    digest = objects.put(content)
    view = objects.map(digest)
    path = store.path(objects.key(digest))
    assert str(path) in Path("/proc/self/maps").read_text()
    tail = pa.py_buffer(view).slice(len(content) - 256)
    store.delete(objects.key(digest))
    del view, objects
    gc.collect()
    assert tail.to_pybytes() == content[-256:]
    del tail
    gc.collect()
    assert str(path) not in Path("/proc/self/maps").read_text()


def test_what_things_cost(tmp_path: Path) -> None:
    """One request each; catches a look before the put, which would also be a race."""
    store = Counted(LocalStore(tmp_path))
    objects = Objects(store)
    digest = objects.put(b"x")
    objects.put(b"x")
    objects.get(digest)
    objects.exists(digest)
    assert store.calls == {"create": 2, "get": 1, "size": 1}


def test_objects_travel_to_other_processes(tmp_path: Path) -> None:
    digest = Objects(LocalStore(tmp_path)).put(b"x")
    assert pickle.loads(pickle.dumps(Objects(LocalStore(tmp_path)))).get(digest) == b"x"
