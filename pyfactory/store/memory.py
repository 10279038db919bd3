"""A store in the memory of this process, for tests and small experiments."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from threading import Lock

from pyfactory.core.digest import Buffer
from pyfactory.core.durable import translate_os_error
from pyfactory.errors import InvalidInputError, NotFoundError
from pyfactory.store.base import Scratch, check_key, check_prefix, check_range

__all__ = ["MemoryStore"]

_named: dict[str, dict[str, bytes]] = {}
_lock = Lock()


class MemoryStore:
    """Bytes by key in a dict; stores of one name share their content within this process.

    Args:
        name: What `memory://name` says. Without a name the store is alone, and gone when nobody holds it.
    """

    def __init__(self, name: str = "") -> None:
        self.url = f"memory://{name or secrets.token_hex(8)}"
        self._objects = _named.setdefault(name, {}) if name else {}
        self._scratch = Scratch()

    def __reduce__(self) -> tuple[object, ...]:
        """Refuse to travel: in another process the store would silently be another, empty one."""
        raise InvalidInputError(f"{self.url} lives in one process only", hint="use a folder or a cloud store")

    def get(self, key: str) -> bytes:
        """Return the whole object."""
        try:
            return self._objects[check_key(key)]
        except KeyError:
            raise NotFoundError(f"{self.url} has no object {key}") from None

    def get_range(self, key: str, start: int, stop: int) -> bytes:
        """Return bytes start (included) to stop (excluded)."""
        content = self.get(key)
        check_range(key, start, stop, len(content))
        return content[start:stop]

    def size(self, key: str) -> int | None:
        """Return the object's size in bytes, or None when there is no such object."""
        content = self._objects.get(check_key(key))
        return None if content is None else len(content)

    def create(self, key: str, content: Buffer) -> bool:
        """Store an object under a key that must be free; return False when it is taken."""
        with _lock:
            if check_key(key) in self._objects:
                return False
            self._objects[key] = bytes(content)
            return True

    def create_from_file(self, key: str, path: Path) -> bool:
        """Do as `create` with the content of a local file, which is consumed."""
        check_key(key)
        with translate_os_error(path):
            created = self.create(key, path.read_bytes())
            path.unlink()
        return created

    def replace(self, key: str, content: Buffer, *, durable: bool = True) -> None:
        """Store an object whether or not the key is taken."""
        with _lock:
            self._objects[check_key(key)] = bytes(content)

    def delete(self, key: str) -> None:
        """Remove an object; an absent one is fine."""
        with _lock:
            self._objects.pop(check_key(key), None)

    def list(self, prefix: str) -> Iterator[tuple[str, int]]:
        """Yield (key, size in bytes) of all objects below a folder ("" for all), ascending."""
        folder = check_prefix(prefix)
        start = f"{folder}/" if folder else ""
        with _lock:
            found = sorted((key, len(content)) for key, content in self._objects.items() if key.startswith(start))
        return iter(found)

    def path(self, key: str) -> Path | None:
        """Return None: there are no files."""
        check_key(key)
        return None

    def staging(self) -> Path:
        """Return a folder for temporary files, removed with this store."""
        return self._scratch.folder()
