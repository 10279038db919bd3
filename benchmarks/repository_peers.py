"""The cases of `benchmarks/repository.py` for Icechunk, Delta and Lance: milliseconds by operation they have.

An entry is a virtual chunk reference, an add action of a file, or a fragment.
"""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any


def timed(times: dict[str, list[float]], name: str, case: Callable[[], Any]) -> Any:
    """Run a case, note its milliseconds, and return what it returns."""
    start = time.perf_counter()
    result = case()
    times.setdefault(name, []).append(1000 * (time.perf_counter() - start))
    return result


def medians(times: dict[str, list[float]]) -> dict[str, float]:
    """Return the median of each case."""
    return {name: statistics.median(values) for name, values in times.items()}


def icechunk_cases(place: Path, entries: int, runs: int) -> dict[str, float]:
    """Append, branch, rollback, diff, open."""
    import icechunk
    import zarr

    def storage() -> Any:
        return icechunk.local_filesystem_storage(str(place))

    config = icechunk.RepositoryConfig.default()
    prefix = "file:///nowhere/"
    config.set_virtual_chunk_container(
        icechunk.VirtualChunkContainer(prefix, icechunk.local_filesystem_store("/nowhere"))
    )
    allowed = icechunk.containers_credentials({prefix: None})
    repo = icechunk.Repository.create(storage(), config, authorize_virtual_chunk_access=allowed)

    def references(session: Any, start: int, count: int) -> None:
        specs = [
            icechunk.VirtualChunkSpec(index=[at], location=f"{prefix}{at:08d}", offset=0, length=1)
            for at in range(start, start + count)
        ]
        session.store.set_virtual_refs("raw", specs, validate_containers=False)

    session = repo.writable_session("main")
    shape = (entries + 10 * runs,)
    zarr.group(store=session.store).create_array("raw", shape=shape, chunks=(1,), dtype="u1")
    references(session, 0, entries)
    first = session.commit("start")
    times: dict[str, list[float]] = {}
    for run in range(runs):

        def append(run: int = run) -> str:
            session = repo.writable_session("main")
            references(session, entries + 10 * run, 10)
            return str(session.commit("ten"))

        newest = timed(times, "append 10 and commit", append)
        timed(times, "create a branch", partial(repo.create_branch, f"b{run}", newest))
        parent = next(iter(repo.ancestry(branch="main"))).parent_id
        timed(times, "diff of 10", partial(repo.diff, from_snapshot_id=parent, to_snapshot_id=newest))
        timed(times, "rollback", partial(repo.reset_branch, "main", parent))
        repo.reset_branch("main", newest)

        def look() -> None:
            opened = icechunk.Repository.open(storage(), config, authorize_virtual_chunk_access=allowed)
            zarr.open_group(store=opened.readonly_session(snapshot_id=first).store, mode="r")["raw"]

        timed(times, "open at a version", look)
    return medians(times)


def delta_cases(place: Path, entries: int, runs: int) -> dict[str, float]:
    """Append, restore, open; Delta has no branches, and a diff is two full lists."""
    import pyarrow as pa
    from deltalake import DeltaTable, Schema
    from deltalake.transaction import AddAction, create_table_with_add_actions

    schema = Schema.from_arrow(pa.schema([("text", pa.string())]))

    def actions(start: int, count: int) -> list[AddAction]:
        return [
            AddAction(f"part-{at:08d}.parquet", 4096, {}, 0, True, '{"numRecords":100}')
            for at in range(start, start + count)
        ]

    create_table_with_add_actions(str(place), schema, actions(0, entries))
    times: dict[str, list[float]] = {}
    opened = timed(times, "open at a version", lambda: DeltaTable(str(place), version=0))
    for run in range(runs):
        ten = actions(entries + 10 * run, 10)
        opened = DeltaTable(str(place))
        timed(times, "append 10 and commit", partial(opened.create_write_transaction, ten, "append", schema))
        timed(times, "open at a version", lambda: DeltaTable(str(place), version=0))
        opened = DeltaTable(str(place))
        before = opened.version() - 1
        timed(times, "rollback", partial(opened.restore, before))
    return medians(times)


def lance_cases(place: Path, entries: int, runs: int) -> dict[str, float]:
    """Append, branch, restore, open."""
    import lance
    import pyarrow as pa
    from lance.fragment import DataFile, FragmentMetadata

    schema = pa.schema([("text", pa.string())])
    seed = lance.write_dataset(pa.table({"text": ["a"]}), str(place) + "-seed")
    file = seed.get_fragments()[0].metadata.files[0]
    shutil.rmtree(str(place) + "-seed")
    kind = {
        "fields": file.fields,
        "column_indices": file.column_indices,
        "file_major_version": file.file_major_version,
        "file_minor_version": file.file_minor_version,
        "file_size_bytes": 4096,
    }

    def fragments(start: int, count: int) -> list[FragmentMetadata]:
        return [
            FragmentMetadata(id=at, files=[DataFile(path=f"{at:08d}.lance", **kind)], physical_rows=100)
            for at in range(start, start + count)
        ]

    lance.LanceDataset.commit(str(place), lance.LanceOperation.Overwrite(schema, fragments(0, entries)))
    times: dict[str, list[float]] = {}
    for run in range(runs):
        ten = fragments(entries + 10 * run, 10)
        opened = lance.dataset(str(place))
        before = opened.version
        append = lance.LanceOperation.Append(ten)
        commit = partial(lance.LanceDataset.commit, str(place), append, read_version=before)
        timed(times, "append 10 and commit", commit)
        opened = lance.dataset(str(place))
        timed(times, "create a branch", partial(opened.create_branch, f"b{run}"))
        timed(times, "open at a version", lambda: lance.dataset(str(place), version=1))
        old = lance.dataset(str(place), version=before)
        timed(times, "rollback", old.restore)
    return medians(times)
