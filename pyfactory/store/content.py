"""Objects named by the digest of their bytes: writing twice is harmless, and reading proves what was read."""

from __future__ import annotations

import mmap
from pathlib import Path

from pyfactory.core.digest import Buffer, Digest, digest_of, digest_of_file, parse_digest
from pyfactory.core.durable import translate_os_error
from pyfactory.errors import CorruptError, NotFoundError
from pyfactory.store.base import Store

__all__ = ["Objects"]


class Objects:
    """Content-addressed objects in a store, under `objects/ab/cdef...`.

    Args:
        store: Where the bytes live.
    """

    def __init__(self, store: Store) -> None:
        self.store = store

    def key(self, digest: Digest) -> str:
        """Return the key of an object; a malformed digest is InvalidInputError."""
        text = parse_digest(digest)
        return f"objects/{text[:2]}/{text[2:]}"

    def put(self, content: Buffer) -> Digest:
        """Store bytes durably and return their digest, whether or not they were there before."""
        digest = digest_of(content)
        self.store.create(self.key(digest), content)
        return digest

    def put_file(self, path: Path) -> Digest:
        """Store the content of a local file, which is consumed, and return its digest."""
        with translate_os_error(path):
            digest = digest_of_file(path)
        self.store.create_from_file(self.key(digest), path)
        return digest

    def get(self, digest: Digest) -> bytes:
        """Return the bytes of an object, verified against its digest.

        Raises:
            NotFoundError: There is no such object.
            CorruptError: The stored bytes are not the ones that the digest names.
        """
        content = self.store.get(self.key(digest))
        if digest_of(content) != digest:
            raise self._corrupt(digest)
        return content

    def _corrupt(self, digest: Digest) -> CorruptError:
        return CorruptError(
            f"object {digest} in {self.store.url} does not hold the bytes that its name promises",
            hint="restore it from a copy of the repository; `pyfactory verify` lists all such objects",
        )

    def map(self, digest: Digest, *, verify: bool = False) -> memoryview:
        """Return an object's bytes as a read-only view.

        Over local files this is a memory map, which lives as long as the view and costs nothing until it is read; it is
        not verified again unless asked for, since the bytes were when they entered. Over other stores these are the
        bytes of `get`.
        """
        path = self.store.path(self.key(digest))
        if path is None:
            return memoryview(self.get(digest))
        view = _mapped(path, f"object {digest} in {self.store.url}")
        if verify and digest_of(view) != digest:
            raise self._corrupt(digest)
        return view

    def exists(self, digest: Digest) -> bool:
        """Tell whether an object is there; one request. Not a reason to skip `put`, which also makes it durable."""
        return self.store.size(self.key(digest)) is not None


def _mapped(path: Path, what: str) -> memoryview:
    with translate_os_error(path):
        try:
            file = path.open("rb")
        except FileNotFoundError:
            raise NotFoundError(f"there is no {what}") from None
        with file:
            file.seek(0, 2)
            if file.tell() == 0:  # which cannot be mapped
                return memoryview(b"")
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
