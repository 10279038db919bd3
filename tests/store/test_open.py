from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pyfactory.errors import InvalidInputError, NotFoundError
from pyfactory.store.cloud import CloudStore
from pyfactory.store.local import LocalStore
from pyfactory.store.memory import MemoryStore
from pyfactory.store.open import open_store


@pytest.mark.parametrize("name", ["plain", "with space", "100%", "ü", "a?b#c"])
def test_folders_by_path_and_url(tmp_path: Path, name: str) -> None:
    """The url of a store opens the same store, from any working directory."""
    folder = tmp_path / name
    store = open_store(folder, create=True)
    store.create("a", b"1")
    assert isinstance(store, LocalStore)
    for again in (folder, str(folder), store.url):
        assert open_store(again).get("a") == b"1"


def test_a_relative_path_stays_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store("here", create=True)
    store.create("a", b"1")
    monkeypatch.chdir("/")
    assert store.get("a") == (tmp_path / "here/a").read_bytes() == b"1"


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="nowhere"):
        open_store(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_memory_by_name() -> None:
    assert isinstance(open_store("memory://trial"), MemoryStore)
    assert open_store("memory://trial").url == "memory://trial"


@pytest.mark.parametrize("url", ["s3://bucket/some/prefix", "gs://bucket/prefix"])
def test_buckets(url: str) -> None:
    store = open_store(url + "/")
    assert isinstance(store, CloudStore)
    assert store.url == url


@pytest.mark.parametrize(
    "url", ["", "a\0b", "http://x/y", "file://host/x", "file://", "file:///x?y", "memory://", "s3://"]
)
def test_what_is_no_place(url: str) -> None:
    with pytest.raises(InvalidInputError):
        open_store(url)


def test_obstore_is_loaded_for_buckets_only(tmp_path: Path) -> None:
    """Catches an import of the backend above its home; and says what to install when it is missing."""
    program = """
import sys
from pyfactory.store.open import open_store
from pyfactory.errors import InvalidInputError
open_store(sys.argv[1]); open_store("memory://x")
assert "obstore" not in sys.modules
sys.modules["obstore"] = None
try:
    open_store("s3://bucket")
except InvalidInputError as error:
    assert "pip install obstore" in str(error)
else:
    raise AssertionError("opened")
"""
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=True, timeout=60)
