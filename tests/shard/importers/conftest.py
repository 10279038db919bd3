"""A place for objects, and one for raw files."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyfactory.store.content import Objects
from pyfactory.store.memory import MemoryStore


@pytest.fixture
def objects() -> Objects:
    return Objects(MemoryStore())


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    folder.mkdir()
    return folder
