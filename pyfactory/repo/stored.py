"""What a store holds: its objects as two arrays, what they are, and deleting some of them with their caches."""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyfactory.core.canonical import decode
from pyfactory.core.digest import Digest
from pyfactory.core.progress import Progress
from pyfactory.errors import NotFoundError, PyfactoryError
from pyfactory.repo.index_files import INDEX, index_sides
from pyfactory.repo.listing import WIDTH, Digests, contains, digests_of, hexadecimal, packed_digests
from pyfactory.repo.threads import in_order
from pyfactory.store.base import Store

__all__ = ["Stored", "added", "delete_all", "delete_caches", "folders", "kinds_of", "stored_objects"]

_OBJECT = re.compile(r"objects/([0-9a-f]{2})/([0-9a-f]{62})")
_CACHED = re.compile(r".*/([0-9a-f]{2})/([0-9a-f]{62})")
_NAMED = re.compile(rb'"([0-9a-f]{64})"')
_HEADS = {
    b"ARROW1": "shards",
    b"PFNODE01": "nodes",
    b"PFLIST01": "lists",
    b"PFPACK01": "packings",
    b"{": "documents",
    b"[": "documents",
}
_HEAD_BYTES = 8
_WORKERS = 8
_ALONE = 1000  # so many are deleted by one thread: threads would only cost
_TOLD_EVERY = 1000


@dataclass(frozen=True, slots=True)
class Stored:
    """Some of the objects of a store.

    Attributes:
        digests: Their digests, ascending.
        sizes: int64[len(digests)]: their bytes.
    """

    digests: Digests
    sizes: NDArray[np.int64]

    def __len__(self) -> int:
        """Number of objects."""
        return len(self.digests)

    @property
    def total(self) -> int:
        """Bytes of all of them."""
        return int(self.sizes.sum())

    def among(self, digests: Digests) -> Stored:
        """Return those that are among some digests."""
        return self._chosen(contains(digests, self.digests))

    def without(self, digests: Digests) -> Stored:
        """Return those that are not among some digests."""
        return self._chosen(~contains(digests, self.digests))

    def _chosen(self, mask: NDArray[np.bool_]) -> Stored:
        return Stored(self.digests[mask], self.sizes[mask])


def stored_objects(store: Store, progress: Progress) -> Stored:
    """Return all objects of a store: 40 bytes each. What else lies under `objects/` is left alone."""
    packed, sizes = bytearray(), array("q")
    for key, nbytes in store.list("objects"):
        found = _OBJECT.fullmatch(key)
        if found:
            packed += bytes.fromhex(found[1] + found[2])
            sizes.append(nbytes)
            if len(sizes) % _TOLD_EVERY == 0:
                progress("list", len(sizes), None)
    digests: Digests = np.frombuffer(bytes(packed), f"S{WIDTH}")
    return Stored(digests, np.frombuffer(sizes.tobytes(), np.int64))


def kinds_of(store: Store, some: Stored) -> dict[str, tuple[int, int]]:
    """Return number and bytes of objects by what they begin with. A request for each."""

    def head(digest: Digest) -> bytes:
        key = _key(digest)
        with suppress(NotFoundError):
            return store.get_range(key, 0, min(_HEAD_BYTES, store.size(key) or 0))
        return b""

    numbers: Counter[str] = Counter()
    nbytes: Counter[str] = Counter()
    for found, size in zip(in_order(head, hexadecimal(some.digests), _WORKERS), some.sizes.tolist(), strict=True):
        kind = next((kind for start, kind in _HEADS.items() if found.startswith(start)), "other")
        numbers[kind] += 1
        nbytes[kind] += size
    return {kind: (numbers[kind], nbytes[kind]) for kind in sorted(numbers)}


