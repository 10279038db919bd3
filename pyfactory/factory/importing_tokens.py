"""Files of tokens -> a commit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pyfactory.core import canonical
from pyfactory.core.digest import NO_DIGEST, Digest, digest_of, digest_of_file
from pyfactory.core.durable import translate_os_error
from pyfactory.core.progress import Progress, no_progress
from pyfactory.core.versions import code_versions
from pyfactory.errors import InvalidInputError
from pyfactory.factory.earlier import earlier_import, same_files, sides_of
from pyfactory.factory.tables import appended, publish, schema_value
from pyfactory.job.executors.open import open_executor
from pyfactory.job.steps.tokenizer_file import TokenizerFile, from_tokenizer_json
from pyfactory.repo.forgotten import refuse_forgotten
from pyfactory.repo.leases import writing
from pyfactory.repo.names import check_table_name, check_text
from pyfactory.repo.objects import TableState
from pyfactory.repo.repository import Repository
from pyfactory.repo.signing import Signer
from pyfactory.shard.importers.token_files import TokenFormat, token_sources
from pyfactory.shard.importers.tokens import ImportedTokens, TokenSource, import_token_files
from pyfactory.shard.layout import token_schema
from pyfactory.shard.manifest import Manifest

__all__ = ["TokensReport", "import_tokens"]

_NO_APPEND = -1


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


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the caller asked for.

    Attributes:
        format: How files are written.
        dtype: Of flat files.
        eos: The token that ends documents.
        lengths: The file of the lengths of documents.
        tokenizer: The tokenizer.
        vocab_size: What tokens must be less than.
    """

    format: TokenFormat
    dtype: str | None
    eos: int | None
    lengths: Path | None
    tokenizer: TokenizerFile | None
    vocab_size: int | None

    def to_value(self) -> dict[str, Any]:
        """Return the canonical value that a commit keeps, by which the same import is known again."""
        lengths = None
        if self.lengths is not None:
            with translate_os_error(self.lengths):
                lengths = digest_of_file(self.lengths)
        tokenizer = None if self.tokenizer is None else digest_of(self.tokenizer.content)
        value = {"format": self.format.value, "dtype": self.dtype, "eos": self.eos, "doc_lengths": lengths}
        return value | {"tokenizer": tokenizer, "vocab_size": self.vocab_size}


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
        RefusedError: A rule of the branch forbids it.
        ConflictError: Somebody else changed the table meanwhile.
        RefusedError: A record was forgotten and must not come back.
    """
    check_table_name(table)  # now, rather than after the work
    check_text(message, "message")
    repo.check_takes_commits(branch, author=author, signer=signer)
    asked = _asked(format, dtype, eos, doc_lengths, tokenizer, vocab_size)
    options, files = asked.to_value(), token_sources([Path(source) for source in sources], asked.format)
    head = repo.head(branch)
    state = None if head == NO_DIGEST else repo.tables(head).get(table)
    if state is not None:
        listed = [file for source, beside in files for file in (source, *beside)]
        if (earlier := earlier_import(repo, head, table, options, partial(same_files, listed))) is not None:
            return _report(earlier.digest, False, state, earlier.made_by or {}, asked, files)
    _check_table(table, state, asked)
    old = None if state is None else Manifest(repo.objects, state.manifest)
    with writing(repo, f"import of {table} by {author}", progress) as telling:
        imported = _read(repo, files, asked, state, old, workers, telling)
        refuse_forgotten(repo, imported.parts, author, f"import to {table} on {branch}")
        made_by, facts = _made_by(repo, table, imported, options), _facts(repo, state, imported, asked)
        after = appended(repo, old, imported.parts, schema_value(token_schema(imported.width)), **facts)
        told = {"message": message or f"import {table}", "author": author, "signer": signer, "made_by": made_by}
        done = publish(repo, table, state, after, head, branch, **told)
    return _report(done.digest, done.created, repo.tables(done.digest)[table], made_by, asked, files)


def _asked(
    format: str,
    dtype: str | None,
    eos: int | None,
    doc_lengths: str | Path | None,
    tokenizer: str | Path | None,
    vocab_size: int | None,
) -> _Asked:
    if format not in list(TokenFormat):
        raise InvalidInputError(f"{format!r} is no format of tokens", hint=f"choose {', '.join(TokenFormat)}")
    if eos is not None and doc_lengths is not None:
        raise InvalidInputError("documents end by eos or by their lengths, not by both", hint="leave one out")
    if vocab_size is not None and not 1 <= vocab_size <= 2**32:
        raise InvalidInputError(f"a vocabulary of {vocab_size} cannot be", hint="choose 1 to 4294967296")
    file = None
    if tokenizer is not None:
        with translate_os_error(tokenizer):
            content = Path(tokenizer).read_bytes()
        file = from_tokenizer_json(content, str(tokenizer))
        if vocab_size is not None and vocab_size < file.vocab_size:
            raise InvalidInputError(
                f"{tokenizer} has {file.vocab_size} tokens, more than vocab_size {vocab_size}",
                hint="leave vocab_size out, or give the other tokenizer",
            )
    return _Asked(TokenFormat(format), dtype, eos, None if doc_lengths is None else Path(doc_lengths), file, vocab_size)


def _check_table(table: str, state: TableState | None, asked: _Asked) -> None:
    """Refuse what contradicts the table that is there."""
    if state is None:
        return
    if "width" not in state.attributes:
        raise InvalidInputError(f"table {table!r} holds no tokens", hint="import them into another table")
    append, size, width = (int(state.attributes[name]) for name in ("append", "vocab_size", "width"))
    if append not in (_NO_APPEND, asked.eos):
        hint = f"give eos {append}, or another table"
        raise InvalidInputError(f"every document of table {table!r} ends with the token {append}", hint=hint)
    if asked.vocab_size is not None and not size <= asked.vocab_size <= 256**width:
        raise InvalidInputError(
            f"table {table!r} has a vocabulary of {size} in tokens of {width} bytes, not {asked.vocab_size}",
            hint=f"choose {size} to {256**width}, or another table",
        )
    if asked.tokenizer is not None and digest_of(asked.tokenizer.content) != state.artifacts.get("tokenizer"):
        raise InvalidInputError(f"table {table!r} has another tokenizer, or none", hint="choose another table")


def _read(
    repo: Repository,
    files: Sequence[TokenSource],
    asked: _Asked,
    state: TableState | None,
    old: Manifest | None,
    workers: int | None,
    progress: Progress,
) -> ImportedTokens:
    size = asked.vocab_size
    if size is None and state is not None:
        size = int(state.attributes["vocab_size"])
    if size is None and asked.tokenizer is not None:
        size = asked.tokenizer.vocab_size
    with open_executor(workers) as executor:
        return import_token_files(
            repo.objects,
            files,
            asked.format,
            dtype=asked.dtype,
            eos=asked.eos,
            lengths=asked.lengths,
            width=None if state is None else int(state.attributes["width"]),
            vocab_size=size,
            existing=() if old is None else sides_of(repo, old),
            map=partial(executor.map, stage="import"),
            progress=progress,
        )


def _facts(repo: Repository, state: TableState | None, imported: ImportedTokens, asked: _Asked) -> dict[str, Any]:
    """Return the artifacts and attributes of the table: those of a job with `tokenize`."""
    artifacts: dict[str, Digest] = {} if state is None else dict(state.artifacts)
    if asked.tokenizer is not None:
        artifacts["tokenizer"] = repo.objects.put(asked.tokenizer.content)
    append = _NO_APPEND if asked.eos is None else asked.eos
    before: Mapping[str, int | str] = {"append": append} if state is None else state.attributes
    attributes = {**before, "width": imported.width, "vocab_size": imported.vocab_size}
    return {"artifacts": artifacts, "attributes": attributes}


def _made_by(repo: Repository, table: str, imported: ImportedTokens, options: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "kind": "import",
        "table": table,
        "sources": repo.objects.put(canonical.encode(imported.sources)),
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
    asked: _Asked,
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
