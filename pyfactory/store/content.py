"""Objects named by the digest of their bytes: writing twice is harmless, and reading proves what was read."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from pathlib import Path

from pyfactory.core.digest import Buffer, Digest, digest_of, digest_of_file, parse_digest
from pyfactory.core.durable import translate_os_error
from pyfactory.errors import CorruptError, NotFoundError
from pyfactory.store.base import Store

__all__ = ["Masks", "Objects"]

Masks = Mapping[Digest, tuple[tuple[int, int, int], ...]]
"""What redactions took out of objects: (number of the redaction, first element, one past the last), by digest."""

# Never written to; plain, because objects travel to other processes.
_NOTHING: Mapping[Digest, Digest] = {}
_NO_MASKS: Masks = {}


class Objects:
    """Content-addressed objects in a store, under `objects/ab/cdef...`.

    Some may be redacted: then whoever asks for them gets what took their place.

    Args:
        store: Where the bytes live.

    Attributes:
        redirect: What to read in place of what; swapped as a whole, never changed.
        masks: Which elements of redacted objects stand for nothing, by the digest that is asked for; likewise.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.redirect: Mapping[Digest, Digest] = _NOTHING
        self.masks: Masks = _NO_MASKS

    @property
    def raw(self) -> Objects:
        """The same objects without any redirection: for those who must see what is stored."""
        return Objects(self.store)

    def redact(self, redirect: Mapping[Digest, Digest], masks: Masks) -> None:
        """From now on read other objects in place of some."""
        # In this order, so that whoever sees a replacement also sees what is masked in it.
        self.masks = masks
        self.redirect = redirect

    def current(self, digest: Digest) -> Digest:
        """Return the object that is read where this one is asked for: as a rule itself."""
        return self.redirect.get(digest, digest)

    def path(self, digest: Digest) -> Path | None:
        """Return the local file that is read where an object is asked for, None if the store has no files."""
        return self.store.path(self.key(self.current(digest)))

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
        """Return the bytes of an object, verified against its digest (of what took its place, if it is redacted).

        Raises:
            NotFoundError: There is no such object.
            CorruptError: The stored bytes are not the ones that the digest names.
        """
        return self._get(self.current(digest))

    def _get(self, digest: Digest) -> bytes:
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
        digest = self.current(digest)
        path = self.store.path(self.key(digest))
        if path is None:
            return memoryview(self._get(digest))
        view = _mapped(path, f"object {digest} in {self.store.url}")
        if verify and digest_of(view) != digest:
            raise self._corrupt(digest)
        return view

    def exists(self, digest: Digest) -> bool:
        """Tell whether an object is there; one request. Not a reason to skip `put`, which also makes it durable."""
        return self.size(digest) is not None

    def size(self, digest: Digest) -> int | None:
        """Return the size in bytes of an object, None if it is not there; one request."""
        return self.store.size(self.key(self.current(digest)))


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
