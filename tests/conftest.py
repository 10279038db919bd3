"""What tests of several folders share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.s3_server import KEY_ID, SECRET, S3Server, serving


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


def s3_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set credentials in the environment, and nothing else that says how S3 is reached."""
    for name in ("ENDPOINT_URL", "ENDPOINT_URL_S3", "REGION", "DEFAULT_REGION", "PROFILE", "SESSION_TOKEN"):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(folder / "no-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "no-credentials"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
