"""What tests of several folders share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.s3_server import S3Server, s3_environment, serving


@pytest.fixture(scope="session")
def s3_process() -> Iterator[S3Server]:
    """One server for all tests; each takes buckets of its own."""
    pytest.importorskip("moto.server", reason="the S3 server of the tests is moto: pip install -e '.[test]'")
    with serving() as server:
        yield server


@pytest.fixture
def s3(s3_process: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """The server, and an environment (this process's and its children's) that has its credentials and nothing else."""
    s3_environment(tmp_path, monkeypatch)
    return s3_process
