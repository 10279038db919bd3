"""Files of tokens -> a commit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pyfactory.core import canonical
from pyfactory.core.digest import Digest
from pyfactory.core.progress import Progress, no_progress
from pyfactory.core.versions import code_versions
from pyfactory.factory.destination import Destination
from pyfactory.factory.earlier import earlier_import, same_files
from pyfactory.factory.tables import schema_value
from pyfactory.factory.token_options import TokenOptions
from pyfactory.job.executors.open import open_executor
from pyfactory.repo.objects import TableState
from pyfactory.repo.repository import Repository
from pyfactory.repo.signing import Signer
from pyfactory.shard.importers.token_files import TokenFormat, token_sources
from pyfactory.shard.importers.tokens import ImportedTokens, TokenSource, import_token_files
from pyfactory.shard.layout import token_schema

__all__ = ["TokensReport", "import_tokens"]


@dataclass(frozen=True, slots=True)
class TokensReport:
    """What an import of tokens did.

    Attributes:
        commit: The commit that holds the tokens.
        created: False when an earlier import took exactly these files: nothing was added.
        files: Files of tokens read.
        whole_files: Whether each file became one document, since nothing said where its documents end.
        documents: Documents taken; a very long one is several rows.
        empty: Documents without a token, left out.
        tokens: Tokens taken.
        rows: Rows of the table now.
        all_tokens: Tokens of the table now.
        width: Bytes of a token in the table.
        vocab_size: What all tokens are less than.
        nbytes: Bytes of the table now.
    """

    commit: str
    created: bool
    files: int
    whole_files: bool
    documents: int
    empty: int
    tokens: int
    rows: int
    all_tokens: int
    width: int
    vocab_size: int
    nbytes: int

    def to_value(self) -> dict[str, Any]:
        """Return a plain dict."""
        return asdict(self)


def import_tokens(
    repo: Repository,
    table: str,
    sources: Sequence[str | Path],
    *,
    format: str,
    dtype: str | None = None,
    eos: int | None = None,
    doc_lengths: str | Path | None = None,
    tokenizer: str | Path | None = None,
    vocab_size: int | None = None,
    branch: str = "main",
    message: str = "",
    author: str = "unknown",
    signer: Signer | None = None,
    workers: int | None = None,
    progress: Progress = no_progress,
) -> TokensReport:
    """Add tokens that exist already to a token table and commit it; nothing is tokenised again.

    Documents end after each `eos`, which stays; else where a Megatron index, the lengths or the rows of a 2-D array
    say; else each file is one document. Tokens are stored as narrowly as the vocabulary allows. Importing the same
    files with the same options again adds nothing.

    Args:
        repo: The repository.
        table: Name of the table, made if it is new.
        sources: Files, or folders of them.
        format: "npy" (1-D or 2-D integers), "bin" (flat, little-endian) or "megatron" (`.bin` with `.idx`).
        dtype: Type of the tokens of flat files, such as "uint16".
        eos: The token that ends every document.
        doc_lengths: For a single file: a 1-D `.npy`, or text with a line for each, of the lengths of its documents.
        tokenizer: The tokenizer.json that made the tokens, kept with the table.
        vocab_size: What tokens must be less than; by default what the table or the tokenizer says, else one more than
            the greatest token.
        branch: Where to commit.
        message: Why, for the log.
        author: Who.
        signer: Signs the commit; needed where the rule of the branch asks for it.
        workers: Files and shards worked on at a time; default all cores.
        progress: Who listens.

    Raises:
        BadRecordError: A token is negative or not in the vocabulary; the message says file and byte.
        InvalidInputError: A file is not of that format or cut off, or options contradict each other or the table.
        NotFoundError: A file does not exist.
        RefusedError: A rule of the branch forbids it, or a record was forgotten and must not come back.
        ConflictError: Somebody else changed the table meanwhile.
    """
    into = Destination.find(repo, table, branch, message=message, author=author, signer=signer)
    asked = TokenOptions.parse(format, dtype, eos, doc_lengths, tokenizer, vocab_size)
    files = token_sources([Path(source) for source in sources], asked.format)
    options, listed = asked.to_value(), [file for source, beside in files for file in (source, *beside)]
    if (earlier := earlier_import(into, options, partial(same_files, listed))) is not None:
        commit, state = earlier
        return _report(commit.digest, False, state, commit.made_by or {}, asked, files)
    if into.state is not None:
        asked.check_table(table, into.state)
    with into.writing(progress) as telling:
        return _add(into, files, asked, options, workers, telling)


def _add(
    into: Destination,
    files: Sequence[TokenSource],
    asked: TokenOptions,
    options: Mapping[str, Any],
    workers: int | None,
    progress: Progress,
) -> TokensReport:
    imported = _read(into, files, asked, workers, progress)
    into.refuse_forgotten(imported.parts)
    made_by, facts = _made_by(into, imported, options), _facts(into, imported, asked)
    done, state = into.add(imported.parts, schema_value(token_schema(imported.width)), made_by, **facts)
    return _report(done.digest, done.created, state, made_by, asked, files)


def _read(
    into: Destination, files: Sequence[TokenSource], asked: TokenOptions, workers: int | None, progress: Progress
) -> ImportedTokens:
    with open_executor(workers) as executor:
        return import_token_files(
            into.repo.objects,
            files,
            asked.format,
            dtype=asked.dtype,
            eos=asked.eos,
            lengths=asked.lengths,
            width=None if into.state is None else int(into.state.attributes["width"]),
            vocab_size=asked.vocabulary(into.state),
            existing=into.sides(),
            map=partial(executor.map, stage="import"),
            progress=progress,
        )


def _facts(into: Destination, imported: ImportedTokens, asked: TokenOptions) -> dict[str, Any]:
    """Return the artifacts and attributes of the table: those of a job with `tokenize`."""
    state = into.state
    artifacts: dict[str, Digest] = {} if state is None else dict(state.artifacts)
    if asked.tokenizer is not None:
        artifacts["tokenizer"] = into.repo.objects.put(asked.tokenizer.content)
    before: Mapping[str, int | str] = {"append": asked.append} if state is None else state.attributes
    attributes = {**before, "width": imported.width, "vocab_size": imported.vocab_size}
    return {"artifacts": artifacts, "attributes": attributes}


def _made_by(into: Destination, imported: ImportedTokens, options: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "kind": "import",
        "table": into.table,
        "sources": into.repo.objects.put(canonical.encode(imported.sources)),
        "options": dict(options),
        "records": imported.documents,
        "skipped": imported.empty,
        "skipped_list": None,
        "tokens": imported.tokens,
        "code": code_versions("pyfactory", "pyarrow", "numpy"),
    }


def _report(
    commit: Digest,
    created: bool,
    state: TableState,
    made_by: Mapping[str, Any],
    asked: TokenOptions,
    files: Sequence[TokenSource],
) -> TokensReport:
    return TokensReport(
        commit=commit,
        created=created,
        files=len(files),
        whole_files=(
            asked.format is not TokenFormat.megatron
            and asked.eos is None
            and asked.lengths is None
            and made_by["records"] == len(files)
        ),
        documents=made_by["records"],
        empty=made_by["skipped"],
        tokens=made_by["tokens"],
        rows=state.rows,
        all_tokens=state.tokens,
        width=int(state.attributes["width"]),
        vocab_size=int(state.attributes["vocab_size"]),
        nbytes=state.nbytes,
    )
