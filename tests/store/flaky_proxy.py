"""A real HTTP proxy before the S3 server that treats requests as bad networks and busy services do."""

from __future__ import annotations

import http.client
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

BUSY = b'<?xml version="1.0"?><Error><Code>SlowDown</Code></Error>'
COLLISION = b'<?xml version="1.0"?><Error><Code>ConditionalRequestConflict</Code></Error>'
Plan = Callable[[str, str], str]
Request = tuple[str, str, bytes, dict[str, str]]


class FlakyProxy(ThreadingHTTPServer):
    """Passes requests on, unless the plan says something else.

    lost   passed on, but the connection ends without an answer
    409    answered so, not passed on
    503    answered so, not passed on
    403    answered so, with everything that the request says of its sender, not passed on
    late   the connection ends; passed on before the next request
    cut    answered with the first half of the body, then the connection ends
    silent never answered: until the proxy ends
    """

    daemon_threads = True
    block_on_close = False

    def __init__(self, upstream: int, plan: Plan) -> None:
        super().__init__(("127.0.0.1", 0), Passing)
        self.upstream = upstream
        self.plan = plan
        self.did: Counter[tuple[str, str]] = Counter()
        self.late: list[Request] = []
        self.over = threading.Event()
        self.lock = threading.Lock()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def pass_on(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection("127.0.0.1", self.upstream, timeout=30)
        connection.request(method, path, body or None, headers)
        return connection.getresponse()

    def land(self) -> None:
        """Pass on what is late."""
        with self.lock:
            late, self.late = self.late, []
        for request in late:
            self.pass_on(*request).read()


class Passing(BaseHTTPRequestHandler):
    server: FlakyProxy
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        request = (self.command, self.path, body, dict(self.headers))
        self.server.land()
        fault = self.server.plan(self.command, self.path)
        self.server.did[self.command, fault] += 1
        if fault in ("409", "503", "403"):
            told = repr(request).encode() if fault == "403" else COLLISION if fault == "409" else BUSY
            self.reply(int(fault), told, {})
        elif fault == "late":
            self.server.late.append(request)
            self.hang_up()
        elif fault == "silent":
            self.server.over.wait()
            self.hang_up()
        else:
            answer = self.server.pass_on(*request)
            content = answer.read()
            if fault == "lost":
                self.hang_up()
                return
            self.reply(answer.status, content, dict(answer.getheaders()), cut=fault == "cut")

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = answer

    def reply(self, status: int, content: bytes, headers: dict[str, str], *, cut: bool = False) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in ("content-length", "connection", "transfer-encoding"):
                self.send_header(name, value)
        length = headers.get("Content-Length", headers.get("content-length")) if self.command == "HEAD" else None
        self.send_header("content-length", length or str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if cut else content)
        if cut:
            self.hang_up()

    def hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def flaky(upstream: int, plan: Plan) -> Iterator[FlakyProxy]:
    """Run a proxy for as long as the block takes."""
    with FlakyProxy(upstream, plan) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield proxy
        finally:
            proxy.over.set()
            proxy.shutdown()
            thread.join()
