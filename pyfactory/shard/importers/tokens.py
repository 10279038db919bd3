"""Tokens that exist already become token shards: read once to be hashed and checked, once to be written.

    token_files -> token_scanning -> token_documents -> token_writing -> indexing
    what files     digest, range,    which tokens       shards           sides
    say            documents         are a shard

Ids are made from the content as `ids` says; the content hash of a document is that of its tokens as little-endian
uint32, whatever the width in which they are stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from pyfactory.core.digest import digest_of_file
from pyfactory.core.durable import translate_os_error
from pyfactory.core.progress import Progress, no_progress
from pyfactory.errors import InvalidInputError
from pyfactory.shard.importers.existing import SideSource
from pyfactory.shard.importers.indexing import Map, index_shards, temporary_folder
from pyfactory.shard.importers.reading import Course
from pyfactory.shard.importers.run import TARGET_BYTES
from pyfactory.shard.importers.sources import SourceFile
from pyfactory.shard.importers.streams import refuse_changed
from pyfactory.shard.importers.token_documents import read_lengths
from pyfactory.shard.importers.token_files import TokenFile, TokenFormat, open_token_file
from pyfactory.shard.importers.token_scanning import Scanned, Scanning
from pyfactory.shard.importers.token_writing import Writing
from pyfactory.shard.layout import TOKEN_WIDTHS
from pyfactory.shard.manifest import Part
from pyfactory.store.content import Objects

__all__ = ["ImportedTokens", "TokenSource", "import_token_files"]

TokenSource = tuple[SourceFile, tuple[SourceFile, ...]]
"""A file of tokens, and those beside it that say where its documents end."""

_MAX_TOKEN = 2**32 - 1


@dataclass(frozen=True, slots=True)
class ImportedTokens:
    """Files of tokens as shards, stored but in no table yet.

    Attributes:
        parts: The shards, in order.
        width: Bytes of a token.
        vocab_size: All tokens are less.
        sources: A value per file, in order: name, digest, bytes, records, skipped.
        documents: Documents with tokens, of which the longest may be several rows.
        tokens: Tokens of all of them.
        empty: Documents without a token, which are left out.
    """

    parts: list[Part]
    width: int
    vocab_size: int
    sources: list[dict[str, Any]]
    documents: int
    tokens: int
    empty: int


def import_token_files(
    objects: Objects,
    sources: Sequence[TokenSource],
    format: TokenFormat,
    *,
    dtype: str | None = None,
    eos: int | None = None,
    lengths: Path | None = None,
    width: int | None = None,
    vocab_size: int | None = None,
    target_bytes: int = TARGET_BYTES,
    existing: Iterable[SideSource] = (),
    map: Map = map,
    progress: Progress = no_progress,
) -> ImportedTokens:
    """Store the tokens of files as shards; which worker reads what changes nothing in the result.

    Memory is that of one block or one shard per worker.

    Args:
        objects: Where shards go.
        sources: The files; see `token_sources`.
        format: How they are written.
        dtype: Type of the tokens of flat files.
        eos: A token that ends every document, and stays in it; None: the files say, or each is one document.
        lengths: A file of the lengths of all documents, for a single file of tokens.
        width: Bytes of a token in the table; by default the least that hold the vocabulary, or all tokens.
        vocab_size: What tokens must be less than; by default one more than the greatest.
        target_bytes: Content of a shard, about.
        existing: Side shards of the table, whose ids may not occur again.
        map: Runs the tasks; by default one after the other.
        progress: Told of the stages "read" (bytes), "write" and "index" (shards).

    Raises:
        BadRecordError: A token is negative or too large; the message says file and byte.
        InvalidInputError: A file or option is wrong.
        UnavailableError: A file changes while it is read, or the machine fails.
    """
    limit = _limit(eos, width, vocab_size)
    known = list(existing)
    with temporary_folder(objects) as folder:
        files = _opened(sources, format, dtype, lengths, folder)
        widths = [width or _narrowest(vocab_size)] if width or vocab_size else list(TOKEN_WIDTHS)
        course = Course(progress, sum(source.size for source, _ in sources))
        scanned = _scan(Scanning(files, eos, limit, vocab_size is not None, widths, target_bytes, course), map)
        size = vocab_size if vocab_size is not None else max(scan.greatest for scan in scanned) + 1
        chosen = width or _narrowest(size)
        cuts = [(number, cut) for number, scan in enumerate(scanned) for cut in scan.cuts[chosen]]
        shards = Writing(objects, folder, files, eos, chosen, bool(known)).all(cuts, map, progress)
        listed, digests = [file.source for file in files], [scan.digest for scan in scanned]
        parts = index_shards(objects, folder, shards, known, listed, digests, False, map, progress)
    parts = [replace(part, tokens=cut.stop - cut.start) for part, (_, cut) in zip(parts, cuts, strict=True)]
    documents, empty = sum(scan.documents for scan in scanned), sum(scan.empty for scan in scanned)
    tokens = sum(part.tokens for part in parts)
    return ImportedTokens(parts, chosen, size, _source_values(files, scanned), documents, tokens, empty)


def _limit(eos: int | None, width: int | None, vocab_size: int | None) -> int:
    """Return what all tokens must be less than."""
    limit = vocab_size if vocab_size is not None else 256**width if width is not None else _MAX_TOKEN + 1
    if eos is not None and not 0 <= eos < limit:
        raise InvalidInputError(f"the token {eos} cannot end documents: it is not below {limit}", hint="choose another")
    return limit


def _narrowest(size: int | None) -> int:
    return next(width for width in TOKEN_WIDTHS if (size or 0) <= 256**width)


def _opened(
    sources: Sequence[TokenSource], format: TokenFormat, dtype: str | None, lengths: Path | None, folder: Path
) -> list[TokenFile]:
    opened = partial(open_token_file, format=format, dtype=dtype, folder=folder)
    if lengths is not None and format is TokenFormat.megatron:
        raise InvalidInputError("the index of a Megatron dataset lists its documents", hint="leave the lengths out")
    if lengths is not None and len(sources) != 1:
        hint = "import the files one by one"
        raise InvalidInputError(f"{lengths} lists the documents of one file, not of {len(sources)}", hint=hint)
    files = [opened(source, beside, number=number) for number, (source, beside) in enumerate(sources)]
    if lengths is None:
        return files
    return [replace(file, ends=read_lengths(lengths, file.source.path, file.count)) for file in files]


def _scan(scanning: Scanning, map: Map) -> list[Scanned]:
    try:
        scanned = list(map(scanning, range(len(scanning.files))))
    except BaseException:
        scanning.course.stop_after(-1)  # whatever a map leaves running ends at its next read
        raise
    if (eos := scanning.eos) is not None and not any(scan.ended for scan in scanned):
        raise InvalidInputError(f"the token {eos} ends no document: it never occurs", hint="choose another eos")
    return scanned


def _source_values(files: Sequence[TokenFile], scanned: Sequence[Scanned]) -> list[dict[str, Any]]:
    values = []
    for file, scan in zip(files, scanned, strict=True):
        values.append(file.source.listed(scan.digest, scan.documents, scan.empty))
        for beside in file.beside:
            with translate_os_error(beside.path):
                digest = digest_of_file(beside.path)
            refuse_changed(beside)
            values.append(beside.listed(digest, 0, 0))
    return values
