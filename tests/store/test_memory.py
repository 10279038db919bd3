from __future__ import annotations

import pickle
import secrets

import pytest

from pyfactory.errors import InvalidInputError
from pyfactory.store.memory import MemoryStore


def test_one_name_one_content() -> None:
    name = secrets.token_hex(8)
    MemoryStore(name).create("a", b"1")
    assert MemoryStore(name).get("a") == b"1"
    assert MemoryStore(name + "x").size("a") is None
    assert MemoryStore(name).url == f"memory://{name}"


def test_without_a_name_it_is_alone() -> None:
    one, other = MemoryStore(), MemoryStore()
    one.create("a", b"1")
    assert other.size("a") is None
    assert one.url != other.url


def test_it_does_not_travel() -> None:
    """Catches a worker elsewhere that silently finds an empty store."""
    with pytest.raises(InvalidInputError, match="one process only"):
        pickle.dumps(MemoryStore("x"))
