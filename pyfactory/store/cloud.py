"""A store in a bucket: S3, Google Cloud Storage and Azure, through obstore (which only this and `cloud_errors` know).

Credentials come from where each cloud's own tools find them (environment, profile, instance role), never from the URL,
and what the service says is cut down to what cannot contain them.

obstore repeats requests that fail (connection lost, 5xx, 429), also a `create` that may have landed. So "taken" may
mean "by us", and "failed" may mean "landed"; whoever needs to know reads back, as `repo.transaction` does.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import obstore
import obstore.store

from pyfactory.core.digest import Buffer
from pyfactory.core.durable import translate_os_error
from pyfactory.errors import ConflictError, InvalidInputError, NotFoundError, UnavailableError
from pyfactory.store.base import Scratch, check_key, check_prefix, check_range, is_key
from pyfactory.store.cloud_errors import translate_cloud_error
from pyfactory.store.cloud_options import CloudOptions, Profile, read_profile, resolve_options, split_url

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Config, S3Credential, S3CredentialProvider

__all__ = ["CloudStore"]

_KEYS_PER_LIST_CHUNK = 1_000
_COLLISIONS = 4  # after which a writer gives up
# A service that is gone is said to be gone soon; a slow one has time for a whole shard. The read timeout is not what
# its name says for a request that sends much: it begins with the request and ends with the first byte of the answer.
_CLIENT: ClientConfig = {"connect_timeout": "5s", "read_timeout": "30s", "timeout": "15min"}
_SENDER: ClientConfig = {"connect_timeout": "5s", "read_timeout": "15min", "timeout": "15min"}
_LARGE_BYTES = 1 << 20
_RETRY: RetryConfig = {
    "max_retries": 6,
    "retry_timeout": timedelta(seconds=45),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=3), "base": 2},
}


class CloudStore:
    """Bytes by key in a bucket, below the prefix that the URL names.

    Args:
        url: Such as `s3://bucket/prefix`, without credentials; for options see `cloud_options`.
        backend: What obstore made for it; by default it is made from the URL.

    Raises:
        InvalidInputError: The URL cannot be understood, holds credentials or lacks settings such as Azure's account;
            there is no such profile.
    """

    def __init__(self, url: str, backend: obstore.store.ObjectStore | None = None) -> None:
        self._place, options = split_url(url)
        self.url = self._place + options.query()
        self._given = backend
        self._scratch = Scratch()
        with translate_cloud_error(self._place, fallback=InvalidInputError):
            self._backend = backend or _connect(self._place, options, _CLIENT)
            self._sender = backend or _connect(self._place, options, _SENDER)

    def __reduce__(self) -> tuple[object, ...]:
        """Travel as a URL: credentials are found anew where this arrives."""
        return (CloudStore, (self.url,) if self._given is None else (self.url, self._given))

    def get(self, key: str) -> bytes:
        """Return the whole object."""
        with self._at(key):
            return obstore.get(self._backend, key).bytes().to_bytes()

    def get_range(self, key: str, start: int, stop: int) -> bytes:
        """Return bytes start (included) to stop (excluded)."""
        check_range(key, start, stop)
        if start == stop:  # which the services do not answer
            check_range(key, start, stop, self._known_size(key))
            return b""
        try:
            with self._at(key):
                content = obstore.get_range(self._backend, key, start=start, end=stop).to_bytes()
        except UnavailableError:  # what a service says of a range beyond the end
            check_range(key, start, stop, self._known_size(key))
            raise
        if len(content) != stop - start:
            check_range(key, start, stop, start + len(content))
        return content

    def size(self, key: str) -> int | None:
        """Return the object's size in bytes, or None when there is no such object."""
        try:
            with self._at(key):
                return obstore.head(self._backend, key)["size"]
        except NotFoundError:
            return None

    def create(self, key: str, content: Buffer) -> bool:
        """Store an object under a key that must be free; return False when it is taken."""
        body = _body(content)
        for _ in range(_COLLISIONS):
            try:
                with self._at(key):
                    obstore.put(self._for(body), key, body, mode="create")
                    return True
            except ConflictError:
                # S3 answers 409 when writers collide and nothing has landed; obstore calls that "already exists" too.
                if self.size(key) is not None:
                    return False
        raise UnavailableError(f"{self._place}/{key}: writers collide and the service takes none of them", hint="retry")

    def create_from_file(self, key: str, path: Path) -> bool:
        """Do as `create` with the content of a local file, which is sent from a memory map and then removed."""
        check_key(key)
        with translate_os_error(path):
            with path.open("rb") as file:
                if file.seek(0, 2) == 0:  # which cannot be mapped
                    created = self.create(key, b"")
                else:
                    created = self.create(key, memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)))
            path.unlink()
        return created

    def replace(self, key: str, content: Buffer, *, durable: bool = True) -> None:
        """Store an object whether or not the key is taken, atomically."""
        body = _body(content)
        with self._at(key):
            obstore.put(self._for(body), key, body, mode="overwrite")

    def delete(self, key: str) -> None:
        """Remove an object; an absent one is fine."""
        try:
            with self._at(key):
                obstore.delete(self._backend, key)
        except NotFoundError:
            return

    def list(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Yield (key, size in bytes) of all objects below a folder, ascending; holds all of them in memory."""
        folder = check_prefix(prefix)
        found = []
        with translate_cloud_error(f"{self._place}/{folder}"):
            for chunk in obstore.list(self._backend, folder or None, chunk_size=_KEYS_PER_LIST_CHUNK):
                found += [(meta["path"], meta["size"]) for meta in chunk]
        found.sort()  # not every service lists in order
        return ((key, size) for key, size in found if is_key(key))

    def path(self, key: str) -> Path | None:
        """Return None: there are no local files."""
        check_key(key)
        return None

    def staging(self) -> Path:
        """Return a folder for temporary files, removed with this store."""
        return self._scratch.folder()

    def _for(self, body: Buffer) -> obstore.store.ObjectStore:
        return self._sender if len(body) > _LARGE_BYTES else self._backend

    @contextmanager
    def _at(self, key: str) -> Iterator[None]:
        check_key(key)
        with translate_cloud_error(f"{self._place}/{key}"):
            yield

    def _known_size(self, key: str) -> int:
        size = self.size(key)
        if size is None:
            raise NotFoundError(f"{self._place} has no object {key}")
        return size


def _body(content: Buffer) -> Buffer:
    # obstore takes unsigned bytes only; Arrow's buffers call theirs signed.
    return content if isinstance(content, bytes) else memoryview(content).cast("B")


def _connect(place: str, options: CloudOptions, client: ClientConfig) -> obstore.store.ObjectStore:
    if place.startswith("s3:"):
        return _s3_backend(place, client, *resolve_options(options, os.environ))
    return obstore.store.from_url(place, client_options=client, retry_config=_RETRY)


def _s3_backend(
    place: str, client: ClientConfig, options: CloudOptions, profile: Profile | None
) -> obstore.store.S3Store:
    parts = urlsplit(place)
    settings: S3Config = {"region": options.region}
    if options.endpoint:
        # Not `endpoint`, and hence not `from_url`: AWS_ENDPOINT_URL_S3 of the environment would win over that one.
        settings["aws_endpoint_url_s3"] = options.endpoint
    return obstore.store.S3Store(
        parts.netloc,
        prefix=unquote(parts.path).strip("/") or None,
        config=settings,
        client_options={**client, "allow_http": options.allow_http},
        retry_config=_RETRY,
        credential_provider=_provider(profile.name) if profile else None,
    )


def _provider(profile: str) -> S3CredentialProvider:
    def credentials() -> S3Credential:
        found = read_profile(profile, os.environ).credentials()
        return {**found}

    return credentials
