"""An S3 server for tests: moto's own application in a process of its own, one request after the other.

Under threads moto's check for `If-None-Match: *` and its write are two steps, and two writers can both be told that
they created an object. S3 promises that one is. So every request meets the application under one lock, its body read
before; moto's own request class stays, since werkzeug's drops header names with underscores.

    python -m tests.s3_server      prints its port when it listens; ends when its standard input does
"""

from __future__ import annotations

import io
import itertools
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

__all__ = ["KEY_ID", "SECRET", "S3Server", "s3_environment", "serving"]

KEY_ID, SECRET = "AKIATESTSONLY", "a-secret-of-tests"
ROOT = Path(__file__).parents[1]
Application = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


class S3Server:
    """The server as tests see it: where it listens, and new buckets."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.endpoint = f"http://127.0.0.1:{port}"
        self._numbers = itertools.count()

    def bucket(self) -> str:
        """Make an empty bucket and return its name."""
        name = f"bucket-{os.getpid()}-{next(self._numbers)}"
        request = urllib.request.Request(f"{self.endpoint}/{name}", method="PUT")
        request.add_header("Authorization", f"AWS4-HMAC-SHA256 Credential={KEY_ID}/20260101/us-east-1/s3/aws4_request")
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30) as answer:
            assert answer.status == 200
        return name

    def url(self, prefix: str = "some/prefix") -> str:
        """Return the URL of a place in a bucket of its own."""
        return f"s3://{self.bucket()}/{prefix}?endpoint={self.endpoint}"


@contextmanager
def serving() -> Iterator[S3Server]:
    """Run the server for as long as the block takes; it ends with this process, however that ends."""
    command = [sys.executable, "-m", "tests.s3_server"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin and server.stdout
        try:
            said = server.stdout.readline()
            assert said, f"the S3 server ended with {server.wait()}"
            yield S3Server(int(said))
        finally:
            server.stdin.close()


def s3_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set credentials in the environment, and nothing else that says how S3 is reached."""
    for name in ("ENDPOINT_URL", "ENDPOINT_URL_S3", "REGION", "DEFAULT_REGION", "PROFILE", "SESSION_TOKEN"):
        monkeypatch.delenv(f"AWS_{name}", raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(folder / "no-config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(folder / "no-credentials"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


class OneByOne:
    """An application that answers one request at a time, whatever the number of threads that bring them."""

    def __init__(self, application: Application) -> None:
        self._application = application
        self._lock = threading.Lock()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Read the request, then answer it under the lock; the answer is sent without it."""
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        with self._lock:
            answer = self._application(environ, start_response)
            content = [*answer]
        return content


def main() -> None:
    from moto.server import MotoRequestHandler, create_backend_app
    from werkzeug.serving import make_server

    class Quiet(MotoRequestHandler):
        protocol_version = "HTTP/1.1"  # connections stay open, as with S3

        def log_request(self, *said: object) -> None:
            pass

    application = OneByOne(create_backend_app("s3"))
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=Quiet)
    server.daemon_threads = True
    print(server.port, flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    main()
