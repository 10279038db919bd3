"""The one place that knows which kinds of store exist."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from pyfactory.errors import InvalidInputError
from pyfactory.store.base import Store
from pyfactory.store.local import LocalStore
from pyfactory.store.memory import MemoryStore

__all__ = ["open_store"]

_CLOUD = ("s3", "gs", "az")


def open_store(url_or_path: str | Path, *, create: bool = False) -> Store:
    """Return the store that a path or URL names.

    Args:
        url_or_path: A folder or `file://` URL, `memory://NAME`, or `s3://`, `gs://`, `az://` with bucket and prefix. An
            `s3://` URL may end in `?endpoint=`, `region=`, `profile=`, joined by `&`: see `cloud_options`.
        create: Make the folder if it is missing. Buckets are never made.

    Raises:
        NotFoundError: The folder does not exist and may not be created.
        InvalidInputError: The URL is malformed, of no known kind, holds credentials, or lacks a package.
    """
    scheme, separator, rest = str(url_or_path).partition("://")
    if isinstance(url_or_path, Path) or not separator:
        return LocalStore(url_or_path, create=create)
    if scheme == "file":
        return LocalStore(_path_of(str(url_or_path)), create=create)
    if scheme == "memory":
        if not rest:
            raise InvalidInputError("memory:// needs a name", hint="for example memory://trial")
        return MemoryStore(rest)
    if scheme in _CLOUD:
        return _open_cloud(str(url_or_path))
    raise InvalidInputError(
        f"{scheme}:// is not a place for a repository", hint="a folder, memory://NAME, s3://, gs:// or az://"
    )


def _path_of(url: str) -> Path:
    parts = urlsplit(url)
    if parts.netloc not in {"", "localhost"} or parts.query or parts.fragment or not parts.path:
        raise InvalidInputError(f"{url} does not name a local folder", hint="file:///absolute/path, or a plain path")
    return Path(unquote(parts.path))


def _open_cloud(url: str) -> Store:
    try:
        from pyfactory.store.cloud import CloudStore
    except ModuleNotFoundError as error:
        if error.name != "obstore":
            raise
        raise InvalidInputError("cloud stores need the package obstore", hint="pip install obstore") from error
    return CloudStore(url)
