"""The cloud store's own promises: S3's answers over real HTTP, translation of errors, no credentials anywhere."""

from __future__ import annotations

import pickle
import threading
import traceback
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import obstore.exceptions
import obstore.store
import pytest

from pyfactory.errors import (
    ConflictError,
    InvalidInputError,
    NotFoundError,
    PyfactoryError,
    ReadOnlyError,
    UnavailableError,
)
from pyfactory.store.cloud import CloudStore
from pyfactory.store.cloud_errors import translate_cloud_error

KEY_ID, SECRET = "AKIAKEYIDENTIFIER", "verysecretverysecret"
BODY = f'<?xml version="1.0"?>\n<Error><Code>TheCode</Code><AWSAccessKeyId>{KEY_ID}</AWSAccessKeyId></Error>'.encode()


class Service(ThreadingHTTPServer):
    """An HTTP server that gives the answers it was told, per method, the last one for ever, and remembers requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answer)
        self.answers: dict[str, list[int]] = {}
        self.requests: list[tuple[str, str, str | None, bytes]] = []


class Answer(BaseHTTPRequestHandler):
    server: Service
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        sent = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.server.requests.append((self.command, self.path, self.headers.get("if-none-match"), sent))
        answers = self.server.answers[self.command]
        status = answers.pop(0) if len(answers) > 1 else answers[0]
        body = b"" if status == 200 else BODY
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.send_header("last-modified", "Mon, 01 Jan 2024 00:00:00 GMT")
        self.send_header("etag", '"1"')
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = answer

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def store(service: Service) -> CloudStore:
    return CloudStore("s3://bucket/pre/fix", backend(service.server_port))


def backend(port: int) -> obstore.store.S3Store:
    return obstore.store.S3Store(
        "bucket",
        prefix="pre/fix",
        access_key_id=KEY_ID,
        secret_access_key=SECRET,
        region="us-east-1",
        endpoint=f"http://127.0.0.1:{port}",
        client_options={"allow_http": True},
        retry_config={"max_retries": 0},
    )


def test_create_asks_for_absence_below_the_prefix(store: CloudStore, service: Service, tmp_path: Path) -> None:
    """Catches a put without condition, which would overwrite."""
    service.answers = {"PUT": [200]}
    source = tmp_path / "source"
    source.write_bytes(b"two")
    assert store.create("log/1", b"one")
    assert store.create_from_file("log/2", source)
    assert service.requests == [
        ("PUT", "/bucket/pre/fix/log/1", "*", b"one"),
        ("PUT", "/bucket/pre/fix/log/2", "*", b"two"),
    ]


@pytest.mark.parametrize("status", [409, 412])
def test_taken_only_if_it_is_there(store: CloudStore, service: Service, status: int) -> None:
    service.answers = {"PUT": [status], "HEAD": [200]}
    assert store.create("log/1", b"one") is False
    assert [request[0] for request in service.requests] == ["PUT", "HEAD"]


def test_a_collision_without_a_winner_is_tried_again(store: CloudStore, service: Service) -> None:
    """S3 answers 409 when nothing has landed, which obstore calls "already exists"; catches believing it."""
    service.answers = {"PUT": [409, 409, 200], "HEAD": [404]}
    assert store.create("log/1", b"one") is True
    assert [request[0] for request in service.requests] == ["PUT", "HEAD", "PUT", "HEAD", "PUT"]


def test_a_collision_that_does_not_end_is_unavailable(store: CloudStore, service: Service) -> None:
    service.answers = {"PUT": [409], "HEAD": [404]}
    with pytest.raises(UnavailableError, match="log/1: writers collide"):
        store.create("log/1", b"one")


def test_a_collision_that_cannot_be_looked_at_is_not_a_taken_key(store: CloudStore, service: Service) -> None:
    service.answers = {"PUT": [409], "HEAD": [500]}
    with pytest.raises(UnavailableError):
        store.create("log/1", b"one")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, UnavailableError),
        (401, ReadOnlyError),
        (403, ReadOnlyError),
        (404, NotFoundError),
        (500, UnavailableError),
    ],
)
def test_answers_and_their_meaning(
    store: CloudStore, service: Service, status: int, kind: type[PyfactoryError]
) -> None:
    """The class, the place, what the service says; never what may hold a credential, also not in a traceback."""
    service.answers = {method: [status] for method in ("GET", "POST", "PUT")}
    calls = [lambda: store.get("a/b"), lambda: store.create("a/b", b"x"), lambda: store.replace("a/b", b"x")]
    calls += [lambda: list(store.list("a/b"))]
    if status != 404:  # deleting what is absent is fine
        calls += [lambda: store.delete("a/b")]
    for call in calls:
        with pytest.raises(kind, match="s3://bucket/pre/fix/a/b") as caught:
            call()
        text = "".join(traceback.format_exception(caught.value))
        assert KEY_ID not in text and SECRET not in text
        assert status == 404 or ("(TheCode)" in str(caught.value) and str(status) in str(caught.value))


def test_nobody_listens() -> None:
    with Service() as closed:
        port = closed.server_port
    with pytest.raises(
        UnavailableError, match=rf"a/b: nobody answers at http://127.0.0.1:{port} .*check network"
    ) as caught:
        CloudStore("s3://bucket/pre/fix", backend(port)).get("a/b")
    assert KEY_ID not in "".join(traceback.format_exception(caught.value))


CLASSES = [member for member in vars(obstore.exceptions).values() if isinstance(member, type)]
EXPECTED = {
    "AlreadyExistsError": ConflictError,
    "BaseError": UnavailableError,
    "GenericError": UnavailableError,
    "InvalidPathError": InvalidInputError,
    "JoinError": UnavailableError,
    "NotFoundError": NotFoundError,
    "NotModifiedError": ConflictError,
    "NotSupportedError": UnavailableError,
    "PermissionDeniedError": ReadOnlyError,
    "PreconditionError": ConflictError,
    "UnauthenticatedError": ReadOnlyError,
    "UnknownConfigurationKeyError": InvalidInputError,
}


def test_every_class_of_obstore_is_known() -> None:
    """A class that a new obstore brings has to be given a meaning."""
    assert {member.__name__ for member in CLASSES} == set(EXPECTED)


@pytest.mark.parametrize("member", CLASSES, ids=lambda member: member.__name__)
def test_every_class_of_obstore_has_its_meaning(member: type[Exception]) -> None:
    with pytest.raises(PyfactoryError, match="here: what it says") as caught, translate_cloud_error("here"):
        raise member("what it says https://me:pw@host/x?sig=SECRET <xml>SECRET\nSECRET")
    assert type(caught.value) is EXPECTED[member.__name__]
    assert "SECRET" not in str(caught.value) and "pw" not in str(caught.value)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (FileNotFoundError("x"), NotFoundError),
        (ValueError("x"), InvalidInputError),
        (OverflowError("x"), InvalidInputError),
        (ConnectionResetError("x"), UnavailableError),
        (TimeoutError("x"), UnavailableError),
    ],
)
def test_builtin_errors_have_a_meaning_too(error: Exception, kind: type[PyfactoryError]) -> None:
    with pytest.raises(kind, match="here: "), translate_cloud_error("here"):
        raise error


def test_our_errors_pass_and_bugs_stay_bugs() -> None:
    for error in (ConflictError("ours"), KeyError("bug"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught, translate_cloud_error("here"):
            raise error
        assert caught.value is error


@pytest.mark.parametrize(
    "url", [f"s3://me:{SECRET}@bucket/x", f"s3://bucket/x?sig={SECRET}", f"s3://bucket/x#{SECRET}", f"s3://{SECRET}@b"]
)
def test_a_url_with_credentials_is_refused_and_not_repeated(url: str) -> None:
    with pytest.raises(InvalidInputError, match="bucket and prefix only") as caught:
        CloudStore(url)
    assert SECRET not in "".join(traceback.format_exception(caught.value))


def test_a_url_that_lacks_something_is_invalid(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AZURE_STORAGE_ACCOUNT_NAME", "AZURE_STORAGE_ACCOUNT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InvalidInputError, match=r"az://container: .*[Aa]ccount"):
        CloudStore("az://container")


def test_it_travels_as_a_url_without_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY_ID)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    frozen = pickle.dumps(CloudStore("s3://bucket/pre/fix/"))
    assert KEY_ID.encode() not in frozen and SECRET.encode() not in frozen
    assert pickle.loads(frozen).url == "s3://bucket/pre/fix"


def test_what_others_put_into_the_bucket_is_not_listed() -> None:
    """Whoever lists would otherwise read, count or delete it by a key that no store takes."""
    backend = obstore.store.MemoryStore()
    store = CloudStore("s3://test", backend)
    store.create("log/1", b"x")
    for name in ("log/2 copy", "log/.DS_Store", "tmp/upload", "log/2#1"):
        obstore.put(backend, name, b"x")
    assert list(store.list("")) == list(store.list("log")) == [("log/1", 1)]
