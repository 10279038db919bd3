"""Imports in a rough world: hostile files, a full disk, Ctrl-C, and more raw bytes than memory."""

from __future__ import annotations

import itertools
import random
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from import_tables import NAMES, RECORDS, rows_of, write_records

from pyfactory.errors import BadRecordError, PyfactoryError, UnavailableError
from pyfactory.shard.importers import import_sources
from pyfactory.store.content import Objects
from pyfactory.store.local import LocalStore
from pyfactory.store.memory import MemoryStore
from pyfactory.store.wrap import Faulty


def left_in(store: LocalStore) -> list[Path]:
    return [path for path in store.staging().rglob("*") if path.is_file()]


def test_nothing_temporary_is_left(tmp_path: Path, raw: Path) -> None:
    """After success, after a bad record, after a full disk and after Ctrl-C."""
    store = LocalStore(tmp_path / "store", create=True)
    write_records(raw / "a.jsonl", RECORDS)
    import_sources(Objects(store), [raw], target_bytes=10)
    assert left_in(store) == []
    write_records(raw / "b.jsonl", [{"text": ""}, b"nonsense"])
    with pytest.raises(BadRecordError):
        import_sources(Objects(store), [raw], target_bytes=10)
    assert left_in(store) == []

    def full(call: int, method: str, key: str) -> None:
        if method == "create" and call > 3:
            assert left_in(store)
            raise UnavailableError("no space left")

    with pytest.raises(UnavailableError, match="no space"):
        import_sources(Objects(Faulty(store, before=full)), [raw / "a.jsonl"], target_bytes=10)
    assert left_in(store) == []

    def interrupted(function: Callable[[Any], Any], tasks: Sequence[Any]) -> Iterable[Any]:
        function(tasks[0])
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_sources(Objects(store), [raw / "a.jsonl"], target_bytes=10, map=interrupted)
    assert left_in(store) == []


def test_tasks_that_still_run_stop_at_their_next_read(objects: Objects, raw: Path) -> None:
    """When the caller's map gives up, the threads that it leaves behind do not read for hours."""
    write_records(raw / "a.jsonl", RECORDS)
    kept: list[tuple[Callable[[Any], Any], Any]] = []

    def give_up(function: Callable[[Any], Any], tasks: Sequence[Any]) -> Iterable[Any]:
        kept.append((function, tasks[0]))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_sources(objects, [raw], map=give_up)
    function, task = kept[0]
    with pytest.raises(UnavailableError, match="stopped"):
        function(task)


@settings(max_examples=50, deadline=None)
@given(
    st.sampled_from([*NAMES, "a.txt"]),
    st.binary(max_size=200),
    st.integers(0, 400),
    st.integers(0, 255),
    st.sampled_from(["stop", "skip"]),
)
def test_hostile_files_end_in_an_error_of_ours(
    tmp_path_factory: pytest.TempPathFactory, name: str, noise: bytes, at: int, flip: int, how: str
) -> None:
    """Noise alone, and noise written over a good file, in every format."""
    folder = tmp_path_factory.mktemp("raw")
    good = write_records(folder / name, RECORDS).read_bytes()
    at %= len(good)
    spoiled = bytearray(good)
    spoiled[at] ^= flip
    for content in (noise, bytes(spoiled), good[:at] + noise + good[at + len(noise) :], good[:at]):
        (folder / name).write_bytes(content)
        with suppress(PyfactoryError):
            objects = Objects(MemoryStore())
            rows_of(objects, import_sources(objects, [folder / name], on_bad_record=how))


def test_random_changes_of_parquet_end_in_an_error_of_ours(raw: Path) -> None:
    """Most of a Parquet file is structure, which random bytes seldom reach: every fifth byte is changed in turn."""
    pq.write_table(pa.table({"text": ["a", "bc", None] * 5, "n": list(range(15))}), raw / "good.parquet")
    good = (raw / "good.parquet").read_bytes()
    rng = random.Random(5)
    for at in range(0, len(good), 5):
        spoiled = bytearray(good)
        spoiled[at] = rng.randrange(256)
        (raw / "a.parquet").write_bytes(spoiled)
        with suppress(PyfactoryError):
            import_sources(Objects(MemoryStore()), [raw / "a.parquet"], columns=["n"], on_bad_record="skip")


PEAK = """
import sys
from pathlib import Path
from pyfactory.shard.importers import import_sources
from pyfactory.store.content import Objects
from pyfactory.store.local import LocalStore
imported = import_sources(Objects(LocalStore(sys.argv[1], create=True)), [Path(sys.argv[2])], **eval(sys.argv[3]))
# ru_maxrss would count the process that started this one.
peak = next(int(line.split()[1]) for line in open('/proc/self/status') if line.startswith('VmHWM'))
print(peak // 1024, imported.records, len(imported.parts))
"""


def peak_mb(store: Path, source: Path, **options: Any) -> tuple[int, int, int]:
    """Import in a process of its own; return its peak memory in MB, the records and the shards."""
    command = [sys.executable, "-c", PEAK, str(store), str(source), repr(options)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3])
    peak, records, shards = map(int, done.stdout.split())
    return peak, records, shards


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"id": "key"}], ids=["content", "field"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, raw: Path, options: dict[str, str]) -> None:
    line = '{"key": "%d", "text": "%s"}\n'
    with (raw / "a.jsonl").open("w") as file:
        file.writelines(line % (number, f"{number} " * 120) for number in range(400_000))
    assert (raw / "a.jsonl").stat().st_size > 300 << 20
    with (raw / "a.jsonl").open("rb") as file:
        (raw / "b.jsonl").write_bytes(b"".join(itertools.islice(file, 100_000)))
    small = peak_mb(tmp_path / "small", raw / "b.jsonl", target_bytes=16 << 20, **options)
    large = peak_mb(tmp_path / "large", raw / "a.jsonl", target_bytes=16 << 20, **options)
    assert large[1:] == (400_000, large[2]) and large[2] > 15
    assert small[0] < 400
    assert large[0] < small[0] + 60, (small, large)


@pytest.mark.slow
def test_a_document_of_200_mb_works_and_one_beyond_the_limit_is_skipped(tmp_path: Path, raw: Path) -> None:
    with (raw / "a.jsonl").open("wb") as file:
        for size in (200 << 20, 300 << 20, 5):
            file.write(b'{"text": "')
            for _ in range(size >> 20 or 1):
                file.write(b"x" * (1 << 20 if size >> 20 else size))
            file.write(b'"}\n')
    peak, records, shards = peak_mb(tmp_path / "store", raw / "a.jsonl", on_bad_record="skip")
    assert (records, shards) == (2, 2)
    assert peak < 2000
