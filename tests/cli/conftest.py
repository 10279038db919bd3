"""A repository for all tests of the command line, and a shell."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_runs import Shell

from tests.raw_files import small_repository


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `repository` (raw and corpus, tag v1), `job.yaml` and raw files; nobody changes it."""
    folder = tmp_path_factory.mktemp("cli")
    small_repository(folder, 40)
    return folder


@pytest.fixture
def repo(original: Path, tmp_path: Path) -> Path:
    """A copy of the repository, to be changed."""
    return Path(shutil.copytree(original / "repository", tmp_path / "repository"))


@pytest.fixture
def shell(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shell]:
    """Runs commands in a folder of their own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYFACTORY_AUTHOR", "tester")
    yield Shell(capsys)
