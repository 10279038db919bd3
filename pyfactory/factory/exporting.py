"""A version, or the result of a query -> files that others read: all of a file is there, or nothing of that name."""

from __future__ import annotations

import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from decimal import Decimal
from math import isfinite
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pv
import pyarrow.parquet as pq

from pyfactory.core import canonical
from pyfactory.core.durable import sync_file, sync_folder, translate_os_error
from pyfactory.core.progress import Progress, no_progress
from pyfactory.errors import InvalidInputError
from pyfactory.repo.leases import reading
from pyfactory.repo.tables import RECORD_COLUMNS, batches, scan_schema
from pyfactory.repo.version import Version

__all__ = ["ExportReport", "csv_pieces", "export", "plain_rows", "write_csv", "write_parquet"]

FILE_BYTES = 512 << 20
"""Content of a file of an exported folder, about."""

IDENTITY_KEY = b"pyfactory"
"""Metadata key of an exported file: canonical JSON of table, version, commit and tokenizer (a digest, or null)."""

_SUFFIX = ".parquet"
_PART = re.compile(r"part-\d{5,}\.parquet")


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What an export wrote.

    Attributes:
        path: The file or folder.
        files: Files in it.
        rows: Their rows.
        nbytes: Their bytes.
        table: The table.
        commit: The commit.
        version: The version digest.
    """

    path: str
    files: int
    rows: int
    nbytes: int
    table: str
    commit: str
    version: str

    def to_value(self) -> dict[str, Any]:
        """Return a plain dict."""
        return asdict(self)


def export(
    version: Version,
    target: str | Path,
    *,
    ids: bool = False,
    overwrite: bool = False,
    file_bytes: int = FILE_BYTES,
    progress: Progress = no_progress,
) -> ExportReport:
    """Write a version as Parquet: a file if the name ends in `.parquet`, else a folder of `part-00000.parquet`, ...

    A row group is a shard, written while the next one is not yet open. Everything is written under another name beside
    the target, flushed to the disk, and then renamed.

    Args:
        version: What to write.
        target: Where.
        ids: Also write `_id`, `_file` and `_line`: the id and the origin of each record.
        overwrite: Replace the file, or the folder of an earlier export, that is there.
        file_bytes: Content of a file of a folder, about.
        progress: Told of the stage "export" (shards).

    Raises:
        InvalidInputError: There is something at the target.
        UnavailableError: The disk is full; nothing is left at the target.
        CorruptError: A shard is damaged.
    """
    path = Path(target)
    _check_target(path, overwrite)
    names = [*version.schema.names, *(field.name for field in RECORD_COLUMNS if ids)]
    names = list(dict.fromkeys(names))
    metadata = {IDENTITY_KEY: canonical.encode(_identity(version))}
    schema = pa.schema([scan_schema(version).field(name) for name in names], metadata)
    with _kept(version, progress) as telling, _replacing(path) as aside:
        rows = _told(batches(version, names), version.shards, telling)
        if path.suffix == _SUFFIX:
            written = [_write_batches(aside, schema, rows)]
        else:
            aside.mkdir()
            written = _write_folder(aside, schema, rows, [part.nbytes for part in version.parts()], file_bytes)
    return ExportReport(
        path=str(path),
        files=len(written),
        rows=version.rows,
        nbytes=sum(written),
        table=version.table,
        commit=version.commit,
        version=version.digest,
    )


def write_parquet(rows: pa.RecordBatchReader, path: Path) -> None:
    """Write the rows of a query to a Parquet file, which replaces the one of that name when it is complete."""
    with _replacing(path) as aside:
        _write_batches(aside, rows.schema, rows)


def write_csv(rows: pa.RecordBatchReader, path: Path) -> None:
    """Write the rows of a query to a CSV file, which replaces the one of that name when it is complete."""
    with _replacing(path) as aside, aside.open("xb") as file:
        for piece in csv_pieces(rows):
            file.write(piece)


def plain_rows(batch: pa.RecordBatch) -> Iterator[list[Any]]:
    """Yield the rows of a batch as values that JSON has: bytes in hex, times as text, exact fractions as text."""
    return map(list, zip(*([_plain(value) for value in column.to_pylist()] for column in batch.columns), strict=True))


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else str(value)
    if isinstance(value, float):
        return value if isfinite(value) else str(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dict):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value if value is None or isinstance(value, bool | int | str) else str(value)


def csv_pieces(rows: pa.RecordBatchReader) -> Iterator[bytes]:
    """Yield the rows of a query as CSV, the names of the columns first.

    Raises:
        InvalidInputError: A column is a list or something else that CSV has no form for.
    """
    try:
        yield _csv(rows.schema.empty_table().to_batches(), rows.schema, header=True)
        for batch in rows:
            yield _csv([batch], rows.schema, header=False)
    except pa.ArrowException as error:
        nested = [field.name for field in rows.schema if pa.types.is_nested(field.type)]
        what = f"column {nested[0]!r} is a list" if nested else f"the result cannot be written: {str(error)[:100]}"
        raise InvalidInputError(f"CSV: {what}", hint="write Parquet or JSON, or select other columns") from error


def _csv(found: Sequence[pa.RecordBatch], schema: pa.Schema, *, header: bool) -> bytes:
    sink = pa.BufferOutputStream()
    with pv.CSVWriter(sink, schema, write_options=pv.WriteOptions(include_header=header)) as writer:
        for batch in found:
            writer.write_batch(batch)
    octets: bytes = sink.getvalue().to_pybytes()
    return octets


def _identity(version: Version) -> dict[str, Any]:
    tokenizer = version.artifacts.get("tokenizer")
    told = {"table": version.table, "version": version.digest, "commit": version.commit}
    return told | {"tokenizer": tokenizer, "v": 1}


@contextmanager
def _kept(version: Version, progress: Progress) -> Iterator[Progress]:
    """Let no sweep take what is read, and give what the work tells its progress to."""
    held = reading(version.repository, version.commit, f"export of {version.table}")

    def told(stage: str, done: int, total: int | None) -> None:
        if held is not None:
            held.renew_if_due()
        progress(stage, done, total)

    try:
        yield told
    finally:
        if held is not None:
            held.release()


def _check_target(path: Path, overwrite: bool) -> None:
    with translate_os_error(path):
        if not path.name or not (path.exists() or path.is_symlink()):
            if not path.name:
                raise InvalidInputError(f"{str(path)!r} is no name for an export", hint="name a file or a new folder")
            return
        if path.is_dir():
            others = [member.name for member in path.iterdir() if not _PART.fullmatch(member.name)]
            if path.suffix == _SUFFIX or others:
                hint = "name a new one"
                raise InvalidInputError(f"{path} is a folder that holds something else than an export", hint=hint)
            if not any(path.iterdir()):
                return
        elif path.suffix != _SUFFIX:
            raise InvalidInputError(f"{path} is a file", hint=f"name a folder, or a file that ends in {_SUFFIX}")
    if not overwrite:
        raise InvalidInputError(f"{path} is there already", hint="name another place, or say --overwrite")


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """Give the name under which to write; then it takes the place of `path`, unless the block fails."""
    token = secrets.token_hex(4)
    aside, old = (path.with_name(f".{path.name}.{token}.{end}") for end in ("part", "old"))
    try:
        with translate_os_error(path):
            yield aside
            for member in sorted(aside.iterdir()) if aside.is_dir() else ():
                sync_file(member)
            sync_file(aside)
            _take_place(aside, path, old)
            sync_folder(path.parent)
    finally:
        for leftover in (aside, old):
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                with suppress(OSError):  # where nothing can be written, nothing is left; the first error counts
                    leftover.unlink(missing_ok=True)


def _take_place(aside: Path, path: Path, old: Path) -> None:
    if not path.is_dir() or not any(path.iterdir()):
        aside.replace(path)
        return
    path.replace(old)  # a folder with members cannot be replaced in one step
    try:
        aside.replace(path)
    except BaseException:
        old.replace(path)
        raise


def _told(found: Iterable[pa.RecordBatch], shards: int, progress: Progress) -> Iterator[pa.RecordBatch]:
    progress("export", 0, shards)
    for number, batch in enumerate(found, 1):
        yield batch
        progress("export", number, shards)


def _write_folder(
    folder: Path, schema: pa.Schema, rows: Iterator[pa.RecordBatch], sizes: Sequence[int], file_bytes: int
) -> list[int]:
    """Write files of about so many bytes of content and return their sizes."""
    written: list[int] = []
    at = 0
    while at < len(sizes) or not written:
        stop, held = at, 0
        while stop < len(sizes) and (stop == at or held + sizes[stop] <= file_bytes):
            held += sizes[stop]
            stop += 1
        path = folder / f"part-{len(written):05d}{_SUFFIX}"
        written.append(_write_batches(path, schema, (next(rows) for _ in range(stop - at))))
        at = stop
    for _ in rows:  # none is left; this tells that the last one is written
        pass
    return written


def _write_batches(path: Path, schema: pa.Schema, rows: Iterable[pa.RecordBatch]) -> int:
    """Write batches to a new file, a row group each, and return its size."""
    try:
        with (
            path.open("xb") as file,
            pq.ParquetWriter(pa.PythonFile(file, mode="w"), schema, compression="zstd") as writer,
        ):
            for batch in rows:
                if batch.num_rows:
                    writer.write_batch(batch, batch.num_rows)
        return path.stat().st_size
    except pa.ArrowException as error:
        raise InvalidInputError(f"Parquet: {str(error)[:200]}", hint="select other columns") from error
