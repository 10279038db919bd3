"""The cloud store on an S3 server: how it is reached, what it says when it is not, and a network that fails."""

from __future__ import annotations

import pickle
import random
import traceback
from collections.abc import Callable
from pathlib import Path

import obstore.store
import pytest
from flaky_proxy import FlakyProxy, flaky

from pyfactory.errors import (
    InvalidInputError,
    NotFoundError,
    PyfactoryError,
    ReadOnlyError,
    UnavailableError,
    UnknownOutcomeError,
)
from pyfactory.repo.objects import TableState
from pyfactory.repo.repository import Repository
from pyfactory.shard.layout import raw_schema, schema_to_value
from pyfactory.shard.manifest import write_manifest
from pyfactory.store import cloud
from pyfactory.store.base import Store
from pyfactory.store.cloud import CloudStore
from pyfactory.store.open import open_store
from tests.s3_server import KEY_ID, SECRET, S3Server, s3_environment

PROFILES = f"""
[training]
aws_access_key_id = {KEY_ID}
aws_secret_access_key = {SECRET}

[other]
aws_access_key_id = {KEY_ID}
"""


def works(store: Store) -> bool:
    return store.create("a/b", b"content") and store.get("a/b") == b"content"


def test_by_url(s3: S3Server) -> None:
    """Catches a URL that loses its options on the way: to another process, or written down and opened again."""
    store = open_store(s3.url() + "&region=eu-west-1")
    assert works(store)
    assert f"endpoint={s3.endpoint}" in store.url
    for again in (open_store(store.url), pickle.loads(pickle.dumps(store))):
        assert (again.url, again.get("a/b")) == (store.url, b"content")


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_by_environment(s3: S3Server, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, s3.endpoint)
    assert works(open_store(f"s3://{s3.bucket()}"))


