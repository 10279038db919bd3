"""What training runs say of the versions that they read: `runs/ID/00000000`, as far as sweeps and verify need it."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping

from pyfactory.core.canonical import Value, decode
from pyfactory.errors import CorruptError
from pyfactory.store.base import Store

__all__ = ["commits_of_run", "run_starts"]


def run_starts(store: Store, known: Container[str] = ()) -> Iterator[tuple[str, Mapping[str, Value]]]:
    """Yield (key, value) of the first entry of each training run but the known; CorruptError if one is damaged."""
    for key, _ in store.list("runs"):
        if key.rpartition("/")[2] == f"{0:08d}" and key not in known:
            what = f"{store.url}: {key}"
            value = decode(store.get(key), what)
            if not isinstance(value, dict):
                raise CorruptError(f"{what} is not an entry of a run")
            yield key, value


def commits_of_run(start: Mapping[str, Value]) -> Iterator[Value]:
    """Yield what the first entry of a run names as the commits of this repository that it reads; nothing is checked."""
    versions = start.get("versions")
    for named in [start.get("version"), *(versions if isinstance(versions, list) else ())]:
        if isinstance(named, dict) and named.get("repository", "") == "":
            yield named.get("commit")