def delete_caches(store: Store, digests: Digests, before: Callable[[], None]) -> dict[str, tuple[int, int]]:
    """Delete what only serves objects that are about to be deleted; return number and bytes by kind.

    These are completion marks that name one of them, what was counted in them, record indexes that list one of them,
    and signatures of commits among them.
    What cannot be read is left alone. `before`: see `delete_all`.
    """
    if not len(digests):
        return {}

    def names_one(content: bytes) -> bool:
        return _any(digests, (Digest(name.decode()) for name in _NAMED.findall(content)))

    def signs_one(content: bytes) -> bool:
        value: Any = decode(content, "a signature")
        statement = value.get("statement") if isinstance(value, dict) else None
        commit = statement.get("commit") if isinstance(statement, dict) else None
        return isinstance(commit, str) and len(commit) == 2 * WIDTH and _any(digests, [Digest(commit)])

    freed = {
        "completion marks": _delete_where(store, "memo", names_one, before),
        "signatures": _delete_where(store, "signatures", signs_one, before),
        "sketches": _delete_sketches(store, digests),
        "record indexes": _delete_indexes(store, digests),
    }
    return {kind: counts for kind, counts in freed.items() if counts[0]}


def delete_all(store: Store, digests: Digests, before: Callable[[], None], progress: Progress) -> None:
    """Delete objects; `before` is called before each, from any thread, and stops it all by raising."""

    def delete(digest: Digest) -> None:
        before()
        store.delete(_key(digest))

    alone = len(digests) <= _ALONE
    deleted: Iterable[None] = (
        map(delete, hexadecimal(digests)) if alone else in_order(delete, hexadecimal(digests), _WORKERS)
    )
    for done, _ in enumerate(deleted, 1):
        if done % _TOLD_EVERY == 0 or done == len(digests):
            progress("delete", done, len(digests))


def added(first: Mapping[str, tuple[int, int]], second: Mapping[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    """Return the sums of numbers and bytes by kind."""
    names = sorted({*first, *second})
    pairs = [(first.get(name, (0, 0)), second.get(name, (0, 0))) for name in names]
    return {name: (one[0] + two[0], one[1] + two[1]) for name, (one, two) in zip(names, pairs, strict=True)}


def _delete_where(
    store: Store, folder: str, condition: Callable[[bytes], bool], before: Callable[[], None]
) -> tuple[int, int]:
    def judged(entry: tuple[str, int]) -> tuple[str, int] | None:
        before()
        with suppress(PyfactoryError):
            return entry if condition(store.get(entry[0])) else None
        return None

    # All of them before the first is deleted: a listing need not bear changes below it.
    found = [entry for entry in in_order(judged, store.list(folder), _WORKERS) if entry is not None]
    return _delete_keys(store, found)


def _delete_sketches(store: Store, digests: Digests) -> tuple[int, int]:
    def of_one(key: str) -> bool:
        match = _CACHED.fullmatch(key)
        return match is not None and _any(digests, [Digest(match[1] + match[2])])

    return _delete_keys(store, [(key, nbytes) for key, nbytes in store.list("sketch") if of_one(key)])


def _delete_indexes(store: Store, digests: Digests) -> tuple[int, int]:
    def of_one(entry: tuple[str, int]) -> tuple[str, int] | None:
        with suppress(PyfactoryError):
            return entry if _any(digests, index_sides(store, entry[0])) else None
        return None

    found = [entry for entry in in_order(of_one, store.list(INDEX), _WORKERS) if entry is not None]
    return _delete_keys(store, found)


def _delete_keys(store: Store, entries: list[tuple[str, int]]) -> tuple[int, int]:
    for key, _ in entries:
        store.delete(key)
    return len(entries), sum(nbytes for _, nbytes in entries)


def _any(digests: Digests, wanted: Iterable[Digest]) -> bool:
    try:
        return bool(contains(digests, digests_of(packed_digests(wanted))).any())
    except ValueError:  # not hexadecimal
        return False


def _key(digest: Digest) -> str:
    return f"objects/{digest[:2]}/{digest[2:]}"


def folders(store: Store, names: Iterable[str]) -> Iterator[tuple[str, int, int]]:
    """Yield (name, number, bytes) of what lies below folders of a store."""
    for name in names:
        number = nbytes = 0
        for _, size in store.list(name):
            number += 1
            nbytes += size
        yield name, number, nbytes
