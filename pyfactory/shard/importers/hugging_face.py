"""Datasets of the library `datasets` become content shards and side shards; its objects are known by what they can do.

A dataset with features comes as Arrow, batch by batch, and no row is touched by Python. One that streams and has none
is read like JSON lines: a column is text unless the caller says otherwise. Records have no origin, since a fingerprint
is not the digest of a file; what the library says of itself goes into the commit.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from pyfactory.core.canonical import digest_of_value
from pyfactory.core.digest import Digest, digest_of
from pyfactory.core.progress import Progress, no_progress
from pyfactory.errors import BadRecordError, InvalidInputError, PyfactoryError, UnavailableError
from pyfactory.shard.importers.existing import SideSource
from pyfactory.shard.importers.indexing import index_shards, temporary_folder
from pyfactory.shard.importers.parquet import check_columns, rows_of_batch
from pyfactory.shard.importers.rows import content_hashes
from pyfactory.shard.importers.run import TARGET_BYTES, Imported
from pyfactory.shard.importers.selection import Column, Selection, near, parse_columns, select
from pyfactory.shard.importers.sources import Compression, Format, SourceFile
from pyfactory.shard.importers.staging import ShardCutter, StagedShard, read_spill
from pyfactory.store.content import Objects

__all__ = ["DatasetFacts", "import_rows", "read_facts"]

_BATCH_ROWS = 1000
_REVISION = re.compile(r"@([0-9a-f]{40})/")


@dataclass(frozen=True, slots=True)
class DatasetFacts:
    """What a dataset says of itself; empty where it says nothing.

    Attributes:
        builder: What made it, such as the name of a dataset on the hub.
        config: Its configuration.
        split: Its split.
        fingerprint: What the library names this state of it by.
        version: Its version.
        revision: The commit on the hub that its files came from.
    """

    builder: str
    config: str
    split: str
    fingerprint: str
    version: str
    revision: str

    @property
    def name(self) -> str:
        """How errors and lists of sources call it."""
        return ":".join(["dataset", *filter(None, (self.builder, self.config, self.split))])


def read_facts(dataset: Any) -> DatasetFacts:
    """Return what a dataset says of itself.

    Raises:
        InvalidInputError: It is not a dataset, or one of several splits.
    """
    if isinstance(dataset, Mapping):
        splits = ", ".join(map(repr, dataset))
        raise InvalidInputError("these are several datasets, one per split", hint=f"import one of them: {splits}")
    if not all(hasattr(dataset, name) for name in ("features", "info", "iter", "with_format")):
        what = f"{type(dataset).__name__} is not a dataset of the library datasets"
        raise InvalidInputError(what, hint="import a Dataset or an IterableDataset")
    info = dataset.info
    found = (_REVISION.search(str(url)) for url in info.download_checksums or ())
    return DatasetFacts(
        builder=str(getattr(info, "dataset_name", None) or info.builder_name or ""),
        config=str(info.config_name or ""),
        split=str(dataset.split or ""),
        fingerprint=str(getattr(dataset, "_fingerprint", None) or ""),
        version=str(info.version or ""),
        revision=next((match[1] for match in found if match), ""),
    )


def import_rows(
    objects: Objects,
    dataset: Any,
    *,
    text: str = "text",
    id: str | None = None,
    columns: Sequence[str] = (),
    target_bytes: int = TARGET_BYTES,
    existing: Iterable[SideSource] = (),
    check: Callable[[pa.Schema], None] = lambda schema: None,
    known: Callable[[Digest], bool] = lambda content: False,
    progress: Progress = no_progress,
) -> Imported | None:
    """Store the rows of a dataset as shards: the same ones as the same rows in a file of JSON lines give.

    Args:
        objects: Where shards go.
        dataset: A `Dataset` or an `IterableDataset`. Formats and transforms that were set on it are left out.
        text: Column of the text.
        id: Column that names a record, of strings or integers; None names it by its content.
        columns: Other columns to keep, as `name` or `name:type`.
        target_bytes: Content of a shard, about.
        existing: Side shards of the table, whose ids may not occur again.
        check: Called with the columns before a row is read; may raise.
        known: Tells of a digest of all rows whether they are in the table already.
        progress: Told of the stages "rows" and "index" (shards).

    Returns:
        What was stored; None if it is known. The digest of its one source is that of its rows, not of a file.

    Raises:
        InvalidInputError: It is no dataset, a column is missing or of a wrong type, or an id is taken.
        BadRecordError: A row is wrong; the message has its number, from 1.
        UnavailableError: The dataset cannot be read.
    """
    name = read_facts(dataset).name
    options: dict[str, Any] = {"format": "datasets", "text": text, "id": id, "columns": list(columns)}
    source = _Source(dataset, name, text, id, columns)
    check(source.selection.schema)
    sides = list(existing)
    with temporary_folder(objects) as folder:
        cutter = ShardCutter(objects, folder, 0, target_bytes, with_ids=id is not None, key_of_content=bool(sides))
        records = source.cut(cutter, progress)
        content = _digest(cutter.staged, id is not None)
        if known(content):
            return None
        parts = index_shards(objects, folder, cutter.staged, sides, [source.file], None, id is not None, map, progress)
    nbytes = sum(part.nbytes for part in parts)
    listed = [{"name": name, "digest": content, "bytes": nbytes, "records": records, "skipped": 0}]
    return Imported(parts, source.selection.schema, listed, records, 0, [], options)


def _digest(shards: Sequence[StagedShard], with_ids: bool) -> Digest:
    """Return a digest of all rows and of the ids that they brought."""
    listing = []
    for shard in shards:
        ids = ""
        if with_ids:
            base = pa.RecordBatch.from_arrays([read_spill(shard.spill).column("base")], names=["id"])
            ids = digest_of(content_hashes(base))
        listing.append([shard.shard, ids])
    return digest_of_value(listing)


class _Source:
    """A dataset and what is taken from it."""

    def __init__(self, dataset: Any, name: str, text: str, id: str | None, columns: Sequence[str]) -> None:
        self._dataset = dataset
        self._name = name
        parsed: list[Column] = parse_columns(columns, text)
        schema: pa.Schema | None = None if dataset.features is None else dataset.features.arrow_schema
        format_ = Format.JSONL if schema is None else Format.PARQUET
        self.file = SourceFile(Path(name), name, name, format_, Compression.NONE, 0, 0)
        self.selection: Selection = select([self.file], text=text, id=id, columns=parsed, first_parquet=schema)
        if schema is not None:
            check_columns(schema, name, self.selection, parsed, name)
        names = [text, *(field.name for field in self.selection.columns), *([] if id is None else [id])]
        self._names = list(dict.fromkeys(names))
        self._schema = schema

    def cut(self, cutter: ShardCutter, progress: Progress) -> int:
        """Cut all rows into shards; return how many they are."""
        records, total = 0, getattr(self._dataset, "num_rows", None)
        for batch in self._batches():
            rows = rows_of_batch(batch, records + 1, 0, self.selection)
            if rows.bad:
                message = f"{self._name}:{rows.bad[0].line}: {rows.bad[0].reason}"
                raise BadRecordError(message, hint="take such rows out with Dataset.filter")
            cutter.add(rows)
            records += batch.num_rows
            progress("rows", records, total)
        cutter.flush()
        return records

    def _batches(self) -> Iterator[pa.RecordBatch]:
        """Yield the wanted columns, some rows at a time."""
        if self._schema is None:
            found = map(self._from_lists, self._raised(self._dataset.iter(batch_size=_BATCH_ROWS)))
        else:
            chosen = self._dataset.select_columns(self._names).with_format("arrow")
            found = map(self._from_arrow, self._raised(chosen.iter(batch_size=_BATCH_ROWS)))
        for table in found:
            yield from table.combine_chunks().to_batches()

    def _raised(self, found: Iterable[Any]) -> Iterator[Any]:
        """Yield what the library yields; what it raises, of any kind, is told as what stopped the import."""
        try:
            yield from found
        except PyfactoryError:
            raise
        except Exception as error:
            reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"
            raise UnavailableError(f"{self._name} cannot be read: {reason}", hint="mend that, then again") from error

    def _from_arrow(self, table: pa.Table) -> pa.Table:
        schema = pa.schema([(self._schema or table.schema).field(name) for name in self._names])
        try:
            return table.select(self._names).cast(schema)
        except (pa.ArrowException, ValueError, KeyError) as error:
            message = f"{self._name} does not hold what its features say: {str(error)[:200]}"
            raise InvalidInputError(message, hint="cast the dataset to its features") from error

    def _from_lists(self, lists: Mapping[str, Sequence[Any]]) -> pa.Table:
        types: dict[str, Any] = {field.name: field.type for field in self.selection.columns}
        types[self.selection.text] = pa.large_string()
        arrays = {}
        for name in self._names:
            if name not in lists:
                raise InvalidInputError(f"{self._name} has no column {name!r}", hint=near(name, list(lists)))
            try:
                arrays[name] = pa.array(lists[name], types.get(name))
            except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
                message = f"column {name!r} of {self._name} is not {types.get(name, 'an id')}: {str(error)[:100]}"
                raise InvalidInputError(message, hint=f"write {name}:TYPE, or cast the dataset") from error
        return pa.table(arrays)
