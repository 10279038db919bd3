"""The cases of `benchmarks/repository.py` for pyfactory, and the floor of each."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from pyfactory.core.digest import NO_DIGEST, Digest, digest_of
from pyfactory.core.durable import create_exclusive
from pyfactory.repo.objects import TableState
from pyfactory.repo.repository import Repository
from pyfactory.shard.layout import raw_schema, schema_to_value
from pyfactory.shard.manifest import Entry, Manifest, Part, extend_manifest, new_batch, write_manifest

SCHEMA = tuple((name, type_, nullable) for name, type_, nullable in schema_to_value(raw_schema()))
Made = tuple[Callable[[], object], Callable[[], float]]


def parts(label: str, count: int) -> list[Part]:
    """Return parts that no file stands behind."""
    return [Part(digest_of(f"{label} {number}".encode()), NO_DIGEST, 100, 0, 4096) for number in range(count)]


def state_of(repo: Repository, root: Digest) -> TableState:
    """Return the state of a table with this manifest."""
    manifest = Manifest(repo.objects, root)
    counts = (manifest.rows, manifest.tokens, manifest.nbytes, manifest.shards)
    return TableState(root, SCHEMA, *counts, artifacts={}, attributes={})


def make(place: Path, entries: int) -> None:
    """Make a repository whose table has so many entries, in 100 batches, tagged `start`."""
    repo = Repository.create(place / "ours")

    def all_entries() -> Iterator[Entry]:
        for generation in range(100):
            yield from new_batch(parts(f"{generation}", entries // 100), generation + 1)

    repo.commit({"raw": state_of(repo, write_manifest(repo.objects, all_entries()))}, message="start")
    repo.tag("start")


class Written:
    """What one operation creates: sizes of objects, to write the same again without pyfactory."""

    def __init__(self, place: Path) -> None:
        self._before: set[Path] = set()
        self._root = place / "ours"
        self._scratch = place / "floor"
        self._before = self._files()

    def _files(self) -> set[Path]:
        found = (path for path in self._root.rglob("*") if path.is_file())
        return {path for path in found if path.relative_to(self._root).parts[0] != "tmp"}

    def floor(self) -> float:
        """Return the seconds that it takes to create files of the same sizes, durably."""
        sizes = [path.stat().st_size for path in self._files() - self._before]
        self._scratch.mkdir(exist_ok=True)
        contents = [os.urandom(size) for size in sizes]
        start = time.perf_counter()
        for number, content in enumerate(contents):
            create_exclusive(self._scratch / f"{time.time_ns()}-{number}", content, staging=self._scratch)
        return time.perf_counter() - start


def opened(place: Path) -> Repository:
    """Open the repository anew, and let it have seen its log, as a program at work has."""
    repo = Repository.open(place / "ours")
    repo.view()
    return repo


def grown(repo: Repository, ref: str, label: str) -> TableState:
    """Return the table at a ref with ten shards more."""
    manifest = Manifest(repo.objects, repo.tables(ref)["raw"].manifest)
    batch = new_batch(parts(label, 10), manifest.last_generation + 1)
    return state_of(repo, extend_manifest(repo.objects, manifest.root, batch))


def append(place: Path, run: int) -> Made:
    """Append ten entries and commit."""
    repo = opened(place)
    repo.branch(f"append-{run}", "start")
    written = Written(place)
    branch = f"append-{run}"
    return lambda: repo.commit({"raw": grown(repo, branch, f"append {run}")}, branch, message="ten"), written.floor


def branch(place: Path, run: int) -> Made:
    """Create a branch, not the first thing that the program writes."""
    repo = opened(place)
    repo.branch(f"before-{run}", "start")
    written = Written(place)
    return lambda: repo.branch(f"branch-{run}", "start"), written.floor


def rollback(place: Path, run: int) -> Made:
    """Roll a branch back by one commit."""
    repo = opened(place)
    name = f"rollback-{run}"
    repo.branch(name, "start")
    repo.commit({"raw": grown(repo, name, f"rollback {run}")}, name, message="ten")
    written = Written(place)
    return lambda: repo.rollback(name, "start"), written.floor


def diff(place: Path, run: int) -> Made:
    """Compare two commits that ten entries set apart, in a repository opened just now."""
    repo = opened(place)
    name = f"diff-{run}"
    repo.branch(name, "start")
    repo.commit({"raw": grown(repo, name, f"diff {run}")}, name, message="ten")
    fresh = opened(place)

    def compare() -> None:
        (found,) = fresh.diff("start", name).tables
        assert (found.shards_added, found.shards_removed) == (10, 0)

    return compare, lambda: 0.0


def merge(place: Path, run: int) -> Made:
    """Merge two branches that changed ten entries each."""
    repo = opened(place)
    ours, theirs = f"ours-{run}", f"theirs-{run}"
    for name in (ours, theirs):
        repo.branch(name, "start")
        repo.commit({"raw": grown(repo, name, name)}, name, message="ten")
    written = Written(place)
    return lambda: repo.merge(theirs, ours), written.floor


def open_version(place: Path, run: int) -> Made:
    """Open the repository and a version, and look up one shard."""

    def look() -> None:
        version = Repository.open(place / "ours").version("raw", "start")
        assert version.manifest.part(version.shards // 2).rows == 100

    return look, lambda: 0.0
