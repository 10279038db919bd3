"""Commands that meet other tools: sql, export, import-tokens."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pyfactory.cli.committing import Branch, Message, Workers, told
from pyfactory.cli.keys import Key
from pyfactory.cli.output import emit, progress
from pyfactory.cli.repository import Json, Repo

__all__ = ["register"]

Versioned = Annotated[str, typer.Argument(metavar="TABLE[@REF]", help="Table, at a branch, tag or commit.")]
Target = Annotated[Path, typer.Argument(metavar="FOLDER|FILE.parquet", help="Where to write.")]
Csv = Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write the rows as CSV; - for stdout.")]
Parquet = Annotated[Path | None, typer.Option("--parquet", metavar="FILE", help="Write the rows as Parquet.")]


class Format(StrEnum):
    """How files of tokens are written."""

    npy = "npy"
    bin = "bin"
    megatron = "megatron"


def register(app: typer.Typer) -> None:
    """Add the commands."""
    app.command()(sql)
    app.command()(export)
    app.command("import-tokens")(import_tokens)


def sql(
    repo: Repo,
    query: Annotated[str, typer.Argument(metavar="SQL", help='One SELECT; tables are corpus or "corpus@REF".')],
    csv: Csv = None,
    parquet: Parquet = None,
    as_json: Json = False,
) -> None:
    """Run a SQL query over tables, without copying them."""
    from pyfactory.cli.interchange_view import show_rows
    from pyfactory.errors import InvalidInputError
    from pyfactory.factory import query as run_query
    from pyfactory.factory.exporting import csv_pieces, plain_rows, write_csv, write_parquet
    from pyfactory.repo.repository import Repository

    if sum((csv is not None, parquet is not None, as_json)) > 1:
        raise InvalidInputError("the result has one form", hint="choose one of --json, --csv and --parquet")
    rows = run_query(Repository.open(repo), query)
    if csv == Path("-"):
        for piece in csv_pieces(rows):
            sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()
    elif csv is not None:
        write_csv(rows, csv)
    elif parquet is not None:
        write_parquet(rows, parquet)
    elif as_json:
        emit({"columns": rows.schema.names, "rows": [row for batch in rows for row in plain_rows(batch)]}, as_json=True)
    else:
        show_rows(rows)


def export(
    repo: Repo,
    table: Versioned,
    target: Target,
    ids: Annotated[bool, typer.Option("--ids", help="Also the id and the origin of each record.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an earlier export.")] = False,
    as_json: Json = False,
) -> None:
    """Write a table at a commit as Parquet: a file, or a folder of files."""
    from pyfactory.cli.interchange_view import show_export
    from pyfactory.factory import export as run_export
    from pyfactory.repo.repository import Repository

    name, _, ref = table.partition("@")
    version = Repository.open(repo).version(name, ref or "main")
    with progress(as_json=as_json) as shown:
        report = run_export(version, target, ids=ids, overwrite=overwrite, progress=shown)
    if not emit(report.to_value(), as_json=as_json):
        show_export(report)


def import_tokens(
    repo: Repo,
    table: Annotated[str, typer.Argument(help="Token table to add to; made if it is new.")],
    sources: Annotated[list[Path], typer.Argument(help="Files of tokens, or folders of them.")],
    format_: Annotated[Format, typer.Option("--format", help="How the files are written.")],
    dtype: Annotated[str | None, typer.Option("--dtype", help="Type of the tokens of flat files: uint16, …")] = None,
    eos: Annotated[int | None, typer.Option("--eos", help="Token that ends every document.")] = None,
    doc_lengths: Annotated[
        Path | None, typer.Option("--doc-lengths", help="Lengths of the documents: .npy, or one per line.")
    ] = None,
    tokenizer: Annotated[Path | None, typer.Option("--tokenizer", help="The tokenizer.json they are of.")] = None,
    vocab_size: Annotated[int | None, typer.Option("--vocab-size", help="Tokens must be less than this.")] = None,
    branch: Branch = "main",
    message: Message = "",
    key: Key = None,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Import tokens that exist already, without tokenising again."""
    from pyfactory.cli.interchange_view import show_tokens
    from pyfactory.factory import import_tokens as run_import
    from pyfactory.repo.repository import Repository

    with progress(as_json=as_json) as shown:
        report = run_import(
            Repository.open(repo),
            table,
            sources,
            format=format_.value,
            dtype=dtype,
            eos=eos,
            doc_lengths=doc_lengths,
            tokenizer=tokenizer,
            vocab_size=vocab_size,
            workers=workers,
            progress=shown,
            **told(branch, message, key),
        )
    if not emit(report.to_value(), as_json=as_json):
        show_tokens(report, table, branch)