@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_the_url_comes_before_the_environment(s3: S3Server, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Catches obstore's own order, in which AWS_ENDPOINT_URL_S3 wins over an endpoint that was given."""
    monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert works(open_store(s3.url()))


@pytest.fixture
def profiles(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Files of profiles, and no keys in the environment."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    (tmp_path / "credentials").write_text(PROFILES)
    (tmp_path / "config").write_text(f"[profile training]\nendpoint_url = {s3.endpoint}\nregion = eu-west-1\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    return tmp_path


def test_by_profile(s3: S3Server, profiles: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys, endpoint and region of one section in two files."""
    assert works(open_store(f"s3://{s3.bucket()}/x?profile=training"))
    monkeypatch.setenv("AWS_PROFILE", "training")
    assert works(open_store(f"s3://{s3.bucket()}/x"))


@pytest.mark.parametrize(("name", "said"), [("nobody", "no profile 'nobody'"), ("other", "'other' has no keys")])
def test_a_profile_that_cannot_sign(profiles: Path, name: str, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said) as caught:
        open_store(f"s3://bucket?profile={name}")
    assert_silent(caught.value)


def test_a_broken_file_of_profiles_is_not_repeated(profiles: Path) -> None:
    """Catches a parser's message, which quotes the line: here the secret."""
    for content in (
        f"{SECRET}\n",
        f"[training]\n{SECRET}\n",
        f"[training]\n[training]\naws_secret_access_key={SECRET}\n",
    ):
        (profiles / "credentials").write_text(content)
        with pytest.raises(InvalidInputError, match="not a file of profiles") as caught:
            open_store("s3://bucket?profile=training")
        assert_silent(caught.value)


@pytest.mark.parametrize(
    "query",
    [
        "endpoint=ftp://x",
        "endpoint=http://",
        f"endpoint=http://me:{SECRET}@host",
        f"endpoint=http://host/%3Fsig={SECRET}",
        "endpoint=http://host:port",
        "region=a b",
        "profile=",
        "region=a&region=b",
        f"secret_access_key={SECRET}",
        f"{SECRET}",
    ],
)
def test_options_that_are_none(query: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        open_store(f"s3://bucket/x?{query}")
    assert_silent(caught.value)


def test_other_clouds_take_no_options() -> None:
    with pytest.raises(InvalidInputError, match="prefix only"):
        open_store("gs://bucket/x?region=a")


def test_plain_http_is_spoken_to_nobody_else(s3: S3Server) -> None:
    """An endpoint of https stays that, though the environment allows plain HTTP."""
    with pytest.raises(UnavailableError):
        open_store(f"s3://bucket?endpoint=https://127.0.0.1:{s3.port}").get("a")


def assert_silent(error: BaseException) -> None:
    text = "".join(traceback.format_exception(error)) + repr(error) + repr(vars(error))
    assert KEY_ID not in text and SECRET not in text, text


FAILURES: list[tuple[str, Callable[[S3Server, FlakyProxy], str], type[PyfactoryError], str]] = [
    ("no bucket", lambda s3, proxy: f"s3://no-such-bucket?endpoint={s3.endpoint}", NotFoundError, "no such bucket"),
    ("refused", lambda s3, proxy: "s3://bucket?endpoint=http://127.0.0.1:9", UnavailableError, "check network"),
    ("403", lambda s3, proxy: f"s3://bucket?endpoint={proxy.endpoint}", ReadOnlyError, "check the credentials"),
]


@pytest.mark.parametrize(("place", "kind", "said"), [row[1:] for row in FAILURES], ids=[row[0] for row in FAILURES])
def test_no_failure_tells_a_credential(
    s3: S3Server, place: Callable[[S3Server, FlakyProxy], str], kind: type[PyfactoryError], said: str
) -> None:
    """The service may repeat the request to us, signature and all; catches messages that pass it on."""
    with flaky(s3.port, lambda method, path: "403") as proxy:
        store = open_store(place(s3, proxy))
        assert KEY_ID not in repr(store) + store.url and SECRET not in repr(store) + store.url
        frozen = pickle.dumps(store)
        assert KEY_ID.encode() not in frozen and SECRET.encode() not in frozen
        for call in (lambda: store.create("a", b"x"), lambda: list(store.list("")), lambda: store.get("a")):
            with pytest.raises(kind, match=said) as caught:
                call()
            assert_silent(caught.value)


def test_a_service_that_says_nothing_is_unavailable(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Catches a client without time limits, which waits for ever; the limits here are those of a hasty user."""
    monkeypatch.setattr(cloud, "_CLIENT", {"connect_timeout": "1s", "read_timeout": "200ms", "timeout": "2s"})
    with flaky(s3.port, lambda method, path: "silent") as proxy:
        with pytest.raises(UnavailableError, match="check network"):
            open_store(f"s3://bucket?endpoint={proxy.endpoint}").get("a")
        assert proxy.did["GET", "silent"] > 1, "it was tried again"


def hasty(url: str, endpoint: str) -> CloudStore:
    """A store whose client repeats nothing, so that every fault reaches us."""
    bucket, _, prefix = url.removeprefix("s3://").partition("?")[0].partition("/")
    backend = obstore.store.S3Store(
        bucket,
        prefix=prefix,
        access_key_id=KEY_ID,
        secret_access_key=SECRET,
        aws_endpoint_url_s3=endpoint,
        region="us-east-1",
        client_options={"allow_http": True},
        retry_config={"max_retries": 0},
    )
    return CloudStore(f"s3://{bucket}/{prefix}", backend)


@pytest.mark.parametrize("fault", ["lost", "409", "503", "late"])
@pytest.mark.parametrize("repeats", [True, False])
def test_a_log_entry_after_one_bad_answer(s3: S3Server, fault: str, repeats: bool) -> None:
    """The writer is told "done", and the entry is there once; catches a failure or a "taken" that is believed."""
    url = s3.url()
    Repository.create(url)
    faults = [fault]

    def plan(method: str, path: str) -> str:
        return faults.pop() if method == "PUT" and "/log/" in path and faults else "ok"

    with flaky(s3.port, plan) as proxy:
        place = url.partition("?")[0]
        store = open_store(f"{place}?endpoint={proxy.endpoint}") if repeats else hasty(url, proxy.endpoint)
        repository = Repository.open(store)
        repository.commit(a_change(repository, 1), message="one")
        assert proxy.did["PUT", fault] == 1
    assert [entry.why for entry in Repository.open(url).operations()] == ["one", "initialise"]


def test_a_body_that_is_cut_is_read_again_or_refused(s3: S3Server) -> None:
    """Catches half an object that is taken for the whole."""
    url, content = s3.url(), random.Random(1).randbytes(100_000)
    open_store(url).create("a/b", content)
    cuts = ["cut"]
    with flaky(s3.port, lambda method, path: cuts.pop() if method == "GET" and cuts else "ok") as proxy:
        assert open_store(f"{url.partition('?')[0]}?endpoint={proxy.endpoint}").get("a/b") == content
        assert proxy.did["GET", "cut"] == 1
    always = flaky(s3.port, lambda method, path: "cut" if method == "GET" else "ok")
    with always as proxy, pytest.raises(UnavailableError):
        hasty(url, proxy.endpoint).get("a/b")


@pytest.mark.slow
def test_commits_over_a_bad_network(s3: S3Server) -> None:
    """A third of the entries' requests fail, in all ways, and some others; each commit is there once, in order."""
    url, chance = s3.url(), random.Random(7)
    Repository.create(url)

    def plan(method: str, path: str) -> str:
        if chance.random() > (0.35 if "/log/" in path and method == "PUT" else 0.03):
            return "ok"
        return chance.choice(["lost", "409", "503", "late"] if method == "PUT" else ["503", "lost", "cut"])

    with flaky(s3.port, plan) as proxy:
        for step in range(40):
            commit_until_done(hasty(url, proxy.endpoint), url, step)
        proxy.land()
        assert {fault for method, fault in proxy.did if method == "PUT"} == {"ok", "lost", "409", "503", "late"}
    repository = Repository.open(url)
    told = [entry.why for entry in repository.operations()][::-1]
    assert told == ["initialise", *(f"step {step}" for step in range(40))]
    assert repository.verify().problems == []


def commit_until_done(store: CloudStore, url: str, step: int) -> None:
    """Do what the hints of the errors say: run it again; if nobody knows, look first."""
    while True:
        try:
            repository = Repository.open(store)
            repository.commit(a_change(repository, step), message=f"step {step}")
        except UnknownOutcomeError:
            if any(entry.why == f"step {step}" for entry in Repository.open(url).operations()):
                return
        except UnavailableError:
            continue
        return


def a_change(repository: Repository, step: int) -> dict[str, TableState]:
    """An empty table that only this step makes."""
    root = write_manifest(repository.objects, [])
    schema = tuple((name, type_, nullable) for name, type_, nullable in schema_to_value(raw_schema()))
    state = TableState(manifest=root, schema=schema, rows=0, tokens=0, nbytes=0, shards=0, artifacts={}, attributes={})
    return {f"table-{step}": state}


def test_nobody_has_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without keys, the answer is about credentials and comes soon."""
    s3_environment(tmp_path, monkeypatch)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UnavailableError, match=r"no credentials .*were found.*check AWS_ACCESS_KEY_ID .*profile=NAME"):
        open_store("s3://bucket?endpoint=http://127.0.0.1:9").get("a")


def test_a_missing_bucket_is_not_an_empty_place(s3: S3Server) -> None:
    """Catches the advice to make a repository in a bucket that does not exist."""
    with pytest.raises(NotFoundError, match="no such bucket"):
        Repository.open(f"s3://no-such-bucket/x?endpoint={s3.endpoint}")
    with pytest.raises(NotFoundError, match="no pyfactory repository"):
        Repository.open(s3.url())
